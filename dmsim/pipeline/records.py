"""The fourth depth: digitised, zero-suppressed waveforms."""

from collections.abc import Iterator
from functools import partial

import equinox as eqx
import numpy as np
from jax.core import Tracer
from jaxtyping import PRNGKeyArray

from dmsim import batches, electronics, ragged, rng
from dmsim.detector import Detector
from dmsim.pipeline.hits import Batch, iterate_hits
from dmsim.pipeline.keys import ELECTRONICS
from dmsim.records import Deposits, Hits, RawRecords


@eqx.filter_jit
def _render(words, detector, hits, sample, position, *header):
    key, charge_pe = rng.fold(words, ELECTRONICS), hits.charge_pe * hits.weight
    return electronics.render(
        key,
        detector.electronics,
        charge_pe,
        hits.time_ns,
        sample,
        position,
        *header,
    )


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

    Raises:
        ValueError: under `jax.jit` or `jax.vmap`, or if a window is too long (`electronics.lay_out`).

    Gradient: as `simulate_records`, of the hits and the electronics.
    """
    host = partial(ragged.concrete, what="simulate_records")
    layout = electronics.lay_out(
        detector.electronics,
        host(hits.event),
        host(hits.sensor),
        host(hits.time_ns),
        host(hits.valid),
        n_sensors=detector.light.sensors.n_sensors,
        window=window,
        offset_sample=offset_sample,
    )
    n, size = layout.n_records, ragged.bucket(layout.n_records)

    def pad(x, value=0):
        return np.concatenate([x, np.full(size - n, value, x.dtype)])

    header = (
        pad(layout.event) + np.int32(first_event),
        pad(layout.channel),
        pad(layout.start_sample),
        pad(layout.length),
        pad(layout.pulse, size - 1),
    )
    # a hit without a place points outside the buffer and is left out by the scatter
    position = np.where(layout.position < 0, size * detector.electronics.samples_per_record, layout.position)
    data, kept = _render(words, detector, hits, layout.sample, position, *header)
    rows = np.flatnonzero(host(kept)[:n])
    rows = rows[np.lexsort((layout.channel[rows], layout.start_sample[rows], layout.event[rows]))]
    return RawRecords(
        event=layout.event[rows],
        channel=layout.channel[rows],
        start_sample=layout.start_sample[rows],
        length=layout.length[rows],
        pulse_length=layout.pulse_length[rows],
        record_i=layout.record_i[rows],
        data=data[rows] if isinstance(data, Tracer) else np.asarray(data)[rows],
        valid=np.ones(rows.size, bool),
        n_overflow=np.zeros((), np.int32),
        first_event=np.asarray(first_event, np.int32),
        event_time_ns=event_time_ns,
        n_events=n_events,
        sample_ns=detector.electronics.sample_ns,
        baseline_adc=detector.electronics.baseline_adc,
    )


def iterate_records(
    key: PRNGKeyArray, detector: Detector, deposits: Deposits, *, events_per_batch: int | None = None
) -> Iterator[RawRecords]:
    """Records in batches of events, in bounded memory.

    Args:
        key: a Threefry key, `jax.random.key(seed)`.
        detector: what makes the signals.
        deposits: any number of events.
        events_per_batch: fixed size of a batch; by default events are taken until 400,000 detected photons
            or 512 events are expected.

    Yields:
        Records of consecutive events; their concatenation does not depend on the batches.

    Raises:
        ValueError: under `jax.jit` or `jax.vmap`, or if events_per_batch is under 1.

    Gradient: as `simulate_records`.
    """
    for batch in iterate_hits(key, detector, deposits, events_per_batch=events_per_batch):
        yield read_out_batch(rng.words_of(key), detector, batch)


def read_out_batch(words: rng.Words, detector: Detector, batch: Batch) -> RawRecords:
    """Records of a batch, each event its own window. Gradient: as `simulate_records`."""
    return read_out(
        words,
        detector,
        batch.hits,
        first_event=int(ragged.concrete(batch.deposits.first_event, what="simulate_records")),
        n_events=batch.deposits.n_events,
        event_time_ns=batch.deposits.event_time_ns,
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
