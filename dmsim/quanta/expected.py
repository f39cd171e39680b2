"""Mean quanta of each deposit."""

from collections.abc import Iterable

import jax.numpy as jnp

from dmsim.detector import Detector
from dmsim.quanta.stage import deposit_yields
from dmsim.records import Deposits, Interaction, Quanta


def expected_quanta(
    detector: Detector, deposits: Deposits, *, interactions: Iterable[Interaction] | None = None
) -> Quanta:
    """Mean of the quanta that `sample_quanta` draws: the mean yields, split as it splits them.

    The draws' clipping (no count below zero, no more electrons than ions) is left out: it moves the mean
    where their spread reaches a bound, at a few quanta.

    Args:
        detector: gives the field and density at the deposit, and the constants.
        deposits: of any mixture of interactions; energy >= 0.
        interactions: all that can occur, if known.

    Gradient: exact within NEST's bounds on the yields, zero beyond them.
    Source: as `fluctuate`.
    """
    yields = deposit_yields(detector, deposits, interactions=interactions)
    total = yields.n_photons + yields.n_electrons
    ratio = jnp.maximum(yields.exciton_ratio, 0.0)
    ions = total / (1 + ratio)
    n_electrons = jnp.minimum(yields.n_electrons, ions)  # NEST clips the recombination probability at zero
    return Quanta(n_photons=total - n_electrons, n_electrons=n_electrons, n_excitons=total - ions)
