"""Sources: the right energies, places and times, whatever the batch; bad input in one line."""

import typing

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import dmsim
from dmsim import sources
from dmsim.records import Interaction
from dmsim.sources import beta, spectra

pytestmark = pytest.mark.quick_compile

# statistical tests here: Kolmogorov-Smirnov and chi-square, each with p > 1e-5; seeds are fixed
P_MIN = 1e-5
KEY = jax.random.key(7)
CHAINS = ("rn220_chain", "rn222_chain")  # test_chains.py
ARGUMENTS = {
    **{name: {} for name in sources.SOURCES if name not in CHAINS},
    "mono": {"energy_kev": 10.0, "interaction": "er_beta"},
    "ambe": {"max_scatters": 3},
}


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("xenonnt")


def _make(name, detector, **options):
    return sources.named(name)(KEY, detector, **{**ARGUMENTS[name], **options})


# laws of every source


def test_unknown_source():
    with pytest.raises(ValueError, match="source 'cf252' is not known: choose one of alpha, ambe, ar37"):
        sources.named("cf252")


@pytest.mark.parametrize("name", ARGUMENTS)
def test_shape_order_and_volume(name, detector):
    deposits = _make(name, detector, n_events=40)
    assert deposits.n_events == 40
    assert np.all(np.diff(deposits.event) >= 0)
    assert set(np.asarray(deposits.event)) == set(range(40))
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)
    assert float(jnp.hypot(deposits.x_mm, deposits.y_mm).max()) <= radius
    assert float(deposits.z_mm.max()) <= 0
    assert float(deposits.z_mm.min()) >= -length
    assert float(deposits.energy_kev.min()) >= 0
    assert deposits.event.dtype == deposits.interaction.dtype == jnp.int32
    assert deposits.energy_kev.dtype == deposits.time_ns.dtype == jnp.float32
    assert deposits.event_time_ns.dtype == np.int64
    assert np.all(np.diff(deposits.event_time_ns) == 10_000_000)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_batches_do_not_matter(name, detector):
    whole = _make(name, detector, n_events=40)
    parts = [_make(name, detector, n_events=20), _make(name, detector, n_events=20, first_event=20)]
    for field in ("energy_kev", "x_mm", "y_mm", "z_mm", "time_ns", "interaction"):
        joined = np.concatenate([np.asarray(getattr(part, field)) for part in parts])
        np.testing.assert_array_equal(getattr(whole, field), joined)
    np.testing.assert_array_equal(whole.event_time_ns, np.concatenate([part.event_time_ns for part in parts]))
    assert int(parts[1].first_event) == 20
    other = sources.named(name)(jax.random.key(8), detector, n_events=40, **ARGUMENTS[name])
    assert not np.array_equal(whole.x_mm, other.x_mm)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_takes_what_all_take(name):
    taken = sources.options(sources.named(name))
    assert set(typing.get_type_hints(sources.Where)) <= set(taken)
    assert taken["rate_hz"].default == 100.0


@pytest.mark.parametrize("name", ["mono", "kr83m", "wimp", "rn220", "ambe"])
def test_jit_gives_the_same(name, detector):
    def places(detector):
        deposits = _make(name, detector, n_events=20)
        return deposits.energy_kev, deposits.x_mm, deposits.z_mm, deposits.time_ns

    for eager, compiled in zip(places(detector), eqx.filter_jit(places)(detector), strict=True):
        np.testing.assert_allclose(eager, compiled, rtol=2e-5, atol=1e-3)


@pytest.mark.parametrize("name", ["mono", "kr83m", "ch3t", "wimp", "rn220", "isolated_s2"])
def test_double_precision(name, x64):
    deposits = _make(name, dmsim.load_detector("lux"), n_events=5)
    assert deposits.energy_kev.dtype == deposits.x_mm.dtype == deposits.time_ns.dtype == jnp.float64


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ({"n_events": 0}, "n_events is 0: must be a whole number from 1"),
        ({"n_events": -3}, "n_events is -3"),
        ({"n_events": 2.5}, "n_events is 2.5"),
        ({"n_events": True}, "n_events is True"),
        ({"first_event": -1}, "first_event is -1"),
        ({"first_event": 2**31 - 3}, "first_event is"),
        ({"rate_hz": 0.0}, "rate_hz is 0.0 Hz"),
        ({"rate_hz": float("nan")}, "rate_hz is nan Hz"),
        ({"rate_hz": 1e-10}, "overflow the clock"),
        ({"rate_hz": 1e-10, "timing": "poisson"}, "overflow the clock"),
        ({"timing": "random"}, "timing is 'random': must be one of even, poisson"),
        ({"r_max_mm": 0.0}, "r_max_mm is 0.0 mm"),
        ({"r_max_mm": 700.0}, "at most 664 mm"),
        ({"r_max_mm": float("nan")}, "r_max_mm is nan"),
        ({"z_min_mm": -2000.0}, "z_min_mm -2000 mm"),
        ({"z_max_mm": 1.0}, "z_max_mm 1 mm"),
        ({"z_min_mm": -10.0, "z_max_mm": -20.0}, "z_min < z_max"),
        ({"z_min_mm": float("nan")}, "z_min_mm nan"),
    ],
)
@pytest.mark.parametrize("name", ["mono", "ambe"])  # `place` checks for all of them
def test_bad_options(name, options, needle, detector):
    with pytest.raises(ValueError, match="must|overflow") as caught:
        _make(name, detector, **{"n_events": 5, **options})
    assert needle in str(caught.value)
    assert "\n" not in str(caught.value)


# places


def _place_p_values(deposits, detector, *, r_max=None, z_min=None, z_max=0.0):
    radius = float(detector.geometry.radius_mm) if r_max is None else r_max
    low = -float(detector.geometry.drift_length_mm) if z_min is None else z_min
    x, y, z = (np.asarray(v, float) for v in (deposits.x_mm, deposits.y_mm, deposits.z_mm))
    return [
        stats.kstest((x**2 + y**2) / radius**2, "uniform").pvalue,
        stats.kstest(np.arctan2(y, x) / (2 * np.pi) + 0.5, "uniform").pvalue,
        stats.kstest((z - low) / (z_max - low), "uniform").pvalue,
    ]


def test_places_are_uniform(detector):
    deposits = _make("mono", detector, n_events=20_000)
    assert min(_place_p_values(deposits, detector)) > P_MIN
    limits = {"r_max_mm": 300.0, "z_min_mm": -900.0, "z_max_mm": -100.0}
    inner = _make("mono", detector, n_events=20_000, **limits)
    assert min(_place_p_values(inner, detector, r_max=300.0, z_min=-900.0, z_max=-100.0)) > P_MIN


def test_uniformity_test_can_fail(detector):
    """Biases of 3 % in radius^2 or in depth are rejected."""
    deposits = _make("mono", detector, n_events=20_000)
    p_radius, _, p_depth = _place_p_values(deposits, detector, r_max=664.0 * 0.985, z_min=-1486.5 * 0.97)
    assert p_radius < P_MIN
    assert p_depth < P_MIN


def test_places_follow_the_geometry(x64):
    """Pathwise: dx/dR = x/R, dz/dL = z/L, exactly."""
    detector = dmsim.load_detector("lux")

    def total(geometry):
        moved = eqx.tree_at(lambda d: d.geometry, detector, geometry)
        deposits = _make("mono", moved, n_events=10)
        return jnp.sum(deposits.x_mm) + jnp.sum(deposits.z_mm)

    gradient = jax.grad(total)(detector.geometry)
    deposits = _make("mono", detector, n_events=10)
    assert float(gradient.radius_mm) == pytest.approx(float(deposits.x_mm.sum() / 235.0), rel=1e-12)
    assert float(gradient.drift_length_mm) == pytest.approx(float(deposits.z_mm.sum() / 483.3), rel=1e-12)


# energies


def test_mono(detector):
    deposits = _make("mono", detector, n_events=3, energy_kev=jnp.asarray([1.0, 2.0, 3.0]), interaction="nr")
    np.testing.assert_array_equal(deposits.energy_kev, [1.0, 2.0, 3.0])
    assert np.all(deposits.interaction == Interaction.NR)


@pytest.mark.parametrize("energy_kev", [9.4, 32.1, 41.5])
def test_mono_of_kr83m(energy_kev, detector):
    deposits = _make("mono", detector, n_events=2, energy_kev=energy_kev, interaction="kr83m")
    assert np.all(deposits.interaction == Interaction.KR83M)


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ({"energy_kev": -1.0}, "energy_kev is -1.0 keV: must be from 0 to 100000 keV"),
        ({"energy_kev": float("nan")}, "energy_kev is nan keV"),
        ({"energy_kev": 1e6}, "energy_kev is 1000000.0 keV"),
        ({"energy_kev": np.array([1.0, -2.0, np.nan])}, "energy_kev is -2.0 keV (2 of 3 values)"),
        ({"energy_kev": np.ones(2)}, "must be one number or have shape (3,)"),
        (
            {"energy_kev": 20.0, "interaction": "kr83m"},
            "energy_kev is 20 keV: for kr83m must be 9.4, 32.1 or",
        ),
        ({"energy_kev": np.array([9.4, 3.0, 41.5]), "interaction": "kr83m"}, "is 3 keV (1 of 3 values)"),
        ({"interaction": "muon"}, "interaction 'muon' is not known"),
    ],
)
def test_bad_mono(options, needle, detector):
    with pytest.raises(ValueError, match="must|known") as caught:
        _make("mono", detector, n_events=3, **options)
    assert needle in str(caught.value)


def test_flat_spectra(detector):
    er = _make("er_flat", detector, n_events=20_000, energy_min_kev=1.0, energy_max_kev=12.0)
    nr = _make("nr_flat", detector, n_events=20_000)
    assert np.all(er.interaction == Interaction.ER_BETA)
    assert np.all(nr.interaction == Interaction.NR)
    assert stats.kstest((np.asarray(er.energy_kev) - 1) / 11, "uniform").pvalue > P_MIN
    assert stats.kstest(np.asarray(nr.energy_kev) / 60, "uniform").pvalue > P_MIN
    assert stats.kstest(np.asarray(nr.energy_kev) / 61.5, "uniform").pvalue < P_MIN  # it can fail


@pytest.mark.parametrize("name", ["er_flat", "nr_flat"])
@pytest.mark.parametrize("ends", [(5.0, 5.0), (9.0, 5.0), (-1.0, 5.0), (0.0, np.nan)])
def test_bad_flat(name, ends, detector):
    with pytest.raises(ValueError, match=r"energy_m(in|ax)_kev .*must"):
        _make(name, detector, n_events=3, energy_min_kev=ends[0], energy_max_kev=ends[1])


def test_energy_and_place_are_independent(detector):
    deposits = _make("er_flat", detector, n_events=20_000)
    columns = [
        deposits.energy_kev,
        deposits.x_mm,
        deposits.y_mm,
        deposits.z_mm,
        jnp.hypot(deposits.x_mm, deposits.y_mm),
    ]
    correlation = np.corrcoef(np.stack([np.asarray(column) for column in columns]))
    # six-sigma bound of a correlation of 20,000 pairs; r and x, y are uncorrelated by symmetry
    assert np.abs(correlation - np.eye(len(columns))).max() < 6 / np.sqrt(20_000)


def _ch3t_cdf(endpoint_kev=18.591):
    """The beta spectrum of tritium written again, with the Fermi function, by quadrature."""

    def density(t):
        total = t + 510.99895
        momentum = np.sqrt(total**2 - 510.99895**2)
        eta = 2 * total / momentum / 137.035999
        fermi = 2 * np.pi * eta / (1 - np.exp(-2 * np.pi * eta))
        return fermi * momentum * total * (endpoint_kev - t) ** 2

    edges = np.linspace(1e-9, endpoint_kev, 4001)
    cdf = integrate.cumulative_simpson(density(edges), x=edges, initial=0.0)
    return lambda t: np.interp(t, edges, cdf / cdf[-1])


def test_tritium_spectrum(detector):
    energy = np.asarray(_make("ch3t", detector, n_events=100_000).energy_kev)
    assert stats.kstest(energy, _ch3t_cdf()).pvalue > P_MIN
    assert energy.max() < spectra.TRITIUM.endpoint_kev
    # the mean energy of tritium's betas is 5.68 keV (ICRU 56); 1e5 decays fix it to 0.013 keV
    assert energy.mean() == pytest.approx(5.68, abs=0.05)


@pytest.mark.parametrize("bias", [0.97, 1.03])
def test_tritium_test_can_fail(bias, detector):
    """An endpoint, or an energy scale, 3 % off is rejected."""
    energy = np.asarray(_make("ch3t", detector, n_events=100_000).energy_kev)
    assert stats.kstest(energy, _ch3t_cdf(18.591 * bias)).pvalue < P_MIN
    assert stats.kstest(energy * bias, _ch3t_cdf()).pvalue < P_MIN


def test_tritium_quantiles(x64):
    """The interpolated quantile function inverts the CDF to 1e-4."""
    uniform = jnp.linspace(1e-4, 1 - 1e-6, 1001)
    np.testing.assert_allclose(
        _ch3t_cdf()(np.asarray(beta.energy_kev(uniform, [spectra.TRITIUM]))), uniform, atol=1e-4
    )


# krypton


def test_krypton(detector):
    deposits = _make("kr83m", detector, n_events=20_000)
    assert len(deposits) == 40_000
    assert np.all(deposits.interaction == Interaction.KR83M)
    first, second = (np.asarray(deposits.energy_kev)[i::2] for i in (0, 1))
    np.testing.assert_allclose(first, 32.1, rtol=1e-6)
    np.testing.assert_allclose(second, 9.4, rtol=1e-6)
    for field in (deposits.event, deposits.x_mm, deposits.y_mm, deposits.z_mm):
        np.testing.assert_array_equal(field[::2], field[1::2])
    assert np.all(np.asarray(deposits.time_ns)[::2] == 0)
    delay = np.asarray(deposits.time_ns)[1::2]
    assert stats.kstest(delay, "expon", args=(0, 154.4 / np.log(2))).pvalue > P_MIN
    # read as a lifetime in place of a half-life, or 5 % off, it is rejected
    assert stats.kstest(delay, "expon", args=(0, 154.4)).pvalue < P_MIN
    assert stats.kstest(delay, "expon", args=(0, 1.05 * 154.4 / np.log(2))).pvalue < P_MIN


def test_krypton_merged(detector):
    deposits = _make("kr83m", detector, n_events=5, merged=True)
    assert len(deposits) == 5
    np.testing.assert_allclose(deposits.energy_kev, 41.5)
    np.testing.assert_array_equal(deposits.x_mm, _make("kr83m", detector, n_events=5).x_mm[::2])
