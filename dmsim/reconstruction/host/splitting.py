"""Host kernels of splitting: natural breaks, and the sides of every local minimum."""

import numpy as np

from dmsim.reconstruction.host.jit import njit


@njit(cache=True, nogil=True)
def _around(prefix, boundary, n, half):
    """Sum of the samples within `half` of a boundary from their prefix sums, and how many they are."""
    low, high = max(boundary - half, 0), min(boundary + half, n)
    return prefix[high] - prefix[low], high - low


@njit(cache=True, nogil=True)
def _longest(begin, end):
    longest = 0
    for j in range(len(begin)):
        longest = max(longest, end[j] - begin[j])
    return longest


@njit(cache=True, nogil=True)
def _highest_mean(prefix, n, half):
    highest = 0.0
    for k in range(n + 1):
        area, width = _around(prefix, k, n, half)
        highest = max(highest, area / width)
    return highest


@njit(cache=True, nogil=True)
def _best_break(waveform, half, signed, weight, moment):
    """Goodness and boundary of one waveform; the last three arrays are room for n + 1 prefix sums each."""
    n = len(waveform)
    for i in range(n):
        light = float(max(waveform[i], 0))
        signed[i + 1] = signed[i] + waveform[i]
        weight[i + 1] = weight[i] + light
        moment[i + 1] = moment[i] + light * i
    if not weight[n] > 0:
        return 0.0, 0
    mean, deviation = moment[n] / weight[n], 0.0
    for i in range(n):
        deviation += float(max(waveform[i], 0)) * (i - mean) ** 2
    highest = _highest_mean(signed, n, half) if half > 0 else 0.0
    best, first, last = 0.0, 0, 0
    for k in range(1, n):
        left, right = weight[k], weight[n] - weight[k]
        if not (left > 0 and right > 0):
            continue  # all light on one side: nothing is split, and deviation may be zero
        apart = (moment[n] - moment[k]) / right - moment[k] / left
        value = left * right / weight[n] * apart**2 / deviation
        if highest > 0:
            area, width = _around(signed, k, n, half)
            value *= 1 - max(area / width, 0.0) / highest
        if value > best:
            best, first, last = value, k, k
        elif value == best and best > 0 and last == k - 1:
            last = k
    return best, (first + last) // 2


@njit(cache=True, nogil=True)
def natural_breaks(begin, end, total, half):
    """Largest goodness of split of each waveform, and the boundary that has it.

    Boundary k lies between samples k - 1 and k. With negative samples as zero, its goodness is

        (1 - (SSD left + SSD right) / SSD) (1 - mean around k / largest such mean)

    where SSD is the weighted sum of squared deviations from the weighted mean time, and means are over
    `half` samples on either side, or as many as there are, of the samples as they are. As

        SSD - SSD left - SSD right = (weight left x weight right / weight) (difference of the mean times)^2

    prefix sums give all boundaries in one pass. Of a run of equals the middle is taken: a gap without light
    is cut half-way.

    Source: Jenks' natural breaks, as strax's NaturalBreaksSplitter uses them with split_low; restated.

    Args:
        begin: int64 [waveform], its first sample in `total`.
        end: int64 [waveform], one past its last.
        total: int64 [sample].
        half: samples on either side in the moving average; 0: the first factor alone.

    Returns:
        Goodness (0 where nothing can be split) and boundary (from `begin`; 0: none) of each waveform.
    """
    goodness, cut = np.zeros(len(begin)), np.zeros(len(begin), np.int64)
    room = _longest(begin, end) + 1
    signed, weight, moment = np.zeros(room, np.int64), np.zeros(room), np.zeros(room)
    for j in range(len(begin)):
        if end[j] - begin[j] > 1:
            goodness[j], cut[j] = _best_break(total[begin[j] : end[j]], half, signed, weight, moment)
    return goodness, cut


@njit(cache=True, nogil=True)
def minimum_and_sides(begin, end, total, half):
    """For every boundary the moving sum around it, and the lower of the highest ones before and after.

    Args:
        begin: int64 [waveform], its first sample in `total`.
        end: int64 [waveform], one past its last.
        total: int64 [sample].
        half: samples on either side, at least 1.

    Returns:
        Both sums, for boundaries 1 to n - 1 of each waveform in turn, and where each waveform's begin.
    """
    first = np.zeros(len(begin) + 1, np.int64)
    for j in range(len(begin)):
        first[j + 1] = first[j] + max(end[j] - begin[j] - 1, 0)
    minimum, side = np.zeros(first[-1], np.int64), np.zeros(first[-1], np.int64)
    room = _longest(begin, end) + 1
    prefix, after = np.zeros(room, np.int64), np.zeros(room, np.int64)
    for j in range(len(begin)):
        n = end[j] - begin[j]
        if n < 2:
            continue
        for i in range(n):
            prefix[i + 1] = prefix[i] + total[begin[j] + i]
        after[n] = _around(prefix, n, n, half)[0]
        for k in range(n - 1, 0, -1):
            after[k] = max(after[k + 1], _around(prefix, k, n, half)[0])
        before = _around(prefix, 0, n, half)[0]
        for k in range(1, n):
            here = _around(prefix, k, n, half)[0]
            before = max(before, here)
            minimum[first[j] + k - 1] = here
            side[first[j] + k - 1] = min(before, after[k])
    return minimum, side, first


@njit(cache=True, nogil=True)
def largest_in_each(values, first):
    """Largest value of each group and the middle of its first run of equals, from the group's begin.

    Args:
        values: float64 [item].
        first: int64 [group + 1], each group with at least one item.
    """
    n_groups = len(first) - 1
    largest, at = np.full(n_groups, -np.inf), np.zeros(n_groups, np.int64)
    for group in range(n_groups):
        low = high = first[group]
        for i in range(first[group], first[group + 1]):
            if values[i] > largest[group]:
                largest[group], low, high = values[i], i, i
            elif values[i] == largest[group] and high == i - 1:
                high = i
        at[group] = (low + high) // 2 - first[group]
    return largest, at
