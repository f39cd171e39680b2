"""Samples at the digitiser's floor, from what the other sensors saw."""

import numpy as np

from dmsim.reconstruction.host.jit import njit


@njit(cache=True, nogil=True)
def restore(
    data, time_ns, channel, first_kept, kept_begin, kept_end, pulse, baseline, units_per_count, n_top,
    peaks, start_ns, end_ns, offset, total, top, area, reference_samples, min_reference_samples, dt, per_adc,
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
        rows = _rows(
            data, time_ns, channel, first_kept, kept_begin, kept_end, pulse, baseline, units_per_count,
            low, high, start_ns[p], offset[p + 1] - offset[p], dt,
        )  # fmt: skip
        onset = _onset(rows, units_per_count.size, offset[p + 1] - offset[p])
        others, before = _apart(rows, onset, total[here], reference_samples, per_adc)
        scale = _scales(onset, others, before, reference_samples, min_reference_samples)
        raised[i] = _raise(rows, scale, others, total[here], top[here], area[p], n_top, per_adc)
    return raised


@njit(cache=True, nogil=True)
def _rows(
    data, time_ns, channel, first_kept, kept_begin, kept_end, pulse, baseline, units_per_count,
    low, high, start_ns, n_samples, dt,
):  # fmt: skip
    """One row a stretch of kept samples that may lie in the peak.

    Returns:
        All samples, and of each row its record, channel, sample of the peak at which the record begins, first
        sample of the record in the peak and one past the last, baseline, and units.
    """
    n = first_kept[high] - first_kept[low]
    record, at, first, last = np.empty((4, n), np.int64)
    sensor, base, units = np.empty((3, n), np.int64)
    i = 0
    for r in range(low, high):
        for k in range(first_kept[r], first_kept[r + 1]):
            record[i], sensor[i], at[i] = r, channel[r], (time_ns[r] - start_ns) // dt
            first[i], last[i] = max(kept_begin[k], -at[i]), min(kept_end[k], n_samples - at[i])
            base[i], units[i] = baseline[pulse[r]], units_per_count[channel[r]]
            i += 1
    return data, record, sensor, at, first, last, base, units


@njit(cache=True, nogil=True)
def _onset(rows, n_channels, n):
    """Sample of the peak at which each channel first saturates; n: never."""
    data, record, channel, at, first, last, _, units = rows
    onset = np.full(n_channels, n)
    for r in range(at.size):
        if units[r] == 0:
            continue
        for j in range(first[r], last[r]):
            if data[record[r], j] <= 0:
                onset[channel[r]] = min(onset[channel[r]], at[r] + j)
                break
    return onset


@njit(cache=True, nogil=True)
def _apart(rows, onset, total, reference_samples, per_adc):
    """Sum of the channels that do not saturate, and of each that does, its area shortly before."""
    data, record, channel, at, first, last, base, units = rows
    others, before = total.copy(), np.zeros(onset.size, np.int64)
    for r in range(at.size):
        c = channel[r]
        if onset[c] == total.size:
            continue
        for j in range(first[r], last[r]):
            value = (base[r] - np.int64(data[record[r], j]) * per_adc) * units[r]
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
    data, record, channel, at, first, last, base, units = rows
    raised = 0
    for r in range(at.size):
        c = channel[r]
        if scale[c] == 0:
            continue
        for j in range(first[r], last[r]):
            if data[record[r], j] > 0:
                continue
            seen = (base[r] - np.int64(data[record[r], j]) * per_adc) * units[r]
            more = np.int64(np.rint(scale[c] * others[at[r] + j])) - seen
            if more > 0:
                total[at[r] + j] += more
                if c < n_top:
                    top[at[r] + j] += more
                area[c] += more
                raised += 1
    return raised
