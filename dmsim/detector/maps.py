"""Supplied maps: values on a regular grid, interpolated linearly in each direction.

A map that a detector carries replaces, or multiplies, the parametric form of the same quantity; its values
are leaves like any other parameter. `dmsim.detector.map_files.read_map` reads one from a file.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

_QUADRATURE = 32  # points in each direction of a volume average


class GridMap(eqx.Module):
    """Values at equally spaced points of a box, numbers or one row of numbers each; constant beyond it."""

    values: Float[Array, "..."]  # one dimension an axis, then one of sensors in a map of patterns
    axes: tuple[str, ...] = eqx.field(static=True)  # such as ("x", "y") or ("r", "z"), in mm
    low: tuple[float, ...] = eqx.field(static=True)  # first point of each axis
    high: tuple[float, ...] = eqx.field(static=True)  # last point of each axis
    note: str = eqx.field(static=True, default="")  # how it was made, for the reader

    def __check_init__(self):
        """Refuse a grid that is none.

        Raises:
            ValueError: if the numbers of axes differ, an axis has fewer than two points, low >= high, or a
                value is not finite.
        """
        shape = jnp.shape(self.values)
        n = len(self.axes)
        if not (n == len(self.low) == len(self.high) and 1 <= n <= len(shape)):
            raise ValueError(
                f"map has values of shape {shape}, axes {self.axes}, low {self.low}, high {self.high}: "
                "must have one entry an axis"
            )
        if min(shape[:n]) < 2 or not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(
                f"map has shape {shape}, low {self.low}, high {self.high}: must have two points an axis or "
                "more, and low < high"
            )
        if not isinstance(self.values, Tracer) and not np.isfinite(np.asarray(self.values)).all():
            bad = np.size(self.values) - np.isfinite(np.asarray(self.values)).sum()
            raise ValueError(f"map has {bad} values of {np.size(self.values)} that are not finite")

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of the value at one point: () for a number."""
        return self.values.shape[len(self.axes) :]

    def __call__(self, *place: Float[Array, "..."]) -> Float[Array, "..."]:
        """The value at these places, one coordinate an axis. Gradient: exact in values and place."""
        shape = self.values.shape[: len(self.axes)]
        values = self.values.reshape(-1, *self.rows)
        index: list[Array] = []
        share: list[Array] = []
        for x, n, low, high in zip(place, shape, self.low, self.high, strict=True):
            position = jnp.clip((x - low) * ((n - 1) / (high - low)), 0.0, n - 1.0)
            cell = jnp.clip(jnp.floor(jax.lax.stop_gradient(position)).astype(jnp.int32), 0, n - 2)
            index.append(cell)
            share.append(position - cell)
        places = jnp.broadcast_shapes(*(x.shape for x in share))
        total = jnp.zeros(places + self.rows, values.dtype)
        for corner in itertools.product((0, 1), repeat=len(shape)):
            flat, part = jnp.zeros((), jnp.int32), jnp.ones(places, values.dtype)
            for step, n, cell, fraction in zip(corner, shape, index, share, strict=True):
                flat = flat * n + cell + step
                part = part * (fraction if step else 1 - fraction)
            total = total + part.reshape(places + (1,) * len(self.rows)) * values[flat]
        return total

    def at(
        self, x_mm: Float[Array, "..."], y_mm: Float[Array, "..."], z_mm: Float[Array, "..."] | float = 0.0
    ) -> Float[Array, "..."]:
        """The value at a place in the detector, whichever axes the map has.

        Gradient: exact, in x and y on the axis of an (r, z) map zero.
        """
        coordinates = {"x": x_mm, "y": y_mm, "z": z_mm}
        if "r" in self.axes:
            r2 = x_mm**2 + y_mm**2
            away = r2 > 0
            coordinates["r"] = jnp.where(away, jnp.sqrt(jnp.where(away, r2, 1.0)), 0.0)
        return self(*(jnp.asarray(coordinates[axis]) for axis in self.axes))

    def volume_average(self, radius_mm: float, length_mm: float) -> Float[Array, "..."]:
        """Mean over a cylinder from z = 0 down, by the midpoint rule. Gradient: exact in the values."""
        u = (np.arange(_QUADRATURE) + 0.5) / _QUADRATURE
        r, depth, angle = np.meshgrid(radius_mm * np.sqrt(u), length_mm * u, 2 * np.pi * u)
        places = (r * np.cos(angle), r * np.sin(angle), -depth)
        values = self.at(*(jnp.asarray(x.ravel(), self.values.dtype) for x in places))
        return values.mean(axis=0)
