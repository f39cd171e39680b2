"""Many small peaks of random records, cheap to make, and a number for each that depends on all its bits."""

import sys

import numpy as np

import dmsim
from dmsim.charge import prepare
from dmsim.reconstruction.peaks import peaks_of
from dmsim.reconstruction.tables import record_table_from_columns

N_SENSORS, SAMPLES, DT, BASELINE = 494, 110, 10, 16_000
APART_NS = 50_000  # from one group of records to the next: nothing joins across
GROUPS = 52_500  # a block
_SHAPE = np.array([0.1, 0.6, 1.0, 0.6, 0.35, 0.2, 0.1, 0.05])


def block(seed, n_groups=GROUPS):
    """Columns of records sorted by (time, channel): groups of 3 to 5, of which one in ten is S2-like.

    Heights, times and sensors are random, so that areas, rise times, numbers of sensors, gaps and
    goodnesses of split fall on either side of every threshold.
    """
    random = np.random.default_rng(seed)
    slow = random.random(n_groups) < 0.1
    size = np.where(slow, random.integers(5, 14, n_groups), random.integers(3, 6, n_groups))
    group = np.repeat(np.arange(n_groups), size)
    slow, n = slow[group], len(group)
    number = np.arange(n) - (np.cumsum(size) - size)[group]
    # a sensor once a group, so that no records of it overlap; S2-like ones mostly on top
    first, step = random.integers(0, N_SENSORS, n_groups)[group], random.integers(1, 17, n_groups)[group]
    channel = np.where(slow, (first + step * number) % 270, (first + step * number) % N_SENSORS)
    spread = np.where(slow, random.choice([60, 150, 400], n_groups)[group], 12)
    time = group * APART_NS + (random.random(n) * spread).astype(np.int64) * DT
    data = random.integers(-4, 5, (n, SAMPLES), np.int16) + np.int16(BASELINE)
    height = np.where(slow, 60, 30) * random.lognormal(0.3, 0.8, n)
    data[:, 45 : 45 + len(_SHAPE)] -= np.rint(height[:, None] * _SHAPE).astype(np.int16)
    second = random.random(n) < 0.3
    data[second, 70 : 70 + len(_SHAPE)] -= np.rint(0.7 * height[second, None] * _SHAPE).astype(np.int16)
    order = np.lexsort((channel, time))
    return time[order], channel[order], data[order]


def peaks_between(detector, columns, low, high):
    """Peaks of the groups low to high - 1."""
    time, channel, data = columns
    rows = slice(*np.searchsorted(time, [low * APART_NS, high * APART_NS]))
    n = rows.stop - rows.start
    table = record_table_from_columns(
        time[rows], channel[rows], np.full(n, SAMPLES), np.zeros(n, int), data[rows],
        dt=DT, baseline_adc=BASELINE, n_sensors=N_SENSORS,
    )  # fmt: skip
    return peaks_of(detector, table)


def fingerprints(peaks):
    """A 64-bit number a peak, of the bits of every column: whole numbers, decisions, floats, positions."""
    out = np.zeros(len(peaks), np.uint64)
    weights = np.random.default_rng(5)
    for name in peaks.__dataclass_fields__:
        column = np.ascontiguousarray(getattr(peaks, name)).reshape(len(peaks), -1)
        words = column.view({1: np.uint8, 4: np.uint32, 8: np.uint64}[column.dtype.itemsize])
        for word in words.T:
            out += word.astype(np.uint64) * (weights.integers(2**63, dtype=np.uint64) * 2 + 1)
    return out


def run(n_blocks, n_batches, path):
    """Fingerprints of all blocks, each in so many batches, into a file; prints how many S2s have a place."""
    detector = prepare(dmsim.load_detector("xenonnt"))
    found, n_placed = [], 0
    for seed in range(n_blocks):
        columns = block(seed)
        inner = np.random.default_rng(100 + seed).choice(np.arange(1, GROUPS), n_batches - 1, replace=False)
        edges = [0, *np.sort(inner).tolist(), GROUPS]
        parts = []
        for low, high in list(zip(edges, edges[1:], strict=False))[::-1]:  # the last first
            peaks = peaks_between(detector, columns, low, high)
            parts.append(fingerprints(peaks))
            n_placed += int(np.isfinite(peaks.x_mm).sum())
        found += parts[::-1]
    np.save(path, np.concatenate(found))
    print(n_placed)


if __name__ == "__main__":  # BLOCKS BATCHES FILE
    run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
