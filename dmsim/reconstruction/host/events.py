"""Loops of event building on the host: proximity of S2s, windows around triggers, pairs in windows."""

import numba
import numpy as np

from dmsim.reconstruction import event_margins as margins
from dmsim.reconstruction.host.jit import njit

_NOTHING = -1
_paired = numba.njit(margins.paired)  # the same expression as in the soft reading


@njit(cache=True, nogil=True)
def proximity(time_ns, center_ns, area, x, y, window_ns, min_fraction, width):
    """Proximity score of each S2 [1/(ms mm)]: how much earlier S2s make it look like their aftermath.

    Each S2 hands its own share of the score to the S2s that start within the window after it.

    Args:
        time_ns: int64, start, ascending.
        center_ns: int64, centre.
        area: PE.
        x: mm; an S2 without a place hands on nothing and gets nothing.
        y: mm.
        window_ns: how long after its start an S2 counts.
        min_fraction: of a later S2's area, that an earlier one needs.
        width: mm sqrt(PE).
    """
    n = len(time_ns)
    score = np.zeros(n)
    together = 0  # first S2 that starts with the earlier one: their centres may be in another order
    for earlier in range(n):
        if time_ns[together] < time_ns[earlier]:
            together = earlier
        later = together
        while later < n and time_ns[later] - time_ns[earlier] <= window_ns:
            apart_ms = (center_ns[later] - center_ns[earlier]) * 1e-6
            some = area[later] > 0 and area[earlier] > 0
            if apart_ms > 0 and some and area[earlier] >= min_fraction * area[later]:
                distance = np.sqrt((x[later] - x[earlier]) ** 2 + (y[later] - y[earlier]) ** 2)
                score[later] += _aftermath(apart_ms, area[earlier], area[later], distance, width)
            later += 1
    return score


@njit(cache=True, nogil=True)
def _aftermath(apart_ms, earlier_pe, later_pe, distance_mm, width):
    """Areas' ratio over the time, times the density of a half Cauchy law at the distance.

    The law is as wide as both places are uncertain, by their areas. At distance 0 infinite, and 0 where one
    of them has no place.
    """
    if not distance_mm >= 0:
        return 0.0
    if distance_mm == 0:
        return np.inf
    squared_scale = width**2 * (1 / earlier_pe + 1 / later_pe)
    density = 2 / np.pi * np.sqrt(squared_scale) / (squared_scale + distance_mm**2)
    return earlier_pe / later_pe / apart_ms * density


@njit(cache=True, nogil=True)
def join_triggers(time_ns, end_ns, left_ns, right_ns):
    """Windows around triggers; those that overlap or touch are joined.

    Args:
        time_ns: int64, start of each trigger, ascending.
        end_ns: int64.
        left_ns: int64, before a trigger's start.
        right_ns: int64, after its end.

    Returns:
        Start, end, first trigger's start and number of triggers of each window.
    """
    n = len(time_ns)
    start, end = np.empty(n, np.int64), np.empty(n, np.int64)
    first, count = np.empty(n, np.int64), np.zeros(n, np.int64)
    window = -1
    for i in range(n):
        if window >= 0 and time_ns[i] - left_ns <= end[window]:
            end[window] = max(end[window], end_ns[i] + right_ns)
        else:
            window += 1
            start[window], end[window] = time_ns[i] - left_ns, end_ns[i] + right_ns
            first[window] = time_ns[i]
        count[window] += 1
    n = window + 1
    return start[:n].copy(), end[:n].copy(), first[:n].copy(), count[:n].copy()


@njit(cache=True, nogil=True)
def _drift(time_ns, center, i, j):
    """Centre of j minus centre of i [ns]. Whole numbers first: absolute times do not fit a float."""
    return float(time_ns[j] - time_ns[i]) + (center[j] - center[i])


@njit(cache=True, nogil=True)
def _s1s(first, last, until, s2, time_ns, end_ns, center, area, signal, longest_ns):
    """Largest S1 of an event and the next, of those that the main S2 could belong to."""
    main, other = _NOTHING, _NOTHING
    for i in range(first, last):
        if signal[i] != 1 or end_ns[i] > until:
            continue
        if s2 >= 0 and not (
            time_ns[i] < time_ns[s2] and _paired(_drift(time_ns, center, i, s2), longest_ns) > 0
        ):
            continue
        if main < 0 or area[i] > area[main]:
            main, other = i, main
        elif other < 0 or area[i] > area[other]:
            other = i
    return main, other


@njit(cache=True, nogil=True)
def _other_s2(first, last, until, s1, s2, time_ns, end_ns, center, area, signal, longest_ns):
    """Largest S2 but the main one, of those that could belong to the main S1, or of all without one."""
    other = _NOTHING
    for i in range(first, last):
        if signal[i] != 2 or i == s2 or end_ns[i] > until:
            continue
        possible = s1 < 0 or _paired(_drift(time_ns, center, s1, i), longest_ns) > 0
        if possible and (other < 0 or area[i] > area[other]):
            other = i
    return other


@njit(cache=True, nogil=True)
def _surroundings(first, last, until, s1, s2, time_ns, end_ns, center, area, signal, out):
    """Areas of S2s before and after the main one, and of unknown peaks before and between S1 and S2."""
    for i in range(first, last):
        if end_ns[i] > until:
            continue
        if signal[i] == 2 and i != s2:
            before = _drift(time_ns, center, i, s2)
            if before > 0:
                out[0] += area[i]
                out[1] = max(out[1], area[i])
            elif before < 0:
                out[2] = max(out[2], area[i])
        elif signal[i] == 0:
            main = s1 if s1 >= 0 else s2
            if i < main:
                out[3] = max(out[3], area[i])
            elif s1 >= 0 and i < s2:
                out[4] = max(out[4], area[i])


@njit(cache=True, nogil=True)
def pair(first, last, window_end_ns, time_ns, end_ns, center, area, signal, longest_ns):
    """Main and alternate S1 and S2 of each event, and what lies around them.

    Args:
        first: int64, first peak of each event.
        last: int64, one past its last.
        window_end_ns: int64; a peak that ends later is not of the event.
        time_ns: int64, start of each peak, ascending inside an event.
        end_ns: int64.
        center: ns from the peak's start.
        area: PE.
        signal: 1 S1, 2 S2, 0 unknown.
        longest_ns: from an S1's centre to an S2's.

    Returns:
        Peak [event, 4] of main S1, main S2, alternate S1, alternate S2 (-1: none); counts [event, 3] of
        peaks, S1s, S2s; areas [event, 5]: sum of S2s before the main S2, largest S2 before and after it,
        largest unknown before the main S1 (or S2), largest unknown between S1 and S2; end of the last peak.
        Of equal areas the earliest counts as the largest.
    """
    n = len(first)
    chosen = np.full((n, 4), _NOTHING, np.int64)
    counts = np.zeros((n, 3), np.int64)
    around = np.zeros((n, 5))
    last_end = np.full(n, _NOTHING, np.int64)
    for e in range(n):
        until = window_end_ns[e]
        s2 = _NOTHING
        for i in range(first[e], last[e]):
            if end_ns[i] > until:
                continue
            last_end[e] = max(last_end[e], end_ns[i])
            counts[e, 0] += 1
            counts[e, 1] += signal[i] == 1
            counts[e, 2] += signal[i] == 2
            if signal[i] == 2 and (s2 < 0 or area[i] > area[s2]):
                s2 = i
        s1, alt_s1 = _s1s(first[e], last[e], until, s2, time_ns, end_ns, center, area, signal, longest_ns)
        alt_s2 = _other_s2(
            first[e], last[e], until, s1, s2, time_ns, end_ns, center, area, signal, longest_ns
        )
        _surroundings(first[e], last[e], until, s1, s2, time_ns, end_ns, center, area, signal, around[e])
        chosen[e, 0], chosen[e, 1], chosen[e, 2], chosen[e, 3] = s1, s2, alt_s1, alt_s2
    return chosen, counts, around, last_end
