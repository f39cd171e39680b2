"""Records as plain columns with absolute times, and the checks that they pass first."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from dmsim.io.tables import event_numbers, unpack


class RecordColumns(NamedTuple):
    """Records of a span of time, sorted by time. `data` may be a view into what was read."""

    time_ns: Int[np.ndarray, "record"]  # int64
    channel: Int[np.ndarray, "record"]
    length: Int[np.ndarray, "record"]  # valid samples in `data`
    pulse_length: Int[np.ndarray, "record"]
    record_i: Int[np.ndarray, "record"]
    data: Int[np.ndarray, "record sample"]  # int16, ADC counts
    sample_ns: int

    @property
    def n_records(self) -> int:
        """Number of records."""
        return self.time_ns.shape[0]

    @property
    def end_ns(self) -> Int[np.ndarray, "record"]:
        """End of each record, exclusive."""
        return self.time_ns + self.length.astype(np.int64) * self.sample_ns

    def take(self, rows: slice | np.ndarray) -> "RecordColumns":
        """Some of the records."""
        columns: list[Any] = [column[rows] for column in self[:-1]]
        return RecordColumns(*columns, sample_ns=self.sample_ns)


def same_layout(one: RecordColumns, other: RecordColumns, *, origin: object) -> None:
    """Refuse records whose samples do not fit beside those of others.

    Args:
        one: those that came first.
        other: those of `origin`.
        origin: for the error.

    Raises:
        ValueError: if their records have another length, or their samples another width.
    """
    for what, unit, mine, theirs in (
        ("records", "samples", other.data.shape[1], one.data.shape[1]),
        ("samples", "ns", other.sample_ns, one.sample_ns),
    ):
        if mine != theirs:
            raise ValueError(
                f"{origin}: {what} are {mine} {unit} long and those in front of them {theirs}: "
                "a run must be of one layout"
            )


def join_columns(parts: list[RecordColumns]) -> RecordColumns:
    """Records of consecutive spans of time as one; all of one layout (`same_layout`)."""
    if len(parts) == 1:
        return parts[0]
    columns: list[Any] = [np.concatenate(part) for part in zip(*(part[:-1] for part in parts), strict=True)]
    return RecordColumns(*columns, sample_ns=parts[0].sample_ns)


def no_records(sample_ns: int) -> RecordColumns:
    """Columns without rows."""
    none = np.zeros(0, np.int64)
    return RecordColumns(none, none, none, none, none, np.zeros((0, 1), np.int16), sample_ns)


def columns_of_strax(raw: np.ndarray, *, origin: object) -> RecordColumns:
    """Columns of an array of raw_records; `data` is not copied.

    Raises:
        ValueError: if the records have several sample widths.
    """
    width = int(raw["dt"][0]) if raw.size else 10
    if raw.size and (width <= 0 or np.any(raw["dt"] != width)):
        widths = np.unique(raw["dt"]).tolist()
        raise ValueError(f"{origin}: records have sample widths of {widths} ns: one width above 0 is needed")
    names = ("channel", "length", "pulse_length", "record_i")
    columns: dict[str, Any] = {name: np.ascontiguousarray(raw[name]) for name in names}
    time_ns = np.ascontiguousarray(raw["time"])
    return RecordColumns(time_ns=time_ns, **columns, data=raw["data"], sample_ns=width)


def columns_of_table(table: pa.Table, *, origin: object) -> RecordColumns:
    """Columns of a table of records whose events have a place on the detector's clock.

    Raises:
        ValueError: if they have none, or the table is not one of records.
    """
    unpacked = unpack(table, "records", origin=origin)
    columns, batch = unpacked.columns, unpacked.batch
    if batch["event_time_ns"] is None:
        raise ValueError(f"{origin}: events have no time on the detector's clock: give --events numbered")
    clock = np.asarray(batch["event_time_ns"], np.int64)
    event = event_numbers(unpacked, origin)
    width = int(batch["sample_ns"])
    time_ns = clock[event] + columns["start_sample"].astype(np.int64) * width
    names = ("channel", "length", "pulse_length", "record_i", "data")
    kept: dict[str, Any] = {name: columns[name] for name in names}
    found = RecordColumns(time_ns=time_ns, **kept, sample_ns=width)
    if np.any(np.diff(time_ns) < 0):  # events may overlap in time
        return found.take(np.argsort(time_ns, kind="stable"))
    return found


def check_columns(columns: RecordColumns, *, n_sensors: int, n_bits: int, origin: object) -> None:
    """Refuse records that cannot be what a digitiser wrote, before they are cut into islands.

    Args:
        columns: of one chunk.
        n_sensors: channels of the detector.
        n_bits: of its digitiser.
        origin: the chunk's file, for the error.

    Raises:
        ValueError: with the first row that is wrong.
    """
    _in_range(columns, n_sensors, origin)
    _samples_in_range(columns.data, n_bits, origin)
    backwards = np.flatnonzero(np.diff(columns.time_ns) < 0)
    if backwards.size:
        row = int(backwards[0]) + 1
        raise ValueError(
            f"{origin}: record {row} starts {columns.time_ns[row - 1] - columns.time_ns[row]} ns before "
            "the one in front of it: records must be sorted by time"
        )
    off = (
        (columns.time_ns - columns.time_ns[:1]) % columns.sample_ns if columns.n_records else columns.time_ns
    )
    if np.any(off):
        row = int(np.argmax(off != 0))
        raise ValueError(
            f"{origin}: record {row} starts {off[row]} ns off the others' grid of {columns.sample_ns} ns: "
            "all samples must lie on one grid"
        )
    _no_overlap(columns.time_ns, columns.end_ns, columns.channel, origin)


def _in_range(columns: RecordColumns, n_sensors: int, origin: object) -> None:
    n_samples = columns.data.shape[1]
    for name, low, high in (
        ("channel", 0, n_sensors - 1), ("length", 1, n_samples), ("record_i", 0, 2**30),
    ):  # fmt: skip
        column = getattr(columns, name)
        if column.size and not (column.min() >= low and column.max() <= high):
            row = int(np.argmax((column < low) | (column > high)))
            more = name == "channel" and column[row] > high
            raise ValueError(
                f"{origin}: {name} is {column[row]} in record {row}: allowed are {low} to {high}"
                + (": the records are from a detector with more sensors" if more else "")
            )


def _samples_in_range(data: np.ndarray, n_bits: int, origin: object) -> None:
    """Refuse samples that the digitiser has no bits for."""
    full_scale = 2**n_bits
    if not data.size or not np.issubdtype(data.dtype, np.integer):
        return
    if 0 <= np.bitwise_or.reduce(data, axis=None) < full_scale:  # one pass, not one for each end
        return
    row, sample = np.argwhere((data < 0) | (data >= full_scale))[0]
    raise ValueError(
        f"{origin}: sample {sample} of record {row} is {data[row, sample]} ADC counts: "
        f"a digitiser of {n_bits} bits gives 0 to {full_scale - 1}"
    )


def _no_overlap(time: np.ndarray, end: np.ndarray, channel: np.ndarray, origin: object) -> None:
    """Refuse two records of one channel that share time; sorted by time."""
    by_channel = np.argsort(channel.astype(np.int16), kind="stable")  # of 16 bits: a radix sort
    same = np.diff(channel[by_channel]) == 0
    wrong = np.flatnonzero(same & (time[by_channel][1:] < end[by_channel][:-1]))
    if wrong.size:
        first, second = by_channel[wrong[0]], by_channel[wrong[0] + 1]
        raise ValueError(
            f"{origin}: records {first} and {second} of channel {channel[first]} overlap in time: "
            "a digitiser gives each sample once"
        )


def stuck_channels(columns: Any) -> dict[int, int]:
    """Channels that never leave the digitiser's floor, with the number of their records."""
    data, channel = np.asarray(columns.data), np.asarray(columns.channel)
    if not channel.size:
        return {}
    # a record that starts above the floor is not stuck: only the others are looked at as a whole
    low = np.flatnonzero(data[:, 0] <= 0)
    stuck = low[data[low].max(axis=1) <= 0] if low.size else low
    n_stuck, n_all = (np.bincount(c, minlength=int(channel.max()) + 1) for c in (channel[stuck], channel))
    return {int(c): int(n_all[c]) for c in np.flatnonzero((n_stuck == n_all) & (n_all > 0))}
