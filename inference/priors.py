"""What is inferred: names, units, bounds and prior laws, and the way to an unbounded vector.

An estimator works on an unbounded vector u, so that nothing it draws can leave the prior's support.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from inference.prior_blocks import AbstractBlock, Category, Disc, Scalar, block_from_json

__all__ = ["AbstractBlock", "Category", "Disc", "Prior", "Scalar", "from_json", "joint"]


class Prior(eqx.Module):
    """Independent blocks behind one another: the columns of theta.

    Args:
        blocks: in the order of theta's columns; a `Category` comes last.

    Raises:
        ValueError: for no block, a name that comes twice, or a category that is not last.
    """

    blocks: tuple[AbstractBlock, ...]

    def __init__(self, *blocks: AbstractBlock):
        names = [name for block in blocks for name in block.names]
        if not names:
            raise ValueError("a prior needs at least one parameter")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"prior names {', '.join(twice)} twice")
        if any(isinstance(block, Category) for block in blocks[:-1]):
            raise ValueError("a category must be the last block of a prior, and there can be only one")
        if len(names) == 1 and isinstance(blocks[0], Category):
            raise ValueError(f"prior has nothing but the category {names[0]}: add a continuous parameter")
        self.blocks = tuple(blocks)

    @property
    def names(self) -> tuple[str, ...]:
        """Of theta's columns."""
        return tuple(name for block in self.blocks for name in block.names)

    @property
    def units(self) -> tuple[str, ...]:
        """Of theta's columns."""
        return tuple(unit for block in self.blocks for unit in block.units)

    @property
    def bounds(self) -> Float[np.ndarray, "parameter 2"]:
        """Ends of the range of each column."""
        return np.asarray([ends for block in self.blocks for ends in block.bounds])

    @property
    def n_parameters(self) -> int:
        """Columns of theta."""
        return sum(block.size for block in self.blocks)

    @property
    def n_unbounded(self) -> int:
        """Entries of the unbounded vector: the columns without the category."""
        return sum(block.n_unbounded for block in self.blocks)

    @property
    def category(self) -> Category | None:
        """The last block, if it is one."""
        last = self.blocks[-1]
        return last if isinstance(last, Category) else None

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n parameter"]:
        """Draws from the prior."""
        keys = jax.random.split(key, len(self.blocks))
        return jnp.concatenate([b.sample(k, n) for b, k in zip(self.blocks, keys, strict=True)], axis=-1)

    def log_prob(self, theta: Float[Array, "... parameter"]) -> Float[Array, "..."]:
        """Log prior density, -inf outside the support. Gradient: exact inside."""
        return jnp.sum(jnp.stack(self._each(lambda block, part: block.log_prob(part), theta)), axis=0)

    def inside(self, theta: Float[Array, "... parameter"]) -> Bool[Array, "..."]:
        """Whether theta lies in the support."""
        return jnp.all(jnp.stack(self._each(lambda block, part: block.inside(part), theta)), axis=0)

    def to_physical(self, u: Float[Array, "... unbounded"]) -> Float[Array, "... continuous"]:
        """The continuous columns of theta. Gradient: exact."""
        parts = self._each(lambda block, part: block.to_physical(part), u, unbounded=True)
        return jnp.concatenate(parts, axis=-1)

    def to_unbounded(self, theta: Float[Array, "... parameter"]) -> Float[Array, "... unbounded"]:
        """The unbounded vector of theta; a category is left out. Gradient: exact inside the support."""
        return jnp.concatenate(self._each(lambda block, part: block.to_unbounded(part), theta), axis=-1)

    def log_jacobian(self, u: Float[Array, "... unbounded"]) -> Float[Array, "..."]:
        """Log |d theta / d u|, which turns a density of theta into one of u. Gradient: exact."""
        parts = self._each(lambda block, part: block.log_jacobian(part), u, unbounded=True)
        return jnp.sum(jnp.stack(parts), axis=0)

    def _each(
        self, function: Callable, vector: Float[Array, "... entry"], *, unbounded: bool = False
    ) -> list:
        """A function of each block and its part of the vector."""
        expected = self.n_unbounded if unbounded else self.n_parameters
        if vector.shape[-1] != expected:
            raise ValueError(
                f"{vector.shape[-1]} values for the {expected} parameters {', '.join(self.names)}"
            )
        done, first = [], 0
        for block in self.blocks:
            size = block.n_unbounded if unbounded else block.size
            if not (unbounded and size == 0):
                done.append(function(block, vector[..., first : first + size]))
            first += size
        return done

    def check_inside(self, theta: Float[Any, "n parameter"]) -> None:
        """Raise where the prior has no support.

        Raises:
            ValueError: with the first parameter that leaves its range, its value, unit and range.
        """
        values = np.atleast_2d(np.asarray(theta))
        outside = ~np.asarray(self.inside(jnp.asarray(values)))
        if not outside.any():
            return
        row = values[np.argmax(outside)]
        for name, unit, value, (low, high) in zip(self.names, self.units, row, self.bounds, strict=True):
            if not low <= value <= high:
                raise ValueError(
                    f"{name} is {value:g} {unit}, but its prior has support {low:g} to {high:g} {unit}"
                )
        shown = ", ".join(f"{n} {v:g}" for n, v in zip(self.names, row, strict=True))
        raise ValueError(f"the prior has no support at {shown}")

    def to_json(self) -> list[dict[str, Any]]:
        """What a file holds of the prior."""
        return [block.to_json() for block in self.blocks]


def joint(prior: Prior, observe: Callable[[PRNGKeyArray, Array], Any]) -> Callable[[PRNGKeyArray, int], Any]:
    """`simulate(key, n) -> (theta, x)` from a prior and `observe(key, theta[n, parameter]) -> x[n, ...]`."""

    def simulate(key: PRNGKeyArray, n: int):
        key_theta, key_x = jax.random.split(key)
        theta = prior.sample(key_theta, n)
        return theta, observe(key_x, theta)

    return simulate


def from_json(blocks: Sequence[dict[str, Any]]) -> Prior:
    """The prior that a file holds.

    Raises:
        ValueError: for a block or a law that this version does not know.
    """
    return Prior(*(block_from_json(block) for block in blocks))
