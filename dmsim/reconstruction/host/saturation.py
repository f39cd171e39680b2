"""Samples at the digitiser's floor, from what the other sensors saw."""

import numpy as np

from dmsim.reconstruction.host.jit import njit


@njit(cache=True, nogil=True)
def restore(
    data, time_ns, channel, length, pulse, baseline, units_per_count, n_top, peaks, start_ns, end_ns, offset,
    total, top, area, reference_samples, min_reference_samples, dt, per_adc,
):  # fmt: skip
    """Raise saturated samples to the scaled sum of the sensors that did not saturate in the peak.

    Arguments as of `integrate`; `peaks` are those that hold saturated samples, and their total, top and area
    are changed in place. The scale of a sensor is a quotient of whole numbers, and what is added is a whole
    number: the order of the records does not matter.

    Returns:
        Number of samples raised in each of `peaks`.
    """
    raised = np.zeros(peaks.size, np.int64)
    for i in range(peaks.size):
        p = peaks[i]
        low = np.searchsorted(time_ns, start_ns[p] - data.shape[1] * dt)
        high = np.searchsorted(time_ns, end_ns[p])
        here = slice(offset[p], offset[p + 1])
        at = (time_ns[low:high] - start_ns[p]) // dt  # sample of the peak at which each record begins
        first = np.maximum(-at, 0)
        last = np.minimum(length[low:high].astype(np.int64), offset[p + 1] - offset[p] - at)
        units, base = np.empty(high - low, np.int64), np.empty(high - low, np.int64)
        for r in range(high - low):
            units[r] = units_per_count[channel[low + r]]
            base[r] = baseline[pulse[low + r]]
        rows = data[low:high], channel[low:high], at, first, last, base, units
        onset = _onset(rows, units_per_count.size, offset[p + 1] - offset[p])
        others, before = _apart(rows, onset, total[here], reference_samples, per_adc)
        scale = _scales(onset, others, before, reference_samples, min_reference_samples)
        raised[i] = _raise(rows, scale, others, total[here], top[here], area[p], n_top, per_adc)
    return raised


@njit(cache=True, nogil=True)
def _onset(rows, n_channels, n):
    """Sample of the peak at which each channel first saturates; n: never."""
    data, channel, at, first, last, _, units = rows
    onset = np.full(n_channels, n)
    for r in range(at.size):
        if units[r] == 0:
            continue
        for j in range(first[r], last[r]):
            if data[r, j] <= 0:
                onset[channel[r]] = min(onset[channel[r]], at[r] + j)
                break
    return onset


@njit(cache=True, nogil=True)
def _apart(rows, onset, total, reference_samples, per_adc):
    """Sum of the channels that do not saturate, and of each that does, its area shortly before."""
    data, channel, at, first, last, base, units = rows
    others, before = total.copy(), np.zeros(onset.size, np.int64)
    for r in range(at.size):
        c = channel[r]
        if onset[c] == total.size:
            continue
        for j in range(first[r], last[r]):
            value = (base[r] - np.int64(data[r, j]) * per_adc) * units[r]
            others[at[r] + j] -= value
            if onset[c] - reference_samples <= at[r] + j < onset[c]:
                before[c] += value
    return others, before


@njit(cache=True, nogil=True)
def _scales(onset, others, before, reference_samples, min_reference_samples):
    """Light of each saturated channel over that of the others; 0: not to be had."""
    scale = np.zeros(onset.size)
    for c in range(onset.size):
        if onset[c] == others.size or onset[c] < min_reference_samples:
            continue
        reference = np.int64(0)
        for k in range(max(onset[c] - reference_samples, 0), onset[c]):
            reference += others[k]
        if reference > 0 and before[c] > 0:
            scale[c] = before[c] / reference
    return scale


@njit(cache=True, nogil=True)
def _raise(rows, scale, others, total, top, area, n_top, per_adc):
    """Raise the samples at the floor; returns how many."""
    data, channel, at, first, last, base, units = rows
    raised = 0
    for r in range(at.size):
        c = channel[r]
        if scale[c] == 0:
            continue
        for j in range(first[r], last[r]):
            if data[r, j] > 0:
                continue
            seen = (base[r] - np.int64(data[r, j]) * per_adc) * units[r]
            more = np.int64(np.rint(scale[c] * others[at[r] + j])) - seen
            if more > 0:
                total[at[r] + j] += more
                if c < n_top:
                    top[at[r] + j] += more
                area[c] += more
                raised += 1
    return raised
