"""The whole chain: the one file that imports every stage.

Four depths of one physics: quanta, areas, hits, records; then reconstruction. Each `simulate_*` compiles a
few kernels and may be differentiated with `jax.grad`, `jax.jvp` and `jax.vjp` in the detector and in the
deposits. Random numbers belong to (key, event number, deposit, stream, index): the same event comes out
the same whatever batch it is simulated in, and all levels share what they have in common.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim import batches, charge, electronics, light, ragged, reconstruction, rng
from dmsim import quanta as quanta_stage
from dmsim.detector import Detector
from dmsim.records import (
    Areas,
    Deposits,
    ElectronClouds,
    Events,
    ExpectedWaveform,
    Hits,
    Interaction,
    Peaks,
    Quanta,
    RawRecords,
)

_QUANTA, _CHARGE, _LIGHT, _AREAS = range(1, 5)  # stages, for keys
_ELECTRONICS = -2  # branch of the user's key that is no event number, so that no deposit shares these draws

_S1_PAGE, _ELECTRON_PAGE, _S2_PAGE = 64, 64, 16
_S1_WINDOW_NS = 2500  # of an expected S1, where 99 % of the light has come


class _Sizes(NamedTuple):
    """Pages of the three ragged lists; part of what is compiled."""

    s1: int
    electrons: int
    s2: int


def _deposit_keys(words: rng.Words, deposits: Deposits, stage: int) -> rng.Words:
    """One key a deposit: of its event's number in the run and of its own number in the event."""
    rows = jnp.arange(len(deposits))
    first = jax.ops.segment_min(rows, deposits.event, num_segments=deposits.n_events)
    return rng.fold(words, deposits.first_event + deposits.event, rows - first[deposits.event], stage)


def _event_keys(words: rng.Words, deposits: Deposits, stage: int) -> rng.Words:
    return rng.fold(words, deposits.first_event + jnp.arange(deposits.n_events), stage)


@eqx.filter_jit
def _jitted_quanta(
    words: rng.Words, detector: Detector, deposits: Deposits, interactions: tuple[Interaction, ...]
) -> Quanta:
    keys = _deposit_keys(words, deposits, _QUANTA)
    return quanta_stage.sample_quanta(keys, detector, deposits, interactions=interactions)


def _quanta(words: rng.Words, detector: Detector, deposits: Deposits) -> Quanta:
    # only the emission models that occur are compiled
    return _jitted_quanta(words, detector, deposits, quanta_stage.present_interactions(deposits))


def _signals(
    words: rng.Words, detector: Detector, deposits: Deposits, quanta: Quanta
) -> tuple[ElectronClouds, Float[Array, "deposit"]]:
    clouds = charge.transport(_deposit_keys(words, deposits, _CHARGE), detector, deposits, quanta)
    n_s1 = light.count_s1_photons(_deposit_keys(words, deposits, _LIGHT), detector, deposits, quanta)
    return clouds, n_s1


_jitted_signals = eqx.filter_jit(_signals)


@eqx.filter_jit
def _areas(
    words: rng.Words, detector: Detector, deposits: Deposits, quanta: Quanta, calibration: Detector
) -> Areas:
    clouds, n_s1 = _signals(words, detector, deposits, quanta)
    n_s2 = charge.count_s2_photons(_deposit_keys(words, deposits, _CHARGE), detector, clouds)
    return light.measure(
        _deposit_keys(words, deposits, _AREAS),
        _event_keys(words, deposits, _AREAS),
        detector,
        deposits,
        clouds,
        n_s1,
        n_s2,
        calibration=calibration,
    )


@eqx.filter_jit
def _hits(
    words: rng.Words,
    detector: Detector,
    deposits: Deposits,
    quanta: Quanta,
    clouds: ElectronClouds,
    n_s1: Float[Array, "deposit"],
    sizes: _Sizes,
) -> Hits:
    pages = ragged.paginate(n_s1.astype(jnp.int32), page_size=_S1_PAGE, n_pages=sizes.s1)
    light_keys = _deposit_keys(words, deposits, _LIGHT)
    s1 = light.sample_s1_hits(light_keys, detector, deposits, quanta, n_s1, pages)

    charge_keys = _deposit_keys(words, deposits, _CHARGE)
    n_electrons = clouds.n_electrons.astype(jnp.int32)
    pages = ragged.paginate(n_electrons, page_size=_ELECTRON_PAGE, n_pages=sizes.electrons)
    electrons = charge.sample_electrons(charge_keys, detector, clouds, pages)
    n_photons = electrons.n_photons.astype(jnp.int32)
    pages = ragged.paginate(n_photons, page_size=_S2_PAGE, n_pages=sizes.s2)
    s2 = light.sample_s2_hits(light_keys, detector, deposits, clouds, electrons, pages)

    def join(a, b):
        return jnp.concatenate([a, b])

    joined = {
        name: join(getattr(s1, name), getattr(s2, name))
        for name in ("event", "sensor", "time_ns", "charge_pe", "weight", "signal", "valid")
    }
    return Hits(**joined, n_overflow=s1.n_overflow + s2.n_overflow, n_events=deposits.n_events)


@eqx.filter_jit
def _render(words, detector, hits, sample, position, *header):
    key, charge_pe = rng.fold(words, _ELECTRONICS), hits.charge_pe * hits.weight
    return electronics.render(
        key,
        detector.electronics,
        charge_pe,
        hits.time_ns,
        sample,
        position,
        *header,
    )


def simulate_quanta(key: PRNGKeyArray, detector: Detector, deposits: Deposits) -> Quanta:
    """Photons and electrons that leave each deposit.

    Args:
        key: a Threefry key, `jax.random.key(seed)`.
        detector: its field, density and emission model count.
        deposits: a batch of any size.

    Returns:
        Integer-valued counts, one row a deposit.

    Raises:
        ValueError: if the key is not one Threefry key.

    Gradient: matched-normal, in the detector, the energies and the positions.
    Source: NEST, arXiv:2211.10726.
    """
    batches.check(detector, deposits)
    padded = batches.padded(deposits)
    return batches.unpadded(_quanta(rng.words_of(key), detector, padded), len(deposits), len(padded))


def simulate_areas(
    key: PRNGKeyArray, detector: Detector, deposits: Deposits, *, calibration: Detector | None = None
) -> Areas:
    """S1 and S2 areas, corrected areas, drift time and position of each event.

    Deposits of one event are summed; place and drift time are means weighted with S2.

    Args:
        key: a Threefry key, `jax.random.key(seed)`.
        detector: what makes the signals.
        deposits: a batch of any size.
        calibration: the detector as the analyst believes it, whose maps and lifetime correct the areas; the
            same as `detector` if not given.

    Returns:
        One row an event; areas in PE, times in ns, places in mm.

    Gradient: matched-normal through every count, pathwise elsewhere.
    """
    batches.check(detector, deposits)
    words, padded = rng.words_of(key), batches.padded(deposits)
    quanta = _quanta(words, detector, padded)
    areas = _areas(words, detector, padded, quanta, calibration or detector)
    return batches.unpadded(areas, deposits.n_events, padded.n_events)


def _plan(detector: Detector, clouds: ElectronClouds, n_s1: Float[Array, "deposit"]) -> _Sizes:
    """Pages that this batch needs: exact for S1 and electrons, with a margin for S2 photons."""
    s1, n_electrons, photons, fano = (
        ragged.concrete(x, what="simulate_hits")
        for x in (n_s1, clouds.n_electrons, clouds.photons_per_electron, detector.electroluminescence.se_fano)
    )
    # an electron's photons fill ceil(n / page) pages: half a page more than n on average, at most one
    pages = n_electrons * (np.maximum(photons, 0) / _S2_PAGE + 0.6)
    margin = 6 * np.sqrt(np.sum(n_electrons * photons * fano)) / _S2_PAGE + 1
    return _Sizes(
        s1=ragged.bucket(np.sum(np.ceil(s1 / _S1_PAGE)), page_size=_S1_PAGE),
        electrons=ragged.bucket(np.sum(np.ceil(n_electrons / _ELECTRON_PAGE)), page_size=_ELECTRON_PAGE),
        s2=ragged.bucket(np.sum(pages) + margin, page_size=_S2_PAGE),
    )


def simulate_hits(key: PRNGKeyArray, detector: Detector, deposits: Deposits) -> Hits:
    """Every detected photon: sensor, time and charge.

    Args:
        key: a Threefry key, `jax.random.key(seed)`.
        detector: what makes the signals.
        deposits: a batch; about 60 bytes a detected photon are needed in memory.

    Returns:
        One padded list for the batch; use only where `valid`. A list that turned out too short is made anew
        in the next bucket, so that `n_overflow` is 0.

    Raises:
        ValueError: if the batch needs more than 2^30 slots, or under `jax.jit` or `jax.vmap`.

    Gradient: pathwise and implicit in time, pathwise and matched-normal in charge, weight in counts and
        sensors.
    """
    batches.check(detector, deposits)
    words, padded = rng.words_of(key), batches.padded(deposits)
    quanta = _quanta(words, detector, padded)
    hits = _simulate_hits(words, detector, padded, quanta)
    return replace(hits, n_events=deposits.n_events)


def _simulate_hits(words: rng.Words, detector: Detector, deposits: Deposits, quanta: Quanta) -> Hits:
    clouds, n_s1 = _jitted_signals(words, detector, deposits, quanta)
    sizes = _plan(detector, clouds, n_s1)
    while True:
        hits = _hits(words, detector, deposits, quanta, clouds, n_s1, sizes)
        if ragged.concrete(hits.n_overflow, what="simulate_hits") == 0:
            return hits
        sizes = _Sizes(
            ragged.bucket(sizes.s1 + 1, page_size=_S1_PAGE),
            ragged.bucket(sizes.electrons + 1, page_size=_ELECTRON_PAGE),
            ragged.bucket(sizes.s2 + 1, page_size=_S2_PAGE),
        )


def _records_of(words: rng.Words, detector: Detector, deposits: Deposits, hits: Hits) -> RawRecords:
    """Records of one batch, sorted by (event, start, channel)."""
    host = partial(ragged.concrete, what="simulate_records")
    layout = electronics.lay_out(
        detector.electronics,
        host(hits.event),
        host(hits.sensor),
        host(hits.time_ns),
        host(hits.valid),
        n_sensors=detector.light.sensors.n_sensors,
    )
    n, size = layout.n_records, ragged.bucket(layout.n_records)

    def pad(x, value=0):
        return np.concatenate([x, np.full(size - n, value, x.dtype)])

    first_event = host(deposits.first_event)
    header = (
        pad(layout.event) + first_event,
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
        first_event=first_event,
        event_time_ns=deposits.event_time_ns,
        n_events=deposits.n_events,
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
    words = rng.words_of(key)
    quanta = simulate_quanta(key, detector, deposits)
    borders = batches.borders(detector, deposits, quanta, events_per_batch)
    for start, stop in zip(borders[:-1], borders[1:], strict=True):
        part, part_quanta = batches.select_events(deposits, quanta, start, stop)
        padded = batches.padded(part)
        extra = len(padded) - len(part)
        padded_quanta = jax.tree.map(lambda x, extra=extra: jnp.pad(x, (0, extra)), part_quanta)
        hits = _simulate_hits(words, detector, padded, padded_quanta)
        yield _records_of(words, detector, part, hits)


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


@eqx.filter_jit
def _expected(
    detector: Detector,
    deposits: Deposits,
    grids: tuple[light.TimeGrid, light.TimeGrid],
    interactions: tuple[Interaction, ...],
    *,
    pulse: bool,
) -> ExpectedWaveform:
    def response(grid):
        s = grid.arguments(deposits.energy_kev.dtype)
        return electronics.pulse_transform(s, detector.electronics) if pulse else 1.0

    quanta = quanta_stage.expected_quanta(detector, deposits, interactions=interactions)
    clouds = charge.expected_clouds(detector, deposits, quanta)
    of_s1, of_s2 = grids
    return ExpectedWaveform(
        event=deposits.event,
        s1=light.expected_s1(detector, deposits, quanta, of_s1, response(of_s1)),
        s2=light.expected_s2(detector, clouds, of_s2, response(of_s2)),
        n_events=deposits.n_events,
        sample_ns=of_s1.sample_ns,
    )


def expected_window(detector: Detector, deposits: Deposits) -> tuple[int, int]:
    """Samples of S1 and of S2 in which `expected_waveform` holds these deposits by default, powers of two.

    S1: 2.5 us, which hold 99 % of its light. S2: ten standard deviations of the longest diffusion, the gap's
    transit, and 15 lifetimes of the gas.

    Raises:
        ValueError: under `jax.jit` or `jax.vmap`.
    """
    gas, sensor = detector.electroluminescence, detector.electronics
    spread = charge.drift(detector, deposits).time_spread_ns
    parts = (spread, sensor.transit_time_spread_ns, gas.gap_transit_ns, gas.triplet_lifetime_ns)
    spread, transit, gap, triplet = (ragged.concrete(x, what="expected_window") for x in parts)
    longest = 10 * np.hypot(np.max(spread, initial=0.0), transit) + gap + 15 * triplet
    counts = (math.ceil(length / sensor.sample_ns) for length in (_S1_WINDOW_NS, float(longest)))
    of_s1, of_s2 = (1 << (count - 1).bit_length() for count in counts)
    return of_s1, of_s2


def expected_waveform(
    detector: Detector,
    deposits: Deposits,
    *,
    n_samples: tuple[int, int] | None = None,
    pulse: bool = True,
    oversampling: int = 4,
) -> ExpectedWaveform:
    """Mean PE of each deposit on each sensor and in each sample, before zero suppression.

    Rank one a deposit and signal: PE a sensor times the share of each sample, in a window that starts at a
    sample of its own. The draws' clipping at a few quanta, NEST's, is not in the mean (`expected_quanta`).

    Args:
        detector: what makes the signals.
        deposits: a batch of any size; under `jax.vmap` every array of it may have the mapped axis.
        n_samples: samples of the S1 and of the S2 window, fixed as compiled code needs it; those of
            `expected_window` if not given. A S1 window is at most 10 us long.
        pulse: whether each photoelectron is spread by its pulse, as in records, or counts at its arrival.
        oversampling: points a sample of the numerical inversion; 4 is good to 3e-7 of the light with a
            transit-time spread of 3 ns; less spread needs more points.

    Returns:
        One row a deposit.

    Raises:
        ValueError: if a window or the oversampling is out of range, or without `n_samples` under `jax.jit`
            and `jax.vmap`.

    Gradient: exact in the detector, energies, positions and times.
    """
    batches.check(detector, deposits)
    sizes = expected_window(detector, deposits) if n_samples is None else n_samples
    for name, value in (*(("n_samples", size) for size in sizes), ("oversampling", oversampling)):
        if value < 1:
            raise ValueError(f"{name} is {value}: must be at least 1")
    of_s1, of_s2 = (light.TimeGrid(n, detector.electronics.sample_ns, oversampling) for n in sizes)
    kinds = quanta_stage.present_interactions(deposits)
    host_free = replace(deposits, event_time_ns=None)
    return _expected(detector, host_free, (of_s1, of_s2), kinds, pulse=pulse)


def reconstruct(
    detector: Detector,
    records: RawRecords,
    *,
    settings: reconstruction.Settings | None = None,
    mode: str = "hard",
) -> tuple[Peaks, Events]:
    """Peaks and events from records, simulated or measured.

    Args:
        detector: as the analyst believes it: conversion to PE, light pattern, corrections.
        records: of whole events; any number of them.
        settings: thresholds; the defaults if not given.
        mode: "hard", real decisions. "soft", through which a gradient reaches the thresholds, is not there
            yet.

    Returns:
        Peaks, and one event row an event, with the event's number in the run.

    Raises:
        ValueError: if the records are not the detector's, not finite or out of range, or for another mode.

    Gradient: none.
    """
    if mode != "hard":
        raise ValueError(f"mode is {mode!r}: only 'hard' is there in this version")
    peaks = reconstruction.find_peaks(detector, records, settings=settings)
    events = reconstruction.build_events(
        detector, peaks, n_events=records.n_events, first_event=int(records.first_event), settings=settings
    )
    return peaks, events
