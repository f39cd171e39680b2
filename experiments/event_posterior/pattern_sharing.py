"""Things shared out over cells."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim import relax


def binomial(key: PRNGKeyArray, n: Array, p: Any) -> Array:
    """Integer-valued counts."""
    return relax.binomial(jax.random.uniform(key, n.shape, minval=1e-7), n, p)


def multinomial(
    key: PRNGKeyArray, n: Float[Array, "row"], share: Float[Array, "row cell"]
) -> Float[Array, "row cell"]:
    """Counts of n things in cells of these shares, by halving: few rounds of binomials, not one a cell.

    Args:
        key: of the draws.
        n: things of each row, integer-valued.
        share: of each cell; normalised here.

    Gradient: none meant.
    """
    cells = share.shape[1]
    depth = math.ceil(math.log2(cells))
    # pairs of cells are added up to the root
    sums = [jnp.pad(share, ((0, 0), (0, 2**depth - cells)))]
    for _ in range(depth):
        sums.append(sums[-1].reshape(len(share), -1, 2).sum(axis=2))
    count = n[:, None]
    for level, (parent, child) in enumerate(zip(sums[:0:-1], sums[-2::-1], strict=True)):
        left = child[:, ::2] / jnp.maximum(parent, 1e-30)
        first = binomial(jax.random.fold_in(key, level), count, left)
        count = jnp.stack([first, count - first], axis=2).reshape(len(share), -1)
    return count[:, :cells]
