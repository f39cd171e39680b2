"""What the way to the gate does to an electron, tabulated over (r, z): the fast form of a drift field."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim import relax


class Arrival(NamedTuple):
    """An electron from a place in the liquid, at the gate."""

    time_ns: Float[Array, "..."]  # of the drift
    stretch: Float[Array, "..."]  # radius at the gate over that at the start
    attachment: Float[Array, "..."]  # integral of dt / lifetime
    time_variance_ns2: Float[Array, "..."]  # of the arrival, by diffusion
    variance_mm2: Float[Array, "..."]  # across, at the gate, along one axis
    margin_mm: Float[Array, "..."]  # least distance to the wall on the way; negative for what hits it
    field_v_per_cm: Float[Array, "..."]  # where it starts


def keys_weights(t: Float[Array, "..."]) -> tuple[Float[Array, "..."], ...]:
    """Weights of four neighbours at t in [0, 1] between the inner two: once differentiable.

    Gradient: exact.
    Source: Keys, IEEE Trans. ASSP 29 (1981) 1153, doi:10.1109/TASSP.1981.1163711.
    """
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        ((1.5 * t - 2.5) * t) * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        ((0.5 * t - 0.5) * t) * t,
    )


def extend(values: Array) -> Array:
    """One more point at both ends of the first axis, as the interpolation wants it. Gradient: exact."""
    before = 3 * values[0] - 3 * values[1] + values[2]
    after = 3 * values[-1] - 3 * values[-2] + values[-3]
    return jnp.concatenate([before[None], values, after[None]])


def locate(position: Float[Array, "..."], n_points: int) -> tuple[Array, tuple[Array, ...]]:
    """First of four neighbours in an extended axis of n_points, and their weights.

    Gradient: exact in the weights, zero beyond the ends.
    """
    position = jnp.clip(position, 0.0, n_points - 1.0)
    cell = jnp.clip(jnp.floor(relax.stop(position)), 0, n_points - 2)
    return cell.astype(jnp.int32), keys_weights(position - cell)


def _runs(flat: Float[Array, "value"], start: Array, length: int) -> Float[Array, "... length"]:
    """`length` neighbours from each start on."""
    numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=(start.ndim,), collapsed_slice_dims=(), start_index_map=(0,)
    )
    inside = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return jax.lax.gather(flat, start[..., None], numbers, (length,), mode=inside)


class DriftMap(eqx.Module):
    """Arrival over a grid in (r / radius)^2 and height; made from a `DriftField` by `charge.prepare`.

    The last axis of `values` holds time, log of the stretch squared, attachment, both variances, the
    farthest (r / radius)^2 of the way, and the field.
    """

    values: Float[Array, "height radius quantity"]
    radius_mm: Float[Array, ""]
    length_mm: Float[Array, ""]
    step_r2: float = eqx.field(static=True)

    def __call__(
        self, x_mm: Float[Array, "..."], y_mm: Float[Array, "..."], z_mm: Float[Array, "..."]
    ) -> Arrival:
        """Arrival from each place, held at the borders. Gradient: exact in map and place."""
        n_heights, n_radii = self.values.shape[0] - 2, self.values.shape[1] - 2
        r2 = (x_mm**2 + y_mm**2) / self.radius_mm**2
        row, of_row = locate((z_mm / self.length_mm + 1) * (n_heights - 1), n_heights)
        column, of_column = locate(r2 / self.step_r2, n_radii)
        n_quantities = self.values.shape[-1]
        start = (row * (n_radii + 2) + column) * n_quantities
        four = jnp.zeros((*start.shape, 4 * n_quantities), self.values.dtype)
        for i, vertical in enumerate(of_row):
            run = _runs(self.values.reshape(-1), start + i * (n_radii + 2) * n_quantities, 4 * n_quantities)
            four = four + vertical[..., None] * run
        columns = jnp.split(four, 4, axis=-1)
        total = sum(
            (radial[..., None] * column for radial, column in zip(of_column, columns, strict=True)),
            jnp.zeros_like(columns[0]),
        )
        # XLA would gather again for each quantity that is used; what goes into a product it keeps
        same = jnp.eye(n_quantities, dtype=total.dtype)
        total = jnp.matmul(total, same, precision=jax.lax.Precision.HIGHEST)
        time, twice_log, attachment, time_variance, variance, farthest, field = jnp.moveaxis(total, -1, 0)
        return Arrival(
            time_ns=time,
            stretch=jnp.exp(twice_log / 2),
            attachment=attachment,
            time_variance_ns2=time_variance,
            variance_mm2=variance,
            margin_mm=self.radius_mm * (1 - relax.safe_sqrt(farthest)),
            field_v_per_cm=field,
        )
