"""What production keeps of a position posterior: mean, covariance, contours. The same for every batch size.

The flow is pushed through fixed points, never random ones: an event gives the same numbers whenever and with
whatever else it is computed.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import norm, qmc

from inference.estimators.posterior import DirectPosterior
from inference.position.anchor import PositionSummary

LEVELS = (0.68, 0.95)


class Places(NamedTuple):
    """Posterior of each S2's place."""

    mean_mm: Float[Array | np.ndarray, "event 2"]
    covariance_mm2: Float[Array | np.ndarray, "event 2 2"]
    contour_mm: Float[
        Array | np.ndarray, "event level vertex 2"
    ]  # polygons that hold 68 and 95 % of the posterior


def places(
    posterior: DirectPosterior,
    summary: PositionSummary,
    area_per_channel_pe: Float[Array | np.ndarray, "event sensor"],
    *,
    n_points: int = 16,
    n_vertices: int = 16,
) -> Places:
    """Posterior of the place of each S2; pure, for jit and export.

    A contour is the image of the circle that holds its share of the flow's normal law: it holds the same
    share of the posterior. Where the posterior is normal it is the region of highest density; elsewhere
    another of the same content.

    Args:
        posterior: of `position_estimator`, trained.
        summary: of the same detector.
        area_per_channel_pe: of all sensors [PE].
        n_points: Sobol points behind mean and covariance, a power of two.
        n_vertices: of a contour's polygon.

    Gradient: exact in the areas, as the summary's.
    """
    network, prior = posterior.network, posterior.prior
    points = _points(n_points, n_vertices)
    condition = network.condition(summary(jnp.asarray(area_per_channel_pe)))
    noise = jnp.broadcast_to(jnp.asarray(points, condition.dtype), (condition.shape[0], *points.shape))
    u = network.u_scaling.undo(network.flow.push(noise, condition))
    xy = prior.to_physical(u)
    drawn, edge = xy[:, :n_points], xy[:, n_points:]
    mean = jnp.mean(drawn, axis=1)
    centred = drawn - mean[:, None]
    covariance = jnp.einsum("bni,bnj->bij", centred, centred) / n_points
    return Places(mean, covariance, edge.reshape(-1, len(LEVELS), n_vertices, 2))


def _points(n_points: int, n_vertices: int) -> Float[np.ndarray, "point 2"]:
    """Sobol points of the normal law, of its own variance, and circles."""
    if n_points < 8 or n_points & (n_points - 1):
        raise ValueError(f"n_points is {n_points}: must be a power of two from 8 on")
    half = norm.ppf(qmc.Sobol(2, rng=0).random(n_points // 2))
    drawn = np.concatenate([half, -half])  # mean exactly 0
    drawn = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T, bias=True))).T  # covariance exactly 1
    angle = 2 * np.pi * (np.arange(n_vertices) + 0.5) / n_vertices
    # area of a polygon inside its circle: widened to hold as much as the circle
    widened = np.sqrt(2 * np.pi / n_vertices / np.sin(2 * np.pi / n_vertices))
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * widened
    radii = np.sqrt(-2 * np.log1p(-np.array(LEVELS)))
    return np.concatenate([drawn, *(radius * circle for radius in radii)])
