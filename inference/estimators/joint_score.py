"""The joint score: the simulator's own gradient in theta, as a second thing to fit.

A simulator that draws latents z before its data knows s = grad_theta log p(x, z | theta). Its mean over z
given x and theta is grad_theta log p(x | theta), so that the posterior's gradient in theta is what a
regression on s + grad_theta log p(theta) finds. The optimum of the loss stays where it was, whatever the
weight of this term; only the noise of s decides whether it helps. Less noise: replace s by its mean over some
of the latents given all that follows from them (for a count n = Binomial(N, p) of N = Poisson(m): N - m
becomes n - p m).

Source: Brehmer et al., arXiv:1805.00020 and 1805.12244 (SCANDAL); for posteriors Zeghal et al.,
arXiv:2207.05636.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from inference.priors import Prior


def target(
    prior: Prior,
    theta: Float[Array, "event parameter"],
    u: Float[Array, "event unbounded"],
    score: Float[Array, "event continuous"],
) -> Float[Array, "event unbounded"]:
    """Gradient in the unbounded vector of log p(x, z | theta) p(theta) |d theta / d u|.

    Args:
        prior: of theta.
        theta: parameters.
        u: the same, unbounded.
        score: gradient of log p(x, z | theta) in the continuous columns of theta.
    """
    n = score.shape[-1]
    score = jax.lax.stop_gradient(score)
    # an event's log density depends on its own u alone, so that one gradient of the sum holds all

    def log_joint(u):
        physical = prior.to_physical(u)
        full = jnp.concatenate([physical, theta[..., n:]], axis=-1)
        return jnp.sum(prior.log_prob(full) + prior.log_jacobian(u) + jnp.sum(score * physical, axis=-1))

    return jax.grad(log_joint)(u)


def width(of_events: Float[Array, "event unbounded"] | None) -> Float[Array, "unbounded"]:
    """Root mean square of each column: the term is a share of it."""
    assert of_events is not None
    return jnp.sqrt(jnp.mean(of_events**2, axis=0) + 1e-12)


def losses(
    network: Any, key: PRNGKeyArray, batch: Any, scale: Float[Array, "unbounded"]
) -> tuple[Float[Array, "event"], Float[Array, "event"]]:
    """Each event's loss, and half the squared distance of -loss's gradient in u from the score, over `scale`.

    Gradient: exact; second derivatives of the flow in u and the weights.
    """
    loss, pull = jax.vjp(lambda u: network.loss(key, u, batch.kind, batch.x), batch.u)
    (gradient,) = pull(jnp.ones_like(loss))
    return loss, 0.5 * jnp.mean(((gradient + batch.score) / scale) ** 2, axis=-1)


def check(prior: Prior, theta: Any, score: Any) -> None:
    """Raise where the term is asked for and the simulations lack it.

    Raises:
        ValueError: says what is missing.
    """
    if score is None:
        raise ValueError(
            "joint_score is set, but the simulator gives no score: it must return (theta, x, score), or the "
            "set must be Cached(theta, x, score)"
        )
    expected = (theta.shape[0], prior.n_parameters - (prior.category is not None))
    if score.shape != expected:
        raise ValueError(
            f"score has shape {score.shape}: it must be {expected}, an entry a continuous parameter"
        )
