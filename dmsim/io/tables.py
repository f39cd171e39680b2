"""Packing of the data records into Parquet tables, and back.

What belongs to a batch and not to a row (how many events, how
many rows did not fit, the events' clock) stands as JSON in the schema metadata.
"""

import json
from dataclasses import fields
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from dmsim.io.columns import BATCH_KEY, TABLES, Column
from dmsim.records import Areas, Deposits, Detected, Events, Hits, Peaks, Quanta, RawRecords, TruePeaks

FORMAT_VERSION = 1
_TABLE_KEY, _VERSION_KEY = b"dmsim.table", b"dmsim.format"


class Unpacked(NamedTuple):
    """A table's columns and batch metadata."""

    columns: dict[str, np.ndarray]
    batch: dict[str, Any]


def pack(kind: str, columns: dict[str, np.ndarray], batch: dict[str, Any]) -> pa.Table:
    """Build a table.

    Args:
        kind: a name in `TABLES`.
        columns: array of each column; a list column has one row a table row.
        batch: JSON values that belong to the whole batch.

    Raises:
        ValueError: if a value does not fit its column's type.
    """
    fields, arrays = [], []
    for column in TABLES[kind]:
        values = _fit(kind, column, np.asarray(columns[column.name]))
        array = _arrow(np.ascontiguousarray(values).reshape(-1))
        if column.is_list:
            array = pa.FixedSizeListArray.from_arrays(array, values.shape[1])
        arrays.append(array)
        unit = {b"unit": column.unit.encode(), b"meaning": column.meaning.encode()}
        fields.append(pa.field(column.name, array.type, nullable=False, metadata=unit))
    metadata = {
        _TABLE_KEY: kind.encode(),
        _VERSION_KEY: str(FORMAT_VERSION).encode(),
        BATCH_KEY: json.dumps(batch, sort_keys=True).encode(),
    }
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))


def _arrow(values: np.ndarray) -> pa.Array:
    # pa.array would load pandas, which takes half a second
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), values.size, [None, pa.py_buffer(values)])


_DTYPES = {"float": "float32", "double": "float64"}


def _numpy(array: pa.Array) -> np.ndarray:
    """Numbers without empty cells; as `_arrow`, without pandas."""
    if isinstance(array, pa.ChunkedArray):  # beyond what one array holds
        return np.concatenate([_numpy(part) for part in array.chunks])
    dtype = np.dtype(_DTYPES.get(str(array.type), str(array.type)))
    content = array.buffers()[1]
    if content is None:
        return np.zeros(0, dtype)
    return np.frombuffer(content, dtype, count=len(array), offset=array.offset * dtype.itemsize)


def _fit(kind: str, column: Column, values: np.ndarray) -> np.ndarray:
    if column.kind == "float":
        return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)
    target = np.dtype(column.kind)
    if values.size:
        limits = np.iinfo(target)
        low, high = values.min(), values.max()
        if not (low >= limits.min and high <= limits.max):  # also refuses NaN
            raise ValueError(
                f"{kind}.{column.name} has values from {low} to {high} {column.unit}: "
                f"the column holds {limits.min} to {limits.max}"
            )
    fitted = values.astype(target)
    if not np.array_equal(fitted, values):
        raise ValueError(f"{kind}.{column.name} has values that are not whole numbers [{column.unit}]")
    return fitted


def unpack(
    table: pa.Table, kind: str, *, origin: object = "table", without: tuple[str, ...] = ()
) -> Unpacked:
    """The columns of a table, after checking that it is one of ours.

    Args:
        table: as read.
        kind: a name in `TABLES`.
        origin: named in errors.
        without: columns that were not read.

    Raises:
        ValueError: if it is another table, another format, or has other columns.
    """
    metadata = table.schema.metadata or {}
    found = metadata.get(_TABLE_KEY, b"").decode(errors="replace")
    if not found:
        raise ValueError(f"{origin} was not written by dmsim: expected a table of {kind}")
    if found != kind:
        raise ValueError(f"{origin} is a table of {found}: expected {kind}")
    version = metadata.get(_VERSION_KEY, b"").decode(errors="replace")
    if version != str(FORMAT_VERSION):
        raise ValueError(f"{origin} has format {version}: this version of dmsim reads {FORMAT_VERSION}")
    present = [column for column in TABLES[kind] if column.name not in without]
    wanted = [column.name for column in present]
    if table.schema.names != wanted:
        raise ValueError(f"{origin} has columns {table.schema.names}: a table of {kind} has {wanted}")
    columns = {column.name: _values(table, column, origin) for column in present}
    return Unpacked(columns, _batch_of(metadata.get(BATCH_KEY, b""), kind, origin))


# what must stand in the batch of a table that is read back, and its type
_COUNT = (int,)
_BATCH: dict[str, dict[str, tuple[type, ...]]] = {
    "truth": {"first_event": _COUNT, "n_events": _COUNT},
    "true_peaks": {"first_event": _COUNT, "n_events": _COUNT},
    "true_photons": {"first_event": _COUNT, "n_events": _COUNT, "n_overflow": _COUNT},
    "hits": {"first_event": _COUNT, "n_events": _COUNT, "n_overflow": _COUNT},
    "records": {
        "first_event": _COUNT, "n_events": _COUNT, "n_overflow": _COUNT, "sample_ns": _COUNT,
        "baseline_adc": _COUNT, "event_time_ns": (list, type(None)),
    },
}  # fmt: skip


def _batch_of(text: bytes, kind: str, origin: object) -> dict[str, Any]:
    try:
        batch = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{origin} is damaged: its batch must be JSON ({error})") from None
    if not isinstance(batch, dict):
        raise ValueError(f"{origin} is damaged: its batch must be one JSON object")
    for name, types in _BATCH.get(kind, {}).items():
        value = batch.get(name)
        if not isinstance(value, types) or isinstance(value, bool):
            raise ValueError(f"{origin} is damaged: {name} of its batch is {value!r}")
        if isinstance(value, int) and not 0 <= value < 2**31:  # RawRecords hold them in 32 bits
            raise ValueError(f"{origin} is damaged: {name} of its batch is {value}: must be 0 to 2^31")
    clock = batch.get("event_time_ns")
    if clock is not None and not (
        len(clock) == batch["n_events"]
        and all(isinstance(time, int) and -(2**62) < time < 2**62 for time in clock)
    ):
        raise ValueError(f"{origin} is damaged: event_time_ns must hold one whole number an event")
    return batch


def event_numbers(unpacked: Unpacked, origin: object) -> np.ndarray:
    """Position in its batch of each row's event.

    Raises:
        ValueError: if one is outside of the batch.
    """
    event = unpacked.columns["event"] - unpacked.batch["first_event"]
    n_events = unpacked.batch["n_events"]
    if event.size and not (event.min() >= 0 and event.max() < n_events):
        first = unpacked.batch["first_event"]
        raise ValueError(
            f"{origin}: events {event.min() + first} to {event.max() + first} are not all "
            f"of the batch, {first} to {first + n_events - 1}"
        )
    return event


def _values(table: pa.Table, column: Column, origin: object) -> np.ndarray:
    array = table.column(column.name).combine_chunks()
    if array.null_count:
        raise ValueError(f"{origin}: column {column.name} has empty cells and must have none")
    item = array.type
    width = None
    if column.is_list:
        if not pa.types.is_fixed_size_list(item):
            raise ValueError(f"{origin}: column {column.name} has type {item}: expected a list of fixed size")
        width, item, array = item.list_size, item.value_type, array.flatten()
    expected = ("float", "double") if column.kind == "float" else (column.kind,)
    if str(item) not in expected:
        raise ValueError(f"{origin}: column {column.name} has type {item}: expected {' or '.join(expected)}")
    values = _numpy(array)
    return values if width is None else values.reshape(-1, width)


def _fields(record: eqx.Module, kind: str) -> dict[str, np.ndarray]:
    return {c.name: np.asarray(getattr(record, c.name)) for c in TABLES[kind] if hasattr(record, c.name)}


def _clock(event_time_ns: np.ndarray | None) -> list[int] | None:
    return None if event_time_ns is None else [int(time) for time in event_time_ns]


def _event_time_ns(batch: dict[str, Any]) -> np.ndarray | None:
    return None if batch["event_time_ns"] is None else np.asarray(batch["event_time_ns"], np.int64)


def _local_event(unpacked: Unpacked) -> dict[str, np.ndarray]:
    # files number events in their run, records in their batch
    event = (unpacked.columns["event"] - unpacked.batch["first_event"]).astype(np.int32)
    return {**unpacked.columns, "event": event}


def pack_truth(deposits: Deposits, quanta: Quanta, detected: Detected) -> pa.Table:
    """Table of deposits with the quanta that left them, and what was detected of those."""
    first = int(deposits.first_event)
    columns = _fields(deposits, "truth") | _fields(quanta, "truth") | _fields(detected, "truth")
    columns["event"] = columns["event"].astype(np.int64) + first
    clock = _clock(deposits.event_time_ns)
    return pack(
        "truth", columns, {"first_event": first, "n_events": deposits.n_events, "event_time_ns": clock}
    )


def unpack_truth(table: pa.Table, *, origin: object = "table") -> tuple[Deposits, Quanta, Detected]:
    """Inverse of `pack_truth`."""
    unpacked = unpack(table, "truth", origin=origin)
    values = {name: jnp.asarray(array) for name, array in _local_event(unpacked).items()}
    quanta = Quanta(**{field.name: values.pop(field.name) for field in fields(Quanta)})
    detected = Detected(**{field.name: values.pop(field.name) for field in fields(Detected)})
    values["interaction"] = values["interaction"].astype(jnp.int32)
    batch = unpacked.batch
    deposits = Deposits(
        **values,
        first_event=jnp.int32(batch["first_event"]),
        event_time_ns=_event_time_ns(batch),
        n_events=batch["n_events"],
    )
    return deposits, quanta, detected


def pack_true_peaks(peaks: TruePeaks, *, first_event: int, n_events: int) -> pa.Table:
    """Table of the true signals."""
    columns = _fields(peaks, "true_peaks")
    columns["event"] = columns["event"].astype(np.int64) + first_event
    return pack("true_peaks", columns, {"first_event": first_event, "n_events": n_events})


def unpack_true_peaks(table: pa.Table, *, origin: object = "table") -> TruePeaks:
    """Inverse of `pack_true_peaks`."""
    return TruePeaks(**_local_event(unpack(table, "true_peaks", origin=origin)))


def pack_areas(areas: Areas, *, first_event: int) -> pa.Table:
    """Table of areas, one row an event."""
    columns = _fields(areas, "areas")
    n_events = len(columns["s1_pe"])
    columns["event"] = first_event + np.arange(n_events, dtype=np.int64)
    return pack("areas", columns, {"first_event": first_event, "n_events": n_events})


def unpack_areas(table: pa.Table, *, origin: object = "table") -> Areas:
    """Inverse of `pack_areas`."""
    columns = unpack(table, "areas", origin=origin).columns
    return Areas(**{name: jnp.asarray(values) for name, values in columns.items() if name != "event"})


def pack_hits(hits: Hits, *, first_event: int, kind: str = "hits") -> pa.Table:
    """Table of the valid hits; of the kind "true_photons" beside another level."""
    keep = np.asarray(hits.valid)
    columns = {name: values[keep] for name, values in _fields(hits, kind).items()}
    columns["event"] = columns["event"].astype(np.int64) + first_event
    batch = {"first_event": first_event, "n_events": hits.n_events, "n_overflow": int(hits.n_overflow)}
    return pack(kind, columns, batch)


def unpack_hits(table: pa.Table, *, origin: object = "table", kind: str = "hits") -> Hits:
    """Inverse of `pack_hits`: every row is valid."""
    unpacked = unpack(table, kind, origin=origin)
    values = {name: jnp.asarray(array) for name, array in _local_event(unpacked).items()}
    values["signal"] = values["signal"].astype(jnp.int32)
    return Hits(
        **values,
        weight=jnp.ones(table.num_rows, values["charge_pe"].dtype),
        valid=jnp.ones(table.num_rows, bool),
        n_overflow=jnp.int32(unpacked.batch["n_overflow"]),
        n_events=unpacked.batch["n_events"],
    )


def pack_records(records: RawRecords) -> pa.Table:
    """Table of the valid records."""
    keep, first = np.asarray(records.valid), int(records.first_event)
    columns = {name: values[keep] for name, values in _fields(records, "records").items()}
    columns["event"] = columns["event"].astype(np.int64) + first
    batch = {
        "first_event": first,
        "n_events": records.n_events,
        "n_overflow": int(records.n_overflow),
        "event_time_ns": _clock(records.event_time_ns),
        "sample_ns": records.sample_ns,
        "baseline_adc": records.baseline_adc,
    }
    return pack("records", columns, batch)


def unpack_records(
    table: pa.Table, *, origin: object = "table", dtype: type[np.generic] = np.float32
) -> RawRecords:
    """Inverse of `pack_records`: every row is valid. Host arrays, as they are large.

    Args:
        table: as read.
        origin: named in errors.
        dtype: of the samples; int16 takes no copy.
    """
    unpacked = unpack(table, "records", origin=origin)
    event_numbers(unpacked, origin)
    columns, batch = _local_event(unpacked), unpacked.batch
    arrays: dict[str, Any] = {name: columns[name].astype(np.int32) for name in columns if name != "data"}
    arrays |= {
        "data": columns["data"].astype(dtype, copy=False),
        "valid": np.ones(table.num_rows, bool),
        "n_overflow": np.asarray(batch["n_overflow"], np.int32),
        "first_event": np.asarray(batch["first_event"], np.int32),
    }
    return RawRecords(
        **arrays,
        event_time_ns=_event_time_ns(batch),
        n_events=batch["n_events"],
        sample_ns=batch["sample_ns"],
        baseline_adc=batch["baseline_adc"],
    )


def pack_peaks(peaks: Peaks) -> pa.Table:
    """Table of peaks."""
    return pack("peaks", _fields(peaks, "peaks"), {})


def unpack_peaks(table: pa.Table, *, origin: object = "table") -> Peaks:
    """Inverse of `pack_peaks`."""
    return Peaks(**unpack(table, "peaks", origin=origin).columns)


def unpack_light_peaks(table: pa.Table, *, origin: object = "table") -> Peaks:
    """The same of a table that was read without areas per sensor: of no sensor."""
    columns = unpack(table, "peaks", origin=origin, without=("area_per_channel_pe",)).columns
    return Peaks(**columns, area_per_channel_pe=np.zeros((table.num_rows, 0), np.float32))


def pack_events(events: Events, *, peak_rows: str = "chunk") -> pa.Table:
    """Table of events.

    Args:
        events: rows.
        peak_rows: whether their rows in `Peaks` count from the chunk's first peak or from the run's.
    """
    return pack("events", _fields(events, "events"), {"peak_rows": peak_rows})


def peak_rows(table: pa.Table) -> str:
    """What the rows of peaks in a table of events count from: "chunk" or "run"."""
    return _batch_of((table.schema.metadata or {}).get(BATCH_KEY, b"{}"), "events", "table").get(
        "peak_rows", "chunk"
    )


def unpack_events(table: pa.Table, *, origin: object = "table") -> Events:
    """Inverse of `pack_events`."""
    return Events(**unpack(table, "events", origin=origin).columns)
