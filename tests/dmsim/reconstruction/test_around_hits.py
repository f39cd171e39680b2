"""Samples are summed from the left extension before each hit of their pulse to the right extension after."""

import numpy as np
import pytest

from dmsim.reconstruction.hits import around_hits
from dmsim.reconstruction.settings import Clustering
from dmsim.reconstruction.tables import HitTable, RecordTable

DT = 10


def table():
    """Pulse 0 of three fragments of 100 samples, pulses 1 and 2 of one, on channels 0, 1, 2."""
    return RecordTable(
        time_ns=np.array([0, 0, 0, 1000, 2000]),
        channel=np.array([0, 1, 2, 0, 0], np.int32),
        length=np.array([100, 100, 100, 100, 40], np.int32),
        record_i=np.array([0, 0, 0, 1, 2], np.int32),
        pulse=np.array([0, 1, 2, 0, 0]),
        first=np.array([0, 1, 2, 0, 0]),
        data=np.zeros((5, 100), np.int16),
        dt=DT,
        baseline_adc=16000,
    )


def hits(*rows):
    """Hits of (time, end, pulse)."""
    time, end, pulse = (np.array(c, np.int64) for c in zip(*sorted(rows), strict=True))
    zero = np.zeros(len(time), np.int64)
    return HitTable(time, end, time, zero.astype(np.int32), zero, pulse, zero.astype(np.int32), zero == 0)


def stretches(kept):
    """(begin, end) by record."""
    return [
        [(int(kept.begin[k]), int(kept.end[k])) for k in range(a, b)]
        for a, b in zip(kept.first[:-1], kept.first[1:], strict=True)
    ]


@pytest.mark.parametrize(("left_ns", "right_ns"), [(30.0, 200.0), (21.0, 195.0)])  # rounded up to samples
def test_only_the_pulses_own_hits_count(left_ns, right_ns):
    settings = Clustering(left_extension_ns=left_ns, right_extension_ns=right_ns)
    found = hits((500, 540, 0), (900, 950, 0), (10, 30, 1), (300, 310, 1), (1300, 1320, 0))
    kept = around_hits(settings, table(), found).kept
    # the hit at 900 reaches 15 samples into the next fragment; pulse 2 has no hit
    assert stretches(kept) == [[(47, 74), (87, 100)], [(0, 23), (27, 51)], [], [(0, 15), (27, 52)], []]


def test_windows_that_touch_are_one_and_end_with_the_record():
    kept = around_hits(Clustering(), table(), hits((500, 540, 0), (770, 800, 0), (2350, 2390, 0))).kept
    assert stretches(kept) == [[(47, 100)], [], [], [], [(32, 40)]]


def test_equals_its_definition_on_random_hits(random):
    for _ in range(20):
        time = np.sort(random.choice(230, 12, replace=False)) * DT
        rows = [(t, t + random.integers(1, 4) * DT, int(random.integers(0, 2))) for t in time]
        rows = [r for r in rows if r[2] == 0 or r[0] < 900]
        # hits of one sensor are apart
        rows = [r for i, r in enumerate(rows) if not any(q[2] == r[2] and q[1] >= r[0] for q in rows[:i])]
        records, kept = table(), around_hits(Clustering(), table(), hits(*rows)).kept
        for r, parts in enumerate(stretches(kept)):
            at = records.time_ns[r] + DT * np.arange(records.length[r])
            wanted = np.zeros(len(at), bool)
            for start, end, pulse in rows:
                wanted |= (pulse == records.pulse[r]) & (at >= start - 30) & (at < end + 200)
            found = np.zeros(len(at), bool)
            for begin, end in parts:
                found[begin:end] = True
            np.testing.assert_array_equal(found, wanted)


def test_all_samples_count_where_nothing_was_left_out():
    assert stretches(table().kept) == [[(0, 100)]] * 4 + [[(0, 40)]]
