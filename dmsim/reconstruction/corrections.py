"""From what is seen at the surface to the deposit: place and correction factors.

Works in blocks of one size, so that one executable serves all and no row depends on the others; and in double
precision, so that what is kept in single does not depend on the processor's instructions.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim import relax
from dmsim.detector import Detector
from dmsim.detector.drift_field import DriftField
from dmsim.detector.drift_map import DriftMap
from dmsim.reconstruction.precision import enable_x64

_BLOCK = 256  # rows a compiled call; a multiple of every vector width
_INVERSION_STEPS = 30  # each shrinks the error by the map's distortion: 1e-3 left of 30 mm at a factor 0.7


class Correction(NamedTuple):
    """Place of the deposit, and what its areas are multiplied by. NaN without a place or a drift time."""

    x_mm: Float[Array | np.ndarray, "row"]
    y_mm: Float[Array | np.ndarray, "row"]
    z_mm: Float[Array | np.ndarray, "row"]
    s1: Float[Array | np.ndarray, "row"]  # to the volume's average light collection
    s2_top: Float[
        Array | np.ndarray, "row"
    ]  # to the axis at the surface: lifetime, gas gain, extraction, collection
    s2_bottom: Float[Array | np.ndarray, "row"]


def delay_offset_ns(detector: Detector) -> float:
    """Mean of (S2 centre - S1 centre) minus the electrons' drift time [ns].

    An S2's light comes over the gap's transit, uniformly, and then after the gas's scintillation; an S1's
    after the liquid's singlet or triplet decay. Recombination adds tens of ns to an S1, with an energy
    that is not known here: below 0.1 mm at any drift speed of the presets, and left out. What both share
    (propagation, transit in the sensor, pulse shape) cancels.
    """
    with enable_x64():
        return float(_delay(detector))


@eqx.filter_jit
def _delay(detector: Detector) -> Array:
    detector = detector.as_dtype(jnp.float64)
    gas, liquid = detector.electroluminescence, detector.scintillation
    mean_gas = gas.singlet_fraction * gas.singlet_lifetime_ns
    mean_gas += (1 - gas.singlet_fraction) * gas.triplet_lifetime_ns
    singlet = liquid.singlet_fraction_er
    mean_liquid = singlet * liquid.singlet_lifetime_ns + (1 - singlet) * liquid.triplet_lifetime_er_ns
    center = jnp.zeros((), jnp.float64)
    transit = detector.gap_transit_ns(center, center)
    in_gap = transit / 2 if detector.gas_gap is None else detector.gas_gap.mean_emission_ns(transit)
    return in_gap + mean_gas - mean_liquid


def undistorted(
    arrivals: DriftMap,
    x_mm: Float[Array, "..."],
    y_mm: Float[Array, "..."],
    drift_ns: Float[Array, "..."],
    speed_mm_per_us: Float[Array, ""],
) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
    """Where an electron started that arrived at this place after this drift.

    The map is undone by repeated substitution: the radius by the map's stretch, the depth by what the
    drift time lacks. It converges where the distortion varies slowly; places that no electron of the volume
    reaches end on its border.

    Args:
        arrivals: the detector's map.
        x_mm: at the gate.
        y_mm: at the gate.
        drift_ns: from the deposit to the gate, >= 0.
        speed_mm_per_us: about that of the drift.

    Gradient: exact, through the iterations.
    """
    speed = speed_mm_per_us * 1e-3

    def inside(x, y):
        r = relax.safe_sqrt(x**2 + y**2)
        shrink = jnp.minimum(1.0, arrivals.radius_mm / jnp.maximum(r, 1e-6))
        return x * shrink, y * shrink

    def step(_, place):
        x, y, z = place
        here = arrivals(x, y, z)
        z = jnp.clip(z + (here.time_ns - drift_ns) * speed, -arrivals.length_mm, 0.0)
        return *inside(x_mm / here.stretch, y_mm / here.stretch), z

    start = (x_mm, y_mm, jnp.clip(-drift_ns * speed, -arrivals.length_mm, 0.0))
    x, y, z = jax.lax.fori_loop(0, _INVERSION_STEPS, step, start)
    unknown = jnp.isnan(x_mm + y_mm + drift_ns)
    return tuple(jnp.where(unknown, jnp.nan, value) for value in (x, y, z))  # type: ignore[return-value]


def correct(
    detector: Detector,
    x_mm: Float[Array, "row"],
    y_mm: Float[Array, "row"],
    drift_time_ns: Float[Array, "row"],
) -> Correction:
    """Place of the deposit and factors of its areas.

    Args:
        detector: its drift field, where it has one, as a `DriftMap`.
        x_mm: of the S2 at the surface.
        y_mm: the same along y.
        drift_time_ns: to the gas, without the delay between the centres of S1 and S2.

    Gradient: exact.
    """
    electrons, light, geometry = detector.electrons, detector.light, detector.geometry
    in_liquid = drift_time_ns - electrons.surface_delay_ns
    if isinstance(detector.drift_field, DriftMap):
        x, y, z = undistorted(detector.drift_field, x_mm, y_mm, in_liquid, electrons.drift_speed_mm_per_us)
        survival = jnp.exp(-detector.drift_field(x, y, z).attachment)
    else:
        x, y, z = x_mm, y_mm, electrons.z_mm(drift_time_ns)
        rate = electrons.attachment_per_us(x, y, z)
        survival = jnp.exp(-jnp.maximum(in_liquid, 0.0) * 1e-3 * rate)
    center = jnp.zeros((), x_mm.dtype)
    charge = (
        detector.electron_gain_phd(x_mm, y_mm) * detector.extraction_at(x_mm, y_mm)
        / (detector.electron_gain_phd(center, center) * detector.extraction_at(center, center))
    )  # fmt: skip
    s2 = charge * light.s2_relative_yield(geometry, x_mm, y_mm) * survival
    top, bottom = _array_yields(detector, x_mm, y_mm)
    return Correction(
        x, y, z, 1 / light.s1_relative_yield(geometry, x, y, z), 1 / (s2 * top), 1 / (s2 * bottom)
    )


def _array_yields(detector: Detector, x_mm: Array, y_mm: Array) -> tuple[Array, Array]:
    """Share of S2 light on top and on the bottom, each over that on the axis.

    Only a pattern map of all sensors lets it vary.
    """
    light, n_top = detector.light, detector.light.sensors.n_top
    pattern = light.s2_pattern_map
    if pattern is None or pattern.rows != (light.sensors.n_sensors,):
        return jnp.ones_like(x_mm), jnp.ones_like(x_mm)
    center = jnp.zeros((), x_mm.dtype)

    def top(x, y):
        return jnp.sum(light.s2_pattern(detector.geometry, x, y)[..., :n_top], axis=-1)

    here, axis = top(x_mm, y_mm), top(center, center)
    return here / axis, (1 - here) / (1 - axis)


@eqx.filter_jit
def _correct_block(detector: Detector, *columns: Array) -> Correction:
    return correct(detector.as_dtype(jnp.float64), *columns)


def in_blocks(function: Callable, detector: Detector, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """A row-wise function of the detector and columns, applied in padded blocks of one size.

    Args:
        function: compiled; gives a tuple of columns.
        detector: first argument.
        columns: of equal length.
    """
    n = len(columns[0])
    parts = []
    with enable_x64():
        for begin in range(0, max(n, 1), _BLOCK):
            block = np.zeros((len(columns), _BLOCK))
            size = min(_BLOCK, n - begin)
            block[:, :size] = [column[begin : begin + size] for column in columns]
            parts.append([np.asarray(out)[:size] for out in function(detector, *block)])
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def corrections(
    detector: Detector,
    x_mm: Float[np.ndarray, "row"],
    y_mm: Float[np.ndarray, "row"],
    drift_time_ns: Float[np.ndarray, "row"],
) -> Correction:
    """`correct` on host arrays, of drift times as measured between the centres of S1 and S2.

    Raises:
        ValueError: if the drift field has not been made into its map.

    Gradient: none (host arrays).
    """
    if isinstance(detector.drift_field, DriftField):
        raise ValueError(
            "detector.drift_field has no arrival map: call dmsim.charge.prepare(detector) first, or "
            "reconstruct through dmsim.reconstruct"
        )
    drift = np.asarray(drift_time_ns, np.float64) - delay_offset_ns(detector)
    return Correction(*in_blocks(_correct_block, detector, x_mm, y_mm, drift))
