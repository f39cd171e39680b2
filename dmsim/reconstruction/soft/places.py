"""Places of possible S2s: fitted on the host, and how they move as the areas do."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim.detector import Detector
from dmsim.reconstruction.charge_model import charge_model
from dmsim.reconstruction.position import position_log_likelihood, positions
from dmsim.reconstruction.settings import Position

_BLOCK = 8  # peaks a compiled call


class Places(eqx.Module):
    """Fitted places, and their derivative at the areas that they were fitted to. No gradient of its own."""

    x_mm: Float[Array, "peak"]  # NaN where none was fitted
    y_mm: Float[Array, "peak"]
    slope: Float[Array, "peak 2 sensor"]  # mm a PE
    area_per_channel_pe: Float[Array, "peak sensor"]

    def at(
        self, rows: Array, area_per_channel_pe: Float[Array, "... sensor"]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Places of some rows for other areas, to first order. Gradient: implicit, in the areas."""
        change = area_per_channel_pe - self.area_per_channel_pe[rows]
        moved = jnp.einsum("...is,...s->...i", self.slope[rows], change)
        return self.x_mm[rows] + moved[..., 0], self.y_mm[rows] + moved[..., 1]


def _slope(detector: Detector, charge, area, xy):
    """Derivative of the likelihood's maximum, -H^-1 d(gradient)/d(area); 0 where it is not curved.

    That is at the wall, where the place is held, and without light.
    """

    def uphill(area, xy):
        return jax.grad(lambda at: position_log_likelihood(detector, area, at, charge=charge))(xy)

    curvature = jax.jacfwd(lambda at: uphill(area, at))(xy)
    mixed = jax.jacrev(lambda a: uphill(a, xy))(area)
    fine = (jnp.trace(curvature) < 0) & (jnp.linalg.det(curvature) > 0)
    safe = jnp.where(fine, curvature, -jnp.eye(2, dtype=xy.dtype))
    return jnp.where(fine, -jnp.linalg.solve(safe, mixed), 0.0)


@eqx.filter_jit
def _slopes(detector, charge, area, xy):
    return jax.vmap(lambda a, p: _slope(detector, charge, a, p))(area, xy)


def fit_places(
    detector: Detector,
    settings: Position,
    area_per_channel_pe: Float[np.ndarray, "peak sensor"],
    rows: np.ndarray,
) -> Places:
    """Fit some of the peaks.

    Args:
        detector: of its light response.
        settings: of the position; the least area is not asked for here.
        area_per_channel_pe: of all peaks.
        rows: which are fitted.

    Gradient: none (host arrays).
    """
    n, n_sensors = area_per_channel_pe.shape
    dtype = area_per_channel_pe.dtype
    xy, slope = np.full((n, 2), np.nan, dtype), np.zeros((n, 2, n_sensors), dtype)
    if len(rows):
        found = positions(
            detector, area_per_channel_pe[rows], eqx.tree_at(lambda p: p.min_area_pe, settings, 0.0)
        )
        xy[rows] = np.stack([found.x_mm, found.y_mm], axis=1)
    rows = rows[np.isfinite(xy[rows]).all(axis=1)]
    charge = charge_model(detector)
    for begin in range(0, len(rows), _BLOCK):
        block = rows[begin : begin + _BLOCK]
        filled = np.resize(block, _BLOCK)
        slope[block] = np.asarray(_slopes(detector, charge, area_per_channel_pe[filled], xy[filled]))[
            : len(block)
        ]
    return Places(
        jnp.asarray(xy[:, 0]), jnp.asarray(xy[:, 1]), jnp.asarray(slope), jnp.asarray(area_per_channel_pe)
    )
