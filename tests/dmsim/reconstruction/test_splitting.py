"""Natural breaks and local minima against plain references, and laws of every splitter."""

import numpy as np
import plain_splitting as plain
import pytest

from dmsim.reconstruction.host import splitting as host
from dmsim.reconstruction.settings import Splitting, replaced
from dmsim.reconstruction.splitting import split_windows
from dmsim.reconstruction.tables import Waveforms, Windows

DT = 10
SCALE = 2.0**-10  # PE a unit: coarse, so that ties happen
BREAKS = Splitting(method="natural_breaks")
LOW = {"s1_threshold": (0.5, 0.5), "s2_threshold": (0.5, 0.5)}  # at any area
METHODS = "natural_breaks", "local_minimum", "none"


def waveforms_of(*shapes, gap_ns=1000, scale=SCALE):
    """Windows one after the other, and their waveforms."""
    length = np.array([len(s) for s in shapes], np.int64)
    offset = np.append(0, np.cumsum(length))
    start = (offset[:-1] * DT) + np.arange(len(shapes)) * gap_ns
    total = np.concatenate([np.asarray(s, np.int64) for s in shapes] or [np.zeros(0, np.int64)])
    n = len(shapes)
    windows = Windows(start.astype(np.int64), (start + length * DT).astype(np.int64))
    none = np.zeros((n, 1), np.int64)
    return windows, Waveforms(offset, total, total, none, np.zeros(n, np.int64), scale)


def random_shapes(random, n, *, high=40):
    """Few levels and many zeros: ties, plateaus, dips below zero, empty and short waveforms."""
    for _ in range(n):
        length = int(random.integers(1, 25))
        yield random.integers(-3, high, length) * (random.random(length) < random.uniform(0.2, 1.0))


def pulse(at_ns, area_pe, sigma_ns, length_ns, scale=SCALE):
    """A normal pulse in units."""
    t = np.arange(0, length_ns, DT) + DT / 2
    density = np.exp(-0.5 * ((t - at_ns) / sigma_ns) ** 2)
    return np.rint(area_pe / scale * density / density.sum()).astype(np.int64)


@pytest.mark.parametrize("half", [0, 1, 3, 30])
def test_natural_breaks_equal_their_definition(random, half):
    shapes = list(random_shapes(random, 150))
    _, waveforms = waveforms_of(*shapes)
    offset = waveforms.offset
    goodness, cut = host.natural_breaks(offset[:-1], offset[1:], waveforms.total, half)
    for shape, found, at in zip(shapes, goodness, cut, strict=True):
        values = plain.goodness_of_breaks(shape, half)
        if not any(values):
            assert (found, at) == (0, 0)
            continue
        largest, middle = plain.middle_of_largest(values)
        assert found == pytest.approx(float(largest), abs=1e-12)
        # two boundaries equal in fractions may differ by rounding, but for a gap without light
        assert float(values[at - 1]) == pytest.approx(float(largest), abs=1e-12)
        if half == 0:
            assert at - 1 == middle or float(values[at - 1]) == pytest.approx(float(values[middle]))


@pytest.mark.parametrize("half", [1, 2, 5])
def test_minima_and_sides_equal_their_definition(random, half):
    shapes = list(random_shapes(random, 100))
    _, waveforms = waveforms_of(*shapes)
    offset = waveforms.offset
    minimum, side, first = host.minimum_and_sides(offset[:-1], offset[1:], waveforms.total, half)
    for shape, begin, end in zip(shapes, first[:-1], first[1:], strict=True):
        n = len(shape)
        sums = [int(shape[max(k - half, 0) : k + half].sum()) for k in range(n + 1)]
        assert minimum[begin:end].tolist() == sums[1:n]
        assert side[begin:end].tolist() == [min(max(sums[: k + 1]), max(sums[k:])) for k in range(1, n)]


@pytest.mark.parametrize("method", METHODS)
def test_laws(random, method):
    """Pieces are the window cut up: nothing lost, in order, and the same whatever lies beside it."""
    settings = Splitting(method=method, min_area_pe=0.0, filter_wing_ns=20.0, minimum_height_pe=0.005, **LOW)
    odd = [
        np.zeros(7), np.full(9, 5), -np.ones(6), [3], [-3], [0], [2, 2], [1, 0, 1], [10**12, 0, 10**12],
        *random_shapes(random, 60),
    ]  # fmt: skip
    windows, waveforms = waveforms_of(*odd)
    pieces = split_windows(settings, windows, waveforms, DT)
    assert np.all(np.diff(pieces.offset) > 0)
    assert (pieces.offset[0], pieces.offset[-1]) == (waveforms.offset[0], waveforms.offset[-1])
    assert np.all(np.diff(pieces.parent) >= 0)
    assert np.all(pieces.windows.end_ns - pieces.windows.start_ns == np.diff(pieces.offset) * DT)
    first = np.searchsorted(pieces.parent, np.arange(len(odd)))
    last = np.append(first[1:], len(pieces.parent)) - 1
    assert np.array_equal(pieces.windows.start_ns[first], windows.start_ns)
    assert np.array_equal(pieces.windows.end_ns[last], windows.end_ns)
    inner = np.flatnonzero(np.diff(pieces.parent) == 0)
    assert np.array_equal(pieces.windows.end_ns[inner], pieces.windows.start_ns[inner + 1])
    assert (method == "none") == (len(pieces.parent) == len(odd))
    for i, shape in enumerate(odd):
        alone = split_windows(settings, *waveforms_of(shape), DT)
        mine = slice(first[i], last[i] + 1)
        begins = pieces.offset[mine] - waveforms.offset[i]
        assert np.array_equal(alone.offset[:-1], begins)
        assert np.array_equal(alone.goodness, pieces.goodness[mine], equal_nan=True)


@pytest.mark.parametrize("method", METHODS)
def test_no_windows(method):
    pieces = split_windows(Splitting(method=method), *waveforms_of(), DT)
    assert len(pieces.parent) == len(pieces.goodness) == 0
    assert pieces.offset.tolist() == [0]


@pytest.mark.parametrize("method", ["natural_breaks", "local_minimum"])
def test_time_runs_both_ways(random, method):
    """Reversed waveforms split at the reversed boundaries, but for the rise time, which is switched off."""
    settings = Splitting(
        method=method, min_area_pe=0.0, filter_wing_ns=20.0, rise_power=0.0, max_iterations=1,
        minimum_height_pe=0.005, **LOW,
    )  # fmt: skip
    for _ in range(40):
        shape = random.integers(0, 10**6, 12)  # no ties
        forward = split_windows(settings, *waveforms_of(shape), DT).offset
        backward = split_windows(settings, *waveforms_of(shape[::-1]), DT).offset
        assert forward.tolist() == (len(shape) - backward[::-1]).tolist()


def test_two_s1s_split_half_way_and_one_does_not():
    two = pulse(300, 100, 30, 1100) + pulse(800, 100, 30, 1100)
    pieces = split_windows(BREAKS, *waveforms_of(two, pulse(300, 100, 30, 1100)), DT)
    assert pieces.offset.tolist() == [0, 55, 110, 220]
    assert pieces.of_split.tolist() == [True, True, False]
    # the threshold of 100 PE that rise fast: 0.8364
    assert np.all(pieces.goodness < 0.83)


def test_small_peaks_and_no_rounds_are_not_searched():
    two = pulse(300, 19, 30, 1100) + pulse(800, 19, 30, 1100)
    assert np.isnan(split_windows(BREAKS, *waveforms_of(two), DT).goodness).all()
    large = pulse(300, 100, 30, 1100) + pulse(800, 100, 30, 1100)
    unsplit = split_windows(replaced(BREAKS, max_iterations=0), *waveforms_of(large), DT)
    assert len(unsplit.parent) == 1
    assert np.isnan(unsplit.goodness[0])


def test_a_train_is_split_round_by_round():
    train = sum(pulse(500 + 1000 * k, 50, 30, 8000) for k in range(8))
    once = split_windows(replaced(BREAKS, max_iterations=1, **LOW), *waveforms_of(train), DT)
    assert len(once.parent) == 2
    assert np.isnan(once.goodness).all()  # not searched again
    assert len(split_windows(replaced(BREAKS, **LOW), *waveforms_of(train), DT).parent) == 8
    # by the defaults a train of equal pulses is a slow peak: no two groups explain it
    assert len(split_windows(BREAKS, *waveforms_of(train), DT).parent) == 1


def test_local_minimum_asks_for_height_and_ratio():
    def n_pieces(*areas, **settings):
        shape = sum(pulse(500 + 400 * k, area, 40, 2000) for k, area in enumerate(areas))
        chosen = Splitting(method="local_minimum", filter_wing_ns=20.0, **settings)
        return len(split_windows(chosen, *waveforms_of(shape), DT).parent)

    # the moving sum of 40 ns holds 38 % of a normal of 40 ns
    assert n_pieces(80, 80) == 2
    assert n_pieces(80, 60) == 1  # a side of 23 PE
    assert n_pieces(80, 60, minimum_height_pe=20.0) == 2
    assert n_pieces(1000, 1000, minimum_ratio=1e4) == 2  # light between them: none
    assert n_pieces(100, 100, 100) == 3
