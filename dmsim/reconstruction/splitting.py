"""One window into several: at natural breaks, or at local minima for detectors of few sensors.

Both work on the summed waveform at the digitiser's sampling. A piece is a run of its window's samples, so
that pieces hold all of its light, each sample once.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dmsim.reconstruction import margins
from dmsim.reconstruction.host import splitting as host
from dmsim.reconstruction.settings import Splitting
from dmsim.reconstruction.shape import rise_times
from dmsim.reconstruction.tables import Waveforms, Windows


class Pieces(NamedTuple):
    """What the windows were split into, ascending in time."""

    windows: Windows
    offset: Int[np.ndarray, "piece+1"]  # of each piece's samples, in the waveforms that were split
    parent: Int[np.ndarray, "piece"]  # number of the window that it was part of
    goodness: Float[np.ndarray, "piece"]  # largest goodness of split left in it; NaN: not searched

    @property
    def of_split(self) -> np.ndarray:
        """Whether each piece is one of several of its window."""
        return np.bincount(self.parent)[self.parent] > 1


class _Ranges(NamedTuple):
    """Runs of samples, each of one window."""

    parent: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def rows(self, which: np.ndarray) -> "_Ranges":
        return _Ranges(*(column[which] for column in self))


def split_windows(settings: Splitting, windows: Windows, waveforms: Waveforms, dt: int) -> Pieces:
    """Split windows, and their pieces again, until no goodness passes its threshold.

    Args:
        settings: of the splitting.
        windows: disjoint, ascending.
        waveforms: of the windows; samples in order, window by window.
        dt: sampling interval [ns].

    Raises:
        ValueError: if the method is "auto".
    """
    offset, total = waveforms.offset, waveforms.total
    before = np.append(0, np.cumsum(total))  # area up to each sample
    half = round(float(settings.filter_wing_ns) / dt)
    open_ = _Ranges(np.arange(len(offset) - 1), offset[:-1], offset[1:])
    done: list[tuple[_Ranges, np.ndarray]] = []
    for _ in range(settings.max_iterations if settings.search in _SEARCH else 0):
        area = (before[open_.end] - before[open_.begin]) * waveforms.scale
        tried = (margins.split_area(settings, area) >= 0) & (open_.end - open_.begin > 1)
        done.append((open_.rows(~tried), np.full((~tried).sum(), np.nan)))
        open_, area = open_.rows(tried), area[tried]
        if not len(area):
            break
        margin, goodness, cut = _SEARCH[settings.search](settings, open_, waveforms, area, half, dt)
        split = margin > 0
        done.append((open_.rows(~split), goodness[~split]))
        parent, begin, end = open_.rows(split)
        middle = begin + cut[split]
        both = ((parent, parent), (begin, middle), (middle, end))
        open_ = _Ranges(*map(np.concatenate, both))
    done.append((open_, np.full(len(open_.begin), np.nan)))
    parent, begin, end = (np.concatenate(column) for column in zip(*(r for r, _ in done), strict=True))
    order = np.lexsort((begin, parent))
    parent, begin, end = parent[order], begin[order], end[order]
    start_ns = windows.start_ns[parent]
    return Pieces(
        windows=Windows(start_ns + (begin - offset[parent]) * dt, start_ns + (end - offset[parent]) * dt),
        offset=np.append(begin, offset[-1]),
        parent=parent,
        goodness=np.concatenate([goodness for _, goodness in done])[order],
    )


def _natural_breaks(settings: Splitting, ranges: _Ranges, waveforms: Waveforms, area_pe, half: int, dt: int):
    goodness, cut = host.natural_breaks(ranges.begin, ranges.end, waveforms.total, half)
    rise_ns = rise_times(ranges.begin, ranges.end, waveforms.total, dt)
    return margins.split(settings, goodness, area_pe, rise_ns), goodness, cut


def _local_minima(settings: Splitting, ranges: _Ranges, waveforms: Waveforms, _area, half: int, _dt: int):
    minimum, side, first = host.minimum_and_sides(ranges.begin, ranges.end, waveforms.total, max(half, 1))
    margin = margins.local_minimum(settings, minimum * waveforms.scale, side * waveforms.scale)
    largest, at = host.largest_in_each(margin, first)
    return largest, np.full(len(largest), np.nan), at + 1


# margin, goodness and boundary of each range
_SEARCH = {"natural_breaks": _natural_breaks, "local_minimum": _local_minima}
