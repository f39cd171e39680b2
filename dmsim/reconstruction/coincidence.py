"""How many sensors saw a peak, and how many of them at once."""

import numpy as np
from jaxtyping import Int

from dmsim.reconstruction import margins
from dmsim.reconstruction.host import coincidence as host
from dmsim.reconstruction.settings import Coincidence
from dmsim.reconstruction.tables import HitTable


def tight_coincidence(
    settings: Coincidence, hits: HitTable, maximum_ns: Int[np.ndarray, "peak"], n_sensors: int
) -> Int[np.ndarray, "peak"]:
    """Number of sensors with a hit's maximum near the maximum of each peak.

    Hits count wherever they lie: two peaks closer than the window share theirs.

    Args:
        settings: of the coincidence.
        hits: all of them.
        maximum_ns: start of each peak's largest sample, on the hits' axis.
        n_sensors: of the detector.
    """
    peak, hit = _near(settings, hits.max_time_ns, maximum_ns)
    inside = margins.coincidence(settings, hits.max_time_ns[hit] - maximum_ns[peak]) >= 0
    return host.count_different(peak[inside], hits.channel[hit[inside]], len(maximum_ns), n_sensors)


def _near(
    settings: Coincidence, max_time_ns: Int[np.ndarray, "hit"], at_ns: Int[np.ndarray, "peak"]
) -> tuple[Int[np.ndarray, "pair"], Int[np.ndarray, "pair"]]:
    """Peak and hit of each pair whose maxima may coincide: whole ns around the window, the margin decides.

    By the order of the hits' maxima, not of their starts: however long one hit is, no other is looked at.
    """
    left, right = int(np.ceil(settings.left_ns)), int(np.ceil(settings.right_ns))
    order = np.argsort(max_time_ns, kind="stable")
    ascending = max_time_ns[order]
    first = np.searchsorted(ascending, at_ns - left, side="left")
    count = np.searchsorted(ascending, at_ns + right, side="right") - first
    peak = np.repeat(np.arange(len(at_ns)), count)
    within = np.arange(len(peak)) - np.repeat(np.cumsum(count) - count, count)
    return peak, order[first[peak] + within]


def count_sensors(
    hit_peak: Int[np.ndarray, "hit"], channel: Int[np.ndarray, "hit"], n_peaks: int, n_sensors: int
) -> Int[np.ndarray, "peak"]:
    """Number of different sensors with a hit in each peak; hits of peak -1 are in none."""
    return host.count_different(hit_peak, channel, n_peaks, n_sensors)
