"""Energies from a tabulated spectrum, linear between its nodes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim import relax
from dmsim.sources.placement import check_energy, is_concrete


def checked(energies_kev: Any, rates: Any, dtype: Any) -> tuple[Float[Array, "node"], Float[Array, "node"]]:
    """A table as arrays of one dtype.

    Raises:
        ValueError: if it is no spectrum; what is being traced passes.
    """
    energies, densities = jnp.asarray(energies_kev, dtype), jnp.asarray(rates, dtype)
    if energies.ndim != 1 or energies.shape != densities.shape or len(energies) < 2:
        raise ValueError(
            f"energies_kev has shape {energies.shape}, rates {densities.shape}: "
            "must have one dimension, the same length, and 2 nodes or more"
        )
    check_energy("energies_kev", energies)
    if is_concrete(energies) and np.any(np.diff(np.asarray(energies)) <= 0):
        first = int(np.argmax(np.diff(np.asarray(energies)) <= 0))
        raise ValueError(
            f"energies_kev goes from {energies[first]} to {energies[first + 1]} keV: must be ascending"
        )
    if is_concrete(densities):
        values = np.asarray(densities)
        bad = ~((values >= 0) & np.isfinite(values))
        if bad.any():
            raise ValueError(
                f"rates[{int(np.argmax(bad))}] is {values[bad][0]}: must be finite and 0 or more"
            )
        if not values.any():
            raise ValueError("rates are all 0: at least one must be above 0")
    return energies, densities


def draw(
    uniform: Float[Array, "event"], energies_kev: Float[Array, "node"], rates: Float[Array, "node"]
) -> Float[Array, "event"]:
    """The energies with these values of the CDF.

    Args:
        uniform: in (0, 1).
        energies_kev: nodes, ascending.
        rates: density at the nodes, >= 0, in any unit.

    Gradient: implicit in rates and nodes.
    """
    held = jax.lax.stop_gradient
    width = jnp.diff(energies_kev)
    below = jnp.concatenate([jnp.zeros(1, rates.dtype), jnp.cumsum(width * (rates[1:] + rates[:-1]) / 2)])
    slope = jnp.diff(rates) / width

    wanted = uniform * held(below[-1])
    # "right": never a cell without events in front of the place
    cell = jnp.clip(jnp.searchsorted(held(below), wanted, side="right") - 1, 0, len(width) - 1)
    excess = jnp.maximum(wanted - held(below)[cell], 0.0)
    # root of rate x + slope x^2 / 2 = excess in the form that holds for any sign of the slope
    root = jnp.sqrt(jnp.maximum(held(rates[cell] ** 2 + 2 * slope[cell] * excess), 0.0))
    step = 2 * excess / jnp.maximum(held(rates[cell]) + root, jnp.finfo(rates.dtype).tiny)
    energy = held(jnp.minimum(energies_kev[cell] + step, energies_kev[cell + 1]))

    past = energy - energies_kev[cell]
    cdf = (below[cell] + past * (rates[cell] + slope[cell] * past / 2)) / below[-1]
    density = held((rates[cell] + slope[cell] * past) / below[-1])
    usable = density > 0  # 0 at a node where the spectrum begins or ends, which has no probability
    return jnp.where(usable, relax.implicit(energy, cdf, jnp.where(usable, density, 1.0)), energy)
