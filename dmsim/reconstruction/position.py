"""Horizontal position of an S2 from its pattern on the top array, by maximum likelihood."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim.detector import Detector

_BLOCK = 32  # peaks a compiled call
_WALL_STARTS = (1.0, 1.3, 1.7)  # a centroid is pulled inwards near the wall: also start further out


def _fit(detector: Detector, area_pe: Float[Array, "sensor"], max_steps: int) -> Float[Array, "2"]:
    """Position [mm] that maximises sum_s A_s log(share_s(x, y)) over the live top sensors."""
    sensors, n_top = detector.light.sensors, detector.light.sensors.n_top
    live = sensors.efficiency[:n_top] > 0
    area = jnp.where(live, jnp.maximum(area_pe, 0.0), 0.0)
    total = jnp.sum(area)
    place = jnp.stack([sensors.x_mm[:n_top], sensors.y_mm[:n_top]], axis=-1)
    radius = detector.geometry.radius_mm

    def shares(xy):
        share = detector.light.s2_pattern(detector.geometry, xy[0], xy[1])[:n_top]
        share = jnp.where(live, share, 0.0)
        return share / jnp.sum(share)

    def log_shares(xy):
        share = shares(xy)
        return jnp.where(live, jnp.log(jnp.where(live, share, 1.0)), 0.0)

    def value(xy):
        return area @ log_shares(xy)

    def inside(xy):
        r = jnp.sqrt(jnp.sum(xy**2) + 1e-12)
        return xy * jnp.minimum(1.0, radius / r)

    def step(_, state):
        xy, best, scale = state
        slope = jax.jacfwd(log_shares)(xy)
        gradient = area @ slope
        fisher = total * jnp.einsum("s,si,sj->ij", shares(xy), slope, slope)
        (a, b), (_, c) = fisher
        determinant = jnp.maximum(a * c - b * b, jnp.finfo(area.dtype).tiny)
        move = jnp.stack([c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]) / determinant
        new = inside(xy + scale * move)
        reached = value(new)
        better = reached > best
        return (
            jnp.where(better, new, xy),
            jnp.where(better, reached, best),
            jnp.where(better, jnp.minimum(2 * scale, 1.0), scale / 4),
        )

    centroid = (area @ place) / jnp.maximum(total, 1e-9)
    starts = jnp.stack([inside(centroid * k) for k in _WALL_STARTS] + [inside(place[jnp.argmax(area)])])
    values = jax.vmap(value)(starts)
    begin = jnp.argmax(values)
    state = (starts[begin], values[begin], jnp.ones((), area.dtype))
    xy, _, _ = jax.lax.fori_loop(0, max_steps, step, state)
    return jnp.where(total > 0, xy, jnp.nan)


@partial(eqx.filter_jit)
def _fit_block(detector, area_pe, max_steps):
    return jax.vmap(lambda area: _fit(detector, area, max_steps))(area_pe)


def positions(
    detector: Detector, area_per_channel_pe: Float[np.ndarray, "peak sensor"], *, max_steps: int
) -> Float[np.ndarray, "peak 2"]:
    """x, y of each peak [mm], inside the radius of the active volume; NaN without light on top.

    The areas are read as multinomial counts over the live top sensors. The spread of the single
    photoelectron scales the likelihood as a whole, so that it changes the width of it but not the place of
    its maximum. Fisher scoring, projected to the wall, from the best of the centroid, centroids pushed
    outwards and the brightest sensor; a step that does not raise the likelihood is shortened.

    Gradient: none (host arrays).
    """
    n_top = detector.light.sensors.n_top
    n = len(area_per_channel_pe)
    dtype = detector.light.top_height_mm.dtype
    out = np.full((n, 2), np.nan, dtype)
    for begin in range(0, n, _BLOCK):
        part = np.asarray(area_per_channel_pe[begin : begin + _BLOCK, :n_top], dtype)
        padded = np.zeros((_BLOCK, n_top), dtype)
        padded[: len(part)] = part
        out[begin : begin + len(part)] = np.asarray(_fit_block(detector, padded, max_steps))[: len(part)]
    return out
