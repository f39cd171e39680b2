"""Runs of samples over threshold."""

import numpy as np

from dmsim.reconstruction.host.jit import njit

_NONE = -1
START, END, LARGEST, CHANNEL, RECORD, PULSE, HEIGHT = range(7)  # columns of a hit
_COLUMNS = 7


@njit(cache=True, nogil=True)
def find(data, time_ns, channel, length, pulse, baseline, limit, live, n_pulses, dt, per_adc):
    """Hits in the order of the records that they begin in.

    A run that ends with a fragment and goes on in the next one of its pulse is one hit.

    Args:
        data: samples [ADC], [record, sample].
        time_ns: of each record, ascending.
        channel: of each record.
        length: valid samples of each record.
        pulse: of each record.
        baseline: of each pulse [1/per_adc ADC].
        limit: of each pulse, the largest sample that is over threshold [ADC].
        live: whether a channel counts.
        n_pulses: their number.
        dt: a sample [ns].
        per_adc: units of the baseline an ADC count.

    Returns:
        Rows (start, end, start of the largest sample, channel, record, pulse, height), and the hits of each
        pulse.
    """
    out = np.empty((max(64, 2 * time_ns.size), _COLUMNS), np.int64)
    of_pulse = np.zeros(n_pulses, np.int32)
    open_hit = np.full(live.size, _NONE)  # of each channel: a hit that reaches the end of its latest record
    n = 0
    for row in range(time_ns.size):
        c = channel[row]
        if not live[c]:
            continue
        p, start, samples = pulse[row], time_ns[row], data[row, : length[row]]
        top = limit[p]
        before, open_hit[c] = open_hit[c], _NONE
        j = 0
        while j < samples.size:
            if samples[j] > top:
                j += 1
                continue
            if n == out.shape[0]:
                grown = np.empty((2 * n, _COLUMNS), np.int64)
                grown[:n] = out
                out = grown
            begin, deepest = j, j
            while j < samples.size and samples[j] <= top:
                if samples[j] < samples[deepest]:
                    deepest = j
                j += 1
            height = np.int64(baseline[p]) - np.int64(samples[deepest]) * per_adc
            goes_on = begin == 0 and before != _NONE and out[before, PULSE] == p and out[before, END] == start
            hit = before if goes_on else n
            if not goes_on:
                out[n, START] = start + begin * dt
                out[n, CHANNEL], out[n, RECORD], out[n, PULSE] = c, row, p
                out[n, HEIGHT] = np.iinfo(np.int64).min
                of_pulse[p] += 1
                n += 1
            out[hit, END] = start + j * dt
            if height > out[hit, HEIGHT]:
                out[hit, LARGEST], out[hit, HEIGHT] = start + deepest * dt, height
            if j == samples.size:
                open_hit[c] = hit
    return out[:n], of_pulse


@njit(cache=True, nogil=True)
def columns(rows, order):
    """Rows in this order, by column."""
    out = np.empty((_COLUMNS, order.size), np.int64)
    for i in range(order.size):
        for k in range(_COLUMNS):
            out[k, i] = rows[order[i], k]
    return out


@njit(cache=True, nogil=True)
def stretches(time_ns, length, pulse, start_ns, end_ns, hit_pulse, n_pulses, dt):
    """Samples of each record that lie in the windows of its pulse's hits.

    Args:
        time_ns: of each record, ascending.
        length: valid samples of each record.
        pulse: of each record.
        start_ns: of each window, ascending; a whole number of samples from the records of its pulse.
        end_ns: of each window; ascending within a pulse.
        hit_pulse: of each window.
        n_pulses: their number.
        dt: a sample [ns].

    Returns:
        Number of the first stretch of each record, and one more; first sample of each stretch, and one past
        its last. Windows that touch are one.
    """
    of_pulse = np.zeros(n_pulses + 1, np.int64)
    for h in range(hit_pulse.size):
        of_pulse[hit_pulse[h] + 1] += 1
    of_pulse = np.cumsum(of_pulse)
    place, hits = of_pulse[:-1].copy(), np.empty(hit_pulse.size, np.int64)
    for h in range(hit_pulse.size):
        hits[place[hit_pulse[h]]] = h
        place[hit_pulse[h]] += 1
    following = of_pulse[:-1].copy()  # of each pulse: the first hit that does not end before its next record
    first = np.zeros(time_ns.size + 1, np.int64)
    begin, end = np.empty((2, time_ns.size + hit_pulse.size), np.int64)
    n = 0
    for row in range(time_ns.size):
        p, t, samples = pulse[row], time_ns[row], np.int64(length[row])
        i, last = following[p], of_pulse[p + 1]
        while i < last and end_ns[hits[i]] <= t:
            i += 1
        following[p] = i
        while i < last and start_ns[hits[i]] < t + samples * dt:
            low = max((start_ns[hits[i]] - t) // dt, 0)
            high = min((end_ns[hits[i]] - t) // dt, samples)
            if n > first[row] and low <= end[n - 1]:
                end[n - 1] = high
            else:
                begin[n], end[n] = low, high
                n += 1
            i += 1
        first[row + 1] = n
    return first, begin[:n].copy(), end[:n].copy()
