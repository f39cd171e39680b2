"""Intervals in time: sorting, containment and touching, with strax's conventions. Ends are exclusive."""

import numpy as np

from dmsim.reconstruction.host.jit import njit

CACHED = {"cache": True, "nogil": True, "error_model": "numpy"}


def end_ns(rows: np.ndarray) -> np.ndarray:
    """End of each row."""
    if "endtime" in (rows.dtype.names or ()):
        return rows["endtime"]
    return rows["time"] + rows["length"].astype(np.int64) * rows["dt"]


def by_time(rows: np.ndarray) -> np.ndarray:
    """Rows in order of time, then channel; what is equal in both keeps its order."""
    time, channel = rows["time"], rows["channel"]
    if len(rows) < 2:
        return rows
    later = np.diff(time)
    if np.all((later > 0) | ((later == 0) & (np.diff(channel.astype(np.int64)) >= 0))):
        return rows
    return rows[np.lexsort((channel, time))]


@njit(**CACHED)
def overlap(a, n_a, b, n_b):
    """Where [a, a + n_a) and [b, b + n_b) overlap, counted from a and from b; zeros if they do not."""
    first, last = max(a, b), min(a + n_a, b + n_b)
    if first >= last:
        return 0, 0, 0, 0
    return first - a, last - a, first - b, last - b


@njit(**CACHED)
def container_of(start, end, container_start, container_end):
    """Number of the disjoint container that holds the whole of each interval, or -1. All sorted by start."""
    found = np.full(len(start), -1, np.int32)
    c = 0
    for i in range(len(start)):
        while c < len(container_start) and container_end[c] <= start[i]:
            c += 1
        if c == len(container_start):
            break
        if container_start[c] <= start[i] and end[i] <= container_end[c]:
            found[i] = c
    return found


@njit(**CACHED)
def touching(start, end, container_start, container_end):
    """First and (exclusive) last interval that touch each container, both sorted by start.

    Intervals are ordered by their start alone: an early one that ends late keeps the first number low, and
    intervals between first and last need not touch. So it is in strax.
    """
    window = np.zeros((len(container_start), 2), np.int64)
    left = 0
    for c in range(len(container_start)):
        while left < len(start) and end[left] <= container_start[c]:
            left += 1
        window[c, 0] = left
    right = 0
    for c in np.argsort(container_end, kind="mergesort"):
        while right < len(start) and start[right] < container_end[c]:
            right += 1
        window[c, 1] = right
    return window
