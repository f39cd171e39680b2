"""Peak windows: groups of hits of all sensors that no gap separates, and the merging of S2 pieces."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dmsim.reconstruction.hits import HitTable
from dmsim.records import Signal

_SPAN = 1 << 33  # samples between events on the joint time axis: more than an event's int32 range and any gap


class Windows(NamedTuple):
    """Disjoint peak windows in samples from the event's start, sorted by (event, start)."""

    event: Int[np.ndarray, "peak"]
    start: Int[np.ndarray, "peak"]
    end: Int[np.ndarray, "peak"]


def joint_time(event: np.ndarray, sample: np.ndarray | int) -> Int[np.ndarray, "..."]:
    """One int64 axis for all events, with no two events near each other."""
    return event.astype(np.int64) * _SPAN + sample


def cluster(
    hits: HitTable, *, gap: float, left: int, right: int, min_sensors: int
) -> tuple[Windows, Int[np.ndarray, "hit"]]:
    """Group hits by gaps.

    Args:
        hits: sorted by (event, start).
        gap: hits further apart than this belong to different peaks [samples].
        left: extension before the first hit [samples].
        right: extension after the last hit [samples]; left + right < gap.
        min_sensors: groups with fewer sensors are dropped.

    Returns:
        The windows, and for each hit its window, -1 if it was dropped.
    """
    if not len(hits.event):
        empty = np.zeros(0, np.int64)
        return Windows(empty, empty, empty), empty
    start, end = joint_time(hits.event, hits.start), joint_time(hits.event, hits.end)
    reach = np.maximum.accumulate(end)
    new = np.ones(len(start), bool)
    new[1:] = start[1:] - reach[:-1] > gap
    group = np.cumsum(new) - 1
    begin = np.flatnonzero(new)
    last = reach[np.append(begin[1:], len(start)) - 1]
    event = hits.event[begin]
    n_sensors = count_sensors(group, hits.channel, len(begin))
    keep = n_sensors >= min_sensors
    number = np.where(keep, np.cumsum(keep) - 1, -1)
    windows = Windows(event, hits.start[begin] - left, last - joint_time(event, 0) + right)
    return Windows(*(column[keep] for column in windows)), number[group]


def count_sensors(peak: np.ndarray, channel: np.ndarray, n_peaks: int) -> Int[np.ndarray, "peak"]:
    """Number of different channels of each peak."""
    base = int(channel.max(initial=0)) + 1
    return np.bincount(np.unique(peak * base + channel) // base, minlength=n_peaks)


def merge_pieces(
    windows: Windows,
    area_pe: Float[np.ndarray, "peak"],
    signal: Int[np.ndarray, "peak"],
    *,
    sample_ns: int,
    max_duration_ns: float,
    log10_area: tuple[float, ...],
    gap_ns: tuple[float, ...],
) -> Int[np.ndarray, "peak"]:
    """Join the pieces of S2s, smallest gap first, while the gap suits their joint area.

    An unclassified piece joins an S2, never another unclassified one; an S1 joins nothing and stands
    between its neighbours.

    Args:
        windows: of all peaks.
        area_pe: of all peaks.
        signal: `Signal` of all peaks.
        sample_ns: sampling interval.
        max_duration_ns: no joint peak is longer.
        log10_area: ascending knots of the largest gap; no joint peak has more than the last.
        gap_ns: largest gap at the knots.

    Returns:
        For each peak the number of its group, ascending in time.
    """
    n = len(area_pe)
    leader = np.arange(n)  # of each piece; pieces of a group are consecutive
    first, last = np.arange(n), np.arange(n)  # range of a leader's group
    joint = area_pe.astype(np.float64).copy()
    joinable, has_s2 = signal != int(Signal.S1), signal == int(Signal.S2)
    neighbours = joinable[:-1] & joinable[1:] & (np.diff(windows.event) == 0)
    gaps = (windows.start[1:] - windows.end[:-1]) * sample_ns
    candidates = np.flatnonzero(neighbours & (gaps <= max(gap_ns)))
    for i in candidates[np.argsort(gaps[candidates], kind="stable")]:
        a, b = leader[i], leader[i + 1]
        area = joint[a] + joint[b]
        log_area = np.log10(max(area, 1.0))
        duration = (windows.end[last[b]] - windows.start[first[a]]) * sample_ns
        if log_area > log10_area[-1] or duration > max_duration_ns or not (has_s2[a] or has_s2[b]):
            continue
        if gaps[i] > np.interp(log_area, log10_area, gap_ns):
            continue
        leader[first[b] : last[b] + 1] = a
        last[a], joint[a], has_s2[a] = last[b], area, True
    return np.cumsum(np.diff(leader, prepend=-1) != 0) - 1
