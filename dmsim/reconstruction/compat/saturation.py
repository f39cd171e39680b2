"""Samples at the digitiser's floor, restored from the shape that the other sensors saw."""

import numpy as np

from dmsim.reconstruction.compat.intervals import CACHED, end_ns, overlap, touching
from dmsim.reconstruction.host.jit import njit
from dmsim.reconstruction.settings import Saturation


def restore(
    peaks: np.ndarray, records: np.ndarray, pe_per_adc: np.ndarray, settings: Saturation
) -> np.ndarray:
    """Restore saturated samples of records, in place; the peaks concerned go back to the records' dt.

    Peaks are done one after the other, and a later one sees what an earlier one restored.

    Args:
        peaks: final, sorted by time.
        records: changed in place.
        pe_per_adc: of each channel.
        settings: samples of reference.

    Returns:
        Rows of the peaks with a saturated channel: their waveforms must be summed again.
    """
    rows = np.flatnonzero(peaks["n_saturated_channels"] > 0)
    if not len(rows) or not len(records):
        return rows
    some = peaks[rows]
    ranges = touching(records["time"], end_ns(records), some["time"], end_ns(some))
    dt = np.int64(records["dt"][0])
    longest = int(np.max(peaks["length"].astype(np.int64) * peaks["dt"]) // dt + 1)
    columns = some["time"], some["length"], some["dt"], some["saturated_channel"]
    _restore(
        *columns, ranges, records, pe_per_adc, longest, settings.reference_samples,
        settings.min_reference_samples,
    )  # fmt: skip
    # back to fine samples; those that were lost when the waveform was squeezed stay lost
    peaks["length"][rows] = some["length"].astype(np.int64) * some["dt"] / dt
    peaks["dt"][rows] = dt
    return rows


@njit(**CACHED)
def _restore(time, length, dt_of, saturated, ranges, records, pe_per_adc, longest, n_reference, n_least):
    dt = np.int64(records["dt"][0])
    # of each channel at most so many fragments, by the longest peak: one more replaces the lowest row
    n_rows = longest // records["data"].shape[1] + 1
    others = np.zeros(longest, np.float32)
    most = 1
    for p in range(len(time)):
        most = max(most, saturated[p].sum())
    waves = np.zeros((most, longest), np.int16)
    row_of = np.zeros((most, n_rows), np.int64)
    slot = np.zeros(saturated.shape[1], np.int64)
    for p in range(len(time)):
        n_slots = 0
        for channel in range(saturated.shape[1]):
            slot[channel] = -1
            if saturated[p, channel] > 0:
                slot[channel] = n_slots
                n_slots += 1
        start, n = time[p] // dt, np.int64(length[p]) * dt_of[p] // dt
        others[:n] = 0
        waves[:n_slots, :n] = 0
        row_of[:n_slots] = -1
        for row in range(ranges[p, 0], ranges[p, 1]):
            channel = records["channel"][row]
            r_first, r_last, p_first, _ = overlap(
                records["time"][row] // dt, np.int64(records["length"][row]), start, n
            )
            k = slot[channel]
            if k >= 0:
                row_of[k, np.argmin(row_of[k])] = row
            for r in range(r_first, r_last):
                sample = records["data"][row, r]
                if k >= 0:
                    waves[k, p_first + r - r_first] += sample
                else:
                    # the fraction of the baseline is left out here
                    others[p_first + r - r_first] += np.float32(sample) * pe_per_adc[channel]
        for channel in range(saturated.shape[1]):
            if slot[channel] >= 0:
                k = slot[channel]
                _channel(
                    records, waves[k, :n], others[:n], row_of[k], pe_per_adc[channel], start, n, dt,
                    n_reference, n_least,
                )  # fmt: skip


@njit(**CACHED)
def _channel(records, wave, others, rows, to_pe, start, n, dt, n_reference, n_least):
    """One channel of one peak: from its first full sample on, the others' shape at its own scale."""
    if rows[0] < 0:
        return
    full = np.inf
    for row in rows:
        if row >= 0:
            full = min(full, records["baseline"][row])
    limit = np.int16(full)
    first = 0
    while first < n and wave[first] < limit:
        first += 1
    if first == n:
        first = 0
    n_wave = n_others = own = 0
    model = np.float32(0)
    for s in range(max(0, first - n_reference), first):
        n_wave += np.float32(wave[s]) * to_pe > 1
        n_others += others[s] > 1
        own += wave[s]
        model += others[s]
    # too short a rise (an S1), or too little light in the other channels
    if n_wave < n_least or n_others < n_least or own * to_pe / model > 1:
        return
    scale = own / model
    for row in rows:
        if row < 0:
            break
        r_first, r_last, p_first, p_last = overlap(
            records["time"][row] // dt, np.int64(records["length"][row]), start + first, n - first
        )
        if r_first < r_last:
            shape = others[first + p_first : first + p_last]
            shift, area = _replace(records["data"][row], r_first, r_last, shape, scale)
            records["amplitude_bit_shift"][row] += shift
            records["area"][row] = area


@njit(**CACHED)
def _replace(data, first, last, shape, scale):
    """Samples `first` to `last` by the scaled shape; bits by which the fragment is then coarser, its sum."""
    highest = scale * shape.max()
    area = 0
    if np.int32(highest) >= 2**15:
        # beyond 16 bits: the whole fragment is stored coarser
        shift = int(np.floor(np.log2(highest) - 14))
        for s in range(len(data)):
            value = np.int32(data[s])
            if first <= s < last:
                value = np.int32(shape[s - first] * scale)
            area += value
            data[s] = np.int16(value >> shift)
        return shift, area
    for s in range(first, last):
        data[s] = np.int16(shape[s - first] * scale)
    for s in range(len(data)):
        area += data[s]
    return 0, area
