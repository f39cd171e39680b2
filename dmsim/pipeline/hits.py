"""The third depth: detected photons."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim import batches, charge, electronics, light, ragged, rng
from dmsim.detector import Detector
from dmsim.pipeline import late
from dmsim.pipeline.keys import CHARGE, LIGHT, deposit_keys, deposit_numbers
from dmsim.pipeline.levels import after_quanta, draw_quanta, draw_signals, simulate_quanta
from dmsim.records import Deposits, ElectronClouds, Hits, Quanta

_S1_PAGE, _ELECTRON_PAGE, _S2_PAGE = 64, 64, 16

_jitted_signals = jax.jit(draw_signals)


class Sizes(NamedTuple):
    """Pages of the three ragged lists; part of what is compiled."""

    s1: int
    electrons: int
    s2: int


@partial(jax.jit, static_argnames="sizes")
def _hits(
    words: rng.Words,
    detector: Detector,
    deposits: Deposits,
    quanta: Quanta,
    clouds: ElectronClouds,
    n_s1: Float[Array, "deposit"],
    sizes: Sizes,
    delayed_keys: rng.Words | None = None,
) -> tuple[Hits, rng.Words | None]:
    """Hits of all clouds, and a key for each chunk of them where there are afterpulses.

    The clouds of the deposits come first; what comes behind them has keys of its own.
    """
    pages = ragged.paginate(n_s1.astype(jnp.int32), page_size=_S1_PAGE, n_pages=sizes.s1)
    light_keys = deposit_keys(words, deposits, LIGHT)
    s1 = light.sample_s1_hits(light_keys, detector, deposits, quanta, n_s1, pages)
    chunks = electronics.chunk_keys(light_keys, pages.parent[:, None], pages.child, jnp.uint32(0))

    charge_keys = deposit_keys(words, deposits, CHARGE)
    if delayed_keys is not None:
        charge_keys, light_keys = (
            late.joined(charge_keys, delayed_keys),
            late.joined(light_keys, delayed_keys),
        )
    n_electrons = clouds.n_electrons.astype(jnp.int32)
    pages = ragged.paginate(n_electrons, page_size=_ELECTRON_PAGE, n_pages=sizes.electrons)
    electrons = charge.sample_electrons(charge_keys, detector, clouds, pages)
    n_photons = electrons.n_photons.astype(jnp.int32)
    pages = ragged.paginate(n_photons, page_size=_S2_PAGE, n_pages=sizes.s2)
    sizes_of = {"n_events": deposits.n_events, "n_deposits": len(deposits)}
    s2 = light.sample_s2_hits(light_keys, detector, clouds, electrons, pages, **sizes_of)

    def join(a, b):
        return jnp.concatenate([a, b])

    joined = {
        name: join(getattr(s1, name), getattr(s2, name))
        for name in ("event", "sensor", "time_ns", "charge_pe", "weight", "signal", "deposit", "valid")
    }
    row = joined["deposit"]  # in this batch; its number in the event does not depend on the batch
    joined["deposit"] = jnp.where(row < 0, row, deposit_numbers(deposits)[row])
    hits = Hits(**joined, n_overflow=s1.n_overflow + s2.n_overflow, n_events=deposits.n_events)
    if detector.afterpulses is None:
        return hits, None
    cloud, number = electrons.cloud[pages.parent], electrons.index[pages.parent]
    of_s2 = electronics.chunk_keys(light_keys, cloud[:, None], pages.child, number[:, None] + 1)
    return hits, late.joined(chunks, of_s2)


def plan(detector: Detector, clouds: ElectronClouds, n_s1: Float[Array, "deposit"]) -> Sizes:
    """Pages that this batch needs: exact for S1 and electrons, with a margin for S2 photons."""
    s1, n_electrons, photons, fano = (
        ragged.concrete(x, what="simulate_hits")
        for x in (n_s1, clouds.n_electrons, clouds.photons_per_electron, detector.electroluminescence.se_fano)
    )
    # an electron's photons fill ceil(n / page) pages: half a page more than n on average, at most one
    pages = n_electrons * (np.maximum(photons, 0) / _S2_PAGE + 0.6)
    margin = 6 * np.sqrt(np.sum(n_electrons * photons * fano)) / _S2_PAGE + 1
    return Sizes(
        s1=ragged.bucket(np.sum(np.ceil(s1 / _S1_PAGE)), page_size=_S1_PAGE),
        electrons=ragged.bucket(np.sum(np.ceil(n_electrons / _ELECTRON_PAGE)), page_size=_ELECTRON_PAGE),
        s2=ragged.bucket(np.sum(pages) + margin, page_size=_S2_PAGE),
    )


class Batch(NamedTuple):
    """Consecutive events on their way through the chain."""

    deposits: Deposits
    quanta: Quanta
    hits: Hits  # may have events behind those of the deposits, all of them empty


def iterate_hits(
    key: PRNGKeyArray, detector: Detector, deposits: Deposits, *, events_per_batch: int | None = None
) -> Iterator[Batch]:
    """Hits in batches of events, in bounded memory.

    Args:
        key: a Threefry key, `jax.random.key(seed)`.
        detector: what makes the signals.
        deposits: any number of events.
        events_per_batch: as in `iterate_records`.

    Raises:
        ValueError: under `jax.jit` or `jax.vmap`, or if events_per_batch is under 1.

    Gradient: as `simulate_hits`.
    """
    words = rng.words_of(key)
    quanta = simulate_quanta(key, detector, deposits)
    detector = charge.prepare(detector)
    borders = batches.borders(detector, deposits, quanta, events_per_batch)
    for start, stop in zip(borders[:-1], borders[1:], strict=True):
        part, part_quanta = batches.select_events(deposits, quanta, start, stop)
        padded = batches.padded(part)
        extra = len(padded) - len(part)
        padded_quanta = jax.tree.map(lambda x, extra=extra: jnp.pad(x, (0, extra)), part_quanta)
        yield Batch(part, part_quanta, draw_hits(words, detector, padded, padded_quanta))


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
    detector = charge.prepare(detector)
    words, padded = rng.words_of(key), batches.padded(deposits)
    quanta = draw_quanta(words, detector, padded)
    hits = draw_hits(words, detector, padded, quanta)
    return replace(hits, n_events=deposits.n_events)


def draw_hits(words: rng.Words, detector: Detector, deposits: Deposits, quanta: Quanta) -> Hits:
    """Hits of a padded batch. Gradient: as `simulate_hits`."""
    detector = after_quanta(detector)
    clouds, n_s1 = _jitted_signals(words, detector, deposits, quanta)
    delayed_keys = None
    if late.has_delayed(detector):
        clouds, delayed_keys = late.with_delayed(words, detector, deposits, quanta, clouds, n_s1)
    sizes = plan(detector, clouds, n_s1)
    while True:
        hits, chunk_keys = _hits(words, detector, deposits, quanta, clouds, n_s1, sizes, delayed_keys)
        if ragged.concrete(hits.n_overflow, what="simulate_hits") == 0:
            return late.with_late_hits(words, detector, deposits, hits, chunk_keys)
        sizes = Sizes(
            ragged.bucket(sizes.s1 + 1, page_size=_S1_PAGE),
            ragged.bucket(sizes.electrons + 1, page_size=_ELECTRON_PAGE),
            ragged.bucket(sizes.s2 + 1, page_size=_S2_PAGE),
        )
