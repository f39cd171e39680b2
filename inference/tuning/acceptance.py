"""Which events pass: hard, and as a smooth probability from the same margins."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_MOST_SIDES = 100  # a product of so many factors from 1 to 2 stays within float32


@jax.custom_jvp
def log_acceptance(distances: Sequence[Float[Array, "event"]]) -> Float[Array, "event"]:
    """Sum over sides of log sigmoid(distance), distances in units of each side's softness.

    log sigmoid(x) = min(x, 0) - log(1 + exp(-|x|)); one logarithm is taken of the product of the second
    terms, each between 1 and 2.

    Args:
        distances: signed, > 0 passes; one array a side.

    Gradient: exact.
    """
    total = jnp.zeros(())
    for first in range(0, len(distances), _MOST_SIDES):
        product = jnp.ones(())
        for x in distances[first : first + _MOST_SIDES]:
            total = total + jnp.minimum(x, 0.0)
            product = product * (1 + jnp.exp(-jnp.abs(x)))
        total = total - jnp.log(product)
    return total


@log_acceptance.defjvp
def _log_acceptance_jvp(primals, tangents):
    (distances,), (changes,) = primals, tangents
    slopes = [jax.nn.sigmoid(-x) * dx for x, dx in zip(distances, changes, strict=True)]
    return log_acceptance(distances), sum(slopes, jnp.zeros(()))


def soft(
    margins: Sequence[Float[Array, "event"]], softness: Sequence[Float[Array, ""]] | Float[Array, "side"]
) -> Float[Array, "event"]:
    """Probability that an event passes all sides.

    Args:
        margins: signed distances, one array a side.
        softness: of each side, > 0, same unit.

    Gradient: exact.
    """
    return jnp.exp(log_acceptance([m / s for m, s in zip(margins, softness, strict=True)]))


def hard(margins: Sequence[Float[Array, "event"]]) -> Bool[Array, "event"]:
    """Whether an event passes all sides. Gradient: none."""
    passed = margins[0] > 0
    for margin in margins[1:]:
        passed = passed & (margin > 0)
    return passed
