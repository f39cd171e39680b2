"""Which records a batch of hits needs: integer bookkeeping on the host, without gradient.

Hits of one sensor whose readout windows touch form a pulse; a pulse is stored in records of fixed length,
one behind the other in one flat sample buffer, so that a hit is rendered by one contiguous write even where
it crosses from one record into the next.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from dmsim.detector.model import Electronics

_LONGEST = 2**31 - 2**16  # samples either side of a window's start: 32-bit integers hold a record's place


class Layout(NamedTuple):
    """Host arrays, unpadded: the place of every hit and the header of every record."""

    sample: Int[np.ndarray, "hit"]  # that holds the arrival, from the event's start
    position: Int[np.ndarray, "hit"]  # of it in the flat buffer; -1 for a hit that is not valid
    event: Int[np.ndarray, "record"]  # or readout window, where windows were given
    channel: Int[np.ndarray, "record"]
    start_sample: Int[np.ndarray, "record"]  # from the start of the event, or of the window
    length: Int[np.ndarray, "record"]
    pulse_length: Int[np.ndarray, "record"]
    record_i: Int[np.ndarray, "record"]
    pulse: Int[np.ndarray, "record"]  # number of the pulse the record is part of

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
    """Group hits into pulses and pulses into records.

    Events that overlap in time share a readout window: hits of different events on one sensor are then one
    pulse where they meet. Records belong to windows, and their samples count from the window's start.

    Args:
        electronics: sample length, readout window and record length.
        event: of each hit.
        sensor: of each hit.
        time_ns: of each hit, from the event's start.
        valid: which hits there are.
        n_sensors: of the detector.
        window: number of the readout window of each event, >= 0; each event its own if not given.
        offset_sample: start of each event in its window [samples]; 0 if not given.

    Raises:
        ValueError: if a window is longer than 2^31 samples (21 s of 10 ns).

    Gradient: none (integers).
    """
    sample_ns, per_record = electronics.sample_ns, electronics.samples_per_record
    before = electronics.zle_samples_before
    after = electronics.pulse_samples + electronics.zle_samples_after
    rows = np.flatnonzero(valid)
    sample_of_hit = np.floor(time_ns / sample_ns).astype(np.int32)
    sample = sample_of_hit[rows].astype(np.int64)
    if offset_sample is not None:
        sample += np.asarray(offset_sample, np.int64)[event[rows]]
    if np.any(np.abs(sample) >= _LONGEST):
        raise ValueError(
            f"a hit lies {np.abs(sample).max()} samples from the start of its readout window: "
            "must be under 2^31"
        )
    window_of_hit = event[rows] if window is None else np.asarray(window)[event[rows]]
    series = window_of_hit.astype(np.int64) * n_sensors + sensor[rows]
    # one sortable integer
    order = np.argsort((series << 32) + (sample + 2**31))
    rows, sample, series = rows[order], sample[order], series[order]

    first = np.ones(rows.size, bool)
    first[1:] = (series[1:] != series[:-1]) | (sample[1:] - sample[:-1] > before + after)
    starts = np.flatnonzero(first)
    lasts = np.append(starts[1:], rows.size)[: starts.size] - 1
    start_sample = sample[starts] - before
    pulse_length = sample[lasts] + after - start_sample
    n_records = -(-pulse_length // per_record)
    first_record = np.cumsum(n_records) - n_records
    pulse_of_hit = np.cumsum(first) - 1
    position = np.full(event.shape[0], -1, np.int32)
    position[rows] = first_record[pulse_of_hit] * per_record + sample - start_sample[pulse_of_hit]

    pulse = np.repeat(np.arange(starts.size), n_records)
    record_i = np.arange(pulse.size) - first_record[pulse]
    return Layout(
        sample=sample_of_hit,
        position=position,
        event=(series[starts] // n_sensors)[pulse].astype(np.int32),
        channel=(series[starts] % n_sensors)[pulse].astype(np.int32),
        start_sample=(start_sample[pulse] + record_i * per_record).astype(np.int32),
        length=np.minimum(pulse_length[pulse] - record_i * per_record, per_record).astype(np.int32),
        pulse_length=pulse_length[pulse].astype(np.int32),
        record_i=record_i.astype(np.int32),
        pulse=pulse.astype(np.int32),
    )
