"""Spectra against public tables, evaluated data and quadrature; deposits of several sites."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import sources
from dmsim.records import Interaction
from dmsim.sources import beta, nuclear, radon, recoils

pytestmark = pytest.mark.quick_compile

# Kolmogorov-Smirnov and binomial tests, each with a false-positive rate of 1e-6; seeds are fixed
P_MIN = 1e-6
KEY = jax.random.key(21)


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("xenonnt")


def cdf_of(energies, rates):
    cdf = np.concatenate([[0.0], np.cumsum((rates[1:] + rates[:-1]) / 2 * np.diff(energies))])
    return lambda e: np.interp(e, energies, cdf / cdf[-1])


# WIMPs and neutrinos


def light_wimp_table(release_data, name):
    with open(release_data / "xenonnt_lightwimp_sr0" / name) as file:
        table = json.load(file)
    return np.array(table["map"]), np.array(table["coordinate_system"]), table["rate"]


@pytest.mark.parametrize("mass_gev", [5, 6, 10])
def test_light_wimps_against_xenonnt(mass_gev, release_data):
    """Shape within 0.2 % of the CDF; rate within 7 %: wimprates 0.5 normalises its halo to 0.970."""
    energy, cdf, rate = light_wimp_table(release_data, f"wimp_si_spectrum_{mass_gev}.json")
    fine = np.linspace(energy[0], energy[-1], 4001)
    ours = np.asarray(nuclear.wimp_rate(jnp.asarray(fine), float(mass_gev), 1e-45), float)
    np.testing.assert_allclose(cdf_of(fine, ours)(energy), cdf, atol=2e-3)
    assert np.trapezoid(ours, fine) == pytest.approx(rate, rel=0.07)
    heavier = np.asarray(nuclear.wimp_rate(jnp.asarray(fine), 1.03 * mass_gev, 1e-45), float)
    assert np.abs(cdf_of(fine, heavier)(energy) - cdf).max() > 2e-3  # it can fail


def test_heavy_wimps_against_xenon1t(release_data):
    """With the halo of that time, 220 km/s: 1.5 % to 10 keV, 4 % to 30 keV. Today's halo is rejected."""
    path = release_data / "xenon1t_nr_likelihood" / "dRdE_wimp_SI_50GeV_10-45.csv"
    energy, rate = np.loadtxt(path, delimiter=",", unpack=True)
    ours = np.asarray(nuclear.wimp_rate(jnp.asarray(energy), 50.0, 1e-45, orbit_km_per_s=220.0), float)
    np.testing.assert_allclose(ours[energy < 10], rate[energy < 10], rtol=1.5e-2)
    np.testing.assert_allclose(ours[energy < 30], rate[energy < 30], rtol=4e-2)
    today = np.asarray(nuclear.wimp_rate(jnp.asarray(energy), 50.0, 1e-45), float)
    assert np.abs(today / rate - 1)[energy < 10].max() > 2e-2


def test_b8_against_xenonnt(release_data):
    """Shape within 0.1 % of the CDF above 0.45 keV, rate within 5 %; energies 1 % off are rejected."""
    energy, cdf, rate = light_wimp_table(release_data, "cevns_spectrum.json")
    nodes, ours = nuclear.b8_rate()
    fine = np.linspace(energy[0], energy[-1], 20_001)
    folded = np.interp(fine, nodes, ours, right=0.0)
    np.testing.assert_allclose(cdf_of(fine, folded)(energy), cdf, atol=1e-3)
    assert np.trapezoid(folded, fine) == pytest.approx(rate, rel=0.05)
    shifted = np.interp(fine, 1.01 * nodes, ours, right=0.0)
    assert np.abs(cdf_of(fine, shifted)(energy) - cdf).max() > 1e-3


@pytest.mark.parametrize("name", ["wimp", "b8", "ambe"])
def test_recoils_follow_their_spectra(name, detector):
    energies, rates = {
        "wimp": lambda: (
            e := np.linspace(0, 150, 6001),
            np.asarray(nuclear.wimp_rate(jnp.asarray(e), 50.0, 1e-45)),
        ),
        "b8": nuclear.b8_rate,
        "ambe": recoils.ambe_rate,
    }[name]()
    made = sources.named(name)(KEY, detector, n_events=20_000)
    assert np.all(made.interaction == Interaction.NR)
    energy = np.asarray(made.energy_kev, float)
    assert stats.kstest(energy, cdf_of(energies, rates)).pvalue > P_MIN
    assert stats.kstest(1.1 * energy, cdf_of(energies, rates)).pvalue < P_MIN


def test_gradient_in_the_wimp_mass(x64):
    """Implicit, against central differences at common random numbers."""
    detector = dmsim.load_detector("lux")

    @jax.jit
    def mean(mass_gev):
        return jnp.mean(sources.wimp(KEY, detector, n_events=2000, mass_gev=mass_gev).energy_kev)

    assert float(jax.grad(mean)(30.0)) == pytest.approx(float((mean(30.05) - mean(29.95)) / 0.1), rel=1e-4)


@pytest.mark.parametrize("mass_gev", [0.5, 1e6, np.nan])
def test_bad_masses(mass_gev, detector):
    with pytest.raises(ValueError, match=r"mass_gev is .* GeV: must be from 1 to 1e5 GeV"):
        sources.wimp(KEY, detector, n_events=2, mass_gev=mass_gev)


# tables of the user's


ENERGIES, RATES = np.array([1.0, 2.0, 4.0, 5.0, 9.0]), np.array([0.0, 3.0, 0.0, 0.0, 2.0])


def test_tables(detector):
    made = sources.spectrum(KEY, detector, ENERGIES, RATES, interaction="nr", n_events=20_000)
    fine = np.linspace(1, 9, 8001)
    cdf = cdf_of(fine, np.interp(fine, ENERGIES, RATES))
    energy = np.asarray(made.energy_kev)
    assert stats.kstest(energy, cdf).pvalue > P_MIN
    assert not np.any((energy > 4.01) & (energy < 4.99))
    # one node 5 % higher is rejected
    biased = cdf_of(fine, np.interp(fine, ENERGIES, RATES * np.array([1, 1.1, 1, 1, 1])))
    assert stats.kstest(energy, biased).pvalue < P_MIN


def test_gradient_in_a_table(x64):
    """In rates and nodes: implicit, against central differences of every draw."""
    detector = dmsim.load_detector("lux")

    @jax.jit
    def drawn(table):
        energies, rates = table
        made = sources.spectrum(KEY, detector, energies, rates, interaction="nr", n_events=300)
        return made.energy_kev

    table = (jnp.asarray(ENERGIES), jnp.asarray(RATES + 0.1))
    exact = jax.jacrev(drawn)(table)
    for which in (0, 1):
        for node in range(len(ENERGIES)):
            step = 1e-6
            shifted = [
                eqx.tree_at(lambda t, which=which: t[which], table, table[which].at[node].add(s))
                for s in (step, -step)
            ]
            difference = (drawn(shifted[0]) - drawn(shifted[1])) / (2 * step)
            np.testing.assert_allclose(exact[which][:, node], difference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("energies", "rates", "needle"),
    [
        ([1.0], [1.0], "2 nodes or more"),
        ([1.0, 2.0], [1.0], "the same length"),
        ([2.0, 1.0], [1.0, 1.0], "goes from 2.0 to 1.0 keV: must be ascending"),
        ([-1.0, 1.0], [1.0, 1.0], "energies_kev is -1.0 keV"),
        ([1.0, 2.0], [1.0, -1.0], r"rates[1] is -1.0: must be finite and 0 or more"),
        ([1.0, 2.0], [0.0, 0.0], "rates are all 0"),
    ],
)
def test_bad_tables(energies, rates, needle, detector):
    with pytest.raises(ValueError, match="must") as caught:
        sources.spectrum(KEY, detector, energies, rates, interaction="nr", n_events=2)
    assert needle in str(caught.value)


# lines and betas


@pytest.mark.parametrize(
    ("endpoint", "charge", "mean"),
    [  # mean energies as ENSDF gives them
        (1018.0, 83, 334.5), (722.78, 83, 225.3), (666.07, 83, 205.1), (569.1, 83, 171.4),
        (330.47, 83, 93.28), (153.83, 83, 40.88), (3269.0, 84, 1268.4), (1539.39, 84, 539.0),
        (1801.28, 82, 649.48),
    ],
)  # fmt: skip
def test_mean_energies_of_betas(endpoint, charge, mean):
    """Within 1 %, and 2 % above 2 MeV, where the nucleus's size counts. Without its charge: rejected."""
    tolerance = 0.01 if endpoint < 2000 else 0.02
    energy = np.linspace(0, endpoint, 20_001)
    ours, bare = (beta.density(beta.Branch(endpoint, z), energy) for z in (charge, 1))
    assert np.average(energy, weights=ours) == pytest.approx(mean, rel=tolerance)
    assert np.average(energy, weights=bare) != pytest.approx(mean, rel=tolerance)


def test_pb212(detector):
    """Shares of ENSDF; the ground state's betas are flat within 2 % below 30 keV."""
    made = sources.rn220(KEY, detector, n_events=20_000)
    first, photon = np.asarray(made.energy_kev)[::2], np.asarray(made.energy_kev)[1::2]
    assert first.max() < 569.1
    assert set(np.unique(photon)) == {np.float32(0), np.float32(238.63), np.float32(415.27)}
    # of 13.67 % without a photon, and of photons that leave: fewer than 5 %
    assert stats.binomtest(int((photon == 0).sum()), 20_000, 0.1367).pvalue < 1 - P_MIN
    assert 0.1367 - 0.012 < (photon == 0).mean() < 0.1367 + 0.05
    # distance to the photon, deep inside: exponential with the attenuation of 0.265 cm2/g at 238.6 keV
    x, y, z = (np.asarray(getattr(made, f"{axis}_mm"), float).reshape(-1, 2) for axis in "xyz")
    deep = (np.hypot(x, y)[:, 0] < 500) & (np.abs(z[:, 0] + 750) < 500) & (photon == np.float32(238.63))
    away = np.sqrt(sum((v[:, 1] - v[:, 0]) ** 2 for v in (x, y, z)))[deep]
    path = 10 / 0.265 / float(detector.xenon.density_g_per_cm3)
    assert stats.kstest(away, "expon", args=(0, path)).pvalue > P_MIN
    assert stats.kstest(away, "expon", args=(0, 1.1 * path)).pvalue < P_MIN
    ground = sources.rn220(KEY, detector, n_events=2, branches="ground")
    assert len(ground) == 2
    density = beta.density(beta.Branch(569.1, 83), np.array([1.0, 10.0, 30.0]))
    np.testing.assert_allclose(density / density[1], 1, atol=0.02)
    with pytest.raises(ValueError, match="branches is 'some': must be all or ground"):
        sources.rn220(KEY, detector, n_events=2, branches="some")


def test_photon_paths():
    """NIST SRD 126: 0.1797 cm2/g at 300 keV, 0.0579 at 1 MeV; Elam's tables at 352 keV: 0.1432."""
    paths = radon.photon_path_mm(np.array([300.0, 351.9, 1000.0]), 1.0)
    np.testing.assert_allclose(10 / np.asarray(paths), [0.1797, 0.1432, 0.0579], rtol=0.02)


def test_argon(detector):
    """Shares of ENSDF, by binomial tests; 8.7 % read as 10.7 % is rejected."""
    energy = np.asarray(sources.ar37(KEY, detector, n_events=20_000).energy_kev)
    for line, share in ((2.82, 0.9023), (0.27, 0.0866), (0.0175, 0.0111)):
        assert stats.binomtest(int(np.isclose(energy, line).sum()), 20_000, share).pvalue > P_MIN
    assert stats.binomtest(int(np.isclose(energy, 0.27).sum()), 20_000, 0.1066).pvalue < P_MIN


@pytest.mark.parametrize(
    ("isotope", "energy_mev"), [("Rn-222", 5.49), ("Po-218", 6.00), ("Po-214", 7.69), ("Po-212", 8.78)]
)
def test_alphas(isotope, energy_mev, detector):
    made = sources.alpha(KEY, detector, n_events=3, isotope=isotope)
    np.testing.assert_allclose(made.energy_kev, 1e3 * energy_mev, rtol=1e-3)
    assert np.all(made.interaction == Interaction.ALPHA)


def test_no_alpha(detector):
    with pytest.raises(ValueError, match="isotope 'Pb-214' has no alpha here: choose one of Rn-222, Po-218"):
        sources.alpha(KEY, detector, n_events=3, isotope="Pb-214")


# several sites


def test_multiple_scatter(detector):
    inner = {"r_max_mm": 100.0, "z_min_mm": -800.0, "z_max_mm": -700.0}
    made = sources.multiple_scatter(KEY, detector, n_events=20_000, n_sites=3, energy_kev=300.0, **inner)
    energy = np.asarray(made.energy_kev, float).reshape(-1, 3)
    places = np.stack(
        [np.asarray(getattr(made, f"{axis}_mm"), float).reshape(-1, 3) for axis in "xyz"], axis=-1
    )
    whole = np.all(energy > 0, axis=1)
    assert whole.mean() > 0.99
    np.testing.assert_allclose(energy[whole].sum(axis=1), 300.0, rtol=1e-5)
    # a share of one of three sites: P(share > s) = (1 - s)^2
    assert stats.kstest(energy[whole][:, 1] / 300, lambda s: 1 - (1 - s) ** 2).pvalue > P_MIN
    steps = np.linalg.norm(np.diff(places[whole], axis=1), axis=-1)
    for step in steps.T:
        assert stats.kstest(step, "expon", args=(0, 60.0)).pvalue > P_MIN
        assert stats.kstest(step, "expon", args=(0, 66.0)).pvalue < P_MIN
    cosine = np.diff(places[whole], axis=1)[:, 0, 2] / steps[:, 0]
    assert stats.kstest(cosine, "uniform", args=(-1, 2)).pvalue > P_MIN


def test_what_leaves_is_gone(detector):
    """At the wall, half of the particles leave with the first flight, and none comes back."""
    made = sources.ambe(KEY, detector, n_events=20_000, max_scatters=3)
    alive = np.asarray(made.energy_kev).reshape(-1, 3) > 0
    assert np.all(np.diff(alive.astype(int), axis=1) <= 0)
    assert alive[:, 0].all()
    radius = np.hypot(np.asarray(made.x_mm), np.asarray(made.y_mm))
    assert radius.max() <= float(detector.geometry.radius_mm)
    assert 0 >= made.z_mm.max()
    edge = radius.reshape(-1, 3)[:, 0] > 660
    assert 0.4 < alive[edge, 1].mean() < 0.6


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ({"n_sites": 0}, "n_sites is 0: must be a whole number from 1 to 100"),
        ({"n_sites": 2.0}, "n_sites is 2.0"),
        ({"mean_free_path_mm": 0.0}, "mean_free_path_mm is 0.0 mm: must be above 0 mm"),
        ({"energy_kev": -1.0}, "energy_kev is -1.0 keV"),
    ],
)
def test_bad_scatters(options, needle, detector):
    with pytest.raises(ValueError, match="must") as caught:
        sources.multiple_scatter(KEY, detector, n_events=2, **options)
    assert needle in str(caught.value)


def test_gradient_in_the_path(x64):
    """Pathwise: places of later sites move with the path, exactly."""
    detector = dmsim.load_detector("xenonnt")

    def places(path):
        made = sources.multiple_scatter(KEY, detector, n_events=5, mean_free_path_mm=path, r_max_mm=50.0,
                                        z_min_mm=-800.0, z_max_mm=-700.0)  # fmt: skip
        return made.z_mm

    slope = jax.jacfwd(places)(40.0)
    np.testing.assert_allclose(slope, (places(41.0) - places(39.0)) / 2, rtol=1e-9, atol=1e-12)
    assert np.any(slope != 0)


# isolated signals


@pytest.mark.parametrize(
    ("name", "kind", "low", "high"),
    [("isolated_s1", "photons", 20.0, 500.0), ("isolated_s2", "electrons", 2.0, 300.0)],
)
def test_isolated_signals(name, kind, low, high, detector):
    limits = {f"{kind}_min": low, f"{kind}_max": high}
    made = sources.named(name)(KEY, detector, n_events=20_000, **limits)
    number = np.asarray(made.energy_kev)
    assert np.all(number == np.round(number))
    assert low <= number.min() <= number.max() <= high
    # with the rounding undone by a uniform
    smooth = number + stats.uniform.rvs(loc=-0.5, size=len(number), random_state=3)
    inside = (smooth > 10 * low / 2) & (smooth < high - 1)
    law = np.log(smooth[inside] / (5 * low)) / np.log((high - 1) / (5 * low))
    assert stats.kstest(law, "uniform").pvalue > P_MIN
    assert stats.kstest(law**1.1, "uniform").pvalue < P_MIN
    quanta = dmsim.simulate_quanta(KEY, detector, made)
    ours, other = (
        (quanta.n_photons, quanta.n_electrons)
        if kind == "photons"
        else (quanta.n_electrons, quanta.n_photons)
    )
    np.testing.assert_array_equal(ours, number)
    assert not np.any(other)
    with pytest.raises(ValueError, match=f"{kind}_min 5.*must satisfy 1 <= min < max"):
        sources.named(name)(KEY, detector, n_events=2, **{f"{kind}_min": 5.0, f"{kind}_max": 4.0})
