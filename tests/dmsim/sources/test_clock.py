"""Poisson times: the right law, whatever the batch; and the generator behind them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import rng
from dmsim.sources import clock, host_random

# Kolmogorov-Smirnov and Poisson tests, each with a false-positive rate of 1e-6; seeds are fixed
P_MIN = 1e-6
KEY = jax.random.key(11)


def times(n, *, rate_hz=100.0, first=0, key=KEY):
    return clock.event_times_ns(key, rate_hz=rate_hz, timing="poisson", first_event=first, n_events=n)


def test_host_generator_is_the_device_generator():
    indices = np.array([0, 1, 7, 2**31 - 1])
    device = rng.fold(rng.words_of(KEY), -3, jnp.asarray(indices))
    host = host_random.fold(host_random.host_words(KEY), -3, indices)
    np.testing.assert_array_equal(device.first, host.first)
    np.testing.assert_array_equal(device.second, host.second)
    coarse, _ = rng.uniform_pair(device, 0, 0, dtype=jnp.float32)
    np.testing.assert_allclose(
        host_random.uniforms(host_random.host_words(KEY), -3, indices), coarse, atol=2e-7
    )


def test_gaps_are_exponential():
    """Over five blocks and their borders. A mean 10 % off and even times with jitter are rejected."""
    gaps = np.diff(times(20_000)) / 1e7
    assert stats.kstest(gaps, "expon").pvalue > P_MIN
    assert stats.kstest(1.1 * gaps, "expon").pvalue < P_MIN
    jittered = np.sort(np.arange(20_000) + stats.uniform.rvs(size=20_000, random_state=1))
    assert stats.kstest(np.diff(jittered), "expon").pvalue < P_MIN


def test_gaps_are_independent():
    """Five sigma of a correlation of 20,000 pairs."""
    gaps = np.diff(times(20_000))
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 5 / np.sqrt(20_000)


def test_counts_in_slots_are_poisson():
    """Variance over mean is chi-square: of counts in slots of 20 events, of 6 blocks; a tenth is rejected."""
    for rate_hz, slot_s, n in ((100.0, 0.2, 20_000), (1e6, 0.0246, 2_000_000)):
        when = (times(n, rate_hz=rate_hz) - clock.LEAD_NS) * 1e-9
        counts = np.bincount((when / slot_s).astype(int))[:-1]
        statistic, degrees = counts.var() * len(counts) / (rate_hz * slot_s), len(counts) - 1
        assert P_MIN < stats.chi2.sf(statistic, degrees) < 1 - P_MIN
    assert stats.chi2.sf(0.1 * statistic, degrees) > 1 - P_MIN


@pytest.mark.parametrize("first", [0, 5, 4095, 4096, 10_000])
def test_times_do_not_depend_on_batches(first):
    np.testing.assert_array_equal(times(12_000)[first : first + 1500], times(1500, first=first))
    assert not np.array_equal(times(10), times(10, key=jax.random.key(12)))


def test_numbers_between():
    whole = (times(2000) - clock.LEAD_NS) * 1e-9
    numbers = clock.numbers_between(clock.clock_of(KEY), 100.0, 3.0, 8.0)
    assert whole[numbers.start - 1] < 3.0 <= whole[numbers.start]
    assert whole[numbers.stop - 1] < 8.0 <= whole[numbers.stop]
    assert not clock.numbers_between(clock.clock_of(KEY), 0.0, 0.0, 8.0)
    assert len(clock.numbers_between(clock.clock_of(KEY), 2e-6, 0.0, 8.0)) <= 1


@pytest.mark.parametrize(("rate_hz", "end_s"), [(1e-7, 8.0), (1.0, 5e9)])
def test_spans_that_overflow_the_clock_are_refused(rate_hz, end_s):
    with pytest.raises(ValueError, match=r"must be 0 or above 2e-6 Hz"):
        clock.numbers_between(clock.clock_of(KEY), rate_hz, 0.0, end_s)


def test_sources_take_it():
    detector = dmsim.load_detector("lux")
    made = dmsim.sources.kr83m(KEY, detector, n_events=50, rate_hz=10.0, timing="poisson")
    np.testing.assert_array_equal(made.event_time_ns, times(50, rate_hz=10.0))
    even = dmsim.sources.kr83m(KEY, detector, n_events=50)
    np.testing.assert_array_equal(made.x_mm, even.x_mm)


def test_a_traced_key_is_refused():
    with pytest.raises(ValueError, match="key is being traced"):
        jax.jit(lambda key: times(3, key=key))(KEY)
