"""Supplied maps: values on a regular grid, interpolated linearly in each direction.

A map that a detector carries replaces, or multiplies, the parametric form of the same quantity; its values
are leaves like any other parameter.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class GridMap(eqx.Module):
    """Values at equally spaced points of a box; constant beyond its borders."""

    values: Float[Array, "..."]  # one dimension an axis
    axes: tuple[str, ...] = eqx.field(static=True)  # such as ("x", "y") or ("r", "z"), in mm
    low: tuple[float, ...] = eqx.field(static=True)  # first point of each axis
    high: tuple[float, ...] = eqx.field(static=True)  # last point of each axis

    def __check_init__(self):
        """Refuse a grid that is none.

        Raises:
            ValueError: if the numbers of axes differ, an axis has fewer than two points, or low >= high.
        """
        shape = jnp.shape(self.values)
        if not len(shape) == len(self.axes) == len(self.low) == len(self.high):
            raise ValueError(
                f"map has values of shape {shape}, axes {self.axes}, low {self.low}, high {self.high}: "
                "must have one entry an axis"
            )
        if min(shape) < 2 or not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(
                f"map has shape {shape}, low {self.low}, high {self.high}: must have two points an axis or "
                "more, and low < high"
            )

    def __call__(self, *place: Float[Array, "..."]) -> Float[Array, "..."]:
        """The value at these places, one coordinate an axis. Gradient: exact in values and place."""
        shape, values = self.values.shape, self.values.reshape(-1)
        index: list[Array] = []
        share: list[Array] = []
        for x, n, low, high in zip(place, shape, self.low, self.high, strict=True):
            position = jnp.clip((x - low) * ((n - 1) / (high - low)), 0.0, n - 1.0)
            cell = jnp.clip(jnp.floor(jax.lax.stop_gradient(position)).astype(jnp.int32), 0, n - 2)
            index.append(cell)
            share.append(position - cell)
        total = jnp.zeros(jnp.broadcast_shapes(*(x.shape for x in share)), values.dtype)
        for corner in itertools.product((0, 1), repeat=len(shape)):
            flat, part = jnp.zeros((), jnp.int32), jnp.ones((), values.dtype)
            for step, n, cell, fraction in zip(corner, shape, index, share, strict=True):
                flat = flat * n + cell + step
                part = part * (fraction if step else 1 - fraction)
            total = total + part * values[flat]
        return total
