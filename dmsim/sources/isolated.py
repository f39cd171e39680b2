"""Isolated S1s and S2s, whose chance pairs are the accidental coincidences.

An isolated S1 is light whose charge is lost, an isolated S2 charge whose light is: a deposit of photons or of
electrons alone, whose `energy_kev` is their number. All stages after the quanta treat it as any other.
"""

from typing import Unpack

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from dmsim.detector import Detector
from dmsim.records import Deposits
from dmsim.relax import round_through
from dmsim.sources.placement import Where, is_concrete, place, single_deposits


def isolated_s1(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    photons_min: float = 15.0,
    photons_max: float = 1000.0,
    **where: Unpack[Where],
) -> Deposits:
    """Light without charge: a whole number of photons, uniform in its logarithm.

    Args:
        key: of the run.
        detector: whose volume is filled.
        photons_min: fewest that leave the place, 1 to 1e5. assumed: 15 to 1000, which are 2 to 150 PE in
            XENONnT, the range of isolated S1s that enter the experiments' accidental models.
        photons_max: most, above the fewest, to 1e5.
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in the geometry and, straight-through the rounding, in the limits.
    """
    return _isolated(key, detector, ("photons", photons_min, photons_max), where)


def isolated_s2(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    electrons_min: float = 1.0,
    electrons_max: float = 1000.0,
    **where: Unpack[Where],
) -> Deposits:
    """Charge without light: a whole number of electrons, uniform in its logarithm.

    Args:
        key: of the run.
        detector: whose volume is filled.
        electrons_min: fewest that leave the place, 1 to 1e5. assumed: 1 to 1000, from single electrons to the
            2e4 PE up to which isolated S2s enter the experiments' accidental models.
        electrons_max: most, above the fewest, to 1e5.
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in the geometry and, straight-through the rounding, in the limits.
    """
    return _isolated(key, detector, ("electrons", electrons_min, electrons_max), where)


def _isolated(
    key: PRNGKeyArray, detector: Detector, counts: tuple[str, float, float], where: Where
) -> Deposits:
    kind, low, high = counts
    if is_concrete(low) and is_concrete(high) and not 1 <= low < high <= 1e5:
        raise ValueError(f"{kind}_min {low}, {kind}_max {high}: must satisfy 1 <= min < max <= 1e5")
    placed = place(key, detector, **where)
    number = low * jnp.exp(placed.uniform() * jnp.log(jnp.asarray(high, placed.x_mm.dtype) / low))
    return single_deposits(placed, round_through(number), kind)
