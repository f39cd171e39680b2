"""Fit free parameters of a detector to any differentiable loss, by optax."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dmsim.detector import Detector
from inference.parameters import FreeParameters


class FitResult(eqx.Module):
    """Where a fit ended and how it got there. Rows of the arrays are steps; row 0 is the start."""

    detector: Detector
    vector: Float[Array, "parameter"]  # unconstrained, of the best step
    values: dict[str, float]  # physical, of the best step
    loss: float
    loss_trajectory: Float[np.ndarray, "step"]
    value_trajectory: Float[np.ndarray, "step parameter"]  # physical values


def minimize(
    loss: Callable[[Detector], Float[Array, ""]],
    free: FreeParameters,
    detector: Detector,
    *,
    n_steps: int = 100,
    learning_rate: float = 0.3,
    start: Float[Array, "parameter"] | None = None,
    directions: Float[Array, "parameter parameter"] | None = None,
    prior_weight: float = 0.0,
    on_step: Callable[[int, float], None] | None = None,
) -> FitResult:
    """Minimise loss(detector) over the free leaves by Adam with a cosine decay of the step to 1 %.

    The loss is compiled once. It should hold its random numbers fixed (one key): then it is one
    deterministic function, and the best step is comparable with the others.

    Args:
        loss: scalar, differentiable in the free leaves.
        free: which leaves; steps are taken in units of about a prior standard deviation.
        detector: all other leaves.
        n_steps: > 0.
        learning_rate: size of the first steps, > 0, in those units or along `directions`.
        start: unconstrained vector to start from; the detector's own values if not given.
        directions: columns are steps of equal importance, such as a Cholesky factor of an estimated
            covariance; steps are then taken in them. Adam alone crawls along a valley between correlated
            parameters. Each parameter is its own direction if not given.
        prior_weight: times -log prior, added to the loss; 1 makes a loss that is a negative log likelihood
            a posterior mode.
        on_step: called with step number and loss, for progress.

    Returns:
        The step with the lowest loss, and the whole trajectory.

    Raises:
        ValueError: for a step count or a learning rate that is not positive, or a loss or gradient that is
            not finite; the message names the values of the parameters.
    """
    if n_steps < 1 or not learning_rate > 0:
        raise ValueError(f"n_steps {n_steps} and learning_rate {learning_rate} must be positive")

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def evaluate(vector, rest):
        value = loss(free.unpack(vector, rest))
        return value - prior_weight * free.log_prior(vector) if prior_weight else value

    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, n_steps, alpha=0.01))
    origin = free.pack(detector) if start is None else jnp.asarray(start)
    directions = jnp.eye(len(free), dtype=origin.dtype) if directions is None else directions
    position = jnp.zeros_like(origin)  # along the directions
    state = optimiser.init(position)
    losses, vectors = [], []
    for step in range(n_steps + 1):
        vector = origin + directions @ position
        value, gradient = evaluate(vector, detector)
        if not bool(jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))):
            at = ", ".join(f"{n} = {v:.5g}" for n, v in zip(free.names, free.values(vector), strict=True))
            raise ValueError(f"step {step}: loss {float(value)} with gradient {np.asarray(gradient)} at {at}")
        losses.append(float(value))
        vectors.append(vector)
        if on_step is not None:
            on_step(step, losses[-1])
        if step < n_steps:
            updates, state = optimiser.update(directions.T @ gradient, state, position)
            position = jnp.asarray(optax.apply_updates(position, updates))
    best = int(np.argmin(losses))
    trajectory = np.asarray(jax.vmap(free.values)(jnp.stack(vectors)))
    return FitResult(
        detector=free.unpack(vectors[best], detector),
        vector=vectors[best],
        values=dict(zip(free.names, trajectory[best].tolist(), strict=True)),
        loss=losses[best],
        loss_trajectory=np.asarray(losses),
        value_trajectory=trajectory,
    )


def maximize(objective: Callable[[Detector], Float[Array, ""]], *args, **options) -> FitResult:
    """Maximise objective(detector): `minimize` of its negative, with the sign of the losses turned back."""
    result = minimize(lambda detector: -objective(detector), *args, **options)
    return eqx.tree_at(lambda r: (r.loss, r.loss_trajectory), result, (-result.loss, -result.loss_trajectory))
