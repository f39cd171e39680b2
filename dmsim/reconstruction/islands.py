"""Continuous records cut into islands that know nothing of each other.

An island is a run of records between two silences long enough that no hit, no peak and no joint S2 reaches
across. Each is reconstructed by itself, so that it does not matter how a run was cut into files or in which
order they are worked on. A rate at which silence never comes would make an island of the whole run: a long
island is cut at its largest gap, in a way that depends on its own records alone.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from dmsim.reconstruction.settings import Settings

MAX_ISLAND_NS = 100_000_000  # assumed: 100 ms, longer than the electron train of any S2


class Islands(NamedTuple):
    """Where islands begin."""

    first: Int[np.ndarray, "island"]  # row of their first record
    n_cut: int  # begin where a long island was cut, not at a silence


def quiet_ns(settings: Settings) -> int:
    """Silence after which nothing depends on what was before [ns].

    Hits further apart than the clustering gap are of different peaks, whose windows reach out by the
    extensions; peaks further apart than the largest merging gap are not joined.
    """
    cluster, merge = settings.clustering, settings.merging
    extensions = float(cluster.left_extension_ns) + float(cluster.right_extension_ns)
    gaps = merge.gap_ns if float(merge.max_duration_ns) > 0 else (0.0,)
    near = max(float(settings.coincidence.left_ns), float(settings.coincidence.right_ns))
    longest = max(float(cluster.gap_ns), max(map(float, gaps)) + extensions, near)
    return math.ceil(longest) + 1_000  # assumed: 1 us more, for windows in whole samples


def split_islands(
    time_ns: Int[np.ndarray, "record"],
    end_ns: Int[np.ndarray, "record"],
    *,
    quiet_ns: int,
    max_ns: int = MAX_ISLAND_NS,
    reach_ns: int | None = None,
) -> Islands:
    """Cut records into islands.

    Args:
        time_ns: starts of records, ascending.
        end_ns: their ends.
        quiet_ns: silence that separates islands.
        max_ns: a longer island is cut.
        reach_ns: end of what was before the first record, if it may reach over it.
    """
    if not len(time_ns):
        return Islands(np.zeros(0, np.int64), 0)
    reach = np.maximum.accumulate(end_ns)
    if reach_ns is not None:
        reach = np.maximum(reach, reach_ns)
    gap = time_ns[1:] - reach[:-1]
    first = np.concatenate([[0], np.flatnonzero(gap > quiet_ns) + 1])
    last = np.append(first[1:], len(time_ns)) - 1
    cuts = []
    for low, high in zip(first, last, strict=True):
        begin = low
        while time_ns[high] - time_ns[begin] > max_ns:
            begin = _cut(time_ns, gap, begin, high + 1, max_ns)
            cuts.append(begin)
    return Islands(np.union1d(first, np.array(cuts, np.int64)), len(cuts))


def _cut(time_ns: np.ndarray, gap: np.ndarray, begin: int, end: int, max_ns: int) -> int:
    """Row after the largest gap in the second half of the longest allowed stretch; the first of equals."""
    start = time_ns[begin]
    low, high = np.searchsorted(time_ns[begin:end], [start + max_ns // 2, start + max_ns], side="right")
    if low == high:  # silence that is shorter than what separates islands, but long against max_ns
        return int(begin + low)
    return int(begin + low + np.argmax(gap[begin + low - 1 : begin + high - 1]))
