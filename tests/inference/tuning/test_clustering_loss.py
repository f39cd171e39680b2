"""Errors of a reconstruction: those expected of certain peaks are those that are counted."""

import numpy as np
import pytest
from clustering_truth import S1, S2, light_by_hand

from dmsim.records import Signal
from inference.tuning.clustering_loss import Errors, Scope, count, expect, label, truth_of
from inference.tuning.truth_matching import Found

NEAR = np.arange(1_000, 1_200, 10)
FAR = np.arange(100_000, 103_000, 50)


def found(peaks):
    """Peaks from (start, end, class, area)."""
    start, end, kind, area = (np.array(c) for c in zip(*peaks, strict=True))
    zero = np.zeros(start.size)
    return Found(start, end, (end - start) / 2.0, area.astype(float), kind.astype(int), zero, zero)


def expected(truth, peaks):
    """What is expected of peaks that are certain."""
    of = found(peaks)
    labels = label(truth, of.start_ns, of.end_ns, size=len(peaks) + 3)
    pad = np.zeros(3)
    columns = {
        "probability": np.append(np.ones(len(peaks)), pad),
        "s1": np.append(of.signal == S1, pad),
        "s2": np.append(of.signal == S2, pad),
        "area_pe": np.append(of.area_pe, pad),
    }
    return expect(labels, {k: np.asarray(v, np.float32) for k, v in columns.items()})


def same(one, other):
    return all(
        np.allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-5)
        for a, b in zip(one, other, strict=True)
    )


# signals of one event, peaks that are found, and their errors
CASES = {
    "perfect": ([(990, 1300, S1, 20), (99_900, 103_100, S2, 60)], Errors(2, 0, 0, 0, 0, [0, 0], [1, 1])),
    "split": (
        [(990, 1300, S1, 20), (99_900, 102_000, S2, 40), (102_000, 103_100, S2, 20)],
        Errors(2, 1, 0, 0, 0, [0, -1 / 3], [1, 1]),
    ),
    "merged": ([(990, 103_100, S2, 80)], Errors(2, 0, 2, 1, 0, [0, 80 / 60 - 1], [0, 1])),
    "not found": ([(99_900, 103_100, S2, 60)], Errors(2, 0, 0, 1, 0, [0, 0], [0, 1])),
    "another class": (
        [(990, 1300, S2, 20), (99_900, 103_100, S2, 66)],
        Errors(2, 0, 0, 1, 1, [0, 0.1], [0, 1]),
    ),
    "false": (
        [(990, 1300, S1, 20), (5_000, 5_100, S1, 3), (99_900, 103_100, S2, 60)],
        Errors(2, 0, 0, 0, 1, [0, 0], [1, 1]),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_error_is_counted_and_expected(case):
    peaks, wanted = CASES[case]
    late = [(0, Signal.DARK, [5_010, 5_020, 5_030])]
    truth = truth_of(light_by_hand([(0, S1, NEAR), (0, S2, FAR)], late))
    counted = count(truth, found(peaks), Scope())
    assert same(counted, wanted)
    assert same(expected(truth, peaks), wanted)


def random_case(random):
    """Signals of two events, late light, and a partition of time into peaks of any class."""
    signals, late = [], []
    for event in range(2):
        signals.append((event, S1, 1_000 + random.exponential(50, random.integers(2, 40))))
        for _ in range(random.integers(1, 3)):
            place = random.uniform(50_000, 60_000)
            signals.append((event, S2, place + 800 * random.normal(size=random.integers(20, 300))))
        late.append((event, Signal.DELAYED, np.sort(random.uniform(60_000, 90_000, 40))))
        late.append((event, Signal.DARK, [20_000]))
    light = light_by_hand(signals, late)
    edges = np.sort(random.choice(np.append(np.arange(500, 2_000, 100), np.arange(48_000, 62_000, 500)), 12))
    peaks = [
        (event * 100_000_000 + a, event * 100_000_000 + b, random.integers(0, 3), random.uniform(5, 300))
        for event in range(2)
        for a, b in zip(edges[:-1], edges[1:], strict=True)
        if b > a
    ]
    return light, peaks


def test_what_is_expected_of_certain_peaks_is_what_is_counted():
    random, errors = np.random.default_rng(5), np.zeros(4)
    disagree = seen = 0
    for _ in range(40):
        light, peaks = random_case(random)
        truth = truth_of(light)
        counted = count(truth, found(peaks), Scope())
        # a signal whose later pieces are all small is said to be split, though it is not
        disagree += not same(expected(truth, peaks), counted)
        errors += [counted.split, counted.merged, counted.misclassified, counted.false]
        # twin: other classes, which may by chance be wrong as often
        changed = [(a, b, {0: 1, 1: 2, 2: 0}[int(kind)], area) for a, b, kind, area in peaks]
        seen += not same(expected(truth, changed), counted)
    assert (errors > [20, 1, 20, 20]).all()
    assert disagree <= 3
    assert seen > 30


def test_only_signals_in_scope_count():
    signals = [(0, S1, NEAR[:2]), (0, S2, FAR[:10])]
    truth = truth_of(light_by_hand(signals))
    assert truth.counts.tolist() == [False, False]
    wide = Scope(s1_photons=1, s2_electrons=0.1)
    assert truth_of(light_by_hand(signals), wide).counts.tolist() == [True, True]
