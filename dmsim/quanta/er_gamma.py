"""Electron recoils from gammas that are absorbed in one place.

Source: NEST, arXiv:2211.10726, gamma model.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim.detector.yields import QuantaParameters, falloff
from dmsim.quanta.conditions import Conditions, Yields, electron_recoil, quantum_ev


def charge_yield(parameters: QuantaParameters, conditions: Conditions) -> Float[Array, "..."]:
    """Electrons a keV. Gradient: exact."""
    model = parameters.er_gamma
    energy, field = conditions.energy_kev, conditions.field_v_per_cm
    density = conditions.density_g_per_cm3
    m1 = model.m1(field)
    m2 = 1e3 / quantum_ev(parameters.work_function, density)
    m5 = model.m5(field)
    field_scale = model.m7_field_scale_v_per_cm * density**-model.m7_density_power
    m7 = model.m7_far_kev + (model.m7_near_kev - model.m7_far_kev) * falloff(
        field, field_scale, model.m7_power, jnp.ones_like(model.m7_power)
    )
    return m1 + (m2 - m1) / (1 + (energy / model.m3_kev) ** 2) + m5 - m5 / (1 + (energy / m7) ** 2)


def mean(parameters: QuantaParameters, conditions: Conditions) -> Yields:
    """Mean yields of a gamma. Gradient: exact within NEST's bounds, zero beyond them."""
    return electron_recoil(parameters, conditions, charge_yield(parameters, conditions))
