"""What the numbers of a preset must satisfy together, beyond the range of each."""

import dataclasses
from collections.abc import Iterator

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer

from dmsim.detector.drift_field import DriftField
from dmsim.detector.maps import GridMap
from dmsim.detector.model import Detector
from dmsim.detector.quantities import Spec, specs


def check(detector: Detector) -> None:
    """Refuse a detector whose parameters contradict each other.

    Raises:
        ValueError: one line with the parameters, what comes out of them and what must.
    """
    electronics = detector.electronics
    full_scale = 2**electronics.n_bits
    if not electronics.zle_threshold_adc < electronics.baseline_adc < full_scale:
        raise ValueError(
            f"electronics.baseline_adc is {electronics.baseline_adc} adc: must be above zle_threshold_adc "
            f"{electronics.zle_threshold_adc} and below 2^n_bits = {full_scale}"
        )
    rise, decay = float(electronics.pulse_rise_ns), float(electronics.pulse_decay_ns)
    if not (rise < 0.99 * decay and electronics.sample_ns / rise < 40):
        raise ValueError(
            f"electronics.pulse_rise_ns is {rise:g} ns: must be below pulse_decay_ns {decay:g} ns by 1 % or "
            f"more, and above a 40th of a sample of {electronics.sample_ns} ns"
        )
    depth = np.linspace(0.0, 1.0, 201)
    height = float(detector.geometry.gate_height_mm) - depth * float(detector.geometry.drift_length_mm)
    coefficients = np.asarray(detector.xenon.field_v_per_cm, float)
    field = np.polynomial.polynomial.polyval(height, coefficients)
    if not field.min() > 0:
        worst = int(np.argmin(field))
        raise ValueError(
            f"xenon.field_v_per_cm gives {field[worst]:g} V/cm at height {height[worst]:g} mm: must be "
            "above 0 everywhere between cathode and gate"
        )
    _check_maps(detector)
    _check_light(detector)
    _check_late(detector)


def _check_light(detector: Detector) -> None:
    light = detector.light
    along = np.linspace(-1.0, 1.0, 201)
    s1_z = 1 + float(light.s1_slope_z) * along + float(light.s1_curve_z) * (along**2 - 1 / 3)
    s1_r = abs(float(light.s1_slope_r2)) / 2
    s1_low, s1_high = s1_z.min() - s1_r, s1_z.max() + s1_r
    s2 = 1 + float(light.s2_slope_r2) * (np.array([0.0, 1.0]) - float(light.s2_reference_r2))
    s1_names, s2_names = "light.s1_slope_z, s1_curve_z, s1_slope_r2 give", "light.s2_slope_r2 gives"
    if light.s1_map is not None:
        values = np.asarray(light.s1_map.values)
        s1_low, s1_high, s1_names = values.min(), values.max(), "light.s1_map gives"
    if light.s2_map is not None:
        s2, s2_names = np.asarray(light.s2_map.values), "light.s2_map gives"
    for names, low in ((f"{s1_names} an S1", s1_low), (f"{s2_names} an S2", s2.min())):
        if not low > 0:
            raise ValueError(f"{names} yield of {low:g} of its reference somewhere: must be above 0")
    detected = float(light.g1_phd_per_photon) * s1_high
    if not detected <= 1:
        raise ValueError(
            f"light.g1_phd_per_photon reaches {detected:g} phd/photon somewhere: must be at most 1"
        )
    _check_gap(detector)
    _check_cage(detector)


def _check_maps(detector: Detector) -> None:
    """Each map's axes, extent and number of sensors."""
    sensors, geometry = detector.light.sensors, detector.geometry
    radius, length = float(geometry.radius_mm), float(geometry.drift_length_mm)
    of_patterns = {
        "s1_pattern_map": (sensors.n_sensors,),
        "s2_pattern_map": (sensors.n_sensors, sensors.n_top),
    }
    for name, grid, spec in maps(detector):
        if spec.axes and grid.axes not in spec.axes:
            permitted = " or ".join(f"({', '.join(axes)})" for axes in spec.axes)
            raise ValueError(f"{name} is over ({', '.join(grid.axes)}): must be over {permitted}")
        for axis, low, high in zip(grid.axes, grid.low, grid.high, strict=True):
            # a map need not reach the wall; a tenth or ten times of it is one in other units
            reach, whole = (
                (-low, length) if axis == "z" else (high if axis == "r" else min(-low, high), radius)
            )
            if not 0.5 * whole <= reach <= 5 * whole:
                raise ValueError(
                    f"{name} reaches from {axis} = {low:g} to {high:g} mm: must cover half of the detector's "
                    f"{whole:g} mm at least, and not 5 times as much"
                )
        wanted = of_patterns.get(name.rsplit(".", 1)[-1])
        if wanted is None and grid.rows:
            raise ValueError(f"{name} holds {grid.rows} values at each point: must hold one")
        if wanted is None:
            continue
        if len(grid.rows) != 1 or grid.rows[0] not in wanted:
            numbers = " or ".join(map(str, wanted))
            raise ValueError(
                f"{name} holds {grid.rows} values at each point: must hold {numbers}, one a sensor"
            )
        seen = np.asarray(grid.values) @ np.asarray(sensors.efficiency)[: grid.rows[0]]
        if not seen.min() > 0:
            raise ValueError(f"{name} has a point whose light no sensor sees")


def maps(detector: Detector) -> Iterator[tuple[str, GridMap, Spec]]:
    """Name, values and `Spec` of each supplied map: "light.s1_map"."""
    for path, module in jax.tree_util.tree_leaves_with_path(detector, is_leaf=_holds_only_leaves):
        if isinstance(module, eqx.Module):
            for name, spec in specs(module):
                if isinstance(grid := getattr(module, name), GridMap):
                    yield f"{jax.tree_util.keystr(path).lstrip('.')}.{name}", grid, spec


def _check_late(detector: Detector) -> None:
    """Refuse optional tables whose numbers do not go together."""
    if (table := detector.afterpulses) is not None:
        shapes = {name: np.shape(getattr(table, name)) for name, _ in specs(table)}
        odd = [name for name, shape in shapes.items() if shape != shapes["probability"]]
        if odd:
            raise ValueError(
                f"afterpulses.{odd[0]} has shape {shapes[odd[0]]}: must be that of probability, "
                f"{shapes['probability']}"
            )
        negative = np.asarray(table.delay_ns) - np.asarray(table.delay_width_ns) / 2 < 0
        if negative.any():
            raise ValueError(
                f"afterpulses.delay_ns is less than half of delay_width_ns in {negative.sum()} entries: "
                "must not be, as no afterpulse precedes its photoelectron"
            )
    if (freed := detector.photoionisation) is not None:
        longest = float(detector.electrons.drift_time_ns(-detector.geometry.drift_length_mm))
        if not float(freed.cutoff_ns) <= 1.01 * longest:
            raise ValueError(
                f"photoionisation.cutoff_ns is {float(freed.cutoff_ns):g} ns: must be at most the longest "
                f"drift time, {longest:g} ns, since light frees electrons above the cathode"
            )
    if (held := detector.delayed_electrons) is not None and not held.first_ns < held.last_ns:
        raise ValueError(
            f"delayed_electrons.first_ns is {float(held.first_ns):g} ns: must be below last_ns "
            f"{float(held.last_ns):g} ns"
        )


_TWO_TRUTHS = 0.05  # by which a gas gap may differ from the constants that hold without it


def _check_gap(detector: Detector) -> None:
    """Refuse constants that contradict the gas gap, since one of them must be wrong."""
    gap = detector.gas_gap
    if gap is None:
        return
    narrow = float(gap.gap_mm + gap.sag_mm)
    if not narrow > 0:
        raise ValueError(f"gas_gap.sag_mm leaves {narrow:g} mm of gap at the wall: must be above 0")
    center = np.zeros((), np.float32)
    without = dataclasses.replace(detector, gas_gap=None)
    for name, of in (
        ("electroluminescence.se_gain_phd", lambda d: d.electron_gain_phd(center, center)),
        ("electrons.extraction_efficiency", lambda d: d.extraction_at(center, center)),
    ):
        made, stated = float(of(detector)), float(of(without))
        if not abs(made - stated) <= _TWO_TRUTHS * stated:
            raise ValueError(
                f"{name} is {stated:g}, but gas_gap makes {made:g} of it: must agree within "
                f"{_TWO_TRUTHS:.0%}, since the constant holds where gas_gap is off"
            )


def _check_cage(detector: Detector) -> None:
    """Refuse a field cage whose rings are out of place."""
    cage = detector.drift_field
    if not isinstance(cage, DriftField):
        return
    heights, potentials = np.asarray(cage.ring_z_mm, float), np.asarray(cage.ring_v, float)
    if heights.shape != potentials.shape:
        raise ValueError(
            f"drift_field has {heights.size} ring_z_mm and {potentials.size} ring_v: must have one a ring"
        )
    length = float(detector.geometry.drift_length_mm)
    borders = np.concatenate([[-length], heights, [0.0]])
    if not (np.diff(borders) > 0).all():
        raise ValueError(
            f"drift_field.ring_z_mm is {heights}: must ascend between the cathode at -{length:g} mm and the "
            "gate at 0"
        )
    if cage.wall_charge_uc_per_m2.shape[0] < 2:
        raise ValueError("drift_field.wall_charge_uc_per_m2 has one entry: must have two or more")


def check_values(detector: Detector) -> None:
    """Refuse a detector, however it was made, in which a parameter makes no physical sense.

    Looser than a preset's ranges, so that studies may go beyond them: each parameter must be finite, not
    negative (or zero) where its range is not, and a share at most 1. Values that are being traced are passed.

    Raises:
        ValueError: one line with the parameter, its value and what it must be.
    """
    if not isinstance(detector, Detector):
        kind = type(detector).__name__
        raise ValueError(f"detector is a {kind}: give a Detector, as from dmsim.load_detector")
    modules = jax.tree_util.tree_leaves_with_path(detector, is_leaf=_holds_only_leaves)
    for path, module in modules:
        if not isinstance(module, eqx.Module):
            continue
        for name, spec in specs(module):
            value = getattr(module, name)
            value = value.values if isinstance(value, GridMap) else value
            if value is None or spec.kind == "int" or isinstance(value, Tracer):
                continue
            wrong = _wrong(np.asarray(value), spec)
            if wrong:
                where = f"{jax.tree_util.keystr(path).lstrip('.')}.{name}"
                raise ValueError(f"{where} is {np.asarray(value)} {spec.unit}: must be {wrong}")


def _holds_only_leaves(node) -> bool:
    return isinstance(node, eqx.Module) and any(True for _ in specs(node))


def _wrong(value: np.ndarray, spec: Spec) -> str:
    """What the value should have been, or nothing if it is in order."""
    if not np.isfinite(value).all():
        return "finite"
    if spec.low > 0 and not (value > 0).all():
        return "above 0"
    if spec.low == 0 and not (value >= 0).all():
        return "0 or more"
    if spec.high == 1 and not (value <= 1).all():
        return "at most 1"
    return ""
