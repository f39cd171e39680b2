"""What every yield model sees and gives, and the relations that the models share."""

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import erf
from jaxtyping import Array, Float

from dmsim.detector.yields import QuantaParameters, WorkFunction

MIN_ENERGY_KEV = 1e-3  # below the work function: stands in for less, where logarithms need a positive number


class Conditions(eqx.Module):
    """One deposit, or an array of them, as a yield model sees it. The fields broadcast."""

    energy_kev: Float[Array, "..."]
    field_v_per_cm: Float[Array, "..."]
    density_g_per_cm3: Float[Array, "..."]
    dt_ns: Float[Array, "..."]  # delay of the 9.4 keV step of Kr-83m
    mass_number: Float[Array, "..."]  # of the recoiling nucleus


class Yields(eqx.Module):
    """Mean quanta of a deposit."""

    n_photons: Float[Array, "..."]
    n_electrons: Float[Array, "..."]
    exciton_ratio: Float[Array, "..."]  # excitons over ions, before recombination
    lindhard: Float[Array, "..."]  # share of the energy that makes quanta; 1 for electron recoils


def quantum_ev(work: WorkFunction, density_g_per_cm3: Float[Array, "..."]) -> Float[Array, "..."]:
    """Energy a quantum, W [eV]. Gradient: exact."""
    return work.quantum_ev(density_g_per_cm3)


def exciton_limit(work: WorkFunction, density_g_per_cm3: Float[Array, "..."]) -> Float[Array, "..."]:
    """Excitons over ions of electron recoils at high energy. Gradient: exact."""
    return work.exciton_offset + work.exciton_slope_cm3_per_g * density_g_per_cm3


def exciton_ratio_er(parameters: QuantaParameters, conditions: Conditions) -> Float[Array, "..."]:
    """Excitons over ions of electron recoils. Gradient: exact."""
    work = parameters.work_function
    return exciton_limit(work, conditions.density_g_per_cm3) * erf(
        work.exciton_per_kev * conditions.energy_kev
    )


def bounded(
    parameters: QuantaParameters,
    conditions: Conditions,
    yields: Yields,
    quantum_energy_ev: Float[Array, "..."],
) -> Yields:
    """Yields within NEST's bounds: 0 to E over 8.5 eV, and none below W over Lindhard's factor.

    Gradient: exact on either side of a bound, zero beyond it.
    """
    energy = conditions.energy_kev
    most = energy / parameters.work_function.min_kev_per_quantum
    lindhard = jnp.clip(yields.lindhard, 0.0, 1.0)
    enough = energy * lindhard >= 1e-3 * quantum_energy_ev
    return Yields(
        n_photons=jnp.where(enough, jnp.clip(yields.n_photons, 0.0, most), 0.0),
        n_electrons=jnp.where(enough, jnp.clip(yields.n_electrons, 0.0, most), 0.0),
        exciton_ratio=yields.exciton_ratio,
        lindhard=lindhard,
    )


def electron_recoil(
    parameters: QuantaParameters,
    conditions: Conditions,
    charge_yield: Float[Array, "..."],
    light_yield: Float[Array, "..."],
) -> Yields:
    """Yields of an electron recoil with these electrons and photons a keV.

    The work function's charge scale turns photons into electrons, or back.

    Gradient: as `bounded`.
    """
    energy = conditions.energy_kev
    ratio = exciton_ratio_er(parameters, conditions)
    more = (parameters.work_function.charge_scale - 1) * charge_yield
    yields = Yields(
        energy * (light_yield - more), energy * (charge_yield + more), ratio, jnp.ones_like(ratio)
    )
    w_ev = quantum_ev(parameters.work_function, conditions.density_g_per_cm3)
    return bounded(parameters, conditions, yields, w_ev)
