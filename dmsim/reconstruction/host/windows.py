"""Hits of all sensors into windows."""

from typing import NamedTuple

import numba
import numpy as np

from dmsim.reconstruction import margins
from dmsim.reconstruction.host.jit import njit

# the same expressions as in the soft reading
_gap = numba.njit(margins.gap)
_sensors = numba.njit(margins.sensors)


class Limits(NamedTuple):
    """Those of the clustering's settings that a group is held against."""

    gap_ns: float
    max_duration_ns: float
    min_sensors: int


@njit(cache=True, nogil=True)
def cluster(time_ns, end_ns, channel, n_sensors, limits, left_ns, right_ns):
    """Windows around groups of hits, sorted by time, that no gap separates.

    A gap of exactly `limits.gap_ns` separates nothing. A group ends, too, where its next hit would make it
    longer than `limits.max_duration_ns`; the windows on both sides then share a border at that hit's start,
    less the extension that the window before does not reach into.

    Returns:
        start, end of the windows that have hits in enough sensors.
    """
    start, end = np.empty(time_ns.size, np.int64), np.empty(time_ns.size, np.int64)
    seen = np.full(n_sensors, -1)  # number of the group that a channel was last seen in
    n, group, i = 0, 0, 0
    free_from = np.iinfo(np.int64).min
    while i < time_ns.size:
        first, reach, count = time_ns[i], end_ns[i], 0
        begin = i
        while i < time_ns.size:
            apart = _gap(limits, time_ns[i] - reach) > 0
            if i > begin and (apart or end_ns[i] - first > limits.max_duration_ns):
                break
            reach = max(reach, end_ns[i])
            if seen[channel[i]] != group:
                seen[channel[i]] = group
                count += 1
            i += 1
        left, right = max(first - left_ns, free_from), reach + right_ns
        if i < time_ns.size:
            right = min(right, time_ns[i])
        free_from = right
        if _sensors(limits, count) > 0:
            start[n], end[n] = left, right
            n += 1
        group += 1
    return start[:n].copy(), end[:n].copy()
