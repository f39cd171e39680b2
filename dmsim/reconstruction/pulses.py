"""From checked records to pulses: which fragments belong together, and the baseline of each."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dmsim.reconstruction import kernels
from dmsim.records import RawRecords

BLOCK = 4096  # records a compiled call: 1.8 MB of float32 samples, near a core's cache; one shape compiles


class Table(NamedTuple):
    """Valid records of some events on the host, in the order in which they came."""

    event: Int[np.ndarray, "record"]
    channel: Int[np.ndarray, "record"]
    start: Int[np.ndarray, "record"]  # sample
    length: Int[np.ndarray, "record"]
    pulse: Int[np.ndarray, "record"]  # number of the pulse in this table
    first: Int[np.ndarray, "record"]  # row of the pulse's first fragment, -1 if it is missing
    data: Float[np.ndarray, "record sample"]


class Columns(NamedTuple):
    """The valid rows of RawRecords as host arrays."""

    event: Int[np.ndarray, "record"]
    channel: Int[np.ndarray, "record"]
    start_sample: Int[np.ndarray, "record"]
    length: Int[np.ndarray, "record"]
    record_i: Int[np.ndarray, "record"]
    data: Float[np.ndarray, "record sample"]


def checked(records: RawRecords, n_sensors: int) -> Columns:
    """The valid rows.

    Raises:
        ValueError: if records overflowed, or if a field is out of its range or not finite.
    """
    if int(records.n_overflow) > 0:
        raise ValueError(f"records lack {int(records.n_overflow)} rows (n_overflow): simulate with more room")
    valid = np.asarray(records.valid)
    arrays = [np.asarray(getattr(records, name)) for name in Columns._fields]
    columns = Columns(*(arrays if valid.all() else [column[valid] for column in arrays]))
    n_samples = columns.data.shape[1]
    for name, low, high in (
        ("event", 0, records.n_events - 1),
        ("channel", 0, n_sensors - 1),
        ("length", 1, n_samples),
        ("record_i", 0, 2**30),
        ("start_sample", -(2**30), 2**30),
    ):
        column = getattr(columns, name)
        bad = (column < low) | (column > high)
        if bad.any():
            row = int(np.argmax(bad))
            more = name == "channel" and column[row] > high
            raise ValueError(
                f"records.{name} is {column[row]} in valid row {row}: allowed are {low} to {high}"
                + (": the records are from a detector with more sensors" if more else "")
            )
    # a sum is finite only if each sample is
    finite = np.isfinite(columns.data.sum(axis=1, dtype=np.float64))
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"records.data has a sample that is not finite in valid row {row}: give ADC counts")
    return columns


def table_of(records: Columns, rows: np.ndarray | slice) -> Table:
    """Link the fragments of these rows into pulses."""
    event, channel, start, length, fragment = (column[rows].astype(np.int64) for column in records[:-1])
    data = records.data[rows]
    pulse_start = start - fragment * data.shape[1]
    order = np.lexsort((fragment, pulse_start, channel, event))
    new = np.ones(len(order), bool)
    same = [np.diff(column[order]) == 0 for column in (event, channel, pulse_start)]
    new[1:] = ~(same[0] & same[1] & same[2])
    number = np.cumsum(new) - 1
    heads = order[new]
    pulse, first = np.empty_like(event), np.empty_like(event)
    pulse[order] = number
    first[order] = np.where(fragment[heads] == 0, heads, -1)[number]
    return Table(event, channel, start, length, pulse, first, data)


def blocks(n_rows: int, *columns: np.ndarray):
    """Cut columns into blocks of BLOCK rows, the last one padded with zeros."""
    for begin in range(0, n_rows, BLOCK):
        end = min(begin + BLOCK, n_rows)
        pad = BLOCK - (end - begin)
        cut = [column[begin:end] for column in columns]
        if pad:
            cut = [np.concatenate([c, np.zeros((pad, *c.shape[1:]), c.dtype)]) for c in cut]
        yield slice(begin, end), cut


_shift = jax.jit(kernels.baseline_shift, static_argnums=(2, 3))


def baseline_shifts(table: Table, nominal: int, n_first: int) -> Float[np.ndarray, "record"]:
    """Baseline minus nominal of each record [ADC]: that of its pulse's first fragment.

    A fragment whose pulse lost its first fragment gets the nominal baseline: its own first samples may
    lie inside a signal.
    """
    heads = np.flatnonzero(table.first == np.arange(len(table.first)))
    shift = np.zeros(len(table.first) + 1, table.data.dtype)  # the extra slot, at -1, stays zero
    window = table.data[:, : min(n_first, table.data.shape[1])]
    for rows, (head,) in blocks(len(heads), heads):
        length = np.minimum(table.length[head], window.shape[1]).astype(np.int32)
        out = _shift(jnp.asarray(window[head]), length, nominal, n_first)
        shift[heads[rows]] = np.asarray(out)[: rows.stop - rows.start]
    return shift[table.first]
