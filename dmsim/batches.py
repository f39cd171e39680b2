"""Batches of events: padding to few shapes, cutting into bounded parts, joining again."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from dmsim import ragged
from dmsim.detector import Detector
from dmsim.detector.consistency import check_values
from dmsim.records import Deposits, Quanta, RawRecords

# detected photons simulated at a time: the largest array has 20 MB. Above 32 MB malloc gives memory back, and
# to have it zeroed and mapped again costs more than what is computed in it
_BATCH_PHOTONS = 60_000
_BATCH_EVENTS = 512
_PAD_BELOW = 4096  # events; smaller batches are padded to a bucket, so that few shapes compile


def check(detector: Detector, deposits: Deposits) -> None:
    """Refuse input that would come out as NaN or as nothing; what is being traced is passed.

    Raises:
        ValueError: one line: the quantity, how many rows are wrong, the first of them, what it must be.
    """
    check_values(detector)
    if not isinstance(deposits, Deposits):
        kind = type(deposits).__name__
        raise ValueError(f"deposits is a {kind}: give Deposits, as from dmsim.sources.mono or .deposits")
    length = detector.geometry.drift_length_mm
    used = jax.tree.leaves((deposits, detector.geometry, detector.xenon))
    if any(isinstance(leaf, Tracer) for leaf in used):
        return
    energy, z, length = np.asarray(deposits.energy_kev), np.asarray(deposits.z_mm), float(length)
    with jax.ensure_compile_time_eval():  # known values also inside another function's trace
        field = np.asarray(detector.xenon.field_at(detector.geometry.height_mm(deposits.z_mm)))
    places = (deposits.x_mm, deposits.y_mm, deposits.time_ns)
    margin = 1e-5 * length  # of rounding
    for name, good, right in (
        ("energy_kev", np.isfinite(energy) & (energy >= 0), "finite and 0 keV or more"),
        ("z_mm", (z <= 0) & (z >= -length - margin), f"from -{length:g} mm (cathode) to 0 (gate)"),
        ("x_mm, y_mm or time_ns", np.all([np.isfinite(np.asarray(p)) for p in places], axis=0), "finite"),
        ("position", field > 0, "where xenon.field_v_per_cm gives a drift field above 0 V/cm"),
    ):
        wrong = np.flatnonzero(~good)
        if wrong.size:
            raise ValueError(
                f"deposits.{name} is wrong in {wrong.size} of {len(deposits)} rows, first in row {wrong[0]}: "
                f"must be {right}"
            )


def padded(deposits: Deposits) -> Deposits:
    """Without host fields, and with empty deposits behind the real ones up to a bucket."""
    n, n_events = len(deposits), deposits.n_events
    deposits = replace(deposits, event_time_ns=None)
    if max(n, n_events) > _PAD_BELOW:
        return deposits
    extra, events = ragged.bucket(n) - n, ragged.bucket(n_events)

    def pad(x, value=0):
        return jnp.pad(jnp.asarray(x), (0, extra), constant_values=value)

    return Deposits(
        event=pad(deposits.event, events - 1),
        # of a kind that occurs: models of others are not compiled
        interaction=jnp.pad(jnp.asarray(deposits.interaction), (0, extra), mode="edge" if n else "constant"),
        energy_kev=pad(deposits.energy_kev),
        x_mm=pad(deposits.x_mm),
        y_mm=pad(deposits.y_mm),
        z_mm=pad(deposits.z_mm),
        time_ns=pad(deposits.time_ns),
        first_event=deposits.first_event,
        event_time_ns=None,
        n_events=events,
    )


def unpadded(tree, n: int, n_padded: int):
    """The first n rows of every array of a tree that has `n_padded` rows."""
    return tree if n == n_padded else jax.tree.map(lambda x: x[:n], tree)


def select_events(deposits: Deposits, quanta: Quanta, start: int, stop: int) -> tuple[Deposits, Quanta]:
    """Events start .. stop - 1 of a batch, with their quanta."""
    event = ragged.concrete(deposits.event, what="simulate_records")
    rows = slice(*np.searchsorted(event, [start, stop]))
    times = deposits.event_time_ns
    part = Deposits(
        event=deposits.event[rows] - start,
        interaction=deposits.interaction[rows],
        energy_kev=deposits.energy_kev[rows],
        x_mm=deposits.x_mm[rows],
        y_mm=deposits.y_mm[rows],
        z_mm=deposits.z_mm[rows],
        time_ns=deposits.time_ns[rows],
        first_event=deposits.first_event + start,
        event_time_ns=None if times is None else times[start:stop],
        n_events=stop - start,
    )
    return part, jax.tree.map(lambda x: x[rows], quanta)


def borders(
    detector: Detector, deposits: Deposits, quanta: Quanta, events_per_batch: int | None
) -> list[int]:
    """Borders of batches of events with a bounded number of detected photons."""
    if events_per_batch is not None:
        if events_per_batch < 1:
            raise ValueError(f"events_per_batch is {events_per_batch} events: must be at least 1")
        return [*range(0, deposits.n_events, events_per_batch), deposits.n_events]
    host = partial(ragged.concrete, what="simulate_records")
    gain = host(detector.g2_pe_per_electron) / (1 + host(detector.electronics.double_pe_probability))
    photons = host(quanta.n_electrons) * gain + host(quanta.n_photons) * host(
        detector.light.g1_phd_per_photon
    )
    per_event = np.bincount(host(deposits.event), photons, minlength=deposits.n_events)
    # as few parts as can be, and about equal: a short last one would have shapes of its own to compile
    running = np.cumsum(per_event)
    found = _parts(running, 1.0)
    low, high = 0.0, 1.0
    for _ in range(8):
        middle = (low + high) / 2
        tried = _parts(running, middle)
        if len(tried) > len(found):
            low = middle
        else:
            found, high = tried, middle
    return found


def _parts(running: np.ndarray, fill: float) -> list[int]:
    """Borders of parts that are as full as they can be, of this share of the largest part."""
    n_events, found = running.size, [0]
    while found[-1] < n_events:
        start = found[-1]
        before = running[start - 1] if start else 0.0
        stop = int(np.searchsorted(running, before + fill * _BATCH_PHOTONS, side="right"))
        stop = min(stop, start + math.ceil(fill * _BATCH_EVENTS), n_events)
        found.append(max(stop, start + 1))
    return found if n_events else [0, 0]


def join_records(parts: Sequence[RawRecords], event_time_ns: np.ndarray | None) -> RawRecords:
    """Records of consecutive batches as one, with the starts of all their events."""
    offsets = np.cumsum([0, *(part.n_events for part in parts)])

    def join(name):
        arrays = [getattr(part, name) for part in parts]
        traced = any(isinstance(array, Tracer) for array in arrays)
        return jnp.concatenate(arrays) if traced else np.concatenate(arrays)

    names = ("channel", "start_sample", "length", "pulse_length", "record_i", "data", "valid")
    events = [part.event + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
    return RawRecords(
        event=np.concatenate(events),
        **{name: join(name) for name in names},
        n_overflow=np.zeros((), np.int32),
        first_event=parts[0].first_event,
        event_time_ns=event_time_ns,
        n_events=int(offsets[-1]),
        sample_ns=parts[0].sample_ns,
        baseline_adc=parts[0].baseline_adc,
    )
