"""Electron recoils from gammas that are absorbed in one place.

Source: NEST, arXiv:2211.10726, gamma model.
"""

from dmsim.detector.yields import QuantaParameters, falloff
from dmsim.quanta.conditions import Conditions, Yields, electron_recoil, quantum_ev


def mean(parameters: QuantaParameters, conditions: Conditions) -> Yields:
    """Mean yields of a gamma. Gradient: exact within NEST's bounds, zero beyond them."""
    model = parameters.er_gamma
    energy, field = conditions.energy_kev, conditions.field_v_per_cm
    density = conditions.density_g_per_cm3
    m1 = model.m1(field)
    m2 = 1e3 / quantum_ev(parameters.work_function, density)
    m5 = model.m5(field)
    field_scale = model.m7_field_scale_v_per_cm * density**-model.m7_density_power
    m7 = model.m7_far_kev + (model.m7_near_kev - model.m7_far_kev) * falloff(
        field, field_scale, model.m7_power
    )
    low, high = (energy / model.m3_kev) ** 2, (energy / m7) ** 2
    charge_yield = m1 + (m2 - m1) / (1 + low) + m5 * high / (1 + high)
    # all quanta less the charge, m2 - charge_yield, without the difference of large numbers
    light_yield = (m2 - m1) * low / (1 + low) - m5 * high / (1 + high)
    return electron_recoil(parameters, conditions, charge_yield, light_yield)
