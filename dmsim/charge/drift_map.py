"""From a drift field to its arrival map, differentiable in every voltage and map value.

Levels are marched from the gate down. An electron at a node of one level takes one Runge-Kutta step of its
field line to the level above and reads there, by interpolation, what the rest of the way adds. Everything
is an integral over the height: drift time, log of the radius, attachment and both variances.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim.detector import Detector, liquid
from dmsim.detector.drift_field import DriftField
from dmsim.detector.drift_map import DriftMap, extend, locate

_LEAST_RISE = (
    0.05  # of the field that points down, where it is less or turned: electrons there go to the wall
)
_BEYOND = 3  # columns of the grid outside of the wall, so that no field line inside feels the end


class Local(NamedTuple):
    """What happens to an electron in a field."""

    speed_mm_per_ns: Float[Array, "..."]
    attachment_per_ns: Float[Array, "..."]
    longitudinal_mm2_per_ns: Float[Array, "..."]  # diffusion constants
    transverse_mm2_per_ns: Float[Array, "..."]


def nominal_field(detector: Detector) -> Float[Array, ""]:
    """Mean [V/cm] of the field that the measured drift speed belongs to. Gradient: exact."""
    depth = (jnp.arange(16, dtype=detector.geometry.drift_length_mm.dtype) + 0.5) / 16
    height = detector.geometry.height_mm(-depth * detector.geometry.drift_length_mm)
    return jnp.mean(detector.xenon.field_at(height))


def local(
    detector: Detector,
    field: DriftField,
    field_v_per_cm: Float[Array, "..."],
    r_mm: Float[Array, "..."],
    z_mm: Float[Array, "..."],
) -> Local:
    """Speed, attachment and diffusion at places with this field. Gradient: exact. Source: as `liquid`."""
    electrons = detector.electrons
    speed = field.speed_mm_per_us(
        field_v_per_cm,
        measured_mm_per_us=electrons.drift_speed_mm_per_us,
        nominal_v_per_cm=nominal_field(detector),
        temperature_k=detector.xenon.temperature_k,
    )
    lifetime = electrons.lifetime_us if electrons.lifetime_map is None else electrons.lifetime_map(r_mm, z_mm)
    if field.diffusion_curve:
        along = liquid.longitudinal_cm2_per_s(field_v_per_cm, field.diffusion_curve)
        across = liquid.transverse_cm2_per_s(field_v_per_cm)
    else:
        along = electrons.diffusion_longitudinal_cm2_per_s
        across = electrons.diffusion_transverse_cm2_per_s
    shape = jnp.shape(field_v_per_cm)
    return Local(
        speed_mm_per_ns=speed * 1e-3,
        attachment_per_ns=jnp.broadcast_to(1e-3 / lifetime, shape),
        longitudinal_mm2_per_ns=jnp.broadcast_to(along * 1e-7, shape),
        transverse_mm2_per_ns=jnp.broadcast_to(across * 1e-7, shape),
    )


def _rates(detector: Detector, field: DriftField, r_mm, z_mm) -> tuple[Array, Array]:
    """Change a millimetre of rise of every integral, at every height and radius; and the field there."""
    upward, outward_per_r = field.table(detector.geometry, r_mm, z_mm)
    r, z = jnp.meshgrid(r_mm, z_mm)
    strength = jnp.sqrt(upward**2 + (outward_per_r * r) ** 2)
    rise = jnp.maximum(-upward, _LEAST_RISE * strength)
    here = local(detector, field, strength, r, z)
    time = strength / (rise * here.speed_mm_per_ns)
    rates = (
        time,
        -2 * outward_per_r / rise,  # d ln r^2 along the line, against the field
        time * here.attachment_per_ns,
        time * 2 * here.longitudinal_mm2_per_ns / here.speed_mm_per_ns**2,
        # a tube of field lines is as wide as the field is weak: what spreads here is that much wider above
        time * 2 * here.transverse_mm2_per_ns * strength,
    )
    return jnp.stack(rates, axis=-1), strength


def build(detector: Detector, field: DriftField) -> DriftMap:
    """The arrival map of this detector with this field.

    Gradient: exact, of the map as it is built.
    Source: spread across: conservation of flux; arrival's variance: 2 D dt / v^2 (diffusion shifts an
        electron along its line, where a millimetre is 1/v).
    """
    radius, length = detector.geometry.radius_mm, detector.geometry.drift_length_mm
    dtype = length.dtype
    step_r2 = 1.0 / (field.n_radii - 1)
    n_radii, n_steps = field.n_radii + _BEYOND, field.n_heights - 1
    r2 = jnp.arange(n_radii, dtype=dtype) * step_r2
    r_mm = radius * jnp.sqrt(r2)
    z_mm = (jnp.arange(2 * n_steps + 1, dtype=dtype) / (2 * n_steps) - 1) * length
    rates, strength = _rates(detector, field, r_mm, z_mm)
    padded = jax.vmap(extend)(rates)  # along the radius
    step = length / n_steps

    def read(table: Array, at_r2: Array) -> Array:
        cell, weights = locate(at_r2 / step_r2, n_radii)
        nothing = jnp.zeros((), dtype)
        return sum((weight[:, None] * table[cell + i] for i, weight in enumerate(weights)), nothing)

    def down(above, level):
        low, middle, high, here = level
        first = here
        second = read(middle, r2 * jnp.exp(0.5 * step * first[:, 1]))
        third = read(middle, r2 * jnp.exp(0.5 * step * second[:, 1]))
        last = read(high, r2 * jnp.exp(step * third[:, 1]))
        gained = step / 6 * (first + 2 * second + 2 * third + last)
        landed = r2 * jnp.exp(gained[:, 1])
        rest = read(above, landed)
        farthest = jnp.maximum(r2, jnp.maximum(landed, rest[:, 5]))
        now = jnp.concatenate([gained + rest[:, :5], farthest[:, None]], axis=1)
        return extend(now), now

    top = jnp.concatenate([jnp.zeros((n_radii, 5), dtype), r2[:, None]], axis=1)
    levels = (padded[:-2:2], padded[1::2], padded[2::2], rates[:-2:2])
    _, below = jax.lax.scan(down, extend(top), levels, reverse=True)
    values = jnp.concatenate([below, top[None]])

    # the tubes' width is counted from the surface's field where the line ends
    surface = extend(strength[-1])
    cell, weights = locate(r2 * jnp.exp(values[..., 1]) / step_r2, n_radii)
    at_end = sum(weight * surface[cell + i] for i, weight in enumerate(weights))
    values = values.at[..., 4].divide(at_end)
    values = jnp.concatenate([values, strength[::2, :, None]], axis=-1)
    values = jnp.swapaxes(extend(jnp.swapaxes(extend(values), 0, 1)), 0, 1)
    return DriftMap(values=values, radius_mm=radius, length_mm=length, step_r2=step_r2)


_build = eqx.filter_jit(build)


def prepare(detector: Detector) -> Detector:
    """The detector with its drift field in the fast form; unchanged where it has none.

    Gradient: exact, through the map.
    """
    if not isinstance(detector.drift_field, DriftField):
        return detector
    return dataclasses.replace(detector, drift_field=_build(detector, detector.drift_field))
