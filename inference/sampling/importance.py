"""Importance sampling of any proposal, such as a flow, against a density known but for its constant.

Source: Pareto smoothing and the diagnostic k: Vehtari et al., JMLR 25 (2024) 72, arXiv:1507.02646.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

LARGEST_K = 0.7  # above, means over the weights need more draws than anyone has; section 3 of the source
_FLAT = 1e-3  # in the logarithm, over the tail
_FEWEST = 25  # draws: five of them make a tail
_PRIOR_K, _PRIOR_WEIGHT = (
    0.5,
    10,
)  # of the fitted k, which few points hardly determine; appendix of the source


class Pareto(NamedTuple):
    """A generalised Pareto law of distances above a threshold."""

    k: Float[Array, ""]  # shape: moments below 1 / k exist
    scale: Float[Array, ""]


def fit_pareto(excess: Float[Array, "tail"]) -> Pareto:
    """Fit by the posterior mean over a grid of profile likelihoods.

    Args:
        excess: above the threshold, ascending, >= 0.

    Gradient: exact, of no use.

    Source: Zhang and Stephens, Technometrics 51 (2009) 316, doi:10.1198/tech.2009.08017.
    """
    n = excess.shape[0]
    n_grid = 30 + int(math.sqrt(n))
    quartile = jnp.maximum(excess[int(n / 4 + 0.5) - 1], jnp.finfo(excess.dtype).tiny)
    largest = jnp.maximum(excess[-1], jnp.finfo(excess.dtype).tiny)
    steps = jnp.arange(1, n_grid + 1) - 0.5
    grid = 1 / largest + (1 - jnp.sqrt(n_grid / steps)) / (3 * quartile)  # of -k / scale

    def shape(b):
        return jnp.mean(jnp.log1p(-b * excess))

    shapes = jax.vmap(shape)(grid)
    profile = n * (jnp.log(-grid / shapes) - shapes - 1)
    b = jnp.sum(jax.nn.softmax(jnp.where(jnp.isnan(profile), -jnp.inf, profile)) * grid)
    k = shape(b)
    return Pareto((k * n + _PRIOR_K * _PRIOR_WEIGHT) / (n + _PRIOR_WEIGHT), -k / b)


class Smoothed(NamedTuple):
    """Log-weights with their largest replaced by the quantiles of a fitted tail, and its k."""

    log_weights: Float[Array, "draw"]  # normalised: their exponentials add up to 1
    pareto_k: Float[Array, ""]


@jax.jit
def smooth(log_weights: Float[Array, "draw"]) -> Smoothed:
    """Pareto-smooth importance weights.

    Args:
        log_weights: unnormalised; minus infinity where the target has no mass.

    Raises:
        ValueError: with fewer than 25 draws.

    Gradient: exact but for the order of the draws; of no use.
    """
    n = log_weights.shape[0]
    if n < _FEWEST:
        raise ValueError(f"{n} draws: Pareto smoothing needs {_FEWEST} at least")
    n_tail = min(math.ceil(min(0.2 * n, 3 * math.sqrt(n))), n - 1)  # equation 7 of the source
    top = jnp.max(log_weights)
    shifted = log_weights - jnp.where(jnp.isfinite(top), top, 0)
    order = jnp.argsort(shifted)
    tail, weights = order[-n_tail:], jnp.exp(shifted)
    threshold = weights[order[-n_tail - 1]]
    law = fit_pareto(weights[tail] - threshold)
    chance = (jnp.arange(n_tail) + 0.5) / n_tail
    # quantile of the law; expm1 keeps k near 0 exact
    safe = jnp.where(jnp.abs(law.k) < 1e-6, 1e-6, law.k)
    quantiles = threshold + law.scale * jnp.expm1(-safe * jnp.log1p(-chance)) / safe
    # none above the largest raw weight
    new = jnp.log(jnp.clip(quantiles, jnp.finfo(weights.dtype).tiny, 1.0))
    # a tail of equal weights has nothing to fit, and nothing wrong; fitted, rounding alone gives k of 10
    flat = shifted[tail[-1]] - shifted[order[-n_tail - 1]] <= _FLAT
    smoothed = shifted.at[tail].set(jnp.where(flat | ~jnp.isfinite(new), shifted[tail], new))
    k = jnp.where(jnp.isfinite(top), jnp.where(flat, -jnp.inf, law.k), jnp.inf)
    return Smoothed(smoothed - jax.nn.logsumexp(smoothed), k)


class Refined(eqx.Module):
    """Draws of a proposal with the weights that make them draws of the target; of one event or of a batch."""

    draws: Float[Array, "*batch draw parameter"]
    log_weights: Float[Array, "*batch draw"]  # Pareto-smoothed, normalised
    efficiency: Float[Array, "*batch"]  # effective draws a draw, of the raw weights
    pareto_k: Float[Array, "*batch"]
    log_evidence: Float[Array, "*batch"]  # of the raw weights; of density and proposal as given
    log_evidence_error: Float[Array, "*batch"]  # standard deviation
    n_invalid: Int[Array, "*batch"]  # draws whose density is NaN: they have no weight

    def mean(self) -> Float[Array, "*batch parameter"]:
        """Weighted mean. Gradient: exact."""
        return jnp.einsum("...d,...dp->...p", jnp.exp(self.log_weights), self.draws)

    def std(self) -> Float[Array, "*batch parameter"]:
        """Weighted standard deviation. Gradient: exact."""
        squares = (self.draws - self.mean()[..., None, :]) ** 2
        return jnp.sqrt(jnp.einsum("...d,...dp->...p", jnp.exp(self.log_weights), squares))

    def resample(self, key: PRNGKeyArray, n: int) -> Float[Array, "*batch n parameter"]:
        """Equally probable draws, some of them repeated, in random order.

        Args:
            key: of the one random offset that systematic resampling needs, and of the order.
            n: draws wanted.

        Gradient: in the draws alone.
        """
        if self.log_weights.ndim > 1:
            keys = jax.random.split(key, self.log_weights.shape[0])
            return jax.vmap(lambda event, k: event.resample(k, n))(self, keys)
        key_offset, key_order = jax.random.split(key)
        at = (jnp.arange(n) + jax.random.uniform(key_offset)) / n
        edges = jnp.cumsum(jnp.exp(self.log_weights))
        chosen = jnp.searchsorted(edges, at * edges[-1])
        return self.draws[jax.random.permutation(key_order, jnp.minimum(chosen, len(self.draws) - 1))]


@jax.jit
def weigh(
    draws: Float[Array, "draw parameter"],
    log_proposal: Float[Array, "draw"],
    log_density: Float[Array, "draw"],
) -> Refined:
    """Weights of draws from their two log-densities; `jax.vmap` takes many events.

    Args:
        draws: of the proposal.
        log_proposal: normalised log-density of the proposal.
        log_density: of the target, its constant unknown; minus infinity where it has no mass.

    Raises:
        ValueError: with fewer than 25 draws.

    Gradient: none meant.
    """
    raw = log_density - log_proposal
    invalid = jnp.isnan(raw)
    raw = jnp.where(invalid, -jnp.inf, raw)
    n = raw.shape[0]
    log_sum = jax.nn.logsumexp(raw)
    any_mass = jnp.isfinite(log_sum)
    efficiency = jnp.where(any_mass, jnp.exp(2 * log_sum - jax.nn.logsumexp(2 * raw)) / n, 0.0)
    smoothed = smooth(raw)
    return Refined(
        draws=draws,
        log_weights=smoothed.log_weights,
        efficiency=efficiency,
        pareto_k=smoothed.pareto_k,
        log_evidence=log_sum - math.log(n),
        # relative variance of a weight is 1 / efficiency - 1
        log_evidence_error=jnp.sqrt((1 / efficiency - 1) / (n - 1)),
        n_invalid=jnp.sum(invalid),
    )


def refine(
    key: PRNGKeyArray,
    proposal_sample: Callable[[PRNGKeyArray, int], Float[Array, "draw parameter"]],
    proposal_log_prob: Callable[[Float[Array, "draw parameter"]], Float[Array, "draw"]],
    log_density: Callable[[Float[Array, "draw parameter"]], Float[Array, "draw"]],
    n: int,
) -> Refined:
    """Draw from the proposal and weigh against the density; jitted and batched as its callables are.

    Args:
        key: of the draws.
        proposal_sample: (key, n) -> rows.
        proposal_log_prob: rows -> log-density, normalised.
        log_density: rows -> log-density of the target: likelihood times prior.
        n: draws, >= 25.

    Returns:
        With k above 0.7 or an efficiency of few per cent the weights say that the proposal misses the target.

    Raises:
        ValueError: with fewer than 25 draws.

    Gradient: none meant.
    """
    draws = proposal_sample(key, n)
    return weigh(draws, proposal_log_prob(draws), log_density(draws))
