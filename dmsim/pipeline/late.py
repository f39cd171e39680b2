"""What follows the light of the deposits: delayed electrons, afterpulses, and dark counts beside it.

Each is an optional table of the detector. Without one, nothing of it is compiled, and the deposits' own
light is the same either way. Numbers are drawn first and brought to the host, so that the lists are as long
as they need to be.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dmsim import charge, electronics, light, ragged, relax, rng
from dmsim.detector import Detector
from dmsim.pipeline.keys import DARK, DELAYED, deposit_keys, event_keys
from dmsim.records import Deposits, ElectronClouds, Hits, Quanta


class LateCounts(NamedTuple):
    """Afterpulses of each chunk of hits, dark counts of each event; None where the table is."""

    afterpulses: Int[Array, "chunk"] | None
    dark_counts: Int[Array, "event"] | None


def has_delayed(detector: Detector) -> bool:
    """Whether electrons are delayed."""
    return detector.photoionisation is not None or detector.delayed_electrons is not None


@jax.jit
def _count_delayed(words, detector, deposits, clouds, n_s1) -> Int[Array, "kind deposit"]:
    return charge.count_delayed(deposit_keys(words, deposits, DELAYED), detector, clouds, n_s1)


@partial(jax.jit, static_argnames="n_rows")
def _with_delayed(words, detector, deposits, quanta, clouds, n_s1, counts, n_rows):
    seen = light.detection_probability(detector, deposits)
    late, keys = charge.delayed_clouds(
        deposit_keys(words, deposits, DELAYED),
        detector,
        deposits,
        clouds,
        relax.count_weight(n_s1, quanta.n_photons, seen),
        counts,
        n_rows=n_rows,
    )
    return joined(clouds, late), keys


def with_delayed(
    words: rng.Words,
    detector: Detector,
    deposits: Deposits,
    quanta: Quanta,
    clouds: ElectronClouds,
    n_s1: Float[Array, "deposit"],
) -> tuple[ElectronClouds, rng.Words]:
    """The clouds of the deposits with those of delayed electrons behind them, and the keys of the latter.

    Gradient: weight in counts and survival, pathwise in time and place.
    """
    counts = _count_delayed(words, detector, deposits, clouds, n_s1)
    n_rows = ragged.bucket(ragged.concrete(counts, what="simulate_hits").sum())
    return _with_delayed(words, detector, deposits, quanta, clouds, n_s1, counts, n_rows)


@jax.jit
def _count_late(words, detector, deposits, hits, chunk_keys) -> LateCounts:
    afterpulses = dark = None
    if detector.afterpulses is not None:
        afterpulses = electronics.count_afterpulses(chunk_keys, detector, hits)
    if detector.dark_counts is not None:
        dark = electronics.count_dark_counts(event_keys(words, deposits, DARK), detector, deposits)
    return LateCounts(afterpulses, dark)


@partial(jax.jit, static_argnames="n_rows")
def _with_late(
    words, detector, deposits, hits, chunk_keys, counts: LateCounts, n_rows: tuple[int, int]
) -> Hits:
    together = hits
    if counts.afterpulses is not None:
        late = electronics.sample_afterpulses(
            chunk_keys, detector, hits, counts.afterpulses, n_rows=n_rows[0]
        )
        together = joined(together, late)
    if counts.dark_counts is not None:
        keys = event_keys(words, deposits, DARK)
        dark = electronics.sample_dark_counts(keys, detector, deposits, counts.dark_counts, n_rows=n_rows[1])
        together = joined(together, dark)
    return together


def with_late_hits(
    words: rng.Words, detector: Detector, deposits: Deposits, hits: Hits, chunk_keys: rng.Words | None
) -> Hits:
    """The hits of all light, with afterpulses and dark counts behind them.

    Gradient: weight in counts, pathwise in time and charge.
    """
    if detector.afterpulses is None and detector.dark_counts is None:
        return hits
    counts = _count_late(words, detector, deposits, hits, chunk_keys)
    afterpulses, dark_counts = (
        0 if n is None else ragged.bucket(ragged.concrete(n, what="simulate_hits").sum()) for n in counts
    )
    return _with_late(words, detector, deposits, hits, chunk_keys, counts, (afterpulses, dark_counts))


def joined(first: Any, second: Any) -> Any:
    """The rows of two records, one behind the other; what does not fit adds up."""

    def join(a, b):
        return a + b if jnp.ndim(a) == 0 else jnp.concatenate([a, b])

    return jax.tree.map(join, first, second)
