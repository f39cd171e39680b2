"""Electron recoils of mixed origin: betas and gammas, weighted by energy and field.

Source: NEST, arXiv:2211.10726, weighted model (a fit to XELDA's L-shell captures).
"""

import jax.numpy as jnp
from jax.scipy.special import erf

from dmsim.detector.yields import QuantaParameters, rise
from dmsim.quanta import er_beta, er_gamma
from dmsim.quanta.conditions import Conditions, Yields, bounded, quantum_ev


def mean(parameters: QuantaParameters, conditions: Conditions) -> Yields:
    """Mean yields of the mixture. Gradient: exact within NEST's bounds, zero beyond them."""
    model = parameters.er_weighted
    in_energy = erf(model.steepness * (jnp.log(conditions.energy_kev) - model.log_energy))
    in_field = rise(conditions.field_v_per_cm, model.field_v_per_cm, model.field_power)
    weight = model.offset + model.amplitude * in_energy * in_field
    beta = er_beta.mean(parameters, conditions)
    gamma = er_gamma.mean(parameters, conditions)
    mixed = Yields(
        n_photons=weight * gamma.n_photons + (1 - weight) * beta.n_photons,
        n_electrons=weight * gamma.n_electrons + (1 - weight) * beta.n_electrons,
        exciton_ratio=beta.exciton_ratio,
        lindhard=beta.lindhard,
    )
    w_ev = quantum_ev(parameters.work_function, conditions.density_g_per_cm3)
    return bounded(parameters, conditions, mixed, w_ev)
