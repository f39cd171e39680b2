"""Peaks into several, at natural breaks or at local minima of their stored waveform."""

from collections.abc import Callable

import numpy as np

from dmsim.reconstruction.compat.intervals import CACHED, by_time
from dmsim.reconstruction.host.jit import njit
from dmsim.reconstruction.settings import Splitting
from dmsim.strax_layout import SUM_CHANNEL


def split(
    peaks: np.ndarray, settings: Splitting, *, dt: int, measure: Callable[[np.ndarray], None]
) -> np.ndarray:
    """Split peaks and their pieces, until nothing splits or the rounds are used up.

    Args:
        peaks: with waveforms and properties; their goodness of split is set.
        settings: method and thresholds.
        dt: of the records [ns]; pieces start from it.
        measure: fills waveforms and properties of new pieces.

    Raises:
        ValueError: if a piece has no samples.
    """
    if settings.search == "none":
        return peaks
    done, left = [], peaks
    for _ in range(settings.max_iterations):
        if not len(left):
            break
        pieces, is_split = _round(left, settings, dt)
        if not is_split.any():
            break
        measure(pieces)
        done.append(left[~is_split])
        left = pieces
    return by_time(np.concatenate([*done, left])) if done else left


def _round(peaks: np.ndarray, settings: Splitting, dt: int) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of the peaks that split, and which those are."""
    waveform = peaks["data"], peaks["length"], peaks["dt"]
    large = ~(peaks["area"] < settings.min_area_pe)
    if settings.search == "natural_breaks":
        limit = goodness_threshold(peaks, settings)
        cuts, goodness = _natural_breaks(*waveform, large, limit, int(settings.filter_wing_ns))
    else:
        cuts, goodness = _local_minima(
            *waveform, large, float(settings.minimum_height_pe), float(settings.minimum_ratio)
        )
    peaks["max_goodness_of_split"][large] = goodness[large]
    row, first, last = cuts.T
    pieces = np.zeros(len(cuts), peaks.dtype)
    pieces["time"] = peaks["time"][row] + first * peaks["dt"][row]
    pieces["dt"] = dt
    pieces["length"] = (last - first) * peaks["dt"][row] / dt
    for name in ("max_gap", "max_diff", "min_diff", "first_channel", "last_channel"):
        pieces[name] = -1
    pieces["channel"] = SUM_CHANNEL
    if (pieces["length"] <= 0).any():
        bad = int(np.argmax(pieces["length"] <= 0))
        raise ValueError(
            f"the peak at {peaks['time'][row[bad]]} ns splits into a piece of no samples: "
            "the splitting thresholds are too low"
        )
    is_split = np.zeros(len(peaks), bool)
    is_split[row] = True
    return pieces, is_split


def goodness_threshold(peaks: np.ndarray, settings: Splitting) -> np.ndarray:
    """What the goodness of split must exceed, between the curves of S1 and S2 by rise time. In float32."""
    s = settings
    rise = -peaks["area_decile_from_midpoint"][:, 1]
    slow = s.rise_power * np.log10(rise.clip(1, 1e5) / s.rise_ns)
    slow = 1 / (1 + np.exp(-slow))
    area = np.log10(peaks["area"].clip(1, 1e7))
    of_s1 = np.interp(area, s.s1_log10_area, s.s1_threshold)
    of_s2 = np.interp(area, s.s2_log10_area, s.s2_threshold)
    return slow * of_s2 + (1 - slow) * of_s1


@njit(**CACHED)
def _natural_breaks(data, length, dt, large, limit, wing_ns):
    """Rows (peak, first sample, last sample) of the pieces, and the goodness of every large peak.

    The goodness is 1 - (spread of both sides) / (spread of all), times 1 - (smoothed waveform / its maximum).
    The right piece ends one sample before the peak does.
    """
    cuts = np.empty((2 * len(length), 3), np.int64)
    goodness = np.zeros(len(length), np.float64)
    n_cuts = 0
    n_most = data.shape[1]
    left, right = np.zeros(n_most), np.zeros(n_most)
    smooth = np.zeros(n_most, np.float32)
    for p in range(len(length)):
        if not large[p]:
            continue
        n = np.int64(length[p])
        _spread(data[p, :n], left)
        _spread(data[p, :n][::-1], right)
        wing = wing_ns // dt[p] - 1
        if wing > 0:
            _moving_average(data[p], n, wing, smooth)
        else:
            smooth[:n] = data[p, :n]
        highest = smooth[0]
        for s in range(1, n):
            highest = max(highest, smooth[s])
        best, best_s = 0.0, -1
        for s in range(n):
            value = 1 - (left[s] + right[n - 1 - s]) / left[n - 1]
            value *= np.float32(np.float32(1) - np.float32(smooth[s] / highest))
            # the first of equals; not-a-number wins, and is above no threshold
            if best_s < 0 or value > best or (np.isnan(value) and not np.isnan(best)):
                best, best_s = value, s
        goodness[p] = best
        if best > limit[p]:
            cuts[n_cuts] = p, 0, best_s
            cuts[n_cuts + 1] = p, best_s, n - 1
            n_cuts += 2
    return cuts[:n_cuts], goodness


@njit(**CACHED)
def _spread(wave, out):
    """Sum of squared deviations from the mean of the samples so far; negative samples count as zero."""
    mean = weights = total = 0.0
    for i in range(len(wave)):
        out[i] = 0
        w = max(0.0, float(wave[i]))
        weights += w
        if weights == 0:
            continue
        old = mean
        mean = old + (w / weights) * (i - old)
        total += w * (i - old) * (i - mean)
        out[i] = total


@njit(**CACHED)
def _moving_average(wave, n, wing, out):
    """Mean over `wing` samples either side. The first sample never leaves the sum, as strax has it."""
    total, count = np.float32(0), wing
    for s in range(min(wing, n)):
        total += wave[s]
    for s in range(n):
        gone, new = s - wing - 1, s + wing
        if gone > 0:
            count -= 1
            total -= wave[gone]
        if new < n:
            count += 1
            total += wave[new]
        out[s] = total / count


@njit(**CACHED)
def _local_minima(data, length, dt, large, height, ratio):
    """Rows (peak, first sample, last sample) of the pieces; a goodness is not defined and 0.

    A minimum splits if the waveform rises above it on both sides, by `height` and by `ratio`.
    """
    cuts = np.empty((len(length) * (data.shape[1] + 1), 3), np.int64)
    n_cuts = 0
    for p in range(len(length)):
        if not large[p]:
            continue
        highest, lowest, at, begin = -1e14, 1e14, 0, 0
        for s in range(length[p]):
            x = float(data[p, s])
            if x < lowest:
                lowest, at = x, s
            if min(highest, x) > max(lowest + height, lowest * ratio):
                cuts[n_cuts] = p, begin, at
                n_cuts += 1
                begin = at
                highest, lowest, at = x, 1e14, s
            if x > highest:
                highest, lowest, at = x, 1e14, s
        if begin > 0:
            cuts[n_cuts] = p, begin, np.int64(length[p])
            n_cuts += 1
    return cuts[:n_cuts], np.zeros(len(length))
