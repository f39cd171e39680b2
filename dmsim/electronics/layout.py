"""Which samples a batch of hits needs, and which of them zero suppression keeps: bookkeeping on the host.

Hits of one sensor that lie close together form a stretch of samples, in which light can cross the threshold
or be kept around a crossing. Stretches lie one behind the other in one flat buffer of rows, so that a hit is
rendered by one contiguous write. What the digitiser keeps of them, pulses around the true crossings, is cut
into records of fixed length afterwards.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dmsim.detector.model import Electronics

ROW = 64  # samples that read the noise together
_LONGEST = 2**31 - 2**16  # samples either side of a window's start: 32-bit integers hold a record's place


class Layout(NamedTuple):
    """Host arrays, unpadded: the place of every hit, and what every stretch and row of samples is."""

    sample: Int[np.ndarray, "hit"]  # that holds the arrival, from the event's start
    position: Int[np.ndarray, "hit"]  # of it in the flat buffer; -1 for a hit that is not valid
    event: Int[np.ndarray, "stretch"]  # or readout window, where windows were given
    channel: Int[np.ndarray, "stretch"]
    start_sample: Int[np.ndarray, "stretch"]  # from the start of the event, or of the window
    n_rows: Int[np.ndarray, "stretch"]
    first_row: Int[np.ndarray, "stretch"]
    stretch: Int[np.ndarray, "row"]

    @property
    def total_rows(self) -> int:
        """Rows in use."""
        return self.stretch.shape[0]

    @property
    def row_start_sample(self) -> Int[np.ndarray, "row"]:
        """First sample of each row."""
        number = np.arange(self.total_rows, dtype=np.int32) - self.first_row[self.stretch]
        return self.start_sample[self.stretch] + number * np.int32(ROW)


class Fragments(NamedTuple):
    """Host arrays, sorted by (event, start, channel): each record's header, and where its samples lie."""

    event: Int[np.ndarray, "record"]  # or readout window
    channel: Int[np.ndarray, "record"]
    start_sample: Int[np.ndarray, "record"]
    length: Int[np.ndarray, "record"]  # samples in use
    pulse_length: Int[np.ndarray, "record"]  # of the pulse that the record is part of
    record_i: Int[np.ndarray, "record"]  # number of the record in its pulse
    position: Int[np.ndarray, "record"]  # of the first sample in the flat buffer
    pulse: Int[np.ndarray, "record"]  # number of the pulse

    @property
    def n_records(self) -> int:
        """Records in use."""
        return self.event.shape[0]


def lay_out(
    electronics: Electronics,
    event: np.ndarray,
    sensor: np.ndarray,
    time_ns: np.ndarray,
    valid: np.ndarray,
    *,
    n_sensors: int,
    window: Int[np.ndarray, "event"] | None = None,
    offset_sample: Int[np.ndarray, "event"] | None = None,
) -> Layout:
    """Group hits into stretches of samples.

    Events that overlap in time share a readout window: hits of different events on one sensor are then one
    stretch where they meet. Records belong to windows, and their samples count from the window's start.

    Args:
        electronics: sample length, pulse window and what zero suppression keeps.
        event: of each hit.
        sensor: of each hit.
        time_ns: of each hit, from the event's start.
        valid: which hits there are.
        n_sensors: of the detector.
        window: number of the readout window of each event, >= 0; each event its own if not given.
        offset_sample: start of each event in its window [samples]; 0 if not given.

    Raises:
        ValueError: if a window is longer than 2^31 samples (21 s of 10 ns), or a hit's time is none.

    Gradient: none (integers).
    """
    before = electronics.zle_samples_before
    after = electronics.pulse_samples + electronics.zle_samples_after
    whole = np.where(valid, np.floor(time_ns / np.float32(electronics.sample_ns)), 0)
    farthest = np.max(np.abs(whole), initial=0)
    if not farthest < _LONGEST:  # before it is cast
        raise ValueError(f"a hit lies {farthest:g} samples from its event's start: must be under 2^31")
    sample_of_hit = whole.astype(np.int32)
    position = np.full(event.shape[0], -1, np.int32)
    hit = np.flatnonzero(valid)
    event, sample, sensor = event[hit], sample_of_hit[hit].astype(np.int64), sensor[hit]
    if offset_sample is not None:
        sample += np.asarray(offset_sample, np.int64)[event]
    low, high = sample.min(initial=0), sample.max(initial=0)
    if max(-low, high) >= _LONGEST:
        raise ValueError(
            f"a hit lies {max(-low, high)} samples from the start of its readout window: must be under 2^31"
        )
    series = (event if window is None else np.asarray(window)[event]).astype(np.int64) * n_sensors + sensor
    # one line for all: each series has a span of its own, with a gap that nothing bridges behind it.
    # Stretches closer than a row are one, so that filling the last row up cannot make two of them overlap
    gap = before + after + ROW
    span = int(high - low + gap + 2)
    line, hit = _sorted(series * span + (sample - low), hit)
    first = np.flatnonzero(_starts(line, gap))
    n_hits = np.diff(first, append=line.size)
    begin = line[first]
    length = line[first + n_hits - 1] - begin + before + after
    n_rows = -(-length // ROW)
    first_row = np.cumsum(n_rows) - n_rows
    position[hit] = line + np.repeat(first_row * ROW + before - begin, n_hits)
    series, sample = np.divmod(begin, span)
    event, channel = np.divmod(series, n_sensors)
    return Layout(
        sample=sample_of_hit,
        position=position,
        event=event.astype(np.int32),
        channel=channel.astype(np.int32),
        start_sample=(sample + (low - before)).astype(np.int32),
        n_rows=n_rows.astype(np.int32),
        first_row=first_row.astype(np.int32),
        stretch=np.repeat(np.arange(first.size, dtype=np.int32), n_rows),
    )


def zero_suppress(
    electronics: Electronics, layout: Layout, adc: Float[np.ndarray, "row sample"]
) -> Fragments:
    """Cut what the digitiser keeps, pulses around threshold crossings, into records.

    Kept are `zle_samples_before` the first and `zle_samples_after` the last crossing; where that touches the
    next crossing's, the pulse goes on. Crossings are looked for where light, or what is kept around it, can
    lie: noise that crosses the threshold far from all light is not simulated.

    Args:
        electronics: record length and what zero suppression keeps.
        layout: of the buffer.
        adc: digitised samples of the buffer.

    Gradient: none (integers).
    """
    before, after = electronics.zle_samples_before, electronics.zle_samples_after
    per_record = electronics.samples_per_record
    crossed = adc[: layout.total_rows] <= electronics.baseline_adc - electronics.zle_threshold_adc
    crossing = _true_places(crossed.reshape(-1))
    stretch = layout.stretch[crossing // ROW]
    new = _starts(crossing, before + after + 1)
    new[1:] |= stretch[1:] != stretch[:-1]
    first = np.flatnonzero(new)
    last = np.append(first[1:], crossing.size)[: first.size] - 1
    of_pulse = stretch[first]
    origin = layout.first_row * np.int64(ROW)
    begin = np.maximum(crossing[first] - before, origin[of_pulse])
    end = np.minimum(crossing[last] + after + 1, (origin + layout.n_rows * ROW)[of_pulse])
    n_records = -(-(end - begin) // per_record)
    pulse = np.repeat(np.arange(first.size), n_records)
    record_i = np.arange(pulse.size) - (np.cumsum(n_records) - n_records)[pulse]

    position = begin[pulse] + record_i * per_record
    of_record = of_pulse[pulse]
    event, channel = layout.event[of_record], layout.channel[of_record]
    start_sample = layout.start_sample[of_record] + (position - origin[of_record])
    low, n_channels = start_sample.min(initial=0), channel.max(initial=0) + 1
    span = start_sample.max(initial=0) - low + 1
    _, order = _sorted((event * span + (start_sample - low)) * n_channels + channel, np.arange(event.size))
    pulse, record_i = pulse[order], record_i[order]
    pulse_length = (end - begin)[pulse]
    columns = (
        event[order],
        channel[order],
        start_sample[order],
        np.minimum(pulse_length - record_i * per_record, per_record),
        pulse_length,
        record_i,
        position[order],
        pulse,
    )
    return Fragments(*(column.astype(np.int32) for column in columns))


def _starts(line: Int[np.ndarray, "n"], gap: int) -> Bool[np.ndarray, "n"]:
    """Which of ascending numbers lie more than the gap behind the one before."""
    new = np.ones(line.size, bool)
    np.greater(line[1:] - line[:-1], gap, out=new[1:])
    return new


def _sorted(key: Int[np.ndarray, "n"], value: Int[np.ndarray, "n"]) -> tuple[np.ndarray, np.ndarray]:
    """Keys >= 0 in ascending order, and their values >= 0 beside them."""
    bits = int(value.max(initial=0)).bit_length()
    if int(key.max(initial=0)).bit_length() + bits > 63:
        order = np.argsort(key, kind="stable")
        return key[order], value[order]
    # packed into one word, they are sorted three times as fast as by an index
    packed = np.sort((key << bits) | value)
    return packed >> bits, packed & ((1 << bits) - 1)


def _true_places(flags: Bool[np.ndarray, "n"]) -> Int[np.ndarray, "place"]:
    """`np.flatnonzero` of rarely true flags, eight at a time; their number is a multiple of 8."""
    groups = flags.view(np.uint64)
    some = np.flatnonzero(groups != 0)
    found = np.flatnonzero(groups[some].view(bool))
    return (some[found >> 3] << 3) + (found & 7)
