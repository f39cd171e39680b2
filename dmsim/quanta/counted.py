"""Light or charge alone: deposits whose energy is read as their number of quanta, which does not fluctuate.

They stand for what lost the other half of its signal, such as isolated S1s and S2s.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dmsim import relax
from dmsim.detector.yields import QuantaParameters
from dmsim.quanta.conditions import MIN_ENERGY_KEV, Conditions, Yields
from dmsim.records import Deposits, Interaction, Quanta

COUNTED = (Interaction.PHOTONS, Interaction.ELECTRONS)


def photons(parameters: QuantaParameters, conditions: Conditions) -> Yields:
    """As many photons as the energy says. Gradient: exact."""
    n = _number(conditions)
    return Yields(n, jnp.zeros_like(n), jnp.zeros_like(n), jnp.ones_like(n))


def electrons(parameters: QuantaParameters, conditions: Conditions) -> Yields:
    """As many electrons as the energy says. Gradient: exact."""
    n = _number(conditions)
    return Yields(jnp.zeros_like(n), n, jnp.zeros_like(n), jnp.ones_like(n))


def _number(conditions: Conditions) -> Float[Array, "..."]:
    # what has no energy comes with the least that the other models can take
    return jnp.where(conditions.energy_kev > MIN_ENERGY_KEV, conditions.energy_kev, 0.0)


def is_counted(deposits: Deposits) -> Bool[Array, "deposit"]:
    """Whether a deposit's energy is its number of quanta. Gradient: none (a choice)."""
    return (deposits.interaction == COUNTED[0]) | (deposits.interaction == COUNTED[1])


def without_fluctuations(deposits: Deposits, yields: Yields, drawn: Quanta) -> Quanta:
    """The quanta drawn, but for counted deposits their yields, rounded. Gradient: straight-through."""
    counted = is_counted(deposits)
    n_photons = jnp.where(counted, relax.round_through(yields.n_photons), drawn.n_photons)
    n_electrons = jnp.where(counted, relax.round_through(yields.n_electrons), drawn.n_electrons)
    # light alone is prompt, as in `expected_quanta`: nothing is known of what recombined
    return Quanta(n_photons, n_electrons, jnp.where(counted, n_photons, drawn.n_excitons))
