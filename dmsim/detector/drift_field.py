"""The drift field in (r, z), from electrode voltages, charge on the wall, and a supplied map.

In a cylinder between two planes the potential is that of the planes plus a Fourier-Bessel series: with the
wall's potential as a sine series over the height, sin(k s) I0(k r) / I0(k R) solves Laplace's equation term
by term, and the coefficients of a piecewise linear wall are closed-form. Rings behind the wall reach the
liquid through a layer of PTFE, charge on its surface adds to them; both are factors of each term.

Source: Jackson, "Classical Electrodynamics", 3rd ed., section 3.7.
"""

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e, i1e
from jaxtyping import Array, Float

from dmsim.detector import liquid
from dmsim.detector.geometry import Geometry
from dmsim.detector.maps import GridMap
from dmsim.detector.quantities import leaf, leaves, setting, supplied

_LIQUID_PERMITTIVITY = 1.85  # NEST
_PTFE_PERMITTIVITY = 2.1  # usual value of PTFE at low frequency
_VOLT_PER_CHARGE = 1e-6 / (8.8541878128e-12 * 1e3)  # uC/m2 x mm over eps0, CODATA 2018
_V_PER_CM = 10.0  # in V/mm
_NEAR_AXIS = 1e-4  # of the radius: stands for zero where a ratio over r is asked for


# accelerators would round the factors to ten bits
_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def sine_coefficients(
    k: Float[Array, "term"], s: Float[Array, "knot"], values: Float[Array, "knot"], length
) -> Float[Array, "term"]:
    """Of sin(k s) in a function that is linear between knots, on 0 to `length`, with k = n pi / length.

    Gradient: exact.
    """
    steps = (values[1:] - values[:-1]) / (s[1:] - s[:-1])
    sines = jnp.sin(k[:, None] * s)
    inner = jnp.sum(steps * (sines[:, 1:] - sines[:, :-1]), axis=1) / k**2
    edge = (values[0] * jnp.cos(k * s[0]) - values[-1] * jnp.cos(k * s[-1])) / k
    return 2 / length * (inner + edge)


class DriftField(eqx.Module):
    """Replaces the field polynomial, the straight drift and its speed where a preset has it."""

    cathode_v: Float[Array, ""] = leaf("V", -1e6, 1e6, "potential of the cathode")
    gate_v: Float[Array, ""] = leaf("V", -1e6, 1e6, "potential of the gate")
    ring_z_mm: Float[Array, "ring"] = leaves(
        "mm", -5000, 0, "heights of the field cage's rings, ascending, between cathode and gate"
    )
    ring_v: Float[Array, "ring"] = leaves("V", -1e6, 1e6, "their potentials; linear between them")
    wall_mm: Float[Array, ""] = leaf("mm", 0, 100, "of PTFE between the wall's surface and the rings")
    wall_charge_uc_per_m2: Float[Array, "height"] = leaves(
        "uC/m2", -100, 100, "on the wall, at equally spaced heights from cathode to gate, linear between"
    )
    n_terms: int = setting("1", 1, 2000, "of the series; the finest structure kept is length / n_terms")
    n_radii: int = setting("1", 8, 1000, "points of the arrival map in r^2")
    n_heights: int = setting("1", 8, 5000, "points of the arrival map in z")
    speed_curve: int = setting(
        "1", 0, 1, "0: constant speed; 1: NEST's curve, scaled to drift_speed_mm_per_us"
    )
    diffusion_curve: int = setting(
        "1", 0, 3, "0: constant diffusion; 1, 2, 3: NEST's low, central, high curve of the local field"
    )
    radial_map: GridMap | None = supplied(
        "V/cm", -1e6, 1e6, "field outwards over (r, z), added to the electrodes'", "rz"
    )
    vertical_map: GridMap | None = supplied(
        "V/cm",
        -1e6,
        1e6,
        "field upwards over (r, z), added to the electrodes'; negative where electrons rise",
        "rz",
    )

    def _series(self, geometry: Geometry) -> tuple[Float[Array, "term"], Float[Array, "term"]]:
        """Wave numbers [1/mm], and amplitudes [V] of sin(k s) on the wall's surface."""
        length = geometry.drift_length_mm
        k = jnp.arange(1, self.n_terms + 1, dtype=length.dtype) * (math.pi / length)
        s = jnp.concatenate([jnp.zeros(1, k.dtype), self.ring_z_mm + length, length[None]])
        uniform = self.cathode_v + (self.gate_v - self.cathode_v) * s[1:-1] / length
        excess = jnp.pad(self.ring_v - uniform, 1)
        of_rings = sine_coefficients(k, s, excess, length)

        heights = jnp.linspace(0.0, 1.0, self.wall_charge_uc_per_m2.shape[0], dtype=k.dtype) * length
        of_charge = sine_coefficients(k, heights, self.wall_charge_uc_per_m2, length)
        # displacement through the wall's layer and into the liquid; the layer is thin against the radius
        inward = i1e(k * geometry.radius_mm) / i0e(k * geometry.radius_mm) * _LIQUID_PERMITTIVITY
        decay, through = jnp.exp(-k * self.wall_mm), jnp.tanh(k * self.wall_mm)
        both = _PTFE_PERMITTIVITY + inward * through
        passed = 2 * decay / (1 + decay**2) * _PTFE_PERMITTIVITY / both
        return k, of_rings * passed + of_charge * _VOLT_PER_CHARGE * through / (k * both)

    def table(
        self, geometry: Geometry, r_mm: Float[Array, "radius"], z_mm: Float[Array, "height"]
    ) -> tuple[Float[Array, "height radius"], Float[Array, "height radius"]]:
        """Field upwards, and field outwards over r [1/mm], at every height and radius.

        Args:
            geometry: of the same detector.
            r_mm: from the axis; held at the wall beyond it.
            z_mm: 0 at the gate.

        Returns:
            V/cm, and V/cm/mm.

        Gradient: exact.
        """
        k, amplitude = self._series(geometry)
        r = jnp.clip(r_mm, _NEAR_AXIS * geometry.radius_mm, geometry.radius_mm)
        s = z_mm + geometry.drift_length_mm
        wall = i0e(k * geometry.radius_mm)
        # scaled functions carry exp(k r): what is left of I(k r) / I0(k R) cannot overflow
        growth = jnp.exp(k[:, None] * (r - geometry.radius_mm)) / wall[:, None]
        level = i0e(k[:, None] * r) * growth
        slope = i1e(k[:, None] * r) * growth / r
        waves = (amplitude * k) * _V_PER_CM
        uniform = -(self.gate_v - self.cathode_v) / geometry.drift_length_mm * _V_PER_CM
        upward = uniform - _matmul(waves * jnp.cos(s[:, None] * k), level)
        outward = -_matmul(waves * jnp.sin(s[:, None] * k), slope)
        place = jnp.meshgrid(r, z_mm)
        if self.vertical_map is not None:
            upward = upward + self.vertical_map(*place)
        if self.radial_map is not None:
            outward = outward + self.radial_map(*place) / place[0]
        return upward, outward

    def at(
        self, geometry: Geometry, r_mm: Float[Array, ""], z_mm: Float[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Field outwards and upwards [V/cm] at one place. Gradient: exact."""
        upward, outward = self.table(geometry, r_mm[None], z_mm[None])
        return outward[0, 0] * r_mm, upward[0, 0]

    def strength(
        self, geometry: Geometry, r_mm: Float[Array, "..."], z_mm: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Of the field [V/cm] at each place; for many places the map is faster. Gradient: exact."""
        flat = (jnp.ravel(x) for x in jnp.broadcast_arrays(r_mm, z_mm))
        outward, upward = jax.vmap(lambda r, z: self.at(geometry, r, z))(*flat)
        return jnp.sqrt(outward**2 + upward**2).reshape(jnp.broadcast_shapes(r_mm.shape, z_mm.shape))

    def speed_mm_per_us(
        self,
        field_v_per_cm: Float[Array, "..."],
        *,
        measured_mm_per_us: Float[Array, ""],
        nominal_v_per_cm: Float[Array, ""],
        temperature_k: Float[Array, ""],
    ) -> Float[Array, "..."]:
        """Electron speed at this field: the measured one at the nominal field, NEST's curve elsewhere.

        Gradient: exact.
        Source: NEST's curve as in `dmsim.detector.liquid`; its scale is low by some per cent.
        """
        if not self.speed_curve:
            return jnp.broadcast_to(measured_mm_per_us, field_v_per_cm.shape)
        shape = liquid.speed_mm_per_us(field_v_per_cm, temperature_k)
        return measured_mm_per_us * shape / liquid.speed_mm_per_us(nominal_v_per_cm, temperature_k)


def straight_rings(
    cathode_v: float, gate_v: float, length_mm: float, n_rings: int
) -> tuple[np.ndarray, np.ndarray]:
    """Heights and potentials of a field cage that leaves the field uniform.

    Args:
        cathode_v: potential of the cathode.
        gate_v: potential of the gate.
        length_mm: between them.
        n_rings: equally spaced between them.
    """
    share = np.arange(1, n_rings + 1) / (n_rings + 1)
    return (share - 1) * length_mm, cathode_v + (gate_v - cathode_v) * share
