"""Hits: runs of samples of one sensor above threshold."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from dmsim.reconstruction import kernels
from dmsim.reconstruction.pulses import Table, blocks


class HitTable(NamedTuple):
    """Threshold crossings, sorted by (event, start, channel). Times in samples from the event's start."""

    event: Int[np.ndarray, "hit"]
    channel: Int[np.ndarray, "hit"]
    start: Int[np.ndarray, "hit"]
    end: Int[np.ndarray, "hit"]  # one past the last sample above threshold
    maximum: Int[np.ndarray, "hit"]  # sample of the largest excursion, the first of equals
    alone: Bool[np.ndarray, "hit"]  # the only hit of its pulse


_above = partial(jax.jit, static_argnames="nominal")(kernels.above_threshold)


def find_hits(table: Table, shift: np.ndarray, nominal: int, threshold_adc: float) -> HitTable:
    """Threshold crossings of all records; a run that goes on in the next fragment is one hit."""
    n_samples = table.data.shape[1]
    positions = []
    columns = (table.data, shift, table.length.astype(np.int32))
    for rows, cut in blocks(len(shift), *columns):
        mask = np.asarray(_above(*cut, threshold_adc, nominal=nominal))
        positions.append(np.flatnonzero(mask) + rows.start * n_samples)
    flat = np.concatenate(positions) if positions else np.zeros(0, np.int64)
    row, sample = np.divmod(flat, n_samples)
    time = table.start[row] + sample
    depth = table.data.reshape(-1)[flat]  # within one pulse the baseline is common

    # in (pulse, time) order a run continues where both neighbours are of one pulse and touch
    if len(flat):
        rank = np.lexsort((time, table.pulse[row])) if _unsorted(table.pulse[row], time) else slice(None)
        row, time, depth = row[rank], time[rank], depth[rank]
    pulse = table.pulse[row]
    new = np.ones(len(row), bool)
    new[1:] = (np.diff(pulse) != 0) | (np.diff(time) != 1)
    begin = np.flatnonzero(new)
    if not len(begin):
        empty = np.zeros(0, np.int64)
        return HitTable(empty, empty, empty, empty, empty, np.zeros(0, bool))
    run = np.cumsum(new) - 1
    lowest = np.minimum.reduceat(depth, begin)
    at_lowest = np.flatnonzero(depth == lowest[run])[::-1]
    maximum = np.empty(len(begin), np.int64)
    maximum[run[at_lowest]] = time[at_lowest]  # reversed: the earliest is written last
    last = np.append(begin[1:], len(row)) - 1
    alone = np.bincount(pulse[begin], minlength=1)[pulse[begin]] == 1
    event, channel = table.event[row[begin]], table.channel[row[begin]]
    order = np.lexsort((channel, time[begin], event))
    return HitTable(*(c[order] for c in (event, channel, time[begin], time[last] + 1, maximum, alone)))


def _unsorted(pulse: np.ndarray, time: np.ndarray) -> bool:
    return bool(((np.diff(pulse) < 0) | ((np.diff(pulse) == 0) & (np.diff(time) < 0))).any())
