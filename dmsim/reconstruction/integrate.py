"""Areas and summed waveforms of peak windows: lays the windows over the records and runs the kernel."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dmsim.reconstruction import kernels
from dmsim.reconstruction.clustering import Windows, joint_time
from dmsim.reconstruction.pulses import BLOCK, Table


class Layout(NamedTuple):
    """Which samples of which record belong to which window; one row an overlap of a record and a window."""

    row: Int[np.ndarray, "overlap"]  # in the table of records
    window: Int[np.ndarray, "overlap"]
    low: Int[np.ndarray, "overlap"]  # first sample inside
    high: Int[np.ndarray, "overlap"]  # one past the last
    position: Int[np.ndarray, "overlap"]  # of the record's sample 0 in the buffer of waveforms


class Integrals(NamedTuple):
    """What the records hold inside each window, in ADC counts."""

    area: Float[np.ndarray, "window sensor"]  # x samples
    n_saturated: Int[np.ndarray, "window"]
    waveform: list[np.ndarray]  # one summed waveform a window


def buffer_offsets(windows: Windows, n_samples: int) -> tuple[Int[np.ndarray, "window"], int]:
    """Where each window's waveform begins in the buffer, and the buffer's size (a power of two).

    Between windows lies one record's length, so that a record that sticks out of its window adds its
    zeros there.
    """
    length = windows.end - windows.start
    end = np.cumsum(length + n_samples)
    offset = end - length
    size = (int(end[-1]) if len(end) else 0) + n_samples
    return offset, max(1 << 14, 1 << (size - 1).bit_length())


def lay_out(table: Table, windows: Windows) -> Layout:
    """Overlaps of records and windows: a long record may touch several windows, or none."""
    offset, _ = buffer_offsets(windows, table.data.shape[1])
    begin = joint_time(table.event, table.start)
    end = begin + table.length
    opens, closes = joint_time(windows.event, windows.start), joint_time(windows.event, windows.end)
    first = np.searchsorted(closes, begin, side="right")
    n_touched = np.maximum(np.searchsorted(opens, end, side="left") - first, 0)
    row = np.repeat(np.arange(len(begin)), n_touched)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(n_touched) - n_touched, n_touched)
    window = first[row] + nth
    low = np.maximum(opens[window] - begin[row], 0)
    high = np.minimum(closes[window] - begin[row], table.length[row])
    position = offset[window] + (begin[row] - opens[window])
    return Layout(row, window, *(c.astype(np.int32) for c in (low, high, position)))


_measure = jax.jit(kernels.measure, static_argnames="nominal", donate_argnums=0)


def integrate(table: Table, shift: np.ndarray, windows: Windows, nominal: int, n_sensors: int) -> Integrals:
    """Integrate every sample that the records hold inside the windows, above threshold or not."""
    n_windows, n_samples = len(windows.event), table.data.shape[1]
    offset, size = buffer_offsets(windows, n_samples)
    layout = lay_out(table, windows)
    buffer = jnp.zeros(size, table.data.dtype)
    areas, saturated = [], []
    for begin in range(0, len(layout.row), BLOCK):
        part = [column[begin : begin + BLOCK] for column in layout]
        row, _, low, high, position = part
        # the count alone does not tell: one row in two windows makes up for another in none
        contiguous = bool((np.diff(row) == 1).all())
        source = slice(row[0], row[-1] + 1) if contiguous else row
        columns = [table.data[source], shift[source], low, high, position]
        pad = BLOCK - len(row)
        if pad:
            columns = [np.concatenate([c, np.zeros((pad, *c.shape[1:]), c.dtype)]) for c in columns]
        buffer, area, count = _measure(buffer, *columns, nominal=nominal)
        areas.append(area[: len(row)])
        saturated.append(count[: len(row)])
    area = np.concatenate([np.asarray(a, np.float64) for a in areas] or [np.zeros(0)])
    count = np.concatenate([np.asarray(c) for c in saturated] or [np.zeros(0)])
    cell = layout.window * n_sensors + table.channel[layout.row]
    per_sensor = np.bincount(cell, weights=area, minlength=n_windows * n_sensors)
    buffer = np.asarray(buffer)
    lengths = windows.end - windows.start
    return Integrals(
        per_sensor.reshape(n_windows, n_sensors),
        np.bincount(layout.window, weights=count, minlength=n_windows).astype(np.int64),
        [buffer[o : o + n] for o, n in zip(offset, lengths, strict=True)],
    )
