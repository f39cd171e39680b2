"""Deciles, widths, centre and area fraction top of summed waveforms."""

import numpy as np

from dmsim.reconstruction.compat.intervals import CACHED, end_ns
from dmsim.reconstruction.host.jit import njit
from dmsim.strax_layout import N_WIDTHS

_HALF = np.linspace(0, 1, N_WIDTHS)[1:] / 2
# ascending, the median in the middle: two of each width
_FRACTIONS = np.concatenate([(0.5 - _HALF)[::-1], [0.5], 0.5 + _HALF])
_MEDIAN = len(_FRACTIONS) // 2


def describe(peaks: np.ndarray, *, n_top: int, rows: np.ndarray | None = None) -> None:
    """Fill median_time, width, area_decile_from_midpoint, center_time and area_fraction_top, in place.

    Args:
        peaks: with waveforms.
        n_top: channels below it are on top; with 0 the area fraction top is left as it is.
        rows: peaks to do; all if None.
    """
    if rows is None:
        rows = np.arange(len(peaks))
    if not len(rows):
        return
    some = peaks[["time", "length", "dt", "area", "data"]][rows] if len(rows) < len(peaks) else peaks
    times = _fraction_times(some["data"], some["length"], some["area"], _FRACTIONS)
    times *= some["dt"].reshape(-1, 1)
    median = times[:, _MEDIAN]
    peaks["median_time"][rows] = median
    peaks["width"][rows] = times[:, _MEDIAN:] - times[:, ::-1][:, _MEDIAN:]
    peaks["area_decile_from_midpoint"][rows] = times[:, ::2] - median.reshape(-1, 1)
    center = _centers(some["data"], some["length"], some["dt"], some["time"])
    peaks["center_time"][rows] = np.clip(center, some["time"], end_ns(some))
    if n_top > 0:
        top = _top_areas(peaks["area_per_channel"], rows, n_top)
        area = peaks["area"][rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            peaks["area_fraction_top"][rows] = np.where(area > 0, top / area, np.float32(np.nan))


@njit(**CACHED)
def _fraction_times(data, length, area, fractions):
    """Samples after which each fraction of the area is reached, with decimals.

    A fraction that the samples do not reach, as the sum and the area round differently, stays at 0; the last
    one, the whole, is the peak's length.
    """
    times = np.zeros((len(area), len(fractions)), np.float32)
    for p in range(len(area)):
        if area[p] <= 0:
            continue
        seen = 0.0
        f = 0
        for s in range(length[p]):
            x = data[p, s]
            here = np.float32(x / area[p])
            while f < len(fractions) and seen + here >= fractions[f]:
                needed = area[p] * (fractions[f] - seen)
                times[p, f] = s + needed / x if x != 0 else s
                f += 1
            if f == len(fractions):
                break
            seen += here
        if f >= len(fractions) - 1:
            times[p, -1] = length[p]
    return times


@njit(**CACHED)
def _centers(data, length, dt, time):
    """Area-weighted mean time in single precision, cut to whole ns; the start where samples sum to zero."""
    center = np.zeros(len(time), np.int64)
    for p in range(len(time)):
        weight = moment = np.float32(0)
        for s in range(length[p]):
            weight += data[p, s]
            moment += np.float32(np.float32(s) * data[p, s])
        if weight == 0:
            center[p] = time[p]
        else:
            center[p] = np.int64((float(np.float32(moment / weight)) + 0.5) * dt[p]) + time[p]
    return center


@njit(**CACHED)
def _top_areas(per_channel, rows, n_top):
    top = np.zeros(len(rows), np.float32)
    for k in range(len(rows)):
        for channel in range(min(n_top, per_channel.shape[1])):
            top[k] += per_channel[rows[k], channel]
    return top
