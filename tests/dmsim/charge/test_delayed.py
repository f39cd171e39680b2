"""Delayed electrons: as many as the light and the electrons before them say, where and when they should be.

False-positive rate 1e-6 a comparison, about 15 of them. The twins: rates 5 % off are refused.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import charge, rng
from dmsim.charge.delayed import exponential_delay_ns, power_delay_ns
from dmsim.detector import consistency
from dmsim.detector.delayed import DelayedElectrons, Photoionisation
from dmsim.detector.quantities import specs
from dmsim.records import ElectronClouds

pytestmark = pytest.mark.quick_compile

SIGMA = stats.norm.isf(0.5e-6)
N = 2000
KEYS = rng.fold(rng.words_of(jax.random.key(4)), jnp.arange(N))


def numbers(*values):
    return [jnp.float32(value) for value in values]


XAMS = dmsim.load_detector("xams").without("all")
FREED = Photoionisation(*numbers(0.02, 2e4, 3e4))
HELD = DelayedElectrons(*numbers(0.1, -1.1, 1e4, 1e6, 3.0))
DETECTOR = dataclasses.replace(XAMS, photoionisation=FREED, delayed_electrons=HELD)
N_S1 = jnp.full(N, 200.0)


def one_each(detector):
    """Deposits and their clouds: 50 electrons of 10 photons each."""
    deposits = dmsim.sources.deposits(
        detector,
        energy_kev=np.full(N, 5.0),
        x_mm=4.0,
        y_mm=0.0,
        z_mm=-20.0,
        time_ns=100.0,
        interaction="er_beta",
    )
    same = {name: jnp.full(N, value, jnp.float32) for name, value in CLOUD.items()}
    return deposits, ElectronClouds(event=deposits.event, **same)


CLOUD = {
    "n_electrons": 50.0,
    "weight": 1.0,
    "time_ns": 2e4,
    "time_spread_ns": 0.0,
    "x_mm": 4.0,
    "y_mm": -2.0,
    "spread_mm": 4.0,
    "photons_per_electron": 10.0,
}


def drawn(detector):
    """The kind of each delayed electron, and its cloud."""
    deposits, clouds = one_each(detector)
    counts = charge.count_delayed(KEYS, detector, clouds, N_S1)
    total = int(counts.sum())
    late, _ = charge.delayed_clouds(KEYS, detector, deposits, clouds, jnp.ones(N), counts, n_rows=total + 5)
    kind = np.repeat(np.arange(3), np.asarray(counts).sum(1))
    return counts, kind, {f.name: np.asarray(getattr(late, f.name)) for f in dataclasses.fields(late)}


@pytest.fixture(scope="module")
def delayed():
    return drawn(DETECTOR)


def test_their_numbers_are_poisson_of_light_and_electrons(delayed):
    counts = np.asarray(delayed[0])
    for found, mean in zip(counts, (0.02 * 200, 0.02 * 500, 0.1 * 50), strict=True):
        assert abs(found.mean() - mean) < SIGMA * np.sqrt(mean / N)
        assert abs(found.mean() - 1.05 * mean) > SIGMA * np.sqrt(mean / N) * 0.9  # the twin
        assert abs(found.var() / mean - 1) < SIGMA * np.sqrt((2 + 1 / mean) / N)


def test_light_frees_electrons_everywhere_and_they_drift(delayed):
    _, kind, clouds = delayed
    n = kind.size
    time, alive = clouds["time_ns"][:n], clouds["n_electrons"][:n] > 0
    r2 = (clouds["x_mm"][:n] ** 2 + clouds["y_mm"][:n] ** 2) / float(XAMS.geometry.radius_mm) ** 2
    for which, start in ((0, 100.0), (1, 2e4)):
        here = kind == which
        assert stats.kstest((time[here] - start), stats.truncexpon(1.5, scale=2e4).cdf).pvalue > 1e-6
        assert stats.kstest((time[here] - start), stats.truncexpon(1.5, scale=2.1e4).cdf).pvalue < 1e-3
        assert stats.kstest(r2[here], "uniform").pvalue > 1e-6
        delay = time[here] - start
        survival = np.asarray(XAMS.electrons.survival(jnp.asarray(delay)))
        expected = survival * float(XAMS.electrons.extraction_efficiency)
        error = np.sqrt(np.sum(expected * (1 - expected)))
        assert abs(alive[here].sum() - expected.sum()) <= SIGMA * error + 1e-3


def test_held_electrons_follow_a_power_law_near_their_s2(delayed):
    _, kind, clouds = delayed
    held = np.flatnonzero(kind == 2)
    delay = clouds["time_ns"][held] - 2e4
    b = -0.1

    def cdf(t):
        return ((t / 1e4) ** b - 1) / (100**b - 1)

    assert stats.kstest(delay, cdf).pvalue > 1e-6
    assert stats.kstest(delay, lambda t: np.log(t / 1e4) / np.log(100)).pvalue < 1e-6  # the twin: 1/t
    for axis, center in (("x_mm", 4.0), ("y_mm", -2.0)):
        assert stats.kstest(clouds[axis][held], stats.norm(center, 5.0).cdf).pvalue > 1e-6
    assert (clouds["n_electrons"][held] == 1).all()


def test_slots_behind_the_last_electron_are_empty(delayed):
    _, kind, clouds = delayed
    assert not clouds["n_electrons"][kind.size :].any()
    assert all(np.isfinite(values).all() for values in clouds.values())


@pytest.mark.parametrize("table", ["photoionisation", "delayed_electrons"])
def test_each_table_stands_alone(delayed, table):
    counts, kind, clouds = drawn(DETECTOR.without(table))
    off = [0, 1] if table == "photoionisation" else [2]
    on = [k for k in range(3) if k not in off]
    assert not np.asarray(counts)[off].any()
    np.testing.assert_array_equal(np.asarray(counts)[on], np.asarray(delayed[0])[on])
    rest = np.isin(delayed[1], on)
    for name, values in clouds.items():
        np.testing.assert_allclose(
            values[: kind.size], delayed[2][name][: rest.size][rest], rtol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("power", [-2.5, -1.0005, -1.0, -0.9995, -0.3])
def test_the_power_law_and_its_gradient_pass_through_minus_one(power, x64):
    u = jnp.linspace(0.01, 0.99, 9)

    def delay(power):
        return power_delay_ns(u, power, jnp.asarray(2.0), jnp.asarray(50.0))

    t, b = np.asarray(delay(jnp.asarray(power))), power + 1
    cdf = np.log(t / 2) / np.log(25) if b == 0 else ((t / 2) ** b - 1) / (25**b - 1)
    np.testing.assert_allclose(cdf, u, atol=1e-5)
    _, slope = jax.jvp(delay, (jnp.asarray(power),), (jnp.asarray(1.0),))
    step = 1e-4
    difference = (delay(jnp.asarray(power + step)) - delay(jnp.asarray(power - step))) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=5e-3)


def test_a_long_time_constant_is_a_uniform_delay():
    u = jnp.linspace(0.01, 0.99, 9, dtype=jnp.float32)
    delay = exponential_delay_ns(u, jnp.float32(1e8), jnp.float32(7e5))
    np.testing.assert_allclose(delay, 7e5 * u, rtol=4e-3)


def test_times_in_the_wrong_order_are_refused():
    wrong = dataclasses.replace(HELD, first_ns=jnp.float32(2e6))
    with pytest.raises(ValueError, match=r"first_ns is 2e\+06 ns: must be below last_ns 1e\+06 ns"):
        consistency.check(dataclasses.replace(XAMS, delayed_electrons=wrong))


def test_light_frees_no_electrons_below_the_cathode():
    below = dataclasses.replace(FREED, cutoff_ns=jnp.float32(6e4))
    with pytest.raises(ValueError, match="must be at most the longest drift time, 39499 ns"):
        consistency.check(dataclasses.replace(XAMS, photoionisation=below))


def test_the_longest_delay_is_resolved_in_single_precision():
    # photons of an electron that share one float32 time would all lie in one sample
    longest = dict(specs(HELD))["last_ns"].high
    assert np.spacing(np.float32(longest)) < XAMS.electronics.sample_ns
