"""What hits say about a peak: how many, how close to its maximum, and how they follow each other."""

import numpy as np

from dmsim.reconstruction.compat.intervals import CACHED, container_of, end_ns, touching
from dmsim.reconstruction.host.jit import njit
from dmsim.reconstruction.settings import Coincidence
from dmsim.strax_layout import SUM_CHANNEL


def add_hit_features(peaks: np.ndarray, hitlets: np.ndarray, settings: Coincidence) -> None:
    """Fill tight_coincidence, max_diff, min_diff, first_channel, last_channel and n_hits, in place.

    Args:
        peaks: final, sorted by time.
        hitlets: sorted by time.
        settings: window around the maximum.
    """
    if not len(peaks):
        return
    order = np.argsort(hitlets["max_time"], kind="stable")
    # over all 200 samples: a peak below zero has its maximum in the first sample behind it
    maximum = peaks["time"] + np.argmax(peaks["data"], axis=1) * peaks["dt"]
    n_channels = peaks.dtype["area_per_channel"].shape[0]
    window = float(settings.left_ns), float(settings.right_ns)
    apex, channel = hitlets["max_time"][order], hitlets["channel"][order]
    peaks["tight_coincidence"] = _coincidence(apex, channel, maximum, *window, n_channels)
    holder = container_of(hitlets["time"], end_ns(hitlets), peaks["time"], end_ns(peaks))[order]
    peaks["max_diff"], peaks["min_diff"], peaks["first_channel"], peaks["last_channel"] = _differences(
        apex, channel, holder, len(peaks)
    )
    window = touching(hitlets["time"], end_ns(hitlets), peaks["time"], end_ns(peaks))
    peaks["n_hits"] = window[:, 1] - window[:, 0]


@njit(**CACHED)
def _coincidence(apex, channel, maximum, left, right, n_channels):
    """Channels with a hit near each maximum.

    The search goes on where it stopped for the peak before: hits that this one took are not seen again.
    """
    count = np.zeros(len(maximum), np.int16)
    seen = np.zeros(n_channels, np.bool_)
    h = 0
    for p in range(len(maximum)):
        seen[:] = False
        while h < len(apex):
            late = apex[h] - maximum[p]
            if late > right:
                break
            if late >= -left:
                seen[channel[h]] = True
            h += 1
        h = max(min(h, len(apex) - 1), 0)
        count[p] = seen.sum()
    return count


@njit(**CACHED)
def _differences(apex, channel, holder, n_peaks):
    """Largest and smallest time between the apexes of hits, first and last channel; of hits wholly inside."""
    largest, smallest = np.full(n_peaks, -1, np.int32), np.full(n_peaks, -1, np.int32)
    first, last = np.full(n_peaks, SUM_CHANNEL, np.int16), np.full(n_peaks, SUM_CHANNEL, np.int16)
    before = np.zeros(n_peaks, np.int64)
    n_seen = np.zeros(n_peaks, np.int64)
    for h in range(len(apex)):
        p = holder[h]
        if p < 0:
            continue
        if n_seen[p] == 0:
            first[p] = channel[h]
        else:
            gap = apex[h] - before[p]
            if n_seen[p] == 1 or gap > largest[p]:
                largest[p] = gap
            if n_seen[p] == 1 or gap < smallest[p]:
                smallest[p] = gap
        last[p], before[p] = channel[h], apex[h]
        n_seen[p] += 1
    return largest, smallest, first, last
