"""Time quantiles of summed waveforms."""

from typing import NamedTuple

import numpy as np

_FRACTIONS = np.array([0.05, 0.10, 0.25, 0.50, 0.75, 0.95])
_NAN = float("nan")


class Shape(NamedTuple):
    """Times from the peak's start, or differences of them [ns]."""

    center_ns: float
    median_ns: float
    rise_ns: float
    width_50_ns: float
    width_90_ns: float
    maximum_ns: float


def shape_of(time_ns: np.ndarray, waveform: np.ndarray, sample_ns: int) -> Shape:
    """Quantiles of a waveform, linear inside a sample.

    Args:
        time_ns: start of each sample, ascending, from the peak's start.
        waveform: area in each sample, any unit; small negative values (noise) are allowed.
        sample_ns: sampling interval.

    Returns:
        NaN quantiles if the total is not positive.
    """
    weight = waveform.astype(np.float64)
    total = weight.sum()
    maximum = float(time_ns[np.argmax(weight)]) + sample_ns / 2
    if not total > 0:
        return Shape(_NAN, _NAN, _NAN, _NAN, _NAN, maximum)
    center = float(np.sum(weight * (time_ns + sample_ns / 2)) / total)
    # noise makes the running area dip: its first crossing of a level is that of its running maximum
    running = np.maximum.accumulate(np.maximum(np.cumsum(weight), 0.0))
    level = _FRACTIONS * total
    sample = np.minimum(np.searchsorted(running, level), len(running) - 1)
    before = np.where(sample > 0, running[sample - 1], 0.0)
    step = np.maximum(running[sample] - before, np.finfo(np.float64).tiny)
    t05, t10, t25, t50, t75, t95 = time_ns[sample] + np.clip((level - before) / step, 0, 1) * sample_ns
    return Shape(center, float(t50), float(t50 - t10), float(t75 - t25), float(t95 - t05), maximum)
