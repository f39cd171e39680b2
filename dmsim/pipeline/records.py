"""The fourth depth: digitised, zero-suppressed waveforms."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import PRNGKeyArray

from dmsim import batches, electronics, ragged, rng
from dmsim.detector import Detector
from dmsim.pipeline.hits import Batch, iterate_hits
from dmsim.pipeline.keys import ELECTRONICS
from dmsim.records import Deposits, Hits, RawRecords


# each is given the parts of the detector that it needs: a call with hundreds of leaves takes a millisecond
@jax.jit
def _noise_bank(words, settings, noise):
    key = rng.fold(words, ELECTRONICS)
    return electronics.make_bank(key, settings, noise, row=electronics.ROW)


@jax.jit
def _noise_places(words, settings, noise, window, channel, start_sample):
    # apart from what reads with them, in which they would be computed again for every sample
    key = rng.fold(words, ELECTRONICS)
    return electronics.noise_places(key, window, channel, start_sample, settings, noise)


@partial(jax.jit, static_argnames="keep_signal")
def _render(settings, noise, bank, place, charge_pe, weight, time_ns, sample, position, *, keep_signal):
    of_hits = (charge_pe * weight, time_ns, sample, position)
    return electronics.render(settings, noise, bank, place, *of_hits, keep_signal=keep_signal)


_cut = jax.jit(electronics.cut)


def draw_noise(words: rng.Words, detector: Detector) -> electronics.NoiseBank:
    """The noise of a run, for `read_out`: it belongs to the key and the detector. Gradient: exact."""
    return _noise_bank(words, detector.electronics, detector.noise)


def _padded(x: np.ndarray, size: int, value: int = 0) -> np.ndarray:
    return np.concatenate([x, np.full(size - x.size, value, x.dtype)])


def read_out(
    words: rng.Words,
    detector: Detector,
    hits: Hits,
    *,
    first_event: int,
    n_events: int,
    event_time_ns: np.ndarray | None = None,
    window: np.ndarray | None = None,
    offset_sample: np.ndarray | None = None,
    bank: electronics.NoiseBank | None = None,
) -> RawRecords:
    """Records of a batch of hits, sorted by (event, start, channel).

    Events that overlap in time can share a readout window; what is said of an event below is then said of a
    window: records carry its number, and samples count from its start.

    Args:
        words: the user's key.
        detector: of its parts the electronics.
        hits: of any number of events.
        first_event: number in the run of the batch's event 0; noise is keyed by it.
        n_events: of the records.
        event_time_ns: start of each event on the detector's clock, int64.
        window: number of the readout window of each event of the hits; each event its own if not given.
        offset_sample: start of each event in its window [samples], int64; 0 if not given.
        bank: `draw_noise` of the same key and detector; given, it is not made anew for each batch.

    Raises:
        ValueError: under `jax.jit` or `jax.vmap`, or if a window is too long (`electronics.lay_out`).

    Gradient: as `simulate_records`, of the hits and the electronics.
    """
    host = partial(ragged.concrete, what="simulate_records")
    settings, noise = detector.electronics, detector.noise
    layout = electronics.lay_out(
        settings,
        host(hits.event),
        host(hits.sensor),
        host(hits.time_ns),
        host(hits.valid),
        n_sensors=detector.light.sensors.n_sensors,
        window=window,
        offset_sample=offset_sample,
    )
    # rows to spare, so that a record that starts in the last one in use can be read whole
    spare = -(-settings.samples_per_record // electronics.ROW)
    size = ragged.bucket(layout.total_rows + spare, page_size=electronics.ROW)
    of_row = (layout.event[layout.stretch] + np.int32(first_event), layout.channel[layout.stretch])
    of_row = (_padded(x, size) for x in (*of_row, layout.row_start_sample))
    place = _noise_places(words, settings, noise, *of_row)
    # a hit without a place points outside the buffer and is left out by the scatter
    position = np.where(layout.position < 0, size * electronics.ROW, layout.position)
    bank = draw_noise(words, detector) if bank is None else bank
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((hits, settings, noise)))
    of_hits = (hits.charge_pe, hits.weight, hits.time_ns, layout.sample, position)
    samples = _render(settings, noise, bank, place, *of_hits, keep_signal=traced)

    kept = electronics.zero_suppress(settings, layout, host(samples.adc))
    size = ragged.bucket(kept.n_records, page_size=settings.samples_per_record)
    cuts = (_padded(kept.position, size), _padded(kept.length, size), _padded(kept.pulse, size, size - 1))
    data = _cut(settings, noise, samples, *cuts)
    return RawRecords(
        event=kept.event,
        channel=kept.channel,
        start_sample=kept.start_sample,
        length=kept.length,
        pulse_length=kept.pulse_length,
        record_i=kept.record_i,
        data=(data if isinstance(data, Tracer) else np.asarray(data))[: kept.n_records],
        valid=np.ones(kept.n_records, bool),
        n_overflow=np.zeros((), np.int32),
        first_event=np.asarray(first_event, np.int32),
        event_time_ns=event_time_ns,
        n_events=n_events,
        sample_ns=settings.sample_ns,
        baseline_adc=settings.baseline_adc,
    )


def iterate_records(
    key: PRNGKeyArray, detector: Detector, deposits: Deposits, *, events_per_batch: int | None = None
) -> Iterator[RawRecords]:
    """Records in batches of events, in bounded memory.

    Args:
        key: a Threefry key, `jax.random.key(seed)`.
        detector: what makes the signals.
        deposits: any number of events.
        events_per_batch: fixed size of a batch; by default events are taken until 60,000 detected photons
            or 512 events are expected.

    Yields:
        Records of consecutive events; their concatenation does not depend on the batches.

    Raises:
        ValueError: under `jax.jit` or `jax.vmap`, or if events_per_batch is under 1.

    Gradient: as `simulate_records`.
    """
    words = rng.words_of(key)
    bank = draw_noise(words, detector)
    for batch in iterate_hits(key, detector, deposits, events_per_batch=events_per_batch):
        yield read_out_batch(words, detector, batch, bank)


def read_out_batch(
    words: rng.Words, detector: Detector, batch: Batch, bank: electronics.NoiseBank
) -> RawRecords:
    """Records of a batch, each event its own window. Gradient: as `simulate_records`."""
    return read_out(
        words,
        detector,
        batch.hits,
        first_event=int(ragged.concrete(batch.deposits.first_event, what="simulate_records")),
        n_events=batch.deposits.n_events,
        event_time_ns=batch.deposits.event_time_ns,
        bank=bank,
    )


def simulate_records(key: PRNGKeyArray, detector: Detector, deposits: Deposits) -> RawRecords:
    """Digitised, zero-suppressed waveforms in the layout of strax's raw_records.

    Args:
        key: a Threefry key, `jax.random.key(seed)`.
        detector: what makes the signals.
        deposits: a batch; a 41.5 keV event in a large detector makes about 4 MB of records, so take
            `iterate_records` for more than some hundred.

    Returns:
        Records sorted by (event, start, channel), all valid.

    Raises:
        ValueError: under `jax.jit` or `jax.vmap`.

    Gradient: as `simulate_hits`, exact through the pulse shape, conditional in the zero suppression. A hit's
        weight scales its pulse: right for whatever is linear in the samples, too large for, say, the sum
        of squares of lone pulses.
    """
    return batches.join_records(list(iterate_records(key, detector, deposits)), deposits.event_time_ns)
