"""The detectors and deposits on which gradients are checked."""

import dataclasses

import jax.numpy as jnp
import numpy as np

import dmsim
from dmsim.detector.drift_field import DriftField, straight_rings
from dmsim.detector.gas_gap import GasGap
from dmsim.detector.maps import GridMap
from dmsim.detector.pulses import Noise
from dmsim.records import Deposits, Interaction


def _changed(detector, **replace):
    """The detector with these leaves, named module__leaf, set to other values."""
    for name, value in replace.items():
        node, field = name.split("__")
        part = getattr(detector, node)
        part = dataclasses.replace(part, **{field: jnp.asarray(value, getattr(part, field).dtype)})
        detector = dataclasses.replace(detector, **{node: part})
    return detector


def large_detector():
    """XENONnT, with a field at which all of the emission model counts, and no leaf at zero."""
    return _changed(
        dmsim.load_detector("xenonnt").without("all"),
        xenon__field_v_per_cm=[295.0, 0.01],
        electrons__lifetime_us=3000.0,
        electroluminescence__linear_noise=0.05,
        light__s2_slope_r2=-0.1,
    )


def small_detector():
    """XAMS: its five sensors make many photons cheap. A lifetime and a diffusion that are felt."""
    return _changed(
        dmsim.load_detector("xams"),
        electrons__lifetime_us=40.0,
        electrons__diffusion_transverse_cm2_per_s=15000.0,
        electrons__diffusion_longitudinal_cm2_per_s=200.0,
        electroluminescence__linear_noise=0.05,
        light__s1_curve_z=0.02,
    )


def caged_detector():
    """The large detector with a field cage that bends lines, maps on top of it, and a gas gap that sags."""
    detector = large_detector()
    length, radius = float(detector.geometry.drift_length_mm), float(detector.geometry.radius_mm)
    gate_v = 200.0  # not at zero: every leaf is stepped in units of its own value
    cathode_v = gate_v - 2.3 * length
    heights, potentials = straight_rings(cathode_v, gate_v, length, 6)
    potentials = potentials + 90 * np.exp(-(heights + length) / 200)
    low, high = (0.0, -length), (radius, 0.0)
    of_place = np.random.default_rng(5).uniform(-0.2, 0.2, (2, 3, 3))
    radial, vertical = (GridMap(jnp.asarray(x, jnp.float32), ("r", "z"), low, high) for x in of_place)
    numbers = (cathode_v, gate_v, heights, potentials, 5.0, [0.1, 0.05, 0.01, -0.05])
    field = DriftField(
        *(jnp.asarray(x, jnp.float32) for x in numbers),
        n_terms=16,
        n_radii=24,
        n_heights=48,
        speed_curve=1,
        diffusion_curve=1,
        radial_map=radial,
        vertical_map=vertical,
    )
    return dataclasses.replace(detector, drift_field=field, gas_gap=_gap(gain=0.06))


def _gap(gain: float) -> GasGap:
    # field, gap, liquid, sag, light detected, wait at the surface, light near the wires and its length
    values = (8.3, 8.0, 5.0, 0.5, gain, 140.0, 0.2, 0.5)
    return GasGap(*(jnp.float32(x) for x in values))


def gap_detector():
    """The small detector with light from a gas gap."""
    return dataclasses.replace(small_detector(), gas_gap=_gap(gain=0.03))


def noisy_detector():
    """The small detector with all kinds of noise."""
    values = (3.0, 60.0, [2.0, 1.0, 0.5], 4.0, 3e4)
    return dataclasses.replace(small_detector(), noise=Noise(*(jnp.asarray(x, jnp.float32) for x in values)))


def deposits(detector, n_events: int, *, kinds=tuple(Interaction), low_kev=10.0, high_kev=60.0) -> Deposits:
    """One deposit an event, all kinds in turn, spread over the volume. Kr-83m: its three energies."""
    random = np.random.default_rng(7)
    kind = np.resize([k.value for k in kinds], n_events)
    energy = random.uniform(low_kev, high_kev, n_events)
    energy = np.where(kind == Interaction.ALPHA, 5490.0, energy)
    energy = np.where(kind == Interaction.KR83M, random.choice([9.4, 32.1, 41.5], n_events), energy)
    time = np.where((kind == Interaction.KR83M) & (energy == 9.4), random.uniform(100, 600, n_events), 0.0)
    length, radius = (float(detector.geometry.drift_length_mm), float(detector.geometry.radius_mm))
    r, angle = 0.9 * radius * np.sqrt(random.uniform(size=n_events)), random.uniform(0, 2 * np.pi, n_events)

    def column(values):
        return jnp.asarray(values, jnp.float32)

    return Deposits(
        event=jnp.arange(n_events, dtype=jnp.int32),
        interaction=jnp.asarray(kind, jnp.int32),
        energy_kev=column(energy),
        x_mm=column(r * np.cos(angle)),
        y_mm=column(r * np.sin(angle)),
        z_mm=column(-length * random.uniform(0.3, 0.95, n_events)),
        time_ns=column(time),
        first_event=jnp.int32(0),
        event_time_ns=None,
        n_events=n_events,
    )
