"""The dense steps of the hard chain on an accelerator: blocks of one shape, 64-bit whole numbers.

What is ragged, the compaction of hits and the laying out of windows, stays on the host.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from dmsim.reconstruction import kernels
from dmsim.reconstruction.host import hits as host
from dmsim.reconstruction.precision import enable_x64
from dmsim.reconstruction.tables import Gains, RecordTable, Windows

BLOCK = 8192  # records a compiled call


def _blocks(n_rows: int, *columns: np.ndarray) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Blocks of rows; the last one is padded with zeros."""
    for begin in range(0, n_rows, BLOCK):
        end = min(begin + BLOCK, n_rows)
        cut = [column[begin:end] for column in columns]
        pad = BLOCK - (end - begin)
        if pad:
            cut = [np.concatenate([c, np.zeros((pad, *c.shape[1:]), c.dtype)]) for c in cut]
        yield slice(begin, end), cut


_baseline = partial(jax.jit, static_argnames="per_adc")(kernels.baseline)
_over = jax.jit(kernels.over_threshold)
_integrate = partial(jax.jit, static_argnames="per_adc", donate_argnums=0)(kernels.integrate)


def baselines(
    table: RecordTable, *, n_first: int, clip_adc: float, per_adc: int
) -> tuple[Int[np.ndarray, "pulse"], Float[np.ndarray, "pulse"]]:
    """`host.pulses.baselines`."""
    baseline = np.full(table.n_pulses, table.baseline_adc * per_adc, np.int32)
    rms = np.zeros(table.n_pulses)
    heads = np.flatnonzero(table.first == np.arange(len(table.first)))
    n_first = min(n_first, table.data.shape[1])
    window, length = table.data[heads, :n_first], np.minimum(table.length[heads], n_first)
    with enable_x64():
        for rows, (part, valid) in _blocks(len(heads), window, length):
            out = _baseline(part, np.maximum(valid, 1), np.float64(clip_adc), per_adc=per_adc)
            pulse = table.pulse[heads[rows]]
            baseline[pulse], rms[pulse] = (np.asarray(c)[: len(pulse)] for c in out)
    return baseline, rms


def over_threshold(table: RecordTable, limit: Int[np.ndarray, "pulse"]) -> Bool[np.ndarray, "record sample"]:
    """Which samples are over threshold."""
    out = np.empty(table.data.shape, bool)
    with enable_x64():
        for rows, cut in _blocks(len(table.data), table.data, limit[table.pulse], table.length):
            out[rows] = np.asarray(_over(*cut))[: rows.stop - rows.start]
    return out


def find(
    table: RecordTable, baseline: np.ndarray, limit: np.ndarray, gains: Gains, *, per_adc: int
) -> tuple[Int[np.ndarray, "hit column"], Int[np.ndarray, "pulse"]]:
    """`host.hits.find`: the mask of the accelerator, compacted on the host."""
    mask = over_threshold(table, limit)
    some = np.flatnonzero(mask.any(axis=1) & gains.live[table.channel])
    rows, of_pulse = host.find(
        table.data[some], table.time_ns[some], table.channel[some], table.length[some], table.pulse[some],
        baseline, limit, gains.live, table.n_pulses, table.dt, per_adc,
    )  # fmt: skip
    rows[:, host.RECORD] = some[rows[:, host.RECORD]]
    return rows, of_pulse


def integrate(
    table: RecordTable,
    baseline: np.ndarray,
    gains: Gains,
    windows: Windows,
    offset: np.ndarray,
    *,
    per_adc: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """`host.integrate.integrate`."""
    n_samples, n_windows, n_sensors = table.data.shape[1], len(offset) - 1, len(gains.units_per_count)
    row, window, low, high, at = _overlaps(table, gains, windows)
    # between windows lies room for a record, so that one that sticks out adds its zeros there
    position = at + offset[window] + (window + 1) * n_samples
    size = int(offset[-1]) + (n_windows + 2) * n_samples
    size = max(1 << 14, 1 << (size - 1).bit_length())  # few shapes compile
    channel = table.channel[row]
    sums, areas, floors = [], np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)
    with enable_x64():
        for of_top in (True, False):
            waveform = jnp.zeros(size, jnp.int64)
            mine = np.flatnonzero((channel < gains.n_top) == of_top)
            base, units = baseline[table.pulse[row[mine]]], gains.units_per_count[channel[mine]]
            places = (column[mine].astype(np.int32) for column in (low, high, position))
            for rows, (source, *cut) in _blocks(len(mine), row[mine], base, units, *places):
                waveform, area, floor = _integrate(waveform, table.data[source], *cut, per_adc=per_adc)
                n = rows.stop - rows.start
                areas[mine[rows]], floors[mine[rows]] = np.asarray(area)[:n], np.asarray(floor)[:n]
            sums.append(np.asarray(waveform))
    samples = np.arange(offset[-1])
    samples += (np.searchsorted(offset, samples, side="right")) * n_samples
    top, bottom = (waveform[samples] for waveform in sums)
    per_sensor, saturated = np.zeros((n_windows, n_sensors), np.int64), np.zeros(n_windows, np.int64)
    largest = np.zeros(n_windows)
    np.add.at(per_sensor, (window, channel), areas)
    np.add.at(saturated, window, floors)
    np.add.at(largest, window, np.abs(areas.astype(np.float64)))
    return top + bottom, top, per_sensor, saturated, float(largest.max(initial=0.0))


def _overlaps(table: RecordTable, gains: Gains, windows: Windows) -> tuple[np.ndarray, ...]:
    """Row and window of each kept stretch, its first and last sample, the record's start in the window."""
    dt = table.dt
    live = np.flatnonzero(gains.live[table.channel])
    begin = table.time_ns[live]
    end = begin + table.length[live].astype(np.int64) * dt
    first = np.searchsorted(windows.end_ns, begin, side="right")
    count = np.maximum(np.searchsorted(windows.start_ns, end, side="left") - first, 0)
    of, window = _expanded(first, count)
    low = (windows.start_ns[window] - begin[of]) // dt
    high = (windows.end_ns[window] - begin[of]) // dt
    position = (begin[of] - windows.start_ns[window]) // dt
    # the stretches of each record that are kept
    kept, row = table.kept, live[of]
    of, stretch = _expanded(kept.first[row], kept.first[row + 1] - kept.first[row])
    low, high = np.maximum(low[of], kept.begin[stretch]), np.minimum(high[of], kept.end[stretch])
    some = low < high
    of, low, high = of[some], low[some], high[some]
    return row[of], window[of], low, high, position[of]


def _expanded(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows, each repeated as often as its count says, and the numbers from its first on."""
    of = np.repeat(np.arange(len(first)), count)
    return of, first[of] + np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
