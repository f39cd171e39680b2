"""Where atoms are carried in the liquid: one steady convection cell, diffusion, and drift of ions.

The cell follows from Stokes's stream function psi = (A/2) r^2 (1 - r^2/R^2) sin(pi h/L), h the height above
the cathode: v_r = -(1/r) dpsi/dh, v_z = (1/r) dpsi/dr. It is free of divergence by construction, and no flow
passes the walls. assumed: that it is one cell, and steady; XENON1T measured the speed, arXiv:2403.14878.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim import rng
from dmsim.detector import Detector

_STEP_S = 5.0  # 15 mm at the default speed, in a cell of 1 m


class Convection(NamedTuple):
    """How atoms move between decays.

    Attributes:
        v_rms_mm_per_s: root mean square speed of the liquid in the volume, >= 0. 0.30 cm/s in XENON1T,
            arXiv:2403.14878.
        diffusion_mm2_per_s: >= 0. assumed: 2e-3, the order of liquid xenon's self-diffusion.
        ions_drift: whether charged daughters drift down the field.
        ion_mobility_cm2_per_kv_s: of those that do. EXO-200, arXiv:1506.00317, at long drift times.
        ion_fraction_alpha: of daughters of alphas that are charged. EXO-200, Po-218.
        ion_fraction_beta: of daughters of betas. EXO-200, Bi-214.
    """

    v_rms_mm_per_s: float = 3.0
    diffusion_mm2_per_s: float = 2e-3
    ions_drift: bool = False
    ion_mobility_cm2_per_kv_s: float = 0.219
    ion_fraction_alpha: float = 0.503
    ion_fraction_beta: float = 0.764

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            ValueError: with name, value and range.
        """
        for name in ("v_rms_mm_per_s", "diffusion_mm2_per_s", "ion_mobility_cm2_per_kv_s"):
            if not 0 <= getattr(self, name) < 1e4:
                raise ValueError(f"{name} is {getattr(self, name)}: must be from 0 to 1e4")
        for name in ("ion_fraction_alpha", "ion_fraction_beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: must be from 0 to 1")


def velocity_mm_per_s(
    places_mm: Float[Array, "atom 3"],
    radius_mm: Float[Array, ""] | float,
    length_mm: Float[Array, ""] | float,
    v_rms_mm_per_s: float,
) -> Float[Array, "atom 3"]:
    """Velocity of the liquid at x, y, z. Gradient: exact."""
    x, y, z = places_mm[:, 0], places_mm[:, 1], places_mm[:, 2]
    wave = math.pi / length_mm
    # mean squares over the cylinder: of v_z A^2/6, of v_r A^2 (pi R/L)^2/96
    scale = v_rms_mm_per_s / jnp.sqrt(1 / 6 + (wave * radius_mm) ** 2 / 96)
    s = (x**2 + y**2) / radius_mm**2
    phase = wave * (z + length_mm)
    outward = -scale * wave / 2 * (1 - s) * jnp.cos(phase)  # v_r / r
    return jnp.stack([outward * x, outward * y, scale * (1 - 2 * s) * jnp.sin(phase)], axis=1)


def carry(
    keys: rng.Words,
    detector: Detector,
    convection: Convection,
    places_mm: Float[Array, "atom 3"],
    durations_s: Float[Array, "atom"],
    charged: Float[Array, "atom"],
) -> Float[Array, "atom 3"]:
    """Where atoms are after their durations.

    Steps of 5 s, by Runge's and Kutta's fourth order for the flow and one normal step for diffusion; walls
    reflect. An atom's way depends on its key, place and duration alone.

    Args:
        keys: one an atom.
        detector: whose volume and field they are in.
        convection: how they move.
        places_mm: x, y, z at the start.
        durations_s: >= 0.
        charged: 1 for ions, else 0.

    Gradient: none (the number of steps is not known when it is compiled).
    """
    geometry = detector.geometry
    steps = jnp.ceil(jnp.max(durations_s, initial=0.0) / _STEP_S).astype(jnp.int32)
    return _carry(keys, detector, geometry.radius_mm, geometry.drift_length_mm, convection, places_mm,
                  durations_s, charged, steps)  # fmt: skip


@jax.jit
def _carry(keys, detector, radius, length, convection, places, durations, charged, n_steps):
    dtype = places.dtype

    def velocity(at):
        flow = velocity_mm_per_s(at, radius, length, convection.v_rms_mm_per_s)
        field = detector.xenon.field_at(detector.geometry.height_mm(at[:, 2]))  # V/cm, points down
        drift = 10 * convection.ion_mobility_cm2_per_kv_s * field * 1e-3 * charged
        return flow.at[:, 2].add(-drift)

    def step(i, at):
        dt = jnp.clip(durations - i * _STEP_S, 0.0, _STEP_S)[:, None]
        k1 = velocity(at)
        k2 = velocity(at + dt / 2 * k1)
        k3 = velocity(at + dt / 2 * k2)
        k4 = velocity(at + dt * k3)
        z_0, z_1 = rng.normal_pair(keys, i, 0, dtype=dtype)
        z_2, _ = rng.normal_pair(keys, i, 1, dtype=dtype)
        spread = jnp.sqrt(2 * convection.diffusion_mm2_per_s * dt)
        moved = at + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4) + spread * jnp.stack([z_0, z_1, z_2], axis=1)
        return jnp.where(dt > 0, _reflected(moved, radius, length), at)

    return jax.lax.fori_loop(0, n_steps, step, places)


def _reflected(places, radius, length):
    """Back into the cylinder, once; what a step took further stands on the wall."""
    x, y, z = places[:, 0], places[:, 1], places[:, 2]
    r = jnp.hypot(x, y)
    shrink = jnp.where(r > radius, jnp.maximum(2 * radius - r, 0.0) / jnp.maximum(r, 1e-9), 1.0)
    z = jnp.where(z > 0, -z, z)
    z = jnp.where(z < -length, -2 * length - z, z)
    return jnp.stack([x * shrink, y * shrink, jnp.clip(z, -length, 0.0)], axis=1)
