"""Records in the layout of strax's raw_records, without strax, with the events that it has no field for."""

from typing import Any, NamedTuple

import numpy as np

from dmsim.records import RawRecords
from dmsim.strax_layout import INTERVAL, raw_record_dtype

EVENT_SPACING_NS = 10_000_000  # of events that come without a clock; several drift times

# our own data types beside raw_records: what its layout has no field for
RECORD_EVENT_DTYPE = np.dtype([*INTERVAL, ("event", "<i8")])  # one row a raw record
EVENT_START_DTYPE = np.dtype([("time", "<i8"), ("endtime", "<i8"), ("event", "<i8")])  # one row an event


class StraxRecords(NamedTuple):
    """A batch of records as strax arrays, sorted by time."""

    raw_records: np.ndarray  # `raw_record_dtype`
    record_events: np.ndarray  # `RECORD_EVENT_DTYPE`, row by row the same
    event_starts: np.ndarray  # `EVENT_START_DTYPE`, events without records included


def event_clock_ns(records: RawRecords) -> np.ndarray:
    """Start of each event [ns]: on its clock, or else 10 ms apart in order of the events' numbers."""
    if records.event_time_ns is not None:
        return np.asarray(records.event_time_ns, np.int64)
    numbers = int(records.first_event) + np.arange(records.n_events, dtype=np.int64)
    return (numbers + 1) * EVENT_SPACING_NS  # + 1: strax has no negative times


def records_to_strax(records: RawRecords) -> StraxRecords:
    """The valid records as strax arrays.

    Nothing is lost but the order of records that overlap in time, which `records_from_strax` restores, and
    that an event had no clock.

    Raises:
        ValueError: if a value does not fit strax's type.
    """
    keep = np.asarray(records.valid)
    event = np.asarray(records.event)[keep].astype(np.int64)
    clock = event_clock_ns(records)
    data = np.asarray(records.data)[keep]
    raw = np.zeros(event.size, raw_record_dtype(data.shape[1]))
    start = np.asarray(records.start_sample)[keep].astype(np.int64)
    raw["time"] = clock[event] + start * records.sample_ns
    raw["dt"] = whole_numbers("dt [ns]", np.asarray(records.sample_ns), "<i2")
    raw["baseline"] = whole_numbers("baseline [ADC counts]", np.asarray(records.baseline_adc), "<i2")
    for name in ("length", "channel", "pulse_length", "record_i"):
        raw[name] = whole_numbers(name, np.asarray(getattr(records, name))[keep], raw.dtype[name])
    raw["data"] = whole_numbers("data [ADC counts]", data, "<i2")
    order = np.lexsort((raw["channel"], raw["time"]))
    raw = raw[order]
    if raw.size and raw["time"][0] < 0:
        raise ValueError(f"the first record starts at {raw['time'][0]} ns: strax needs times of 0 or more")

    record_events = np.zeros(event.size, RECORD_EVENT_DTYPE)
    for name in ("time", "length", "dt", "channel"):
        record_events[name] = raw[name]
    first_event = int(records.first_event)
    record_events["event"] = event[order] + first_event
    event_starts = np.zeros(clock.size, EVENT_START_DTYPE)
    event_starts["time"], event_starts["endtime"] = clock, clock + 1
    event_starts["event"] = first_event + np.arange(clock.size)
    return StraxRecords(raw, record_events, event_starts[np.argsort(clock, kind="stable")])


def records_from_strax(strax: StraxRecords, *, dtype: type[np.generic] = np.float32) -> RawRecords:
    """Records of one batch of consecutive events.

    A digitiser's own baselines may differ from record to record: their median is kept, which is only nominal
    (reconstruction measures the baseline in the samples).

    Args:
        strax: arrays of one batch.
        dtype: of the samples; int16 as they are.

    Raises:
        ValueError: if the arrays do not belong together, or sample widths are mixed.
    """
    raw, record_events, event_starts = strax
    if not np.array_equal(raw["time"], record_events["time"]):
        raise ValueError("record_events is not row by row of raw_records: their times differ")
    widths = np.unique(raw["dt"])
    if widths.size > 1 or (widths.size and widths[0] <= 0):
        raise ValueError(
            f"raw_records has sample widths of {widths.tolist()} ns: one width above 0 is needed"
        )
    sample_ns = int(widths[0]) if widths.size else 10
    starts = event_starts[np.argsort(event_starts["event"], kind="stable")]
    first_event = int(starts["event"][0]) if starts.size else 0
    if not np.array_equal(starts["event"], first_event + np.arange(starts.size)):
        raise ValueError("event_starts does not hold consecutive event numbers, each once")
    event = record_events["event"] - first_event
    if event.size and not (event.min() >= 0 and event.max() < starts.size):
        raise ValueError("record_events names an event that event_starts does not have")
    start_sample, remainder = np.divmod(raw["time"] - starts["time"][event], sample_ns)
    if remainder.any():
        raise ValueError(f"raw_records has times off the events' grid of {sample_ns} ns")
    order = np.lexsort((raw["channel"], start_sample, event))

    columns = {"event": event, "start_sample": start_sample}
    columns |= {name: raw[name] for name in ("channel", "length", "pulse_length", "record_i")}
    arrays: dict[str, Any] = {name: values[order].astype(np.int32) for name, values in columns.items()}
    arrays |= {
        "data": raw["data"][order].astype(dtype, copy=False),
        "valid": np.ones(raw.size, bool),
        "n_overflow": np.zeros((), np.int32),
        "first_event": np.asarray(first_event, np.int32),
    }
    return RawRecords(
        **arrays,
        event_time_ns=starts["time"].copy(),
        n_events=starts.size,
        sample_ns=sample_ns,
        baseline_adc=int(np.median(raw["baseline"])) if raw.size else 0,
    )


def split_into_events(raw: np.ndarray, *, first_event: int, gap_ns: int) -> StraxRecords:
    """Take records that lie close in time for one event, where no event numbers are known.

    Args:
        raw: raw_records, sorted by time.
        first_event: number of the first event.
        gap_ns: silence of at least this length separates events; take more than the longest drift time.
    """
    if not raw.size:
        return StraxRecords(raw, np.zeros(0, RECORD_EVENT_DTYPE), np.zeros(0, EVENT_START_DTYPE))
    if np.any(np.diff(raw["time"]) < 0):
        raise ValueError("raw_records is not sorted by time")
    end = np.maximum.accumulate(raw["time"] + raw["length"].astype(np.int64) * raw["dt"])
    new = np.concatenate([[True], raw["time"][1:] - end[:-1] >= gap_ns])
    record_events = np.zeros(raw.size, RECORD_EVENT_DTYPE)
    for name in ("time", "length", "dt", "channel"):
        record_events[name] = raw[name]
    record_events["event"] = first_event + np.cumsum(new) - 1
    event_starts = np.zeros(np.count_nonzero(new), EVENT_START_DTYPE)
    event_starts["time"] = raw["time"][new]
    event_starts["endtime"] = event_starts["time"] + 1
    event_starts["event"] = first_event + np.arange(event_starts.size)
    return StraxRecords(raw, record_events, event_starts)


def whole_numbers(name: str, values: np.ndarray, dtype: np.dtype | str) -> np.ndarray:
    """The values in an integer type of strax's.

    Raises:
        ValueError: if one does not fit, or is not a whole number.
    """
    limits = np.iinfo(dtype)
    if values.size and not (values.min() >= limits.min and values.max() <= limits.max):
        raise ValueError(
            f"{name} has values from {values.min()} to {values.max()}: "
            f"strax holds {limits.min} to {limits.max}"
        )
    whole = values.astype(dtype)
    if not np.array_equal(whole, values):
        raise ValueError(f"{name} has values that are not whole numbers, as strax needs")
    return whole
