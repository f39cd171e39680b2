"""Draws of a posterior of single scatters, weighed by their exact likelihood."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from inference.events.single import SingleScatters
from inference.sampling.importance import Refined, weigh


@eqx.filter_jit
def weigh_draws(
    events: SingleScatters,
    draws: Float[Array, "event draw parameter"],
    log_proposal: Float[Array, "event draw"],
    columns: Float[Array, "event 5"],
) -> Refined:
    """Importance weights of each event's draws: likelihood times prior over the density they were drawn from.

    Args:
        events: with the exact likelihood.
        draws: of some posterior, 25 or more an event.
        log_proposal: its log density at the draws.
        columns: observables of the events.

    Raises:
        ValueError: with fewer than 25 draws.

    Gradient: none meant.
    """
    data = jax.tree.map(lambda part: jnp.repeat(part, draws.shape[1], axis=0), events.data(columns))
    density = events.log_density(draws.reshape(-1, draws.shape[-1]), data).reshape(draws.shape[:2])
    return jax.vmap(weigh)(draws, log_proposal, density)
