"""Mean and covariance of the quanta of each deposit."""

from collections.abc import Iterable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim.detector import Detector
from dmsim.quanta.counted import is_counted
from dmsim.quanta.fluctuations import fano_factor_er, recombination
from dmsim.quanta.stage import deposit_yields, drift_field, is_recoil_like
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
    excitons = jnp.where(is_counted(deposits), yields.n_photons, total - ions)
    return Quanta(n_photons=total - n_electrons, n_electrons=n_electrons, n_excitons=excitons)


class QuantaSpread(eqx.Module):
    """Variances and covariance of the photons and electrons of each deposit."""

    var_photons: Float[Array, "deposit"]
    var_electrons: Float[Array, "deposit"]
    covariance: Float[Array, "deposit"]  # negative where recombination trades one for the other


def quanta_spread(
    detector: Detector, deposits: Deposits, *, interactions: Iterable[Interaction] | None = None
) -> QuantaSpread:
    """Covariance of the quanta that `sample_quanta` draws, by propagation of variances.

    The draws' clipping is left out, as in `expected_quanta`; zero without energy.

    Args:
        detector: gives the field and density at the deposit, and the constants.
        deposits: of any mixture of interactions; energy >= 0.
        interactions: all that can occur, if known.

    Gradient: exact, but for the skewness, which leaves the variance as it is.
    Source: as `fluctuate`.
    """
    parameters, density = detector.quanta, detector.xenon.density_g_per_cm3
    yields = deposit_yields(detector, deposits, interactions=interactions)
    field, recoil_like = drift_field(detector, deposits), is_recoil_like(deposits)
    mean = yields.n_photons + yields.n_electrons
    ratio, p, omega = recombination(parameters, yields, recoil_like, field)
    ions, excitons = mean / (1 + ratio), mean * ratio / (1 + ratio)
    some = mean > 0
    rounding = jnp.where(some, 1 / 12, 0.0)

    nr = parameters.nr_fluctuations
    var_quanta = fano_factor_er(parameters.er_fluctuations, mean, field, density) * mean + rounding
    var_ions_er = ions * ratio / (1 + ratio) + var_quanta / (1 + ratio) ** 2
    var_ions_nr = nr.fano_ions * ions + rounding
    var_quanta = jnp.where(recoil_like, var_ions_nr + nr.fano_excitons * excitons + rounding, var_quanta)
    var_ions = jnp.where(recoil_like, var_ions_nr, var_ions_er)
    ions_quanta = jnp.where(recoil_like, var_ions_nr, var_quanta / (1 + ratio))  # covariance

    kept = 1 - p
    recombines = p > 0  # else every ion's electron is kept, without spread or rounding
    drawn = p * kept * ions + omega**2 * (ions**2 + var_ions) + rounding
    var_electrons = kept**2 * var_ions + jnp.where(recombines, drawn, 0.0)
    electrons_quanta = kept * ions_quanta
    fluctuates = ~is_counted(deposits)
    return QuantaSpread(
        var_photons=jnp.where(fluctuates, var_quanta + var_electrons - 2 * electrons_quanta, 0.0),
        var_electrons=jnp.where(fluctuates, var_electrons, 0.0),
        covariance=jnp.where(fluctuates, electrons_quanta - var_electrons, 0.0),
    )
