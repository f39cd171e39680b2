"""What a simulation knows: of each deposit, of each signal, and of each photon.

Random numbers belong to (key, event, deposit, stream, index), so that the truth of records can be drawn with
them, or again from the same key: it is the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dmsim import batches, ragged, rng
from dmsim.detector import Detector
from dmsim.detector.sensors import SensorArray
from dmsim.pipeline.hits import Batch, iterate_hits
from dmsim.pipeline.levels import draw_signals, simulate_quanta
from dmsim.pipeline.records import draw_noise, read_out_batch
from dmsim.records import Deposits, Detected, Hits, Quanta, RawRecords, Signal, TruePeaks, Truth

DEPTHS = ("deposits", "peaks", "photons")


def check_depth(depth: str) -> None:
    """Refuse what is none of the depths.

    Raises:
        ValueError: if it is not.
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth {depth!r} is not known: choose one of {', '.join(DEPTHS)}")


def truth_of(key: PRNGKeyArray, detector: Detector, deposits: Deposits, *, depth: str = "peaks") -> Truth:
    """The truth of what the same key, detector and deposits give at any level.

    Args:
        key: that of the simulation.
        detector: that of the simulation.
        deposits: those of the simulation.
        depth: "deposits" (energies, quanta, electrons at the gas), "peaks" (also a row for each signal) or
            "photons" (also every detected photon: 30 bytes each).

    Returns:
        Host arrays. Photons of afterpulses, dark counts and delayed electrons belong to no deposit.

    Raises:
        ValueError: for another depth, and as `simulate_hits`.

    Gradient: none.
    """
    check_depth(depth)
    if depth == "deposits":
        return _of_deposits(key, detector, deposits, simulate_quanta(key, detector, deposits))
    found = (of_batch(key, detector, batch, depth=depth) for batch in iterate_hits(key, detector, deposits))
    return join(list(found))


def iterate_records_with_truth(
    key: PRNGKeyArray,
    detector: Detector,
    deposits: Deposits,
    *,
    depth: str = "peaks",
    events_per_batch: int | None = None,
) -> Iterator[tuple[RawRecords, Truth]]:
    """Records and their truth in batches of events; the photons are drawn once for both.

    Args:
        key: as for `iterate_records`.
        detector: as for `iterate_records`.
        deposits: as for `iterate_records`.
        depth: as for `truth_of`.
        events_per_batch: as for `iterate_records`.

    Raises:
        ValueError: as `iterate_records` and `truth_of`.

    Gradient: none in the truth; in the records as `simulate_records`.
    """
    check_depth(depth)
    words = rng.words_of(key)
    bank = draw_noise(words, detector)
    for batch in iterate_hits(key, detector, deposits, events_per_batch=events_per_batch):
        records = read_out_batch(words, detector, batch, bank)
        yield records, of_batch(key, detector, batch, depth=depth)


def of_batch(key: PRNGKeyArray, detector: Detector, batch: Batch, *, depth: str) -> Truth:
    """The truth of one batch of hits. Gradient: none."""
    truth = _of_deposits(key, detector, batch.deposits, batch.quanta)
    if depth == "deposits":
        return truth
    peaks = _peaks(detector, batch.deposits, batch.hits)
    return replace(truth, peaks=peaks, photons=_valid(batch) if depth == "photons" else None)


def join(parts: Sequence[Truth]) -> Truth:
    """The truths of consecutive batches as one."""
    offsets = np.cumsum([0, *(part.deposits.n_events for part in parts)])

    def stack(name: str) -> Any:
        records = [getattr(part, name) for part in parts]
        if records[0] is None:
            return None
        columns = {
            column: np.concatenate([getattr(record, column) for record in records])
            for column in _columns(records[0])
        }
        if "event" in columns:
            shift = np.repeat(offsets[:-1], [record.event.size for record in records])
            columns["event"] = (columns["event"] + shift).astype(columns["event"].dtype)
        return _with(records[0], columns, int(offsets[-1]))

    return Truth(**{field.name: stack(field.name) for field in fields(Truth)})


def split(truth: Truth, n_events: int) -> tuple[Truth, Truth]:
    """The truth of the first events, and that of the others."""
    return _events(truth, 0, n_events), _events(truth, n_events, truth.deposits.n_events)


def _events(truth: Truth, start: int, stop: int) -> Truth:
    rows = slice(*np.searchsorted(truth.deposits.event, [start, stop]))
    deposits, quanta = batches.select_events(truth.deposits, truth.quanta, start, stop)

    def taken(record):
        if record is None:
            return None
        keep = (record.event >= start) & (record.event < stop)
        columns = {column: getattr(record, column)[keep] for column in _columns(record)}
        return _with(record, columns | {"event": columns["event"] - start}, stop - start)

    detected = jax.tree.map(lambda column: column[rows], truth.detected)
    return Truth(deposits, quanta, detected, taken(truth.peaks), taken(truth.photons))


def _columns(record) -> list[str]:
    """Names of the fields with a row each; the others belong to the batch."""
    return [field.name for field in fields(record) if np.ndim(getattr(record, field.name)) > 0]


def _with(record, columns: dict[str, np.ndarray], n_events: int):
    """The record with other rows."""
    of_batch = {"n_events": n_events} if hasattr(record, "n_events") else {}
    return replace(record, **columns, **of_batch)


@eqx.filter_jit
def _detected(words: rng.Words, detector: Detector, deposits: Deposits, quanta: Quanta) -> Detected:
    clouds, n_s1 = draw_signals(words, detector, deposits, quanta)
    n = len(deposits)  # further clouds are of delayed electrons
    return Detected(
        n_s1_photons=n_s1,
        n_extracted=clouds.n_electrons[:n],
        drift_time_ns=clouds.time_ns[:n] - deposits.time_ns,
        x_gas_mm=clouds.x_mm[:n],
        y_gas_mm=clouds.y_mm[:n],
    )


def _of_deposits(key: PRNGKeyArray, detector: Detector, deposits: Deposits, quanta: Quanta) -> Truth:
    padded = batches.padded(deposits)
    n, extra = len(deposits), len(padded) - len(deposits)
    padded_quanta = jax.tree.map(lambda x: jnp.pad(x, (0, extra)), quanta)
    detected = _detected(rng.words_of(key), detector, padded, padded_quanta)
    detected = batches.unpadded(detected, n, len(padded))
    return jax.tree.map(np.asarray, Truth(deposits, quanta, detected, peaks=None, photons=None))


def _valid(batch: Batch) -> Hits:
    """The valid hits on the host, in order of events."""
    hits = jax.tree.map(np.asarray, batch.hits)
    rows = np.flatnonzero(hits.valid)
    rows = rows[np.argsort(hits.event[rows], kind="stable")]
    columns = {column: getattr(hits, column)[rows] for column in _columns(hits)}
    return _with(hits, columns, batch.deposits.n_events)


@eqx.filter_jit
def _sums(hits: Hits, first_row, sensors: SensorArray, n_rows: int) -> dict[str, Array]:
    """Sums over groups of hits: S1 and S2 of each deposit, then each kind of light of each event."""
    of_deposit = (hits.signal - 1) * n_rows + first_row[hits.event] + hits.deposit  # S1 is 1, S2 is 2
    of_event = 2 * n_rows + hits.signal * hits.n_events + hits.event
    group = jnp.where(hits.deposit >= 0, of_deposit, of_event)
    n_groups = 2 * n_rows + len(Signal) * hits.n_events
    place = jnp.stack([sensors.x_mm, sensors.y_mm], axis=1)[hits.sensor]
    top = (hits.sensor < sensors.n_top) & hits.valid
    charge = jnp.where(hits.valid, hits.charge_pe, 0.0)

    def total(values):
        return jax.ops.segment_sum(values, group, num_segments=n_groups)

    def extreme(reduce, empty):
        return reduce(jnp.where(hits.valid, hits.time_ns, empty), group, num_segments=n_groups)

    count = total(hits.valid.astype(jnp.int32))
    first, last = extreme(jax.ops.segment_min, jnp.inf), extreme(jax.ops.segment_max, -jnp.inf)
    # counted from the first photon, so that float32 resolves them
    delay = jnp.where(hits.valid, hits.time_ns - first[group], 0.0)
    mean = total(delay) / jnp.maximum(count, 1)
    variance = total(jnp.where(hits.valid, (delay - mean[group]) ** 2, 0.0)) / jnp.maximum(count, 1)
    area_top = total(jnp.where(top, charge, 0.0))
    centre = total(jnp.where(top, charge, 0.0)[:, None] * place) / area_top[:, None]
    return {
        "n_photons": count,
        "area_pe": total(charge),
        "area_top_pe": area_top,
        "first_time_ns": first,
        "last_time_ns": last,
        "mean_time_ns": first + mean,
        "time_spread_ns": jnp.sqrt(variance),
        "x_mm": centre[:, 0],
        "y_mm": centre[:, 1],
    }


def _peaks(detector: Detector, deposits: Deposits, hits: Hits) -> TruePeaks:
    """One row for each signal of a deposit, and for each kind of light of an event that is of no deposit."""
    n_rows, event = ragged.bucket(len(deposits)), np.asarray(deposits.event)
    first_row = np.searchsorted(event, np.arange(hits.n_events))
    sums = {n: np.asarray(x) for n, x in _sums(hits, first_row, detector.light.sensors, n_rows).items()}
    group = np.flatnonzero(sums["n_photons"])
    own = group < 2 * n_rows
    row = np.where(own, group % n_rows, 0)
    signal, event_of_rest = np.divmod(group - 2 * n_rows, hits.n_events)
    event_of = np.where(own, event[row] if event.size else 0, event_of_rest)
    columns = {
        "event": event_of,
        "signal": np.where(own, group // n_rows + 1, signal),
        "deposit": np.where(own, row - first_row[event_of], -1),
        **{name: column[group] for name, column in sums.items()},
    }
    order = np.lexsort((columns["first_time_ns"], columns["event"]))
    return TruePeaks(**{name: column[order] for name, column in columns.items()})
