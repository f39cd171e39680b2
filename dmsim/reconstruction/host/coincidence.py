"""Host kernels that count sensors."""

import numpy as np

from dmsim.reconstruction.host.jit import njit


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
