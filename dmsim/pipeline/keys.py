"""Random keys of the stages: each belongs to (key, event number in the run, deposit in the event, stage)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from dmsim import rng
from dmsim.records import Deposits

QUANTA, CHARGE, LIGHT, AREAS, DELAYED, DARK = range(1, 7)  # stages
ELECTRONICS = -2  # branch of the user's key that is no event number, so that no deposit shares these draws


def deposit_numbers(deposits: Deposits) -> Int[Array, "deposit"]:
    """Number of each deposit in its event."""
    rows = jnp.arange(len(deposits), dtype=jnp.int32)
    first = jax.ops.segment_min(rows, deposits.event, num_segments=deposits.n_events)
    return rows - first[deposits.event]


def deposit_keys(words: rng.Words, deposits: Deposits, stage: int) -> rng.Words:
    """One key a deposit: of its event's number in the run and of its own number in the event."""
    return rng.fold(words, deposits.first_event + deposits.event, deposit_numbers(deposits), stage)


def event_keys(words: rng.Words, deposits: Deposits, stage: int) -> rng.Words:
    """One key an event: of its number in the run."""
    return rng.fold(words, deposits.first_event + jnp.arange(deposits.n_events), stage)
