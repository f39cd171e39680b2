"""Peak windows: groups of hits of all sensors that no gap separates, and the merging of S2 pieces."""

import numpy as np
from jaxtyping import Float, Int

from dmsim.reconstruction.host import windows as host
from dmsim.reconstruction.settings import Clustering, Merging
from dmsim.reconstruction.tables import HitTable, Windows
from dmsim.records import Signal


def cluster(settings: Clustering, hits: HitTable, *, dt: int, n_sensors: int) -> Windows:
    """Group hits by gaps, in whole samples: extensions are rounded up, so that windows never shrink.

    A group that would be longer than `max_duration_ns` is cut before the hit that makes it so.

    Args:
        settings: gap, extensions, least number of sensors.
        hits: sorted by time.
        dt: ns a sample.
        n_sensors: of the detector.
    """
    left, right = (
        int(np.ceil(ns / dt)) * dt for ns in (settings.left_extension_ns, settings.right_extension_ns)
    )
    start, end = host.cluster(
        hits.time_ns, hits.end_ns, hits.channel, n_sensors, settings.gap_ns, left, right,
        settings.min_sensors, settings.max_duration_ns,
    )  # fmt: skip
    return Windows(start, end)


def merge_pieces(
    settings: Merging,
    windows: Windows,
    area_pe: Float[np.ndarray, "peak"],
    signal: Int[np.ndarray, "peak"],
) -> Int[np.ndarray, "peak"]:
    """Join the pieces of S2s, smallest gap first, while the gap suits their joint area.

    An unclassified piece joins an S2, never another unclassified one; an S1 joins nothing and stands
    between its neighbours.

    Args:
        settings: of the merging.
        windows: of all peaks.
        area_pe: of all peaks.
        signal: `Signal` of all peaks.

    Returns:
        For each peak the number of its group, ascending in time.
    """
    n = len(area_pe)
    leader = np.arange(n)  # of each piece; pieces of a group are consecutive
    first, last = np.arange(n), np.arange(n)  # range of a leader's group
    joint = area_pe.astype(np.float64).copy()
    joinable, has_s2 = signal != int(Signal.S1), signal == int(Signal.S2)
    gaps = windows.start_ns[1:] - windows.end_ns[:-1]
    candidates = np.flatnonzero(joinable[:-1] & joinable[1:] & (gaps <= max(settings.gap_ns)))
    for i in candidates[np.argsort(gaps[candidates], kind="stable")]:
        a, b = leader[i], leader[i + 1]
        area = joint[a] + joint[b]
        log_area = np.log10(max(area, 1.0))
        duration = windows.end_ns[last[b]] - windows.start_ns[first[a]]
        if (
            log_area > settings.log10_area[-1]
            or duration > settings.max_duration_ns
            or not (has_s2[a] or has_s2[b])
        ):
            continue
        if gaps[i] > np.interp(log_area, settings.log10_area, settings.gap_ns):
            continue
        leader[first[b] : last[b] + 1] = a
        last[a], joint[a], has_s2[a] = last[b], area, True
    return np.cumsum(np.diff(leader, prepend=-1) != 0) - 1
