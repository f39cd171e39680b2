"""Electron recoils from betas and Compton electrons: the default ER model.

Source: NEST, arXiv:2211.10726, beta model.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim.detector.yields import ERBeta, QuantaParameters, falloff, rise
from dmsim.quanta.conditions import Conditions, Yields, electron_recoil, exciton_ratio_er, quantum_ev


def _density_factor(model: ERBeta, density: Float[Array, "..."]) -> Float[Array, "..."]:
    """Charge yield over that at the reference density: 1 there."""
    reference = model.reference_density_g_per_cm3

    def law(rho):
        # a b = rho0^-0.3 rho0^-1.4
        return jnp.log1p(reference**-1.7 * rho**1.7) * rho**-1.7

    return law(density) / law(reference)


def mean(parameters: QuantaParameters, conditions: Conditions) -> Yields:
    """Mean yields of a beta. Gradient: exact within NEST's bounds, zero beyond them."""
    model = parameters.er_beta
    energy, field = conditions.energy_kev, conditions.field_v_per_cm
    density = conditions.density_g_per_cm3
    m1 = model.m1(field)
    m3 = model.m3_offset + model.m3_per_decade * jnp.log10(field)
    quanta_yield = 1e3 / quantum_ev(parameters.work_function, density)
    m5 = quanta_yield / (1 + exciton_ratio_er(parameters, conditions)) - m1
    low = (model.m2 - m1) * falloff(energy, m3, model.m4(field), model.m9)
    high = m5 * rise(energy, model.m7(field), model.m8, model.m10(field))
    charge_yield = (m1 + low + high) * _density_factor(model, density)
    return electron_recoil(parameters, conditions, charge_yield, quanta_yield - charge_yield)
