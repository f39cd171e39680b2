"""Electrons followed one by one along their field lines: the solver that the arrival map is held against."""

from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim import relax
from dmsim.charge.drift_map import local
from dmsim.detector import Detector
from dmsim.detector.drift_field import DriftField
from dmsim.detector.drift_map import Arrival

_MAX_STEPS = 4096
_LATEST = 20.0  # in full drifts: an electron that is still under way hangs where the field turns
_LONGEST_STEP = 0.01  # so that no step jumps across the wall's structure


def follow(
    detector: Detector,
    x_mm: Float[Array, "deposit"],
    y_mm: Float[Array, "deposit"],
    z_mm: Float[Array, "deposit"],
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Arrival:
    """Arrival of an electron from each place, by an adaptive solver in time that ends at the gate.

    A hundred times the cost of the map, and of a chosen accuracy. The solver also ends at the wall: what hits
    it has `margin_mm` 0 or less, and time and path up to there; else the margin is at start or end.

    Args:
        detector: with a drift field.
        x_mm: in the liquid.
        y_mm: in the liquid.
        z_mm: below the gate, < 0.
        rtol: relative tolerance of a step; below 1e-5 in double precision only.
        atol: the same in units of the length, the drift time and the other integrals at full drift.

    Raises:
        ValueError: if the detector has no drift field.

    Gradient: exact, through the solver's steps and the time at which the gate is crossed.
    """
    import diffrax  # noqa: PLC0415 - two seconds that a simulation does without
    import optimistix  # noqa: PLC0415

    field = detector.drift_field
    if not isinstance(field, DriftField):
        raise ValueError(
            "detector.drift_field is None: follow needs one, as in the table [drift_field] of a preset"
        )
    geometry = detector.geometry
    length, radius = geometry.drift_length_mm, geometry.radius_mm
    # of the order of the full drift, so that one tolerance serves every component
    time_ns = relax.stop(length / detector.electrons.drift_speed_mm_per_us) * 1e3

    def slope(_, state, __):
        r = jnp.clip(state[0] * length, 0.0, radius)
        z = jnp.clip((state[1] - 1) * length, -length, 0.0)
        outward, upward = field.at(geometry, r, z)
        strength = jnp.sqrt(outward**2 + upward**2)
        here = local(detector, field, strength, r, z)
        way = here.speed_mm_per_ns * time_ns / length
        return jnp.stack(
            [
                -way * outward / strength,
                -way * upward / strength,
                here.attachment_per_ns * time_ns,
                2 * here.longitudinal_mm2_per_ns / here.speed_mm_per_ns**2 / time_ns,
                2 * here.transverse_mm2_per_ns * strength * time_ns / length**2,
            ]
        )

    def above_gate(t, y, args, **_):  # diffrax passes these by name
        del t, args
        return y[1] - 1

    def at_wall(t, y, args, **_):
        del t, args
        return y[0] - radius / length

    def one(r, z):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(slope),
            diffrax.Tsit5(),
            t0=0.0,
            t1=_LATEST,
            dt0=1e-3,
            y0=jnp.stack([r / length, 1 + z / length, *jnp.zeros(3, r.dtype)]),
            event=diffrax.Event((above_gate, at_wall), optimistix.Newton(rtol, atol)),
            max_steps=_MAX_STEPS,
            stepsize_controller=diffrax.PIDController(rtol, atol, dtmax=_LONGEST_STEP),
        )
        times, states, ended = cast(Any, (solution.ts, solution.ys, solution.event_mask))
        state, time = states[-1], times[-1]
        r_end = state[0] * length
        hit = ended[1] | (time >= _LATEST)
        outward, upward = field.at(geometry, r, z)
        _, at_surface = field.at(geometry, r_end, jnp.zeros_like(z))
        start = jnp.sqrt(outward**2 + upward**2)
        return Arrival(
            time_ns=time * time_ns,
            stretch=jnp.where(r > 0, r_end / jnp.where(r > 0, r, 1.0), 1.0),
            attachment=state[2],
            time_variance_ns2=state[3] * time_ns**2,
            variance_mm2=state[4] * length**2 / jnp.abs(at_surface),
            margin_mm=jnp.where(hit, jnp.minimum(radius - r_end, 0.0), radius - jnp.maximum(r, r_end)),
            field_v_per_cm=start,
        )

    return jax.vmap(one)(relax.safe_sqrt(x_mm**2 + y_mm**2), z_mm)
