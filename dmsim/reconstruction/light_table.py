"""The detector's S2 light pattern on the live top sensors as a table, for the host's fit.

Logarithms of the shares over a square grid, read as cubic splines; the grid is finer than what the sensors'
height lets the pattern change over.
"""

import math
from collections import OrderedDict
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.ndimage import spline_filter1d

from dmsim.detector import Detector
from dmsim.detector.geometry import Geometry
from dmsim.detector.light import LightResponse
from dmsim.reconstruction.charge_model import digest
from dmsim.reconstruction.precision import enable_x64

_NODES_A_HEIGHT = 4.0  # of the sensors above the light: the splines are then good to 1e-4 of a share
_BEYOND = 5  # nodes outside of the radius: a spline's error at the grid's border dies out over them
_MOST_NODES = 200  # a side
_BLOCK = 1024  # nodes a compiled call
_START_RINGS = 12  # of places that a fit may start from
_LEAST_SHARE = 1e-9  # stands for zero, where a supplied map says that a sensor sees nothing
_KEPT = 4  # tables, of the detectors last used


class LightTable(NamedTuple):
    """Log of the share of top light on each live top sensor."""

    live: Int[np.ndarray, "live"]  # channels
    low_mm: float  # x and y of the first node
    step_mm: float
    splines: Float[np.ndarray, "y x live"]  # float32, weights of the B-splines
    start_mm: Float[np.ndarray, "start 2"]  # places inside the radius
    start_log_share: Float[np.ndarray, "start live"]  # float32
    radius_mm: float


def top_shares(
    light: LightResponse, geometry: Geometry, xy_mm: Float[Array, "... 2"]
) -> Float[Array, "... top"]:
    """Share of the light on the top array that each of its sensors detects; 0 for a dead one.

    Gradient: exact.
    """
    n_top = light.sensors.n_top
    share = light.s2_pattern(geometry, xy_mm[..., 0], xy_mm[..., 1])[..., :n_top]
    share = jnp.where(light.sensors.efficiency[:n_top] > 0, share, 0.0)
    return share / jnp.sum(share, axis=-1, keepdims=True)


@eqx.filter_jit
def _log_shares(light, geometry, xy_mm):
    return jnp.log(jnp.maximum(top_shares(light, geometry, xy_mm), _LEAST_SHARE))


_tables: OrderedDict[str, LightTable] = OrderedDict()


def light_table(detector: Detector) -> LightTable:
    """Table of this detector. Kept for the next call with the same light response."""
    light, geometry = detector.light, detector.geometry
    leaves, rest = jax.tree.flatten((light, geometry))
    key = digest(*map(np.asarray, leaves), str(rest))  # a map's range and scale are in the tree's structure
    if key not in _tables:
        _tables[key] = _made(light, geometry)
        while len(_tables) > _KEPT:
            _tables.popitem(last=False)
    _tables.move_to_end(key)
    return _tables[key]


def _made(light: LightResponse, geometry: Geometry) -> LightTable:
    radius, n_top = float(geometry.radius_mm), light.sensors.n_top
    live = np.flatnonzero(np.asarray(light.sensors.efficiency)[:n_top] > 0)
    wanted = 2 * radius * _NODES_A_HEIGHT / float(light.top_height_mm)
    n_inside = int(min(max(math.ceil(wanted), 24), _MOST_NODES))
    step = 2 * radius / n_inside
    axis = step * (np.arange(n_inside + 2 * _BEYOND + 1) - _BEYOND) - radius
    x, y = np.meshgrid(axis, axis)
    starts = _starts(radius)
    places = np.concatenate([np.stack([x.ravel(), y.ravel()], axis=-1), starts])
    values = _evaluated(light, geometry, places)[:, live]
    grid, at_starts = values[: x.size], values[x.size :]
    splines = grid.reshape(*x.shape, len(live)).astype(np.float64)
    for along in (0, 1):
        splines = spline_filter1d(splines, order=3, axis=along, mode="mirror")
    splines = np.ascontiguousarray(splines, np.float32)
    return LightTable(live, float(axis[0]), step, splines, starts, np.ascontiguousarray(at_starts), radius)


def _evaluated(light, geometry, places: np.ndarray) -> Float[np.ndarray, "place top"]:
    """In double precision: single-precision values of it do not depend on the processor's instructions."""
    n = len(places)
    padded = np.zeros((-(-n // _BLOCK) * _BLOCK, 2))
    padded[:n] = places
    with enable_x64():
        light, geometry = (
            jax.tree.map(lambda leaf: leaf.astype(np.float64) if eqx.is_inexact_array(leaf) else leaf, part)
            for part in (light, geometry)
        )
        blocks = padded.reshape(-1, _BLOCK, 2)
        out = [np.asarray(_log_shares(light, geometry, block), np.float32) for block in blocks]
    return np.concatenate(out)[:n]


def _starts(radius: float) -> Float[np.ndarray, "start 2"]:
    """The centre and rings of equally spaced places, the last just inside of the wall."""
    places = [np.zeros((1, 2))]
    for ring in range(1, _START_RINGS + 1):
        r = 0.985 * radius * ring / _START_RINGS
        angle = 2 * np.pi * np.arange(6 * ring) / (6 * ring)
        places.append(np.stack([r * np.cos(angle), r * np.sin(angle)], axis=-1))
    return np.concatenate(places)
