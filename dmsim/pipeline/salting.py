"""Simulated signals put onto records that are there already, simulated or measured.

Where a channel has data, the simulated waveform is added to it: without noise and rounded once, as the data
hold their own. Where it has none, the record is the simulation's, with its noise. What reaches from one into
the other makes one pulse. Host code, on whole samples of the detector's clock.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from dmsim import batches
from dmsim.detector import Detector
from dmsim.pipeline.stream import iterate_stream
from dmsim.pipeline.windows import stream_windows
from dmsim.records import Deposits, RawRecords

_COLUMNS = ("event", "channel", "start_sample", "length", "pulse_length", "record_i", "data")


class Salt(NamedTuple):
    """Where the simulated signals went. Host arrays."""

    event: Int[np.ndarray, "salted"]  # position among the output's events of each salted event; -1: no trace
    row: Int[np.ndarray, "touched"]  # of the output's records that hold simulated signal, ascending
    n_added: Int[np.ndarray, "touched"]  # samples in which it was added to data
    n_new: Int[np.ndarray, "touched"]  # samples that the data did not have


def salt(
    key: PRNGKeyArray, detector: Detector, records: RawRecords, deposits: Deposits
) -> tuple[RawRecords, Salt]:
    """Add simulated events to records.

    A salted event that starts inside an event of the records (from its start to the end of its data) becomes
    part of it; any other is a new event at its place in time, and the numbers of those behind it move up.
    Records that no simulated signal reaches stay as they are, bit by bit.

    Args:
        key: of the simulation; `truth_of` with it gives the truth of the salted events.
        detector: as simulated; its digitiser is that of the records.
        records: with the times of their events, in order of them; no channel has two records at one time.
        deposits: events with times on the clock of the records, in order of them; they may overlap.

    Returns:
        All records, sorted by (event, start, channel); and where the salt is.

    Raises:
        ValueError: if the records are not the detector's, or the times are not as above.

    Gradient: none.
    """
    _check(detector, records)
    records = replace(records, **{name: getattr(records, name)[records.valid] for name in _COLUMNS})
    # the same photons twice: with noise and zero suppression, and bare
    noisy, bare = (_simulated(key, each, deposits) for each in (detector, _bare(detector)))
    windows = stream_windows(detector, deposits)
    label, starts = _labels(records, noisy, windows.start_sample * records.sample_ns)
    if not bare.event.size:
        return records, Salt(np.full(deposits.n_events, -1), *np.zeros((3, 0), np.int64))

    low, span = _range(records, noisy, bare)
    old, new, signal = (_rows(each, low, span) for each in (records, noisy, bare))
    if np.any(old.line[1:] < old.end[:-1]):
        raise ValueError("records overlap in time on one channel: they must be read out with pile-up")
    full_scale = 2**detector.electronics.n_bits - 1
    ours, theirs = _meeting(signal, old)
    depth = bare.baseline_adc - signal.data[ours]
    theirs = tuple(index[depth != 0] for index in theirs)
    old.data[theirs] = np.clip(old.data[theirs] - depth[depth != 0], 0, full_scale)
    old.added[theirs] = True
    covered, _ = _meeting(new, old)
    new.fresh[covered] = False
    shifted = np.clip(new.data + (records.baseline_adc - noisy.baseline_adc), 0, full_scale)
    new = new._replace(data=np.where(new.fresh, shifted, 0))

    old = old._replace(fresh=np.zeros(old.data.shape, bool))

    # positions of events in the output: those of the records move up for those that are put between them
    old = old._replace(event=label.of_old[old.event])
    new = new._replace(event=label.of_window[new.event])
    old_cluster, new_cluster, n_clusters = _clusters(old, new)
    has_old, has_new = (np.bincount(c, minlength=n_clusters) > 0 for c in (old_cluster, new_cluster))
    mixed = has_old & has_new
    in_old, in_new = mixed[old_cluster], mixed[new_cluster]
    parts = [old.take(~in_old), new.take(~in_new)]
    if mixed.any():
        both = (old.take(in_old), new.take(in_new))
        parts.append(_merged(both, (old_cluster[in_old], new_cluster[in_new])))
    rows = _Rows(*map(np.concatenate, zip(*parts, strict=True)))
    channel, sample = np.divmod(rows.line, span)
    start_sample = sample + low - (starts // records.sample_ns)[rows.event]
    order = np.lexsort((channel, start_sample, rows.event))
    columns = {
        "event": rows.event,
        "channel": channel,
        "start_sample": start_sample,
        "length": rows.end - rows.line,
        "pulse_length": rows.pulse_length,
        "record_i": rows.record_i,
    }
    salted = replace(
        records,
        **{name: column[order].astype(np.int32) for name, column in columns.items()},
        data=rows.data[order],
        valid=np.ones(order.size, bool),
        event_time_ns=starts,
        n_events=starts.size,
    )
    n_added, n_new = rows.added[order].sum(axis=1), rows.fresh[order].sum(axis=1)
    touched = np.flatnonzero((n_added > 0) | (n_new > 0))
    event = label.of_window[windows.window_of_event]
    return salted, Salt(event, touched, n_added[touched], n_new[touched])


class _Rows(NamedTuple):
    """Records in order of channel and time. `line` is one axis of samples, channel behind channel."""

    line: np.ndarray  # of the first sample
    end: np.ndarray
    event: np.ndarray
    record_i: np.ndarray
    pulse_length: np.ndarray
    data: np.ndarray
    added: np.ndarray  # samples in which signal was added to data
    fresh: np.ndarray  # samples that the data did not have

    def take(self, rows) -> "_Rows":
        """Some of them."""
        return _Rows(*(column[rows] for column in self))


class _Labels(NamedTuple):
    """Positions of events in the output; -1 for a salted window that leaves nothing."""

    of_old: np.ndarray
    of_window: np.ndarray


def _check(detector: Detector, records: RawRecords) -> None:
    electronics = detector.electronics
    if records.event_time_ns is None:
        raise ValueError("records.event_time_ns is None: salting needs the times of the records' events")
    if np.any(np.diff(records.event_time_ns) < 0):
        raise ValueError("records.event_time_ns goes back: bring the events into the order of their times")
    for name, found, wanted in (
        ("sample_ns", records.sample_ns, electronics.sample_ns),
        ("samples a record", records.data.shape[1], electronics.samples_per_record),
    ):
        if found != wanted:
            raise ValueError(
                f"records have {name} = {found}, detector {detector.name} has {wanted}: take the same"
            )
    n_sensors = detector.light.sensors.n_sensors
    if records.channel.size and records.channel.max() >= n_sensors:
        raise ValueError(
            f"records have channel {records.channel.max()}: detector {detector.name} has {n_sensors} sensors"
        )


def _bare(detector: Detector) -> Detector:
    """Without noise and without zero suppression."""
    zero = jnp.zeros_like(detector.electronics.noise_adc)
    return replace(
        detector, noise=None, electronics=replace(detector.electronics, noise_adc=zero, zle_threshold_adc=0)
    )


def _simulated(key: PRNGKeyArray, detector: Detector, deposits: Deposits) -> RawRecords:
    chunks = list(iterate_stream(key, detector, deposits))
    times = [np.asarray(chunk.event_time_ns, np.int64) for chunk in chunks]
    return batches.join_records(chunks, np.concatenate(times))


def _labels(records: RawRecords, noisy: RawRecords, window_ns: np.ndarray) -> tuple[_Labels, np.ndarray]:
    """Where the events go, and the start of every event of the output."""
    times = np.asarray(records.event_time_ns, np.int64)
    end = times.copy()
    last = times[records.event] + (records.start_sample.astype(np.int64) + records.length) * records.sample_ns
    np.maximum.at(end, records.event, last)
    before = np.searchsorted(times, window_ns, "right")  # events that start no later
    reached = np.append(np.iinfo(np.int64).min, np.maximum.accumulate(end))[before]
    inside = window_ns < reached
    seen = np.bincount(noisy.event, minlength=window_ns.size) > 0
    extra = ~inside & seen
    of_old = np.arange(times.size) + np.searchsorted(window_ns[extra], times, "left")
    of_window = np.full(window_ns.size, -1)
    of_window[inside] = of_old[before[inside] - 1]
    of_window[extra] = before[extra] + np.arange(np.count_nonzero(extra))
    starts = np.empty(times.size + np.count_nonzero(extra), np.int64)
    starts[of_old], starts[of_window[extra]] = times, window_ns[extra]
    return _Labels(of_old, of_window), starts


def _first_sample(records: RawRecords) -> np.ndarray:
    starts = np.asarray(records.event_time_ns, np.int64) // records.sample_ns
    return starts[records.event] + records.start_sample


def _range(*many: RawRecords) -> tuple[int, int]:
    """First sample of all records, and the length of a channel on the line, a gap included."""
    first = [_first_sample(records) for records in many]
    low = min(int(f.min()) for f in first if f.size)
    high = max(int((f + r.length).max()) for f, r in zip(first, many, strict=True) if f.size)
    return low, high - low + 2


def _rows(records: RawRecords, low: int, span: int) -> _Rows:
    line = np.asarray(records.channel, np.int64) * span + _first_sample(records) - low
    order = np.argsort(line, kind="stable")
    data = np.array(records.data)[order]
    used = np.arange(data.shape[1]) < records.length[order][:, None]
    event, record_i, pulse_length = (
        np.asarray(column, np.int64)[order]
        for column in (records.event, records.record_i, records.pulse_length)
    )
    end, added = (line + records.length)[order], np.zeros(data.shape, bool)
    return _Rows(line[order], end, event, record_i, pulse_length, data, added, fresh=used)


def _meeting(one: _Rows, other: _Rows) -> tuple[tuple, tuple]:
    """Indices (row, sample) of the samples in which two sets of records meet, in the one and in the other."""
    low = np.searchsorted(other.end, one.line, "right")
    n_pairs = np.maximum(np.searchsorted(other.line, one.end, "left") - low, 0)
    ours = np.repeat(np.arange(one.line.size), n_pairs)
    theirs = np.arange(ours.size) - np.repeat(np.cumsum(n_pairs) - n_pairs, n_pairs) + np.repeat(low, n_pairs)
    begin = np.maximum(one.line[ours], other.line[theirs])
    length = np.minimum(one.end[ours], other.end[theirs]) - begin
    pair = np.repeat(np.arange(ours.size), length)
    place = np.arange(pair.size) - np.repeat(np.cumsum(length) - length, length) + begin[pair]
    ours, theirs = ours[pair], theirs[pair]
    return (ours, place - one.line[ours]), (theirs, place - other.line[theirs])


def _clusters(old: _Rows, new: _Rows) -> tuple[np.ndarray, np.ndarray, int]:
    """Number of the group of records that touch or overlap, of each record of both sets."""
    line, end = (np.concatenate([getattr(old, name), getattr(new, name)]) for name in ("line", "end"))
    order = np.argsort(line, kind="stable")
    reached = np.maximum.accumulate(end[order])
    first = np.ones(line.size, bool)
    first[1:] = line[order][1:] > reached[:-1]
    cluster = np.empty(line.size, np.int64)
    cluster[order] = np.cumsum(first) - 1
    return cluster[: old.line.size], cluster[old.line.size :], int(first.sum())


def _merged(both: tuple[_Rows, _Rows], clusters: tuple[np.ndarray, np.ndarray]) -> _Rows:
    """Records of the pulses that old and new data make together, cut anew."""
    (old, new), (old_cluster, new_cluster) = both, clusters
    found, number = np.unique(np.concatenate([old_cluster, new_cluster]), return_inverse=True)
    line, end = (np.concatenate([getattr(old, name), getattr(new, name)]) for name in ("line", "end"))
    begin, stop = np.full(found.size, line.max()), np.zeros(found.size, np.int64)
    np.minimum.at(begin, number, line)
    np.maximum.at(stop, number, end)
    per_record = old.data.shape[1]
    n_records = -(-(stop - begin) // per_record)
    first_record = np.cumsum(n_records) - n_records
    pulse = np.repeat(np.arange(found.size), n_records)
    record_i = np.arange(pulse.size) - first_record[pulse]
    flat = np.zeros((pulse.size, per_record), old.data.dtype)
    added, fresh = np.zeros(flat.shape, bool), np.zeros(flat.shape, bool)
    of_old = number[: old.line.size]
    for rows, of, written in ((old, of_old, None), (new, number[old.line.size :], new.fresh)):
        place = (first_record[of] * per_record + rows.line - begin[of])[:, None] + np.arange(per_record)
        used = np.arange(per_record) < (rows.end - rows.line)[:, None] if written is None else written
        flat.reshape(-1)[place[used]] = rows.data[used]
        added.reshape(-1)[place[used]] = rows.added[used]
        fresh.reshape(-1)[place[used]] = written is not None
    # a pulse stays with the event of the data that it had first
    event = np.full(found.size, np.iinfo(np.int64).max)
    np.minimum.at(event, of_old, old.event)
    start = begin[pulse] + record_i * per_record
    return _Rows(
        start, np.minimum(start + per_record, stop[pulse]), event[pulse], record_i, (stop - begin)[pulse],
        flat, added, fresh,
    )  # fmt: skip
