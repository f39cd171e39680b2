"""An amortized posterior held against the simulator's own likelihood, by importance sampling."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from inference.priors import Prior
from inference.sampling.importance import Refined, weigh


def refine(
    theta: Float[Array, "*batch draw parameter"],
    log_proposal: Float[Array, "*batch draw"],
    prior: Prior,
    x: Any,
    likelihood: Callable[[Array, Any], Array],
    *,
    batched: bool,
) -> Refined:
    """Weigh draws of a proposal.

    Args:
        theta: draws.
        log_proposal: their log density.
        prior: of theta.
        x: one event or a batch.
        likelihood: log p(x | theta) of one theta and one event.
        batched: whether x and theta have an event axis.

    Raises:
        ValueError: with fewer than 25 draws, a likelihood that is NaN, or 0 at all draws of an event.

    Gradient: none meant.
    """
    of_draws = jax.vmap(likelihood, (0, None))
    log_likelihood = jax.jit(jax.vmap(of_draws) if batched else of_draws)(theta, x)
    if jnp.isnan(log_likelihood).any():
        raise ValueError(f"the likelihood is NaN at {int(jnp.isnan(log_likelihood).sum())} draws")
    log_density = log_likelihood + prior.log_prob(theta)
    if not (log_density.max(axis=-1) > -jnp.inf).all():
        raise ValueError("the likelihood is 0 at every draw of an event: the posterior misses the data")
    return (jax.vmap(weigh) if batched else weigh)(theta, log_proposal, log_density)
