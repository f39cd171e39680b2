"""Alphas.

Source: NEST, arXiv:2211.10726, ion model for He-4.
"""

import jax.numpy as jnp

from dmsim.detector.yields import QuantaParameters
from dmsim.quanta.conditions import Conditions, Yields, bounded

# work function [eV] as a polynomial in log10 of the density [g/cm3], constant first
_WORK_FUNCTION_EV = (28.259, 25.667, -33.611, -123.73, -136.47, -74.194, -20.276, -2.2352)


def mean(parameters: QuantaParameters, conditions: Conditions) -> Yields:
    """Mean yields of an alpha. Gradient: exact within NEST's bounds, zero beyond them."""
    model = parameters.alpha
    energy, field = conditions.energy_kev, conditions.field_v_per_cm
    density = conditions.density_g_per_cm3
    log_density = jnp.log10(density)
    w_ev = jnp.zeros_like(log_density)
    for coefficient in reversed(_WORK_FUNCTION_EV):
        w_ev = w_ev * log_density + coefficient

    lindhard = jnp.minimum(
        model.quenching_scale * jnp.exp(model.quenching_power * jnp.log(energy)), model.quenching_limit
    )
    ratio = model.exciton_ratio + model.exciton_gas * jnp.exp(
        -model.exciton_gas_power * jnp.log1p((density / 10) ** 2)
    )
    n_quanta = parameters.work_function.recoil_scale * 1e3 * lindhard * energy / w_ev
    n_ions = n_quanta / (1 + ratio)

    by_density = 1 + (density / model.thomas_imel_density_g_per_cm3) ** model.thomas_imel_density_power
    # NEST lets the field term reach zero, at 0.07 V/cm, and divides by it
    by_field = jnp.maximum(
        model.field_scale * jnp.exp(model.field_power * jnp.log(field)) - model.field_offset, 1e-6
    )
    by_energy = jnp.maximum(model.low_energy_offset - model.low_energy_per_kev * energy, 0.0)
    thomas_imel = model.thomas_imel_scale / by_density / by_field + by_energy
    x = thomas_imel * n_ions / 4
    n_electrons = n_ions * jnp.log1p(x) / x
    return bounded(parameters, conditions, Yields(n_quanta - n_electrons, n_electrons, ratio, lindhard), w_ev)
