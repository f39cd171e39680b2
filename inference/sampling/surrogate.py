"""A quadratic stand-in for an expensive prediction, from its gradients around one point."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Quadratic(eqx.Module):
    """prediction ~ value + J d + d H d / 2 with d = vector - centre."""

    centre: Float[Array, "parameter"]
    value: Float[Array, "output"]
    jacobian: Float[Array, "output parameter"]
    hessian: Float[Array, "output parameter parameter"]

    def __call__(self, vector: Float[Array, "parameter"]) -> Float[Array, "output"]:
        """The stand-in's prediction. Gradient: exact."""
        d = vector - self.centre
        return self.value + self.jacobian @ d + 0.5 * jnp.einsum("oij,i,j->o", self.hessian, d, d)


def expand(
    predict: Callable[[Float[Array, "parameter"]], Float[Array, "output"]],
    centre: Float[Array, "parameter"],
    *,
    step: Float[Array, "parameter"] | float = 0.5,
    on_evaluation: Callable[[int, int], None] | None = None,
) -> Quadratic:
    """Expand a prediction: its own Jacobian, and second derivatives by central differences of Jacobians.

    Takes 2 n + 1 Jacobians of n parameters.

    Args:
        predict: differentiable in forward mode.
        centre: where to expand, usually the best fit.
        step: half distance of the differences, in units of the vector.
        on_evaluation: called with the number of Jacobians done and to do, for progress.
    """
    n = centre.shape[0]

    @eqx.filter_jit
    def value_and_jacobian(vector):
        value, push = jax.linearize(predict, vector)
        return value, jax.vmap(push, out_axes=1)(jnp.eye(n, dtype=vector.dtype))

    done = 0

    def jacobian(vector):
        nonlocal done
        done += 1
        if on_evaluation is not None:
            on_evaluation(done, 2 * n + 1)
        return value_and_jacobian(vector)

    value, first = jacobian(centre)
    steps = jnp.broadcast_to(jnp.asarray(step, centre.dtype), (n,))
    second = []
    for axis in range(n):
        shift = jnp.zeros_like(centre).at[axis].set(steps[axis])
        above, below = jacobian(centre + shift)[1], jacobian(centre - shift)[1]
        second.append((above - below) / (2 * steps[axis]))
    hessian = jnp.stack(second, axis=2)
    return Quadratic(centre, value, first, (hessian + hessian.swapaxes(1, 2)) / 2)
