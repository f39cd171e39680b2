"""Areas and summed waveforms of windows."""

import numpy as np

from dmsim.reconstruction.host.jit import njit


@njit(cache=True, nogil=True)
def integrate(
    data,
    time_ns,
    channel,
    length,
    first_kept,
    kept_begin,
    kept_end,
    pulse,
    baseline,
    units_per_count,
    n_top,
    start_ns,
    end_ns,
    offset,
    dt,
    per_adc,
):
    """Sum every sample that the records keep inside the windows.

    Args:
        data: samples [ADC], [record, sample].
        time_ns: of each record, ascending.
        channel: of each record.
        length: valid samples of each record.
        first_kept: number of the first stretch of samples that is summed of each record; one more.
        kept_begin: first sample of each stretch.
        kept_end: one past its last.
        pulse: of each record.
        baseline: of each pulse [1/per_adc ADC].
        units_per_count: of each channel, units of area a sample of 1/per_adc ADC; 0: left out.
        n_top: channels below it are the top array's.
        start_ns: of the windows, ascending and disjoint.
        end_ns: exclusive.
        offset: of each window's samples in the waveforms; one more than windows.
        dt: a sample [ns].
        per_adc: units of the baseline an ADC count.

    Returns:
        total [sample], top [sample], area [window, channel], saturated samples [window], and the largest sum
        as a float: beyond 2^62 an int64 would have wrapped.
    """
    n_windows = start_ns.size
    total, top = np.zeros(offset[-1], np.int64), np.zeros(offset[-1], np.int64)
    area = np.zeros((n_windows, units_per_count.size), np.int64)
    saturated = np.zeros(n_windows, np.int64)
    size = np.zeros(n_windows)
    first = 0
    for row in range(time_ns.size):
        units = np.int32(units_per_count[channel[row]])
        begin = time_ns[row]
        end = begin + length[row] * dt
        while first < n_windows and end_ns[first] <= begin:
            first += 1
        if units == 0 or first_kept[row] == first_kept[row + 1]:
            continue
        base = baseline[pulse[row]]
        w = first
        while w < n_windows and start_ns[w] < end:
            at = offset[w] + (begin - start_ns[w]) // dt
            # the bottom array's for now
            into = top if channel[row] < n_top else total
            for k in range(first_kept[row], first_kept[row + 1]):
                low = max((start_ns[w] - begin) // dt, kept_begin[k])
                high = min((end_ns[w] - begin) // dt, kept_end[k])
                if low >= high:
                    continue
                samples = data[row, low:high]
                adc, floor = _add(into[at + low : at + high], samples, base, units, np.int32(per_adc))
                here = (np.int64(base) * samples.size - adc * per_adc) * units
                area[w, channel[row]] += here
                size[w] += abs(float(here))
                saturated[w] += floor
            w += 1
    total += top
    return total, top, area, saturated, size.max() if n_windows else 0.0


@njit(cache=True, nogil=True)
def _add(into, samples, base, units, per_adc):
    """Add a row to a waveform; returns the sum of its samples and how many are at the floor."""
    total, floor = np.int64(0), np.int64(0)
    for j in range(samples.size):
        x = np.int32(samples[j])
        into[j] += np.int64(np.int32(base - x * per_adc)) * np.int64(units)
        total += x
        floor += x <= 0
    return total, floor
