"""Detectors with a field cage, for tests."""

import dataclasses

import jax.numpy as jnp
import numpy as np

import dmsim
from dmsim.detector.drift_field import DriftField, straight_rings


def cage(detector, *, distort=1.0, rings=16, **changes) -> DriftField:
    """A cage of 23 V/cm with too strong a field at the bottom and charge on the wall."""
    length = float(detector.geometry.drift_length_mm)
    dtype = detector.geometry.drift_length_mm.dtype
    cathode, gate = -2.3 * length, 0.0
    heights, potentials = straight_rings(cathode, gate, length, rings)
    potentials = potentials + distort * (90 * np.exp(-(heights + length) / 200) - 30 * np.exp(heights / 150))
    settings = {"n_terms": 48, "n_radii": 96, "n_heights": 192, "speed_curve": 1, "diffusion_curve": 1}
    charge = distort * np.array([0.10, 0.05, 0.0, -0.05])
    leaves = {
        "cathode_v": cathode,
        "gate_v": gate,
        "ring_z_mm": heights,
        "ring_v": potentials,
        "wall_mm": 5.0,
        "wall_charge_uc_per_m2": charge,
    }
    given = {name: jnp.asarray(value, dtype) for name, value in leaves.items()}
    return DriftField(**{**given, **settings, **changes})


def with_cage(dtype=jnp.float32, **options):
    """XENONnT with such a cage."""
    detector = dmsim.load_detector("xenonnt", dtype=dtype)
    return dataclasses.replace(detector, drift_field=cage(detector, **options))
