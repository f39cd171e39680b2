"""Importance sampling: an amortized posterior held against the simulator's own likelihood."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from inference.priors import Prior


class Refined(eqx.Module):
    """Draws with the weights that make them draws of the exact posterior."""

    theta: Float[Array, "*batch draw parameter"]
    log_weights: Float[Array, "*batch draw"]  # p(x | theta) p(theta) / q(theta | x), not normalised

    @property
    def efficiency(self) -> Float[Array, "*batch"]:
        """Effective over actual draws, 0 to 1. Source: Dax et al., arXiv:2210.05686, eq. 5."""
        n = self.log_weights.shape[-1]
        return (
            jnp.exp(2 * logsumexp(self.log_weights, axis=-1) - logsumexp(2 * self.log_weights, axis=-1)) / n
        )

    @property
    def log_evidence(self) -> Float[Array, "*batch"]:
        """Log p(x)."""
        return logsumexp(self.log_weights, axis=-1) - jnp.log(self.log_weights.shape[-1])

    def resample(self, key: PRNGKeyArray, n: int) -> Float[Array, "*batch n parameter"]:
        """Draws of equal weight, with repetition."""
        shape = (*self.log_weights.shape[:-1], n)
        logits = jnp.expand_dims(self.log_weights, -2)
        chosen = jax.random.categorical(key, logits, axis=-1, shape=shape)
        return jnp.take_along_axis(self.theta, chosen[..., None], axis=-2)


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
        ValueError: if the likelihood is NaN anywhere, or 0 at every draw of an event.
    """
    of_draws = jax.vmap(likelihood, (0, None))
    log_likelihood = jax.jit(jax.vmap(of_draws) if batched else of_draws)(theta, x)
    if jnp.isnan(log_likelihood).any():
        raise ValueError(f"the likelihood is NaN at {int(jnp.isnan(log_likelihood).sum())} draws")
    log_weights = log_likelihood + prior.log_prob(theta) - log_proposal
    if not (log_weights.max(axis=-1) > -jnp.inf).all():
        raise ValueError("the likelihood is 0 at every draw of an event: the posterior misses the data")
    return Refined(theta, log_weights)
