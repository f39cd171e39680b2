"""Kr-83m: 32.1 keV of conversion electrons, and 9.4 keV more after a half-life of 154.4 ns.

The second step makes more light the sooner it follows, in the ions that the first one left. The model
stands at three energies; near them its quanta are taken in proportion to the energy.

Source: NEST, arXiv:2211.10726, Kr-83m model.
"""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim.detector.yields import QuantaParameters
from dmsim.quanta import er_gamma
from dmsim.quanta.conditions import Conditions, Yields, bounded, exciton_ratio_er, quantum_ev

FIRST_STEP_KEV = 32.1
SECOND_STEP_KEV = 9.4
BOTH_KEV = 41.5
_LINES_KEV = (2.0, 10.0, 12.0, 18.0, 30.0)
_CASCADE_KEV = 32.0  # the lines of each cascade of the first step add up to this


def mean_delay_ns(parameters: QuantaParameters) -> Float[Array, ""]:
    """Mean delay of the second step. Gradient: exact."""
    return jnp.asarray(parameters.kr83m.half_life_ns) / math.log(2)


def _first_step_photons(parameters: QuantaParameters, conditions: Conditions) -> Float[Array, "..."]:
    """Photons of the 32.1 keV step: the gamma model for each line of its three cascades."""
    field = conditions.field_v_per_cm
    lines = jnp.asarray(_LINES_KEV, field.dtype).reshape((-1,) + (1,) * jnp.ndim(conditions.energy_kev))
    at_lines = eqx.tree_at(lambda c: c.energy_kev, conditions, lines)
    g2, g10, g12, g18, g30 = er_gamma.mean(parameters, at_lines).n_photons
    model = parameters.kr83m
    return (
        model.branch_30_2 * (g30 + g2)
        + model.branch_18_12_2 * (g18 + g12 + g2)
        + model.branch_18_10_2_2 * (g18 + g10 + 2 * g2)
    )


def _second_step_light_yield(parameters: QuantaParameters, conditions: Conditions) -> Float[Array, "..."]:
    """Photons a keV of the 9.4 keV step."""
    model = parameters.kr83m
    by_field = model.quenching_per_field * conditions.field_v_per_cm
    lost = model.quenching * by_field * jnp.log1p(1 / by_field)
    delay = jnp.maximum(conditions.dt_ns, 1.0)  # the limit holds below 133 ns
    return jnp.minimum(model.light_limit, model.light_level + model.light_delay_ns2 / delay**2) - lost


def mean(parameters: QuantaParameters, conditions: Conditions) -> Yields:
    """Mean yields of the first step, the second or both, by energy.

    Gradient: exact within NEST's bounds, zero beyond them.
    """
    energy = conditions.energy_kev
    w_ev = quantum_ev(parameters.work_function, conditions.density_g_per_cm3)
    second_only = energy < (SECOND_STEP_KEV + FIRST_STEP_KEV) / 2
    first_only = ~second_only & (energy < (FIRST_STEP_KEV + BOTH_KEV) / 2)
    energy_1 = jnp.where(second_only, 0.0, energy * jnp.where(first_only, 1.0, FIRST_STEP_KEV / BOTH_KEV))
    energy_2 = jnp.where(first_only, 0.0, energy * jnp.where(second_only, 1.0, SECOND_STEP_KEV / BOTH_KEV))
    cascades = energy_1 / FIRST_STEP_KEV
    photons_1 = cascades * _first_step_photons(parameters, conditions)
    photons_2 = energy_2 * _second_step_light_yield(parameters, conditions)
    # the charge of one step cannot make up for the other's
    electrons = jnp.maximum(1e3 * _CASCADE_KEV * cascades / w_ev - photons_1, 0.0) + jnp.maximum(
        1e3 * energy_2 / w_ev - photons_2, 0.0
    )
    more = (parameters.work_function.charge_scale - 1) * electrons
    ratio = exciton_ratio_er(parameters, conditions)
    yields = Yields(photons_1 + photons_2 - more, electrons + more, ratio, jnp.ones_like(electrons))
    return bounded(parameters, conditions, yields, w_ev)
