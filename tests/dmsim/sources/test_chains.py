"""Decay chains: activities, delays, shares, motion; and mixtures of sources."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import rng, sources
from dmsim.records import Interaction
from dmsim.sources import chains, convection
from dmsim.sources.radon import ISOTOPES

# Kolmogorov-Smirnov, Poisson and binomial tests, each with a false-positive rate of 1e-6; seeds are fixed
P_MIN = 1e-6
KEY = jax.random.key(31)
ACTIVITY_BQ, DURATION_S = 10.0, 300.0


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("xenonnt")


@pytest.fixture(scope="module")
def rn222(detector):
    return sources.rn222_chain(KEY, detector, duration_s=DURATION_S, activity_bq=ACTIVITY_BQ)


@pytest.fixture(scope="module")
def rn220(detector):
    return sources.rn220_chain(KEY, detector, duration_s=DURATION_S, activity_bq=ACTIVITY_BQ)


def poisson_p(count, mean):
    return min(2 * min(stats.poisson.cdf(count, mean), stats.poisson.sf(count - 1, mean)), 1.0)


def delays_s(timeline, first, second):
    """From a decay to the next of the same chain, both within the span."""
    truth, times = timeline.truth, timeline.deposits.event_time_ns
    begin = dict(zip(truth.chain[truth.isotope == first], times[truth.isotope == first], strict=True))
    later = truth.isotope == second
    pairs = [(begin[c], t) for c, t in zip(truth.chain[later], times[later], strict=True) if c in begin]
    return np.array([(t - b) * 1e-9 for b, t in pairs])


# decays


def test_order_and_shape(rn222, rn220, detector):
    for made in (rn222, rn220):
        deposits = made.deposits
        assert np.all(np.diff(deposits.event_time_ns) >= 0)
        assert deposits.event_time_ns.dtype == np.int64
        assert 0 < deposits.event_time_ns[0] < deposits.event_time_ns[-1] < 1e6 + DURATION_S * 1e9
        np.testing.assert_array_equal(np.unique(deposits.event), np.arange(deposits.n_events))
        assert np.all(np.diff(deposits.event) >= 0)
        assert float(jnp.hypot(deposits.x_mm, deposits.y_mm).max()) <= float(detector.geometry.radius_mm)
        assert -float(detector.geometry.drift_length_mm) <= deposits.z_mm.min() <= deposits.z_mm.max() <= 0
        assert deposits.energy_kev.dtype == jnp.float32


def test_activities_are_in_equilibrium(rn222, rn220):
    """Each isotope's decays are Poisson about its activity; 15 % more are rejected."""
    expected = dict.fromkeys(chains.CHAINS["Rn-222"] + chains.CHAINS["Rn-220"], ACTIVITY_BQ * DURATION_S)
    expected["Po-212"] *= 0.6406
    expected["Tl-208"] *= 0.3594
    for made in (rn222, rn220):
        for isotope, count in zip(*np.unique(made.truth.isotope, return_counts=True), strict=True):
            assert poisson_p(count, expected[isotope]) > P_MIN
            if expected[isotope] > 2000:
                assert poisson_p(count, 1.15 * expected[isotope]) < P_MIN


@pytest.mark.parametrize(
    ("name", "first", "second", "half_life_s"),
    [
        ("rn222", "Bi-214", "Po-214", 164.3e-6),
        ("rn220", "Rn-220", "Po-216", 0.144),
        ("rn220", "Bi-212", "Po-212", 299e-9),
    ],
)
def test_delays_are_exponential(name, first, second, half_life_s, request):
    """Also where the clock's ns count; a half-life 12 % off, or read as a lifetime, is rejected."""
    delays = delays_s(request.getfixturevalue(name), first, second)
    assert len(delays) > 1800
    # the clock is rounded to 1 ns: undone by the triangular law of two rounding errors
    delays = delays + (stats.triang.rvs(0.5, loc=-1, scale=2, size=len(delays), random_state=1)) * 1e-9
    delays = delays[delays > 2e-9] - 2e-9
    scale = half_life_s / np.log(2)
    assert stats.kstest(delays, "expon", args=(0, scale)).pvalue > P_MIN
    assert stats.kstest(delays, "expon", args=(0, 1.15 * scale)).pvalue < P_MIN
    assert stats.kstest(delays, "expon", args=(0, half_life_s)).pvalue < P_MIN


def test_polonium_follows_radon(rn222):
    """Over 300 s of 268 s lifetime: the exponential, cut by the end of the span."""
    truth, times = rn222.truth, (rn222.deposits.event_time_ns - 1_000_000) * 1e-9
    begin = dict(zip(truth.chain[truth.isotope == "Rn-222"], times[truth.isotope == "Rn-222"], strict=True))
    mine = (truth.isotope == "Po-218") & np.isin(truth.chain, list(begin))
    born = np.array([begin[c] for c in truth.chain[mine]])
    rate = np.log(2) / ISOTOPES["Po-218"].half_life_s

    def law(factor):
        return -np.expm1(-factor * rate * (times[mine] - born)) / -np.expm1(
            -factor * rate * (DURATION_S - born)
        )

    assert stats.kstest(law(1.0), "uniform").pvalue > P_MIN
    assert stats.kstest(law(2.0), "uniform").pvalue < P_MIN


def test_what_decays_deposit(rn222, rn220):
    for made, lines in (
        (rn222, {"Rn-222": 5489.5, "Po-218": 6002.6, "Po-214": 7686.8}),
        (rn220, {"Rn-220": 6288.1, "Po-216": 6778.3, "Po-212": 8784.9}),
    ):
        isotope = made.truth.isotope[np.asarray(made.deposits.event)]
        kind, energy = np.asarray(made.deposits.interaction), np.asarray(made.deposits.energy_kev)
        for name, line in lines.items():
            assert np.all(kind[isotope == name] == Interaction.ALPHA)
            np.testing.assert_allclose(energy[isotope == name], line, rtol=1e-4)
    isotope = rn222.truth.isotope[np.asarray(rn222.deposits.event)]
    assert set(np.asarray(rn222.deposits.interaction)[isotope == "Pb-214"]) == {
        Interaction.ER_BETA, Interaction.ER_GAMMA,
    }  # fmt: skip
    # 12.7 % of Pb-214's decays go to the ground state; nearly all of the others show a photon
    event = np.asarray(rn222.deposits.event)[isotope == "Pb-214"]
    alone = (np.bincount(event)[np.unique(event)] == 1).sum()
    n = (rn222.truth.isotope == "Pb-214").sum()
    assert stats.binomtest(int(alone), int(n), 0.127, alternative="less").pvalue > P_MIN
    assert alone < 0.2 * n


def test_spans_do_not_matter(rn222, detector):
    cut = 90.0
    parts = [
        sources.rn222_chain(KEY, detector, duration_s=cut, activity_bq=ACTIVITY_BQ),
        sources.rn222_chain(KEY, detector, start_s=cut, duration_s=DURATION_S - cut, activity_bq=ACTIVITY_BQ),
    ]
    assert int(parts[1].deposits.first_event) == parts[0].deposits.n_events
    for field in ("energy_kev", "x_mm", "y_mm", "z_mm", "interaction", "event_time_ns"):
        joined = np.concatenate([np.asarray(getattr(part.deposits, field)) for part in parts])
        np.testing.assert_array_equal(joined, getattr(rn222.deposits, field))
    for column in range(3):
        joined = np.concatenate([part.truth[column] for part in parts])
        np.testing.assert_array_equal(joined, rn222.truth[column])


def test_chains_by_number(rn222, detector):
    made = sources.named("rn222_chain")(KEY, detector, n_events=30, first_event=20, activity_bq=ACTIVITY_BQ)
    event = np.asarray(rn222.deposits.event)
    rows = (event >= 20) & (event < 50)
    assert (made.n_events, int(made.first_event)) == (30, 20)
    np.testing.assert_array_equal(made.event, event[rows] - 20)
    np.testing.assert_array_equal(made.energy_kev, np.asarray(rn222.deposits.energy_kev)[rows])
    np.testing.assert_array_equal(made.event_time_ns, rn222.deposits.event_time_ns[20:50])
    assert set(sources.options(sources.named("rn220_chain"))) >= {"activity_bq", "v_rms_mm_per_s"}


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ({"duration_s": 0.0}, "duration_s is 0.0 s: must be finite and above 0 s"),
        ({"start_s": -1.0}, "start_s is -1.0 s: must be finite and 0 s or more"),
        ({"activity_bq": -1.0}, "activity_bq is -1.0 Bq: must be from 0 to 1e6 Bq"),
        ({"activity_bq": 1e5}, "atoms of the chain at the start, must be at most 2e+07"),
        ({"convection": convection.Convection(v_rms_mm_per_s=-1.0)}, "v_rms_mm_per_s is -1.0"),
        (
            {"convection": convection.Convection(ion_fraction_beta=1.1)},
            "ion_fraction_beta is 1.1: must be from 0 to 1",
        ),
    ],
)
def test_bad_chains(options, needle, detector):
    with pytest.raises(ValueError, match="must") as caught:
        sources.rn222_chain(KEY, detector, **{"duration_s": 10.0, **options})
    assert needle in str(caught.value)


# motion


def keys_of(n):
    return rng.fold(rng.words_of(KEY), jnp.arange(n))


def flow(places, detector, v_rms=3.0):
    geometry = detector.geometry
    return convection.velocity_mm_per_s(places, geometry.radius_mm, geometry.drift_length_mm, v_rms)


def inside(detector, n, seed=1):
    generator = np.random.default_rng(seed)
    r = float(detector.geometry.radius_mm) * np.sqrt(generator.uniform(size=n))
    angle = generator.uniform(0, 2 * np.pi, n)
    z = -float(detector.geometry.drift_length_mm) * generator.uniform(size=n)
    return jnp.asarray(np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1))


def test_flow_is_free_of_divergence(x64):
    """To 1e-6 of its largest derivative; of the velocity squared, which is no such flow, it is not."""
    detector = dmsim.load_detector("xenonnt").as_dtype(jnp.float64)
    places = inside(detector, 300)

    def derivatives(function):
        return jax.vmap(jax.jacfwd(lambda place: function(place[None])[0]))(places)

    slopes = derivatives(lambda place: flow(place, detector))
    divergence = jnp.trace(slopes, axis1=1, axis2=2)
    assert float(jnp.abs(divergence).max()) < 1e-6 * float(jnp.abs(slopes).max())
    other = derivatives(lambda place: flow(place, detector) ** 2)
    assert float(jnp.abs(jnp.trace(other, axis1=1, axis2=2)).max()) > 0.1 * float(jnp.abs(other).max())


def test_flow_has_its_speed_and_stays_inside(x64):
    """Six sigma of 2e5 places; and nothing passes the walls."""
    detector = dmsim.load_detector("xenonnt").as_dtype(jnp.float64)
    speed2 = np.sum(np.asarray(flow(inside(detector, 200_000), detector)) ** 2, axis=1)
    assert abs(speed2.mean() - 9.0) < 6 * speed2.std() / np.sqrt(200_000)
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)
    wall = flow(jnp.array([[radius, 0.0, -300.0], [0.0, radius, -900.0]]), detector)
    np.testing.assert_allclose([wall[0, 0], wall[1, 1]], 0, atol=1e-12)
    ends = flow(jnp.array([[100.0, 50.0, 0.0], [300.0, 0.0, -length]]), detector)
    np.testing.assert_allclose(ends[:, 2], 0, atol=1e-12)


def test_atoms_stay_on_their_streamline(x64):
    """The stream function is kept to 1e-4 of its range over 1000 s, four times round; speed 2 % off shows."""
    detector = dmsim.load_detector("xenonnt").as_dtype(jnp.float64)
    places = inside(detector, 50)
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)

    def stream(at):
        r2 = (at[:, 0] ** 2 + at[:, 1] ** 2) / radius**2
        return np.asarray(r2 * (1 - r2) * np.sin(np.pi * (at[:, 2] + length) / length))

    still = convection.Convection(diffusion_mm2_per_s=0.0)
    keys = keys_of(50)
    durations, charged = jnp.full(50, 1000.0), jnp.zeros(50)
    moved = convection.carry(keys, detector, still, places, durations, charged)
    np.testing.assert_allclose(stream(moved), stream(places), atol=0.25e-4)
    assert np.median(np.linalg.norm(np.asarray(moved - places), axis=1)) > 100
    # an ion's drift at 0.219 cm2/(kV s) in 23 V/cm leaves it
    drifted = convection.carry(keys, detector, still, places, durations, charged + 1)
    assert np.abs(stream(drifted) - stream(places)).max() > 1e-3


def test_ions_and_diffusion(detector):
    """Without flow: ions fall by mobility x field x time; the rest spreads by sqrt(2 D t), within 6 sigma."""
    n, seconds = 4000, 60.0
    calm = convection.Convection(v_rms_mm_per_s=0.0, diffusion_mm2_per_s=0.5)
    places = jnp.tile(jnp.array([[0.0, 0.0, -700.0]]), (n, 1))
    charged = (jnp.arange(n) % 2).astype(jnp.float32)
    moved = (
        np.asarray(convection.carry(keys_of(n), detector, calm, places, jnp.full(n, seconds), charged))
        - places
    )
    spread = np.sqrt(2 * 0.5 * seconds)
    for axis in range(3):
        neutral = np.asarray(moved[::2, axis])
        assert abs(neutral.std() / spread - 1) < 6 / np.sqrt(n)
        assert abs(neutral.mean()) < 6 * spread / np.sqrt(n / 2)
    field = float(detector.xenon.field_v_per_cm[0])
    fall = 10 * 0.219 * field * 1e-3 * seconds
    assert abs(float(moved[1::2, 2].mean()) + fall) < 6 * spread / np.sqrt(n / 2)
    assert fall > 7 * spread / np.sqrt(n / 2)


def test_decays_stay_well_mixed(rn222, detector):
    """A flow without divergence keeps a uniform density. All at one height would be rejected by far."""
    isotope = rn222.truth.isotope[np.asarray(rn222.deposits.event)]
    own = (isotope == "Po-218") & (np.asarray(rn222.deposits.interaction) == Interaction.ALPHA)
    x, y, z = (np.asarray(getattr(rn222.deposits, f"{axis}_mm"), float)[own] for axis in "xyz")
    area = (x**2 + y**2) / float(detector.geometry.radius_mm) ** 2
    depth = -z / float(detector.geometry.drift_length_mm)
    assert stats.kstest(area, "uniform").pvalue > P_MIN
    assert stats.kstest(depth, "uniform").pvalue > P_MIN
    assert stats.kstest(area**1.15, "uniform").pvalue < P_MIN


# mixtures

RATES = {"kr83m": 5.0, "isolated_s1": 12.0, "wimp": 0.5, "rn222_chain": 1.0, "b8": 0.0}
OPTIONS = {"wimp": {"mass_gev": 30.0}}


@pytest.fixture(scope="module")
def mixed(detector):
    return sources.mixture(KEY, detector, RATES, 200.0, options=OPTIONS)


def test_mixture(mixed):
    """In time order, with the right rates (Poisson); twice the rate is rejected where it can be."""
    deposits, truth = mixed
    assert np.all(np.diff(deposits.event_time_ns) >= 0)
    np.testing.assert_array_equal(np.unique(deposits.event), np.arange(deposits.n_events))
    kinds = np.asarray(deposits.interaction)
    of = truth.source[np.asarray(deposits.event)]
    assert np.all(kinds[of == "kr83m"] == Interaction.KR83M)
    assert np.all(kinds[of == "isolated_s1"] == Interaction.PHOTONS)
    assert np.all(kinds[of == "wimp"] == Interaction.NR)
    for name, rate in {**RATES, "rn222_chain": 5.0}.items():
        count = int((truth.source == name).sum())
        assert poisson_p(count, rate * 200) > P_MIN
        assert rate < 1 or poisson_p(count, 2 * rate * 200) < P_MIN
    assert np.all((truth.chain >= 0) == (truth.source == "rn222_chain"))
    gaps = np.diff(deposits.event_time_ns[truth.source == "isolated_s1"]) * 1e-9
    assert stats.kstest(gaps, "expon", args=(0, 1 / 12)).pvalue > P_MIN


def test_mixtures_do_not_depend_on_spans_or_company(mixed, detector):
    late = sources.mixture(KEY, detector, RATES, 120.0, start_s=80.0, options=OPTIONS).deposits
    first, whole = int(late.first_event), mixed.deposits
    assert first + late.n_events == whole.n_events
    np.testing.assert_array_equal(late.event_time_ns, whole.event_time_ns[first:])
    np.testing.assert_array_equal(late.energy_kev, np.asarray(whole.energy_kev)[-len(late) :])
    np.testing.assert_array_equal(late.x_mm, np.asarray(whole.x_mm)[-len(late) :])
    alone = sources.mixture(KEY, detector, {"kr83m": 5.0}, 200.0).deposits
    np.testing.assert_array_equal(alone.event_time_ns, whole.event_time_ns[mixed.truth.source == "kr83m"])


def test_empty_mixture(detector):
    nothing = sources.mixture(KEY, detector, {"kr83m": 0.0}, 5.0)
    assert nothing.deposits.n_events == len(nothing.deposits) == len(nothing.truth.source) == 0


@pytest.mark.parametrize(
    ("rates", "options", "needle"),
    [
        ({"cf252": 1.0}, {}, "source 'cf252' is not known"),
        ({"kr83m": -1.0}, {}, "rates_hz of kr83m is -1.0 Hz: must be from 0 to 1e9 Hz"),
        ({"kr83m": 1.0}, {"wimp": {}}, "options are given for wimp: no such source in rates_hz"),
        ({"wimp": 1.0}, {"wimp": {"mass": 3.0}}, "source wimp takes no option mass: it takes mass_gev"),
        ({"wimp": 1.0}, {"wimp": {"n_events": 3}}, "source wimp takes no option n_events"),
    ],
)
def test_bad_mixtures(rates, options, needle, detector):
    with pytest.raises(ValueError, match="source|must") as caught:
        sources.mixture(KEY, detector, rates, 5.0, options=options)
    assert needle in str(caught.value)
