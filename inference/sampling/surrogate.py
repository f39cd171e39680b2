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


class Linearised(eqx.Module):
    """A prediction and its Jacobian at any vector, compiled once."""

    predict: Callable[[Float[Array, "parameter"]], Float[Array, "output"]]

    @eqx.filter_jit
    def __call__(
        self, vector: Float[Array, "parameter"]
    ) -> tuple[Float[Array, "output"], Float[Array, "output parameter"]]:
        """Value and Jacobian. Gradient: not meant to be differentiated again."""
        value, push = jax.linearize(self.predict, vector)
        return value, jax.vmap(push, out_axes=1)(jnp.eye(vector.shape[0], dtype=vector.dtype))


def expand(
    model: Callable[[Float[Array, "parameter"]], tuple[Array, Array]],
    centre: Float[Array, "parameter"],
    steps: Float[Array, "parameter parameter"],
    *,
    on_evaluation: Callable[[int, int], None] | None = None,
) -> Quadratic:
    """Expand a prediction: its own Jacobian, and second derivatives by central differences of Jacobians.

    Takes 2 n + 1 Jacobians of n parameters.

    Args:
        model: the prediction and its Jacobian, such as a `Linearised`.
        centre: where to expand, usually the best fit.
        steps: columns are the half distances of the differences, about as far as the stand-in will be used;
            they must span the space.
        on_evaluation: called with the number of Jacobians done and to do, for progress.
    """
    n = centre.shape[0]
    report = on_evaluation or (lambda done, total: None)
    value, first = model(centre)
    report(1, 2 * n + 1)
    second = []
    for number, shift in enumerate(steps.T):
        second.append((model(centre + shift)[1] - model(centre - shift)[1]) / 2)
        report(2 * number + 3, 2 * n + 1)
    # second[j] = H steps[:, j], so H = second steps^-1
    hessian = jnp.stack(second, axis=2) @ jnp.linalg.inv(steps)
    return Quadratic(centre, value, first, (hessian + hessian.swapaxes(1, 2)) / 2)
