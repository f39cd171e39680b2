"""Kr-83m: two conversion decays at one place, 154.4 ns apart on the half-life."""

from typing import Unpack

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from dmsim.detector import Detector
from dmsim.records import Deposits
from dmsim.sources.placement import Where, place, several_deposits, single_deposits

# energies: NEST, arXiv:2211.10726; the half-life between them is a leaf of the detector
_STEPS_KEV = (32.1, 9.4)
_BOTH_KEV = 41.5


def kr83m(key: PRNGKeyArray, detector: Detector, *, merged: bool = False, **where: Unpack[Where]) -> Deposits:
    """Decays of Kr-83m: 32.1 keV at the event's start, 9.4 keV after an exponential delay.

    Args:
        key: of the run.
        detector: whose volume is filled.
        merged: one deposit of 41.5 keV in place of the two.
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in the geometry and the half-life.
    Source: NEST, arXiv:2211.10726.
    """
    placed = place(key, detector, **where)
    if merged:
        return single_deposits(placed, jnp.asarray(_BOTH_KEV), "kr83m")
    dtype = placed.x_mm.dtype
    half_life_ns = jnp.asarray(detector.quanta.kr83m.half_life_ns, dtype)
    delay_ns = -jnp.log2(placed.uniform()) * half_life_ns
    energy = jnp.broadcast_to(jnp.asarray(_STEPS_KEV, dtype), (len(delay_ns), 2))
    times = jnp.stack([jnp.zeros_like(delay_ns), delay_ns], axis=1)
    return several_deposits(placed, energy, ["kr83m", "kr83m"], time_ns=times)
