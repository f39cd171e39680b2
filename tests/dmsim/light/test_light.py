"""Which sensor a photon lands on, what charge it gives, and when S2 light comes.

Statistical limits are those of one estimate at a false-positive rate of 1e-6; about 12 of them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import light, ragged, rng
from dmsim.light.detection import choose_sensor, cumulative
from dmsim.light.photoelectrons import area, photoelectrons
from dmsim.light.timing import two_exponentials
from dmsim.records import Deposits, ElectronClouds, ElectronList, Quanta, Signal

pytestmark = pytest.mark.quick_compile

RATE = 1e-6
SIGMA = stats.norm.isf(RATE / 2)
DETECTOR = dmsim.load_detector("xams")
KEYS = rng.fold(rng.words_of(jax.random.key(6)), jnp.arange(1))
N = 1 << 16
ONE = jnp.ones(1, jnp.float32)
DEPOSIT = Deposits(
    event=jnp.zeros(1, jnp.int32),
    interaction=jnp.zeros(1, jnp.int32),
    energy_kev=10 * ONE,
    x_mm=12 * ONE,
    y_mm=-5 * ONE,
    z_mm=-20 * ONE,
    time_ns=0 * ONE,
    first_event=jnp.int32(0),
    event_time_ns=None,
    n_events=1,
)
CLOUD = ElectronClouds(
    event=jnp.zeros(1, jnp.int32),
    n_electrons=4096 * ONE,
    weight=ONE,
    time_ns=3e4 * ONE,
    time_spread_ns=0 * ONE,
    x_mm=12 * ONE,
    y_mm=-5 * ONE,
    spread_mm=1.5 * ONE,
    photons_per_electron=16 * ONE,
)


def columns(hits):
    valid = np.asarray(hits.valid)
    assert valid.sum() == N
    return {n: np.asarray(getattr(hits, n))[valid] for n in ("sensor", "time_ns", "charge_pe", "signal")}


@pytest.fixture(scope="module")
def s1():
    count = jnp.full(1, N, jnp.float32)
    pages = ragged.paginate(jnp.full(1, N), page_size=64, n_pages=N // 64 + 5)
    quanta = Quanta(n_photons=1e6 * ONE, n_electrons=ONE, n_excitons=1e5 * ONE)
    return columns(eqx.filter_jit(light.sample_s1_hits)(KEYS, DETECTOR, DEPOSIT, quanta, count, pages))


@pytest.fixture(scope="module")
def s2():
    n, each = 4096, 16
    pages = ragged.paginate(jnp.full(n, each), page_size=16, n_pages=n + 9)
    electrons = ElectronList(
        cloud=jnp.zeros(n, jnp.int32),
        index=jnp.arange(n),
        time_ns=jnp.full(n, 3e4, jnp.float32),
        n_photons=jnp.full(n, 16, jnp.float32),
        weight=jnp.ones(n, jnp.float32),
        n_overflow=jnp.int32(0),
    )
    sample = eqx.filter_jit(light.sample_s2_hits)
    return columns(sample(KEYS, DETECTOR, CLOUD, electrons, pages, n_events=1, n_deposits=1))


def pattern(signal, x_mm):
    x = jnp.full(1, x_mm, jnp.float32)
    if signal is Signal.S1:
        shares = DETECTOR.light.s1_pattern(DETECTOR.geometry, x, DEPOSIT.y_mm, DEPOSIT.z_mm)
    else:
        shares = DETECTOR.light.s2_pattern(DETECTOR.geometry, x, CLOUD.y_mm, CLOUD.spread_mm)
    shares = np.asarray(shares[0], np.float64)
    return shares / shares.sum()


@pytest.mark.parametrize("signal", [Signal.S1, Signal.S2])
def test_sensors_are_hit_as_the_pattern_says(signal, request):
    hits = request.getfixturevalue(signal.name.lower())
    assert (hits["signal"] == signal.value).all()
    observed = np.bincount(hits["sensor"], minlength=5)
    assert stats.chisquare(observed, N * pattern(signal, 12.0)).pvalue > RATE
    # the twin: the pattern of a place 5 mm off is refused
    assert stats.chisquare(observed, N * pattern(signal, 17.0)).pvalue < RATE


@pytest.mark.parametrize("signal", [Signal.S1, Signal.S2])
def test_top_fraction_is_the_detectors(signal, request):
    sensor = request.getfixturevalue(signal.name.lower())["sensor"]
    light_response = DETECTOR.light
    depth = 20.0 / float(DETECTOR.geometry.drift_length_mm)
    gate, cathode = light_response.s1_top_fraction_gate, light_response.s1_top_fraction_cathode
    fraction = float(gate + depth * (cathode - gate)) if signal is Signal.S1 else 0.6
    error = np.sqrt(fraction * (1 - fraction) / N)
    assert abs((sensor < DETECTOR.light.sensors.n_top).mean() - fraction) < SIGMA * error


def test_choosing_a_sensor_inverts_the_running_sums():
    shares = jnp.asarray([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0, 0.0]], jnp.float32)
    u = jnp.asarray([[1e-7, 0.2499, 0.2501, 0.7499, 0.7501, 1 - 2.0**-24]], jnp.float32)
    sensor, weight = choose_sensor(u, jnp.zeros((1, 6), jnp.int32), cumulative(shares), shares)
    np.testing.assert_array_equal(sensor[0], [1, 1, 3, 3, 4, 4])
    np.testing.assert_array_equal(weight, np.ones((1, 6)))


def test_sensor_weight_has_the_gradient_of_the_logarithm_of_its_share():
    u, parent = jnp.asarray([[0.1, 0.6]]), jnp.zeros((1, 2), jnp.int32)

    def weights(shares):
        return choose_sensor(u, parent, cumulative(shares), shares)[1][0]

    shares = jnp.asarray([[0.25, 0.75]])
    expected = [[4, 0], [0, 4 / 3]]
    np.testing.assert_allclose(jax.jacrev(weights)(shares)[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(weights)(shares)[:, 0], expected, rtol=1e-6)


def test_charge_of_a_photon_is_one_or_two_photoelectrons_with_their_spread(s1, s2):
    p, width = float(DETECTOR.electronics.double_pe_probability), float(DETECTOR.electronics.spe_width)
    variance = (1 + p) * width**2 + p * (1 - p)
    for charge in (s1["charge_pe"], s2["charge_pe"]):
        assert (charge >= 0).all()
        # cut at zero: adds 8e-4 at a width of 0.4
        assert abs(charge.mean() - (1 + p)) < SIGMA * np.sqrt(variance / N) + 1e-3
        assert charge.var() == pytest.approx(variance, rel=0.03)


def test_area_of_many_photons_has_the_moments_of_its_hits():
    n, photons = 50_000, 400.0
    z, u = np.random.default_rng(1).normal(size=n), np.random.default_rng(2).random(n)
    electronics = DETECTOR.electronics
    total = area(jnp.asarray(u, jnp.float32), jnp.asarray(z, jnp.float32), photons * jnp.ones(n), electronics)
    total = np.asarray(total, np.float64)
    p, width = float(electronics.double_pe_probability), float(electronics.spe_width)
    variance = photons * ((1 + p) * width**2 + p * (1 - p))
    assert abs(total.mean() - photons * (1 + p)) < SIGMA * np.sqrt(variance / n)
    assert total.var() == pytest.approx(variance, rel=SIGMA * np.sqrt(2 / n))


def test_no_photons_no_area():
    assert area(jnp.float32(0.3), jnp.float32(-1), jnp.float32(0), DETECTOR.electronics) == 0
    assert photoelectrons(jnp.float32(0.9), jnp.float32(-4), DETECTOR.electronics) == 0


def test_s2_light_comes_over_the_gap_and_after_the_gass_decay(s2):
    gas, spread = DETECTOR.electroluminescence, float(DETECTOR.electronics.transit_time_spread_ns)
    gap = float(gas.gap_transit_ns)
    share, fast, slow = (
        float(x) for x in (gas.singlet_fraction, gas.singlet_lifetime_ns, gas.triplet_lifetime_ns)
    )
    decay = share * fast + (1 - share) * slow
    second = 2 * (share * fast**2 + (1 - share) * slow**2)
    variance = gap**2 / 12 + second - decay**2 + spread**2
    delay = s2["time_ns"].astype(np.float64) - 3e4
    assert abs(delay.mean() - gap / 2 - decay) < SIGMA * np.sqrt(variance / N)
    assert delay.var() == pytest.approx(variance, rel=0.03)


def test_two_exponentials_draw_their_law():
    u = (np.arange(1 << 10) + 0.5) / (1 << 10)
    which, when = (jnp.asarray(g, jnp.float32) for g in np.meshgrid(u, u))
    values = {"fast_fraction": 0.25, "fast_ns": 3.0, "slow_ns": 24.0}

    @jax.jit
    def means(values):
        t = two_exponentials(which, when, **values)
        return t.mean(), (t < 5).mean()

    mean, early = means(values)
    assert mean == pytest.approx(0.25 * 3 + 0.75 * 24, rel=1e-3)
    assert early == pytest.approx(1 - 0.25 * np.exp(-5 / 3) - 0.75 * np.exp(-5 / 24), abs=1e-3)
    slopes = jax.jit(jax.grad(lambda v: means(v)[0]))(values)  # implicit: exact in the mean
    assert slopes["fast_fraction"] == pytest.approx(3 - 24, rel=5e-3)
    assert slopes["fast_ns"] == pytest.approx(0.25, rel=5e-3)
    assert slopes["slow_ns"] == pytest.approx(0.75, rel=5e-3)
