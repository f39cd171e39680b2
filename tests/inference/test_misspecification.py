"""The alarm on calibration events of a detector broken on purpose, and its rate on one that is not."""

import functools

import jax
import numpy as np
import pytest

import dmsim
from inference.diagnostics.misspecification import check_mismatch, mismatch
from inference.parameters import get_leaf, resolve, set_leaf

N = 1000
DETECTOR = dmsim.load_detector("xenonnt")


@functools.cache
def summaries(seed, name="g1", factor=1.0):
    """Logarithms of S1 and S2, and the drift time, of flat ER with one parameter off by a factor."""
    path = resolve(DETECTOR, name)
    detector = set_leaf(DETECTOR, path, factor * get_leaf(DETECTOR, path))
    key_source, key_areas = jax.random.split(jax.random.key(seed))
    deposits = dmsim.sources.mono(key_source, detector, n_events=N, energy_kev=10.0, interaction="er_beta")
    areas = dmsim.simulate_areas(key_areas, detector, deposits)
    columns = np.asarray([areas.s1_pe, areas.s2_pe]), np.asarray(areas.drift_time_ns)
    return np.column_stack([*np.log(np.maximum(columns[0], 1.0)), columns[1]])


def test_same_detector_raises_no_alarm():
    """False-positive rate 1 %."""
    found = mismatch(jax.random.key(0), summaries(1), summaries(2))
    assert not found.alarm
    assert check_mismatch(found).passed


@pytest.mark.parametrize(
    ("name", "factor"),
    [("g1", 0.95), ("se_gain", 0.95), ("lifetime", 0.7)],
    ids=["light", "gain", "lifetime"],
)
def test_broken_detector_raises_the_alarm(name, factor):
    found = mismatch(jax.random.key(0), summaries(1), summaries(2, name, factor))
    assert found.alarm
    assert not check_mismatch(found).passed
    assert found.statistic > 1.5 * found.threshold


def test_alarm_keeps_its_rate():
    """300 pairs of small samples at 5 %: 1 and 35 are the binomial limits of 1e-5 each side."""
    rows = np.random.default_rng(3).exponential(size=(300, 70, 2))
    alarms = sum(
        mismatch(jax.random.key(i), each[:40], each[40:], n_exchanges=59, rate=0.05).alarm
        for i, each in enumerate(rows)
    )
    assert 1 <= alarms <= 35


def test_few_observed_events_among_many_simulated():
    """20 events with a wrong gain of a factor 1.5."""
    assert mismatch(jax.random.key(0), summaries(1), summaries(2, "se_gain", 1.5)[:20]).alarm


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"observed has shape \(30, 2\): must be \(any, 3\)"):
        mismatch(jax.random.key(0), np.zeros((30, 3)), np.zeros((30, 2)))
    with pytest.raises(ValueError, match="5 observed events: must be 10 of each"):
        mismatch(jax.random.key(0), np.zeros((30, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="9 exchanges reach 0.1 at least"):
        mismatch(jax.random.key(0), np.zeros((30, 3)), np.zeros((30, 3)), n_exchanges=9)
