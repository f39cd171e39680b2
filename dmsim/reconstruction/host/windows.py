"""Hits of all sensors into windows."""

import numpy as np

from dmsim.reconstruction.host.jit import njit


@njit(cache=True, nogil=True)
def cluster(time_ns, end_ns, channel, n_sensors, gap_ns, left_ns, right_ns, min_sensors, max_duration_ns):
    """Windows around groups of hits, sorted by time, that no gap separates.

    A gap of exactly `gap_ns` separates nothing. A group ends, too, where its next hit would make it longer
    than `max_duration_ns`; the windows on both sides then share a border at that hit's start, less the
    extension that the window before does not reach into.

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
            if i > begin and (time_ns[i] - reach > gap_ns or end_ns[i] - first > max_duration_ns):
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
        if count >= min_sensors:
            start[n], end[n] = left, right
            n += 1
        group += 1
    return start[:n].copy(), end[:n].copy()
