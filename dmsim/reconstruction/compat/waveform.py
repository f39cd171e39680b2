"""Waveform of each peak, summed over its hits' integration windows, and squeezed into 200 samples."""

import numpy as np

from dmsim.reconstruction.compat.intervals import CACHED, overlap
from dmsim.reconstruction.host.jit import njit
from dmsim.strax_layout import N_WAVEFORM


def sum_waveforms(
    peaks: np.ndarray,
    hitlets: np.ndarray,
    records: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    pe_per_adc: np.ndarray,
    *,
    n_top: int,
    rows: np.ndarray | None = None,
) -> None:
    """Fill data, data_top, data_start, areas and saturation of peaks; length and dt change with it.

    Args:
        peaks: sorted by time, of the records' dt; changed in place.
        hitlets: sorted by time; their time and length are those of integration.
        records: that they were found in.
        before: rows of the fragments before, from `links`.
        after: and of those after.
        pe_per_adc: of each channel.
        n_top: channels below it are on top.
        rows: peaks to do, ascending; all if None.
    """
    if not len(peaks) or not len(records) or not len(hitlets):
        return
    if rows is None:
        rows = np.arange(len(peaks))
    _sum(
        rows, peaks["time"], peaks["length"], peaks["dt"], peaks["area"], peaks["area_per_channel"],
        peaks["saturated_channel"], peaks["n_saturated_channels"], peaks["data"], peaks["data_top"],
        peaks["data_start"], hitlets, records, before, after, pe_per_adc, n_top,
    )  # fmt: skip


@njit(**CACHED)
def _sum(
    rows, time, length, dt_of, area, per_channel, saturated, n_saturated, data, data_top, data_start,
    hitlets, records, before, after, pe_per_adc, n_top,
):  # fmt: skip
    longest = 0
    for p in rows:
        longest = max(longest, length[p])
    total, top = np.zeros(longest, np.float32), np.zeros(longest, np.float32)
    channel_area = np.zeros(per_channel.shape[1], np.float32)
    dt = np.int64(records["dt"][0])
    first = 0
    for p in rows:
        n, start = np.int64(length[p]), time[p]
        total[:n] = 0
        top[:n] = 0
        channel_area[:] = 0
        area[p] = 0
        while first < len(hitlets) and hitlets["time"][first] + hitlets["length"][first] * dt <= start:
            first += 1
        if first == len(hitlets):
            break  # as strax: peaks behind the last hit stay as they are
        for h in range(first, len(hitlets)):
            shift = (start - hitlets["time"][h]) // dt
            if shift <= -n:
                break
            if hitlets["length"][h] <= shift:
                continue
            channel = hitlets["channel"][h]
            to_pe = pe_per_adc[channel]
            is_top = channel < n_top
            here, full = _add(h, start // dt, n, total, top, is_top, hitlets, records, before, after, to_pe)
            if full:
                saturated[p, channel] = 1
            channel_area[channel] += here
            area[p] += here
        length[p], dt_of[p] = _squeeze(n, dt_of[p], total, top, data[p], data_top[p], data_start[p])
        per_channel[p] = channel_area
        n_saturated[p] = saturated[p].sum()


@njit(**CACHED)
def _add(h, start, n, total, top, is_top, hitlets, records, before, after, to_pe):
    """Add a hit's waveform to that of a peak; its area there, and whether it is saturated.

    It is if its highest sample takes the whole baseline, be it inside of this peak or not.
    """
    dt = np.int64(hitlets["dt"][h])
    h_start, h_length = hitlets["time"][h] // dt, np.int64(hitlets["length"][h])
    row = np.int64(hitlets["record_i"][h])
    h_first, h_last, p_first, _ = overlap(h_start, h_length, start, n)
    # the fragment before, the hit's own, the one after: in order of time
    earlier = np.int64(before[row]) if hitlets["left_integration"][h] < 0 else -1
    later = np.int64(after[row]) if hitlets["right_integration"][h] > records["data"].shape[1] else -1
    here = np.float32(0)
    full = False
    for source in (earlier, row, later):
        if source < 0:
            continue
        r_start = records["time"][source] // np.int64(records["dt"][source])
        w_first, w_last, r_first, _ = overlap(h_start, h_length, r_start, np.int64(records["length"][source]))
        baseline = records["baseline"][source]
        factor = 2 ** np.int64(records["amplitude_bit_shift"][source])
        fraction = float(baseline % 1)
        highest = -(2**15)
        for w in range(w_first, w_last):
            highest = max(highest, records["data"][source, w - w_first + r_first])
        full |= w_last > w_first and highest * factor >= np.int16(baseline)
        for w in range(max(w_first, h_first), min(w_last, h_last)):
            sample = records["data"][source, w - w_first + r_first]
            pe = np.float32(np.float32(factor * sample + fraction) * to_pe)
            at = p_first + w - h_first
            total[at] += pe
            if is_top:
                top[at] += pe
            here += pe
    return here, full


@njit(**CACHED)
def _squeeze(n, dt, total, top, data, data_top, data_start):
    """Store a waveform in at most 200 samples; what is left over of a coarser sample at the end is lost."""
    factor = -(-n // N_WAVEFORM)
    n_kept = n // factor if factor > 0 else 0
    for k in range(n_kept):
        both, up = np.float32(0), np.float32(0)
        for s in range(k * factor, (k + 1) * factor):
            both += total[s]
            up += top[s]
        data[k], data_top[k] = both, up
    for s in range(min(n, len(data_start))):
        data_start[s] = total[s]
    return n_kept, dt * max(factor, 1)
