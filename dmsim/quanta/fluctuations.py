"""Fluctuations about the mean yields: how many quanta, how many of them ions, how many ions recombine.

Source: NEST, arXiv:2211.10726; skew recombination: LUX, arXiv:1910.04211.
"""

import math

import jax.numpy as jnp
from jax.scipy.special import erf
from jaxtyping import Array, Bool, Float

from dmsim import relax, rng
from dmsim.detector.yields import ERFluctuations, NRFluctuations, QuantaParameters, Skewness
from dmsim.quanta.conditions import Yields, quantum_ev
from dmsim.records import Quanta

# streams of random numbers under a deposit's key
_IONS = 0
_RECOMBINATION = 1


def fano_factor_er(
    model: ERFluctuations,
    n_quanta: Float[Array, "..."],
    field_v_per_cm: Float[Array, "..."],
    density_g_per_cm3: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Variance over mean of the number of quanta of an electron recoil. Gradient: exact."""
    first, second, third = model.fano_density
    rho = density_g_per_cm3
    constant = model.fano_constant + rho * (first + rho * (second + rho * third))
    return constant + model.fano_field * relax.safe_sqrt(n_quanta * field_v_per_cm)


def omega_er(
    model: ERFluctuations, electron_fraction: Float[Array, "..."], field_v_per_cm: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Spread of the recombination probability of electron recoils from event to event. Gradient: exact."""

    def shape(distance):
        return jnp.exp(-0.5 * distance**2) * (1 + erf(model.skew * distance / math.sqrt(2)))

    at_mode = shape(math.sqrt(2 / math.pi) * model.skew / jnp.sqrt(1 + model.skew**2))
    amplitude = model.recombination(field_v_per_cm)
    return amplitude * shape((electron_fraction - model.center) / model.width) / at_mode


def omega_nr(model: NRFluctuations, electron_fraction: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same of nuclear recoils. Gradient: exact."""
    return model.recombination * jnp.exp(-0.5 * ((electron_fraction - model.center) / model.width) ** 2)


def skewness_er(
    model: Skewness, energy_kev: Float[Array, "..."], field_v_per_cm: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Shape parameter of the recombination law of electron recoils. Gradient: exact."""
    high = jnp.where(energy_kev > 0, energy_kev, 0.0)
    crossover = 1 / (1 + jnp.exp((model.crossover_kev - high) / model.crossover_width_kev))
    low_energy = model.low_energy_offset + model.low_energy_amplitude * jnp.exp(
        -field_v_per_cm / model.low_energy_field_v_per_cm
    ) * -jnp.expm1(-high / model.low_energy_rise_kev)
    high_energy = model.high_energy_amplitude * jnp.exp(
        -high / model.high_energy_decay_kev
        - relax.safe_sqrt(field_v_per_cm / model.high_energy_field_v_per_cm)
    )
    return (1 - crossover) * low_energy + crossover * high_energy


def recombination(
    parameters: QuantaParameters,
    yields: Yields,
    recoil_like: Bool[Array, "deposit"],
    field_v_per_cm: Float[Array, "..."],
) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
    """Excitons over ions, probability to recombine, and its spread from event to event.

    Gradient: exact; zero where a bound holds.
    """
    mean = yields.n_photons + yields.n_electrons
    some = mean > 0
    electron_fraction = jnp.where(some, yields.n_electrons / jnp.where(some, mean, 1.0), 0.0)
    ratio = jnp.maximum(yields.exciton_ratio, 0.0)
    p = jnp.clip(1 - (1 + ratio) * electron_fraction, 0.0, 1.0)
    omega = jnp.where(
        recoil_like,
        omega_nr(parameters.nr_fluctuations, electron_fraction),
        omega_er(parameters.er_fluctuations, electron_fraction, field_v_per_cm),
    )
    return ratio, p, omega


def fluctuate(
    keys: rng.Words,
    parameters: QuantaParameters,
    yields: Yields,
    recoil_like: Bool[Array, "deposit"],
    field_v_per_cm: Float[Array, "..."],
    density_g_per_cm3: Float[Array, "..."],
) -> Quanta:
    """Draw the quanta of each deposit about its mean yields.

    Args:
        keys: one a deposit.
        parameters: constants of the model.
        yields: mean quanta; zero quanta give zero.
        recoil_like: whether a deposit fluctuates as NEST's nuclear recoils (independent ions and excitons)
            or as its electron recoils (ions are a binomial share of the quanta).
        field_v_per_cm: drift field, > 0.
        density_g_per_cm3: of the liquid, > 0.

    Returns:
        Integer-valued quanta with photons + electrons = ions + excitons.

    Gradient: pathwise in the normal draws, straight-through their rounding; matched-normal in the binomial;
    none through the step that switches the skewness off.
    Source: NEST, arXiv:2211.10726.
    """
    dtype = yields.n_photons.dtype
    mean = yields.n_photons + yields.n_electrons
    ratio, p, omega = recombination(parameters, yields, recoil_like, field_v_per_cm)
    ion_share = 1 / (1 + ratio)

    # ions and excitons
    u_0, u_1 = rng.uniform_pair(keys, _IONS, 0, dtype=dtype)
    z_0, z_1 = rng.normal_of(u_0), rng.normal_of(u_1)
    fano = fano_factor_er(parameters.er_fluctuations, mean, field_v_per_cm, density_g_per_cm3)
    er_quanta = _count(z_0, mean, fano * mean)
    er_ions = relax.binomial(u_1, jnp.where(recoil_like, 0.0, er_quanta), ion_share)
    nr = parameters.nr_fluctuations
    nr_ions = _count(z_0, mean * ion_share, nr.fano_ions * mean * ion_share)
    nr_excitons = _count(z_1, mean * ratio * ion_share, nr.fano_excitons * mean * ratio * ion_share)
    ions = jnp.where(recoil_like, nr_ions, er_ions)
    excitons = jnp.where(recoil_like, nr_excitons, er_quanta - er_ions)

    # recombination
    # NEST's energy here is that of the quanta
    energy_kev = 1e-3 * quantum_ev(parameters.work_function, density_g_per_cm3) * mean
    skewness = jnp.where(
        recoil_like, nr.skewness, skewness_er(parameters.skewness, energy_kev, field_v_per_cm)
    )
    skewed = (mean <= 1e4) & (field_v_per_cm >= 50) & (field_v_per_cm <= 4000)
    z_2, z_3 = rng.normal_pair(keys, _RECOMBINATION, 0, dtype=dtype)
    deviate = _standard_skew_normal(z_2, z_3, jnp.where(skewed, skewness, 0.0))
    spread = relax.safe_sqrt(p * (1 - p) * ions + (omega * ions) ** 2)
    # clipped before it is rounded: the same count, and the gradient has no ties
    drawn = relax.round_through(jnp.clip((1 - p) * ions + spread * deviate, 0.0, ions))
    electrons = jnp.where(p > 0, drawn, ions)
    return Quanta(n_photons=ions + excitons - electrons, n_electrons=electrons, n_excitons=excitons)


def _count(z, mean, variance):
    """A rounded normal, not negative. NEST leaves the 1/12 that the rounding adds to the variance."""
    return relax.round_through(jnp.maximum(mean + z * relax.safe_sqrt(variance), 0.0))


def _standard_skew_normal(z_0, z_1, shape):
    """Skew-normal of mean 0 and variance 1.

    Source: Azzalini, Scand. J. Statist. 12 (1985) 171; the draw: Henze, ibid. 13 (1986) 271.
    """
    delta = shape / jnp.sqrt(1 + shape**2)
    drawn = delta * jnp.abs(z_0) + jnp.sqrt(1 - delta**2) * z_1
    return (drawn - math.sqrt(2 / math.pi) * delta) / jnp.sqrt(1 - 2 / math.pi * delta**2)
