"""Continuous detector time: events that overlap are digitised together, in bounded memory.

Each event is simulated by itself, with float32 times from its own start; only where its photons lie on the
detector's clock, in whole samples, is int64. Photons of all events then make pulses: two signals that meet on
one channel are one pulse, with one noise and one saturation, whatever events they are of.

A readout window is a label: events that follow each other within the longest signal share one, and a pulse
belongs to the window in which it starts. A photon that comes long after its event (of a delayed electron)
thereby lands in the window of its time.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dmsim import ragged, rng
from dmsim.detector import Detector
from dmsim.electronics import ROW, NoiseBank
from dmsim.pipeline import truth as truths
from dmsim.pipeline.hits import Batch, iterate_hits
from dmsim.pipeline.records import draw_noise, read_out
from dmsim.pipeline.windows import LONGEST_NS, Windows, dark_from, stream_windows
from dmsim.records import Deposits, Hits, RawRecords, Signal, Truth

_COLUMNS = ("event", "channel", "start_sample", "length", "pulse_length", "record_i", "data", "valid")
_NEVER = np.iinfo(np.int64).max // 2


def iterate_stream(
    key: PRNGKeyArray,
    detector: Detector,
    deposits: Deposits,
    *,
    chunk_ns: float = 1e9,
    pile_up: bool = True,
    longest_ns: float = LONGEST_NS,
    events_per_batch: int | None = None,
) -> Iterator[RawRecords]:
    """Records of continuous detector time, chunk by chunk, in bounded memory.

    What is an event in other records is a readout window here: see `stream_windows`. A window with one event
    holds what `simulate_records` gives for that event. Events start on whole samples of the detector's clock.

    Args:
        key: a Threefry key, `jax.random.key(seed)`.
        detector: what makes the signals.
        deposits: any number of events with their times, in order of them.
        chunk_ns: length of a chunk, 1 to 1e18; it ends at the next moment that no record reaches across.
        pile_up: False reads each event out by itself, wherever others are.
        longest_ns: as in `stream_windows`.
        events_per_batch: as in `iterate_records`.

    Yields:
        Records of consecutive windows, sorted by (window, start, channel); all that start in a chunk's time.
        Their concatenation depends neither on chunks nor on batches.

    Raises:
        ValueError: as `stream_windows` and `simulate_records`, or if chunk_ns is out of range.

    Gradient: none; take `simulate_records`.
    """
    options = {"pile_up": pile_up, "longest_ns": longest_ns, "events_per_batch": events_per_batch}
    stream = iterate_stream_with_truth(key, detector, deposits, chunk_ns=chunk_ns, depth=None, **options)
    return (records for records, _ in stream)


def iterate_stream_with_truth(
    key: PRNGKeyArray,
    detector: Detector,
    deposits: Deposits,
    *,
    chunk_ns: float = 1e9,
    depth: str | None = "peaks",
    pile_up: bool = True,
    longest_ns: float = LONGEST_NS,
    events_per_batch: int | None = None,
) -> Iterator[tuple[RawRecords, Truth | None]]:
    """The same with the truth of the events that start in each chunk, to the depth of `truth_of`.

    Args:
        key: as in `iterate_stream`.
        detector: as in `iterate_stream`.
        deposits: as in `iterate_stream`.
        chunk_ns: as in `iterate_stream`.
        depth: as in `truth_of`; None for no truth.
        pile_up: as in `iterate_stream`.
        longest_ns: as in `iterate_stream`.
        events_per_batch: as in `iterate_stream`.

    Raises:
        ValueError: as `iterate_stream` and `truth_of`.

    Gradient: none.
    """
    if not 1 <= chunk_ns <= 1e18:
        raise ValueError(f"chunk_ns is {chunk_ns} ns: must be from 1 to 1e18 ns")
    if depth is not None:
        truths.check_depth(depth)
    windows = stream_windows(detector, deposits, pile_up=pile_up, longest_ns=longest_ns)
    dark = dark_from(detector, deposits, windows) if pile_up else None
    words = rng.words_of(key)
    bank = draw_noise(words, detector)
    run = _Run(words, detector, bank, windows, int(deposits.first_event), pile_up, dark)
    return _chunks(key, run, deposits, round(chunk_ns), depth, events_per_batch)


class _Run(NamedTuple):
    """What stays the same along a stream."""

    words: rng.Words
    detector: Detector
    bank: NoiseBank
    windows: Windows
    first_event: int
    pile_up: bool
    dark_from: np.ndarray | None  # sample from which on each event's dark counts are used


class _Photons(NamedTuple):
    """Hits on the host, in order of their events."""

    event: np.ndarray  # position among all events
    sensor: np.ndarray
    time_ns: np.ndarray  # from the event's start
    charge_pe: np.ndarray
    sample: np.ndarray  # int64, that holds the arrival, on the detector's clock

    def take(self, rows) -> "_Photons":
        """Some of them."""
        return _Photons(*(column[rows] for column in self))

    def with_more(self, later: "_Photons") -> "_Photons":
        """These and those of later events."""
        return _Photons(*map(np.concatenate, zip(self, later, strict=True)))


def _chunks(
    key, run: _Run, deposits: Deposits, chunk_ns: int, depth: str | None, events_per_batch: int | None
) -> Iterator[tuple[RawRecords, Truth | None]]:
    windows = run.windows
    n_windows, n_events = windows.start_sample.size, windows.event_sample.size
    chunk_of = windows.start_sample * run.detector.electronics.sample_ns // chunk_ns
    waiting, pending = None, None  # photons of windows to come, records and truth of chunks to come
    truth, begin, n_done = None, 0, 0
    for batch in iterate_hits(key, run.detector, deposits, events_per_batch=events_per_batch):
        photons = _photons(run, batch, n_done)
        waiting = photons if waiting is None else waiting.with_more(photons)
        if depth is not None:
            new = truths.of_batch(key, run.detector, batch, depth=depth)
            truth = new if truth is None else truths.join([truth, new])
        n_done += batch.deposits.n_events
        label, ready = _label(run, waiting, n_done)
        now = label < ready
        records = _read_out(run, waiting.take(now), label[now])
        waiting = waiting.take(~now)
        pending = records if pending is None else _joined(pending, records)
        while begin < ready:
            stop = _chunk_end(run, pending, chunk_of, begin, ready)
            if stop is None:
                break
            chunk, pending = _cut(run, pending, begin, stop)
            of_chunk = None
            if truth is not None:
                event = n_events if stop == n_windows else int(windows.first_event[stop])
                of_chunk, truth = truths.split(truth, event - int(windows.first_event[begin]))
            yield chunk, of_chunk
            begin = stop


def _photons(run: _Run, batch: Batch, first: int) -> _Photons:
    """The hits of a batch on the host; `first` is the position of its first event."""
    hits = batch.hits
    event, valid = np.asarray(hits.event), np.asarray(hits.valid)
    rows = np.flatnonzero(valid)
    rows = rows[np.argsort(event[rows], kind="stable")]  # the order in which samples are summed
    time_ns, of = np.asarray(hits.time_ns)[rows], event[rows].astype(np.int64) + first
    sample = np.floor(time_ns / run.detector.electronics.sample_ns).astype(np.int64)
    charge = np.asarray(hits.charge_pe)[rows]
    photons = _Photons(
        of, np.asarray(hits.sensor)[rows], time_ns, charge, sample + run.windows.event_sample[of]
    )
    if run.dark_from is None:
        return photons
    is_dark = np.asarray(hits.signal)[rows] == Signal.DARK.value
    return photons.take(~is_dark | (photons.sample >= run.dark_from[of]))


def _label(run: _Run, photons: _Photons, n_done: int) -> tuple[np.ndarray, int]:
    """Window of each photon, and how many windows are complete when `n_done` events are simulated."""
    windows, electronics = run.windows, run.detector.electronics
    if not run.pile_up:
        return photons.event, n_done
    before = electronics.zle_samples_before
    span = before + electronics.pulse_samples + electronics.zle_samples_after + ROW
    first, last = _pulses(photons, span)
    starts = windows.start_sample - windows.lead
    label = np.maximum(np.searchsorted(starts, first - before, "right") - 1, 0)
    if n_done == windows.event_sample.size:
        return label, windows.start_sample.size
    to_come = windows.event_sample[n_done] - windows.lead + before  # no further photon is earlier
    is_open = last + span >= to_come
    reached = int(np.searchsorted(windows.first_event, n_done, "right") - 1)
    return label, min(reached, int(label[is_open].min(initial=reached)))


def _pulses(photons: _Photons, span: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last photon's sample in what is laid out together with each photon on its channel."""
    if not photons.sample.size:
        return photons.sample, photons.sample
    low = photons.sample.min()
    # one sortable integer: 2^44 samples of 10 ns are two days
    order = np.argsort((photons.sensor.astype(np.int64) << 44) + (photons.sample - low))
    sample, sensor = photons.sample[order], photons.sensor[order]
    new = np.ones(order.size, bool)
    new[1:] = (sensor[1:] != sensor[:-1]) | (sample[1:] - sample[:-1] > span)
    begins = np.flatnonzero(new)
    ends = np.append(begins[1:], order.size) - 1
    pulse = np.cumsum(new) - 1
    first, last = np.empty_like(sample), np.empty_like(sample)
    first[order], last[order] = sample[begins][pulse], sample[ends][pulse]
    return first, last


def _read_out(run: _Run, photons: _Photons, label: np.ndarray) -> RawRecords:
    """Records of complete windows; `event` is the number of the window in the stream."""
    windows = run.windows
    # photons of one event in several windows are to the readout those of several events
    pairs = label * windows.event_sample.size + photons.event
    if np.all(pairs[1:] >= pairs[:-1]):  # the usual case, much faster than the other
        new = np.append(True, pairs[1:] != pairs[:-1])[: pairs.size]
        found, part = pairs[new], np.cumsum(new) - 1
    else:
        found, part = np.unique(pairs, return_inverse=True)
    window, event = np.divmod(found, windows.event_sample.size)
    first = windows.first_event[window]  # noise is keyed by a window's first event
    base = int(first.min(initial=_NEVER)) if first.size else 0

    n, size = part.size, ragged.bucket(part.size)

    def padded(column, dtype=None):
        return jnp.asarray(np.concatenate([column, np.zeros(size - n, column.dtype)]), dtype)

    valid = np.arange(size) < n
    hits = Hits(
        event=padded(part, np.int32),
        sensor=padded(photons.sensor),
        time_ns=padded(photons.time_ns),
        charge_pe=padded(photons.charge_pe),
        weight=jnp.asarray(valid, photons.charge_pe.dtype),
        signal=jnp.zeros(size, np.int32),
        deposit=jnp.full(size, -1, np.int32),
        valid=jnp.asarray(valid),
        n_overflow=jnp.int32(0),
        n_events=max(found.size, 1),
    )
    extra = np.zeros(1, np.int64)  # what empty slots point at where there are no photons at all
    records = read_out(
        run.words,
        run.detector,
        hits,
        bank=run.bank,
        first_event=run.first_event + base,
        n_events=max(found.size, 1),
        window=np.concatenate([first - base, extra]),
        offset_sample=np.concatenate([windows.event_sample[event] - windows.start_sample[window], extra]),
    )
    number = np.searchsorted(windows.first_event, records.event + base)
    return replace(records, event=number)


def _joined(one: RawRecords, other: RawRecords) -> RawRecords:
    return replace(one, **{n: np.concatenate([getattr(one, n), getattr(other, n)]) for n in _COLUMNS})


def _chunk_end(run: _Run, records: RawRecords, chunk_of: np.ndarray, begin: int, ready: int) -> int | None:
    """The window before which the chunk ends that starts with window `begin`; None if it is not known yet."""
    windows = run.windows
    n_windows = windows.start_sample.size
    candidates = np.arange(np.searchsorted(chunk_of, chunk_of[begin], "right"), ready + 1)
    start = np.append(windows.start_sample - windows.lead, _NEVER)[candidates]
    end = windows.start_sample[records.event] + records.start_sample + records.length
    reached = np.append(-_NEVER, np.maximum.accumulate(end))[np.searchsorted(records.event, candidates)]
    silent = candidates[reached <= start]
    if silent.size:
        return int(silent[0])
    return n_windows if ready == n_windows else None


def _cut(run: _Run, records: RawRecords, begin: int, stop: int) -> tuple[RawRecords, RawRecords]:
    """Windows begin .. stop - 1 as a chunk, and the records that are left."""
    n = int(np.searchsorted(records.event, stop))
    sample_ns = run.detector.electronics.sample_ns
    chunk = replace(
        records,
        **{name: getattr(records, name)[:n] for name in _COLUMNS},
        first_event=np.asarray(run.first_event + begin, np.int32),
        event_time_ns=run.windows.start_sample[begin:stop] * sample_ns,
        n_events=stop - begin,
    )
    chunk = replace(chunk, event=(chunk.event - begin).astype(np.int32))
    return chunk, replace(records, **{name: getattr(records, name)[n:] for name in _COLUMNS})
