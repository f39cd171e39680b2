"""Host kernels that count sensors."""

import numpy as np

from dmsim.reconstruction.host.jit import njit


@njit(cache=True, nogil=True)
def near(time_ns, end_ns, max_time_ns, at_ns, left, right):
    """Pairs of a peak and a hit whose maximum is from `left` before to `right` after `at_ns`, both included.

    Args:
        time_ns: int64 [hit], start, ascending.
        end_ns: int64 [hit].
        max_time_ns: int64 [hit], from time_ns to end_ns.
        at_ns: int64 [peak].
        left: ns, whole.
        right: ns, whole.

    Returns:
        Peak and hit of each pair, by peak and then by hit.
    """
    n_hits = len(time_ns)
    longest = np.int64(0)
    for i in range(n_hits):
        longest = max(longest, end_ns[i] - time_ns[i])
    begin = np.searchsorted(time_ns, at_ns - left - longest)
    count = 0
    for fill in range(2):
        if fill:
            peaks, hits = np.empty(count, np.int64), np.empty(count, np.int64)
            count = 0
        for peak in range(len(at_ns)):
            for i in range(begin[peak], n_hits):
                if time_ns[i] > at_ns[peak] + right:
                    break
                late = max_time_ns[i] - at_ns[peak]
                if -left <= late <= right:
                    if fill:
                        peaks[count], hits[count] = peak, i
                    count += 1
    return peaks, hits


@njit(cache=True, nogil=True)
def count_different(peak, channel, n_peaks, n_channels):
    """Number of different channels of each peak; rows with peak -1 are passed over."""
    seen = np.zeros((n_peaks, n_channels), np.bool_)
    count = np.zeros(n_peaks, np.int64)
    for i in range(len(peak)):
        if peak[i] >= 0 and not seen[peak[i], channel[i]]:
            seen[peak[i], channel[i]] = True
            count[peak[i]] += 1
    return count
