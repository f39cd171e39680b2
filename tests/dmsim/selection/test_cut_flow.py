"""The cut flow: numbers by hand, intervals that cover, weights."""

import numpy as np
import pytest
from scipy.stats import binomtest

from dmsim.selection import CutSet, Range, SingleScatter, TimeShadow, TimeVeto, evaluate
from dmsim.selection.weighted import effective_trials, efficiency_interval

A = Range("a", column="a", low=0.0)
B = Range("b", column="b", low=0.0)
EVENTS = {"a": np.array([1, 1, 1, -1, -1, 1.0]), "b": np.array([1, -1, 1, -1, 1, 1.0])}


def test_numbers_by_hand():
    flow = evaluate(EVENTS, CutSet((A, B)))
    a, b = flow.rows
    assert (a.alone.value, a.cumulative.value, a.n_minus_one.value) == (4 / 6, 4 / 6, 3 / 4)
    assert (b.alone.value, b.cumulative.value, b.n_minus_one.value) == (4 / 6, 3 / 6, 3 / 4)
    assert flow.passed.tolist() == [True, False, True, False, False, True]
    assert flow.efficiency.passed == 3
    assert flow.as_dict()["n_passed"] == 3
    text = str(flow)
    assert text.splitlines()[-1] == "6 events; efficiencies in %, 68.27 % intervals: Clopper-Pearson"
    assert [line.split()[:3] for line in text.splitlines()[2:4]] == [["a", "range", "4"], ["b", "range", "3"]]


def test_weighted_numbers_by_hand():
    flow = evaluate(EVENTS, CutSet((A, B)), weights=np.array([1, 2, 3, 4, 5, 0]))
    assert flow.rows[0].alone.value == pytest.approx(6 / 15)
    assert flow.rows[1].cumulative.value == pytest.approx(4 / 15)
    assert flow.rows[1].n_minus_one.value == pytest.approx(4 / 6)
    assert "effective numbers" in str(flow)


def test_one_cut_is_a_set_and_nothing_left_is_said():
    flow = evaluate(EVENTS, CutSet((Range("none", column="a", low=9.0), B)))
    assert np.isnan(flow.rows[1].n_minus_one.value)
    assert flow.as_dict()["cuts"][1]["n_minus_one"]["value"] is None
    assert "no events" in str(flow)
    assert len(evaluate(EVENTS, A).rows) == 1


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (250, 1000)])
def test_intervals_are_clopper_pearsons(k, n):
    wanted = binomtest(k, n).proportion_ci(confidence_level=0.9, method="exact")
    assert efficiency_interval(k, n, 0.9) == pytest.approx((wanted.low, wanted.high), rel=1e-6)


def test_weighted_intervals_cover():
    """Weights that differ between what passes and what does not; twin: they are taken for equal."""
    random = np.random.default_rng(4)
    covered, naive = 0, 0
    for _ in range(600):
        good = random.uniform(size=400) < 0.3
        weights = random.exponential(np.where(good, 4.0, 1.0))
        truth = 0.3 * 4 / (0.3 * 4 + 0.7)
        value = weights[good].sum() / weights.sum()
        n = effective_trials(good, weights)
        low, high = efficiency_interval(value * n, n, 0.6827)
        covered += low < truth < high
        low, high = efficiency_interval(value * 400, 400, 0.6827)
        naive += low < truth < high
    # 600 trials of 0.72: standard deviation 0.018; 0.60 to 0.82 is missed by chance 1e-7 of the time, and the
    # twin, 0.52, is not refused 5e-5 of the time
    assert 0.60 < covered / 600 < 0.82
    assert naive / 600 < 0.60


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(6), "all weights are zero"),
        (np.array([1, 1, -1, 1, 1, 1]), r"weight of event 2 is -1.0: must be finite and >= 0"),
        (np.array([1, np.nan, 1, 1, 1, 1]), "weight of event 1 is nan"),
        (np.ones(5), r"weights have shape \(5,\): must be one for each of 6 events"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        evaluate(EVENTS, A, weights=weights)


def test_wrong_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence is 68: must be between 0 and 1"):
        evaluate(EVENTS, A, confidence=68)


def test_an_undefined_variable_is_named():
    columns = {"s2_pe": np.array([10.0, 0.0]), "alt_s2_pe": np.array([1.0, 2.0])}
    message = r"^cut one: it is not defined at alt_s2_pe = 2, s2_pe = 0 in row 1 \(1 of 2 events\)"
    with pytest.raises(ValueError, match=message):
        evaluate(columns, SingleScatter("one", high=0.5))


def test_time_cuts_by_hand():
    ms = 10**6
    columns = {
        "time_ns": np.array([5, 0, 1, 30]) * ms + 1_700_000_000 * 10**9,  # in no order
        "s2_pe": np.array([1e5, 2e4, 50.0, np.nan]),
        "drift_time_ns": np.array([1.0 * ms, 0.5 * ms, np.nan, np.nan]),
    }
    since = TimeVeto("veto", low=1.0).variable(columns)
    assert since == pytest.approx([4.5, np.inf, 0.5, 24.0])
    shadow = 10 ** TimeShadow("shadow", high=0.0).variable(columns)
    assert shadow == pytest.approx(np.array([2e4 / 4.5, 0, 2e4 / 0.5, 1e5 / 24 + 2e4 / 29.5]) / ms)
    forgets = 10 ** TimeShadow("shadow", high=0.0, window_ms=25.0).variable(columns)
    assert forgets[3] == pytest.approx(1e5 / 24 / ms)
    given = TimeVeto("veto", low=1.0, column="since_ms")
    assert given.passes({"since_ms": np.array([0.5, 2.0])}).tolist() == [False, True]


def test_time_cuts_refuse_what_has_lost_its_nanoseconds():
    import jax.numpy as jnp

    columns = {"time_ns": np.zeros(2), "s2_pe": np.zeros(2)}
    with pytest.raises(ValueError, match="cut veto: time_ns is float64: must be whole numbers"):
        evaluate(columns, TimeVeto("veto", low=1.0))
    with pytest.raises(ValueError, match="cut veto looks at earlier events: give NumPy arrays"):
        TimeVeto("veto", low=1.0).margins({name: jnp.asarray(values) for name, values in columns.items()})
