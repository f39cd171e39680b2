"""Nuclear recoils.

Source: NEST, arXiv:2211.10726, nuclear-recoil model.
"""

import jax.numpy as jnp

from dmsim.detector.yields import QuantaParameters, rise
from dmsim.quanta.conditions import Conditions, Yields, bounded, exciton_limit, quantum_ev

MOLAR_MASS_G_PER_MOL = 131.293  # of natural xenon, as in NEST
DEFAULT_MASS_NUMBER = 131.0  # NEST truncates the molar mass to an integer


def mean(parameters: QuantaParameters, conditions: Conditions) -> Yields:
    """Mean yields of a nuclear recoil. Gradient: exact within NEST's bounds, zero beyond them."""
    model, work = parameters.nr, parameters.work_function
    energy, field = conditions.energy_kev, conditions.field_v_per_cm
    density = conditions.density_g_per_cm3
    by_mass = jnp.sqrt(MOLAR_MASS_G_PER_MOL / conditions.mass_number)
    thomas_imel = (
        model.thomas_imel_scale
        * jnp.exp(model.thomas_imel_power * jnp.log(field))
        * (density / model.reference_density_g_per_cm3) ** model.density_power
    )
    charge_rolloff = rise(
        energy, model.charge_cutoff_kev, model.charge_cutoff_power, model.charge_cutoff_sharpness
    )
    light_rolloff = rise(
        energy, model.light_cutoff_kev, model.light_cutoff_power, model.light_cutoff_sharpness
    )
    charge_yield = (
        work.charge_scale
        * charge_rolloff
        / (thomas_imel * jnp.exp(model.charge_power * jnp.log(energy + model.charge_energy_kev)))
    )
    quanta_yield = (
        work.recoil_scale * model.quanta_scale * jnp.exp((model.quanta_power - 1) * jnp.log(energy))
    )
    light_yield = jnp.maximum(quanta_yield - charge_yield, 0.0)
    n_electrons = by_mass * energy * charge_yield
    n_photons = by_mass * energy * light_yield * light_rolloff

    n_ions = 4 / thomas_imel * jnp.expm1(n_electrons * thomas_imel / 4)
    ratio = (n_photons + n_electrons) / n_ions - 1
    ratio = jnp.where(energy > 100, jnp.maximum(ratio, exciton_limit(work, density)), ratio)
    ratio = jnp.where(energy < 1, jnp.minimum(ratio, 1.0), ratio)
    w_ev = quantum_ev(work, density)
    lindhard = (n_photons + n_electrons) / energy * w_ev * 1e-3
    return bounded(parameters, conditions, Yields(n_photons, n_electrons, ratio, lindhard), w_ev)
