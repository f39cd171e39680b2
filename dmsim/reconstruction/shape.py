"""Times of area quantiles, centre and maximum of peaks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dmsim.reconstruction.host import shape as host

_TWENTIETHS = np.arange(21)
_10_AND_50_PERCENT = np.array([2, 10])


class Shapes(NamedTuple):
    """Times from each peak's start, and widths [ns]; NaN where the area is not positive."""

    decile_ns: Float[np.ndarray, "peak 11"]  # when 0, 10, .. 100 % of the area have come
    width_ns: Float[np.ndarray, "peak 11"]  # that the central 0, 10, .. 100 % of the area take
    center_ns: Float[np.ndarray, "peak"]  # area-weighted mean
    maximum_ns: Int[np.ndarray, "peak"]  # int64, start of the largest sample, the first of equals

    @property
    def rise_ns(self) -> Float[np.ndarray, "peak"]:
        """From 10 % to 50 % of the area."""
        return self.decile_ns[:, 5] - self.decile_ns[:, 1]


def shapes_of(
    start_ns: Int[np.ndarray, "piece"],
    offset: Int[np.ndarray, "piece+1"],
    total: Int[np.ndarray, "sample"],
    dt: int,
    *,
    first_piece: Int[np.ndarray, "peak+1"] | None = None,
) -> Shapes:
    """Measure the shapes of summed waveforms.

    Noise makes the running area dip: a quantile is where it is first reached, linear inside a sample; 0 % is
    where the running area first rises above zero.

    Args:
        start_ns: of each piece, ascending.
        offset: piece i has samples offset[i] to offset[i + 1].
        total: whole-numbered area in each sample.
        dt: sampling interval [ns].
        first_piece: peak p is made of pieces first_piece[p] to first_piece[p + 1], with nothing between
            them; if not given, each piece is a peak.
    """
    if first_piece is None:
        first_piece = np.arange(len(start_ns) + 1)
    times, center, maximum = host.quantile_times(
        first_piece, start_ns, offset[:-1], offset[1:], total, dt, _TWENTIETHS
    )
    width = times[:, 10:] - times[:, 10::-1]
    return Shapes(times[:, ::2], width, center, maximum)


def rise_times(
    begin: Int[np.ndarray, "range"], end: Int[np.ndarray, "range"], total: Int[np.ndarray, "sample"], dt: int
) -> Float[np.ndarray, "range"]:
    """Time from 10 % to 50 % of the area of runs of samples [ns]; NaN where the area is not positive."""
    n = len(begin)
    start_ns = np.zeros(n, np.int64)
    times, _, _ = host.quantile_times(np.arange(n + 1), start_ns, begin, end, total, dt, _10_AND_50_PERCENT)
    return times[:, 1] - times[:, 0]
