"""Which fragments make a pulse, and the baseline of each pulse."""

import numpy as np

from dmsim.reconstruction.host.jit import njit

_NONE = -1
_NARROW = 64  # values; quiet samples span some ten


@njit(cache=True, nogil=True)
def link(time_ns, channel, record_i, length, dt, n_samples, n_sensors):
    """Pulse and first fragment of each record, sorted by (time, channel).

    Fragments of one channel that count back to the same start are one pulse, with or without those between.

    Returns:
        pulse, first fragment's row (-1: missing), and the row of the first record that begins before another
        of its channel has ended (-1: none).
    """
    pulse = np.empty(time_ns.size, np.int64)
    first = np.empty(time_ns.size, np.int64)
    latest_start = np.full(n_sensors, np.iinfo(np.int64).min)
    latest_end = np.full(n_sensors, np.iinfo(np.int64).min)
    latest = np.full(n_sensors, _NONE)  # row of the channel's record before
    n_pulses = 0
    for row in range(time_ns.size):
        c = channel[row]
        if time_ns[row] < latest_end[c]:
            return pulse, first, row
        latest_end[c] = time_ns[row] + length[row] * dt
        start = time_ns[row] - np.int64(record_i[row]) * n_samples * dt
        before = latest[c]
        if before != _NONE and record_i[row] > 0 and start == latest_start[c]:
            pulse[row], first[row] = pulse[before], first[before]
        else:
            pulse[row], first[row] = n_pulses, row if record_i[row] == 0 else _NONE
            n_pulses += 1
        latest_start[c], latest[c] = start, row
    return pulse, first, _NONE


@njit(cache=True, nogil=True)
def baselines(data, length, pulse, first, n_pulses, nominal, n_first, clip, per_adc):
    """Baseline of each pulse, and the rms of the samples that it is made of.

    The baseline is the mean of those of the first samples that lie within `clip` of their median: a pulse's
    rise and small photoelectrons fall out. A pulse without its first fragment takes the nominal baseline.

    Args:
        data: samples, [record, sample].
        length: valid samples of each record.
        pulse: of each record.
        first: row of its pulse's first fragment, or -1.
        n_pulses: their number.
        nominal: baseline [ADC].
        n_first: samples looked at.
        clip: largest distance to the median [ADC].
        per_adc: units of the baseline an ADC count.

    Returns:
        baseline [1/per_adc ADC], rms of the samples in the mean [ADC], 0 for the nominal baseline.
    """
    baseline = np.empty(n_pulses, np.int32)
    rms = np.zeros(n_pulses)
    counts = np.zeros(_NARROW, np.int64)
    for row in range(pulse.size):
        p = pulse[row]
        if first[row] == _NONE:
            baseline[p] = nominal * per_adc
            continue
        if first[row] != row:
            continue
        samples = data[row, : min(n_first, length[row])]
        low, high = samples[0], samples[0]
        for x in samples:
            low, high = min(low, x), max(high, x)
        # the mean's numerator as differences to the median: exact, and small
        if high - low < _NARROW:
            middle, count, total, squares = _narrow(samples, np.int64(low), clip, counts)
        else:
            middle, count, total, squares = _wide(samples, np.int64(low), np.int64(high), clip)
        # nearest unit; a half goes up
        mean = (2 * total * per_adc + count) // (2 * count)
        baseline[p] = middle * per_adc + mean
        # one division and one root of exact integers: the same bits everywhere
        rms[p] = np.sqrt((count * squares - total * total) / (count * count))
    return baseline, rms


@njit(cache=True, nogil=True)
def _narrow(samples, low, clip, counts):
    """Lower median, and number, sum and sum of squares of the differences to it within `clip`.

    Counts how often each value comes: fast where the samples span few of them. `counts` is zero before and
    after.
    """
    for x in samples:
        counts[x - low] += 1
    wanted = (samples.size + 1) // 2
    bin_, passed = 0, counts[0]
    while passed < wanted:
        bin_ += 1
        passed += counts[bin_]
    count, total, squares = np.int64(0), np.int64(0), np.int64(0)
    left = samples.size
    k = 0
    while left:
        n = counts[k]
        d = k - bin_
        if -clip <= d <= clip:
            total += n * d
            squares += n * d * d
            count += n
        left -= n
        counts[k] = 0
        k += 1
    return low + bin_, count, total, squares


@njit(cache=True, nogil=True)
def _wide(samples, low, high, clip):
    """The same by halving the range of values, however many there are."""
    wanted = (samples.size + 1) // 2
    while low < high:
        middle = (low + high) // 2
        passed = 0
        for x in samples:
            passed += x <= middle
        if passed >= wanted:
            high = middle
        else:
            low = middle + 1
    count, total, squares = np.int64(0), np.int64(0), np.int64(0)
    for x in samples:
        d = np.int64(x) - low
        if -clip <= d <= clip:
            total += d
            squares += d * d
            count += 1
    return low, count, total, squares
