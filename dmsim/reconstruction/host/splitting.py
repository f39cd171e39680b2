"""Host kernels of splitting: natural breaks, and the sides of every local minimum."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _window(prefix, boundary, n, half):
    """Sum of the samples within `half` of a boundary, from their prefix sums."""
    return prefix[min(boundary + half, n)] - prefix[max(boundary - half, 0)]


@njit(cache=True, nogil=True)
def natural_breaks(begin, end, total, half):
    """Largest goodness of split of each waveform, and the boundary that has it.

    Boundary k lies between samples k - 1 and k. With negative samples as zero, its goodness is

        (1 - (SSD left + SSD right) / SSD) (1 - mean around k / largest such mean)

    where SSD is the weighted sum of squared deviations from the weighted mean time, and means are over
    `half` samples on either side, or as many as there are. SSD left + SSD right = SSD - (weight left x
    weight right / weight) x (difference of the mean times)^2, so that prefix sums give all boundaries in one
    pass. The middle of the first run of equals is taken: a gap without light is cut half-way.

    Source: Jenks' natural breaks, as strax's NaturalBreaksSplitter uses them with split_low; restated.

    Args:
        begin: int64 [waveform], its first sample in `total`.
        end: int64 [waveform], one past its last.
        total: int64 [sample].
        half: samples on either side in the moving average; 0: the first factor alone.

    Returns:
        Goodness (0 where nothing can be split) and boundary (from `begin`; 0: none) of each waveform.
    """
    n_waveforms = len(begin)
    goodness, cut = np.zeros(n_waveforms), np.zeros(n_waveforms, np.int64)
    longest = 0
    for j in range(n_waveforms):
        longest = max(longest, end[j] - begin[j])
    signed = np.zeros(longest + 1, np.int64)
    weight, moment = np.zeros(longest + 1), np.zeros(longest + 1)
    for j in range(n_waveforms):
        n = end[j] - begin[j]
        for i in range(n):
            w = total[begin[j] + i]
            light = float(max(w, 0))
            signed[i + 1] = signed[i] + w
            weight[i + 1] = weight[i] + light
            moment[i + 1] = moment[i] + light * i
        if n < 2 or not weight[n] > 0:
            continue
        mean, deviation = moment[n] / weight[n], 0.0
        for i in range(n):
            w = total[begin[j] + i]
            if w > 0:
                deviation += float(w) * (i - mean) ** 2
        if not deviation > 0:
            continue
        highest = 0.0
        if half > 0:
            for k in range(n + 1):
                width = min(k + half, n) - max(k - half, 0)
                highest = max(highest, _window(signed, k, n, half) / width)
        best, first, last = 0.0, 0, 0
        for k in range(1, n):
            left, right = weight[k], weight[n] - weight[k]
            if not (left > 0 and right > 0):
                continue
            apart = (moment[n] - moment[k]) / right - moment[k] / left
            value = left * right / weight[n] * apart**2 / deviation
            if highest > 0:
                width = min(k + half, n) - max(k - half, 0)
                value *= 1 - max(_window(signed, k, n, half) / width, 0.0) / highest
            if value > best:
                best, first, last = value, k, k
            elif value == best and last == k - 1 and best > 0:
                last = k
        goodness[j], cut[j] = best, (first + last) // 2
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
    n_waveforms = len(begin)
    first = np.zeros(n_waveforms + 1, np.int64)
    longest = 0
    for j in range(n_waveforms):
        n = end[j] - begin[j]
        first[j + 1] = first[j] + max(n - 1, 0)
        longest = max(longest, n)
    minimum, side = np.zeros(first[-1], np.int64), np.zeros(first[-1], np.int64)
    prefix, after = np.zeros(longest + 1, np.int64), np.zeros(longest + 1, np.int64)
    for j in range(n_waveforms):
        n = end[j] - begin[j]
        if n < 2:
            continue
        for i in range(n):
            prefix[i + 1] = prefix[i] + total[begin[j] + i]
        after[n] = _window(prefix, n, n, half)
        for k in range(n - 1, 0, -1):
            after[k] = max(after[k + 1], _window(prefix, k, n, half))
        before = _window(prefix, 0, n, half)
        for k in range(1, n):
            here = _window(prefix, k, n, half)
            before = max(before, here)
            minimum[first[j] + k - 1] = here
            side[first[j] + k - 1] = min(before, after[k])
    return minimum, side, first


@njit(cache=True, nogil=True)
def largest_in_each(values, first):
    """Largest value of each group and the middle of its first run of equals, from the group's begin; -1: empty.

    Args:
        values: float64 [item].
        first: int64 [group + 1].
    """
    n_groups = len(first) - 1
    largest, at = np.full(n_groups, -np.inf), np.full(n_groups, -1, np.int64)
    for group in range(n_groups):
        begin = first[group]
        low = high = -1
        for i in range(begin, first[group + 1]):
            if values[i] > largest[group]:
                largest[group], low, high = values[i], i, i
            elif values[i] == largest[group] and high == i - 1 and low >= 0:
                high = i
        if low >= 0:
            at[group] = (low + high) // 2 - begin
    return largest, at
