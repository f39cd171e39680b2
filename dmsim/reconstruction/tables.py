"""The columns that the hard chain hands from step to step, and how records become the first of them.

    RecordTable -> HitTable -> Windows -> Waveforms -> Peaks

All times are int64 ns on one axis, all samples int16, all areas int64 in units of `PE_PER_UNIT`: sums of them
do not depend on order, on where a chunk ends or on the processor.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from dmsim.detector import Detector
from dmsim.reconstruction.host import pulses as host
from dmsim.records import RawRecords

PE_PER_UNIT = (
    2.0**-28
)  # exact in a float; 2^63 units are 3e10 PE: all sensors of XENONnT at the floor for 4 ms
ADC_PER_COUNT = 2.0**-6  # unit of baselines and heights: 1/64 ADC count, far below a baseline's error of 0.4
_MAX_START = 2**30  # |start_sample|: half the room that an event has on the joint axis, less a record
_BLOCK = 8192  # rows of samples converted at once
_EVENT_SAMPLES = 2**32  # samples between the starts of events that carry numbers in place of a clock


class Stretches(NamedTuple):
    """Stretches of the records' samples: record r has numbers first[r] to first[r + 1], ascending."""

    first: Int[np.ndarray, "record+1"]  # int64
    begin: Int[np.ndarray, "stretch"]  # int64, sample of the record
    end: Int[np.ndarray, "stretch"]  # int64, exclusive


class RecordTable(NamedTuple):
    """Records sorted by (time, channel), linked into pulses."""

    time_ns: Int[np.ndarray, "record"]  # int64, of sample 0
    channel: Int[np.ndarray, "record"]  # int32
    length: Int[np.ndarray, "record"]  # int32, valid samples
    record_i: Int[np.ndarray, "record"]  # int32, number of the fragment in its pulse
    pulse: Int[np.ndarray, "record"]  # int64, number of the pulse in this table, ascending by its first row
    first: Int[np.ndarray, "record"]  # int64, row of the pulse's first fragment; -1: it is missing
    data: Int[np.ndarray, "record sample"]  # int16 ADC counts, negative-going
    dt: int  # ns a sample
    baseline_adc: int  # nominal: of a pulse without its first fragment
    near_hits: Stretches | None = None  # what `around_hits` keeps; None: nothing was left out

    @property
    def kept(self) -> Stretches:
        """The samples that are summed: all valid ones where nothing was left out."""
        if self.near_hits is not None:
            return self.near_hits
        n = len(self.time_ns)
        return Stretches(np.arange(n + 1), np.zeros(n, np.int64), self.length.astype(np.int64))

    @property
    def n_pulses(self) -> int:
        """Number of pulses."""
        return int(self.pulse.max(initial=-1)) + 1


class HitTable(NamedTuple):
    """Runs of samples of one sensor above threshold, over fragments; sorted by (time, channel)."""

    time_ns: Int[np.ndarray, "hit"]  # int64, start of the first sample
    end_ns: Int[np.ndarray, "hit"]  # int64, end of the last sample
    max_time_ns: Int[np.ndarray, "hit"]  # int64, start of the largest sample, the first of equals
    channel: Int[np.ndarray, "hit"]  # int32
    record: Int[np.ndarray, "hit"]  # int64, row of the record that it begins in
    pulse: Int[np.ndarray, "hit"]  # int64
    height: Int[np.ndarray, "hit"]  # int32, of the largest sample, in `ADC_PER_COUNT`
    alone: Bool[np.ndarray, "hit"]  # the only one of its pulse

    def rows(self, which: np.ndarray | slice) -> "HitTable":
        """Some of them."""
        return HitTable(*(column[which] for column in self))


class Windows(NamedTuple):
    """Disjoint intervals of time, ascending."""

    start_ns: Int[np.ndarray, "peak"]  # int64
    end_ns: Int[np.ndarray, "peak"]  # int64, exclusive

    def find(self, time_ns: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Number of the window that holds each time, -1 where none does."""
        at = np.searchsorted(self.start_ns, time_ns, side="right") - 1
        inside = (at >= 0) & (time_ns < self.end_ns[at]) if len(self.start_ns) else np.zeros(at.shape, bool)
        return np.where(inside, at, -1)


class Waveforms(NamedTuple):
    """What the records hold inside each window. Peak i has samples offset[i] to offset[i + 1] at full width.

    Sample k of peak i begins at start_ns[i] + k dt. Every sample that the records keep counts, above
    threshold or not: all near a hit of their pulse, by `around_hits`.
    """

    offset: Int[np.ndarray, "peak+1"]  # int64
    total: Int[np.ndarray, "sample"]  # int64, all live sensors, in `scale`
    top: Int[np.ndarray, "sample"]  # int64, those of the top array
    area_per_channel: Int[np.ndarray, "peak sensor"]  # int64
    n_saturated: Int[np.ndarray, "peak"]  # int64, samples of live sensors at the digitiser's floor
    scale: float = PE_PER_UNIT  # PE a unit

    @property
    def area_pe(self) -> np.ndarray:
        """Area of each peak [PE]."""
        return self.area_per_channel.sum(axis=1) * self.scale


_MOST_UNITS = 2**31 - 1  # a sample's product with them is made of 32-bit factors


class Gains(NamedTuple):
    """Conversion of each sensor, quantised once."""

    units_per_count: Int[np.ndarray, "sensor"]  # int64: `PE_PER_UNIT` a sample of `ADC_PER_COUNT`; 0: ignored
    n_top: int

    @property
    def live(self) -> Bool[np.ndarray, "sensor"]:
        """Whether a sensor counts."""
        return self.units_per_count > 0


def gains_of(detector: Detector) -> Gains:
    """Conversion to PE of each sensor; those of zero efficiency or gain are ignored.

    Raises:
        ValueError: if a gain is so low that its conversion does not fit 31 bits.
    """
    sensors = detector.light.sensors
    adc_per_pe = np.broadcast_to(np.asarray(detector.electronics.adc_per_pe, np.float64), sensors.n_sensors)
    live = (adc_per_pe > 0) & (np.asarray(sensors.efficiency) > 0)
    # 36,000 at 117 ADC samples a PE: quantised to 1.4e-5
    units = np.rint(ADC_PER_COUNT / PE_PER_UNIT / np.where(live, adc_per_pe, 1.0))
    if not (units < _MOST_UNITS).all():
        lowest = float(adc_per_pe[live].min())
        raise ValueError(
            f"adc_per_pe is {lowest:g} ADC samples a photoelectron: must be at least "
            f"{ADC_PER_COUNT / PE_PER_UNIT / _MOST_UNITS:.2g}"
        )
    units = units.astype(np.int64)
    return Gains(np.where(live, np.maximum(units, 1), 0), sensors.n_top)


def joint_time_ns(
    event: Int[np.ndarray, "..."], start_sample: Int[np.ndarray, "..."], dt: int
) -> Int[np.ndarray, "..."]:
    """One int64 axis for events that carry numbers: no two of them are near each other."""
    return (np.asarray(event, np.int64) * _EVENT_SAMPLES + start_sample) * dt


def event_and_time_ns(
    joint_ns: Int[np.ndarray, "..."], dt: int
) -> tuple[Int[np.ndarray, "..."], Int[np.ndarray, "..."]]:
    """Event number and ns from the event's start, of times on the joint axis."""
    event = (joint_ns + _EVENT_SAMPLES // 2 * dt) // (_EVENT_SAMPLES * dt)
    return event, joint_ns - event * _EVENT_SAMPLES * dt


def record_table(detector: Detector, records: RawRecords) -> RecordTable:
    """The valid rows of simulated or triggered records, events far apart on one axis.

    Args:
        detector: that took them.
        records: in any order. `data` of int16 is taken as it is, without a copy if the rows are sorted;
            floats that hold whole numbers become int16.

    Raises:
        ValueError: if records overflowed or overlap, or if a field is out of its range, not whole or not
            finite.
    """
    if int(records.n_overflow) > 0:
        raise ValueError(f"records lack {int(records.n_overflow)} rows (n_overflow): simulate with more room")
    sample_ns = detector.electronics.sample_ns
    if records.sample_ns != sample_ns:
        raise ValueError(
            f"records.sample_ns is {records.sample_ns} ns, but detector {detector.name} samples every "
            f"{sample_ns} ns: reconstruct with the detector that took the records"
        )
    valid = np.asarray(records.valid)
    rows = slice(None) if valid.all() else np.flatnonzero(valid)
    event, start = np.asarray(records.event)[rows], np.asarray(records.start_sample)[rows]
    _check_range("event", event, 0, records.n_events - 1)
    _check_range("start_sample", start, -_MAX_START, _MAX_START)
    return record_table_from_columns(
        joint_time_ns(event, start, sample_ns),
        np.asarray(records.channel)[rows],
        np.asarray(records.length)[rows],
        np.asarray(records.record_i)[rows],
        whole_samples(np.asarray(records.data)[rows]),
        dt=sample_ns,
        baseline_adc=records.baseline_adc,
        n_sensors=detector.light.sensors.n_sensors,
    )


def record_table_from_columns(
    time_ns: Int[np.ndarray, "record"],
    channel: Int[np.ndarray, "record"],
    length: Int[np.ndarray, "record"],
    record_i: Int[np.ndarray, "record"],
    data: Int[np.ndarray, "record sample"],
    *,
    dt: int,
    baseline_adc: int,
    n_sensors: int,
) -> RecordTable:
    """Records with times on one clock: checked, sorted and linked into pulses.

    Args:
        time_ns: of sample 0; all on one grid of dt.
        channel: 0 to n_sensors - 1.
        length: valid samples, 1 to those of `data`.
        record_i: number of the fragment in its pulse; fragments but the last are as long as `data`.
        data: ADC counts, negative-going; int16, not copied if contiguous and sorted by (time, channel).
        dt: ns a sample.
        baseline_adc: nominal baseline [ADC].
        n_sensors: of the detector.

    Raises:
        ValueError: if a field is out of its range or records of one channel overlap.
    """
    if data.dtype != np.int16 or data.ndim != 2:
        raise ValueError(
            f"records.data is {data.dtype} of shape {data.shape}: must be int16 [record, sample]"
        )
    n_samples = data.shape[1]
    _check_range("channel", channel, 0, n_sensors - 1)
    _check_range("length", length, 1, n_samples)
    _check_range("record_i", record_i, 0, 2**30)
    time_ns = np.asarray(time_ns, np.int64)
    if len(time_ns) and ((time_ns - time_ns[0]) % dt).any():
        row = int(np.argmax((time_ns - time_ns[0]) % dt != 0))
        raise ValueError(
            f"records.time_ns is {time_ns[row]} ns in row {row}, {time_ns[0]} ns in row 0: "
            f"all must lie on one grid of {dt} ns"
        )
    columns = [np.ascontiguousarray(c, np.int32) for c in (channel, length, record_i)]
    later = np.diff(time_ns)
    if ((later < 0) | ((later == 0) & (np.diff(columns[0]) <= 0))).any():
        order = np.lexsort((columns[0], time_ns))
        time_ns, data, *columns = (column[order] for column in (time_ns, data, *columns))
    channel, length, record_i = columns
    pulse, first, overlap = host.link(time_ns, channel, record_i, length, dt, n_samples, n_sensors)
    if overlap >= 0:
        raise ValueError(
            f"records overlap: one of channel {channel[overlap]} begins at {time_ns[overlap]} ns, "
            "before the one before it has ended"
        )
    data = np.ascontiguousarray(data)
    return RecordTable(time_ns, channel, length, record_i, pulse, first, data, dt, baseline_adc)


def whole_samples(data: np.ndarray) -> Int[np.ndarray, "record sample"]:
    """Samples as int16.

    Raises:
        ValueError: if one is not finite, not whole, or does not fit.
    """
    if data.dtype == np.int16:
        return data
    out = np.empty(data.shape, np.int16)
    for begin in range(0, len(data), _BLOCK):
        block = data[begin : begin + _BLOCK]
        with np.errstate(invalid="ignore"):  # said below
            out[begin : begin + _BLOCK] = block
        wrong = (out[begin : begin + _BLOCK] != block).any(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            wanted = "a whole number of 16 bits" if np.isfinite(block[row]).all() else "finite"
            raise ValueError(
                f"records.data has a sample that is not {wanted} in valid row {begin + row}: give ADC counts"
            )
    return out


def _check_range(name: str, column: np.ndarray, low: int, high: int) -> None:
    if not len(column) or (column.min() >= low and column.max() <= high):
        return
    row = int(np.argmax((column < low) | (column > high)))
    more = name == "channel" and column[row] > high
    raise ValueError(
        f"records.{name} is {column[row]} in valid row {row}: allowed are {low} to {high}"
        + (": the records are from a detector with more sensors" if more else "")
    )
