"""Beta spectra of allowed shape, by branches.

p E (Q - T)^2 with the Fermi function of a point nucleus, whose constant factor drops out. Forbidden branches
get the same shape: their mean energies in ENSDF are computed so, too. No screening.
Source: Fermi function: Behrens & Janecke, "Numerical tables for beta-decay and electron capture", 1969.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_ELECTRON_KEV = 510.99895  # CODATA 2018
_ALPHA = 1 / 137.035999  # CODATA 2018
_NODES = 2049


class Branch(NamedTuple):
    """One beta branch of a decay."""

    endpoint_kev: float
    daughter_charge: int
    level_kev: float = 0.0  # that the daughter is left at
    share: float = 1.0  # of the decays


def density(branch: Branch, energy_kev: np.ndarray) -> np.ndarray:
    """Decays a keV up to a factor, for 0 < T < Q; 0 elsewhere."""
    from scipy.special import loggamma  # noqa: PLC0415 - used by few

    inside = (energy_kev > 0) & (energy_kev < branch.endpoint_kev)
    kinetic = np.where(inside, energy_kev, 1.0)
    total = (kinetic + _ELECTRON_KEV) / _ELECTRON_KEV
    momentum = np.sqrt(total**2 - 1)
    gamma = math.sqrt(1 - (_ALPHA * branch.daughter_charge) ** 2)
    eta = _ALPHA * branch.daughter_charge * total / momentum
    log_fermi = 2 * (gamma - 1) * np.log(momentum) + math.pi * eta + 2 * np.real(loggamma(gamma + 1j * eta))
    shape = momentum * total * (branch.endpoint_kev - kinetic) ** 2
    return np.where(inside, np.exp(log_fermi) * shape, 0.0)


@functools.cache
def _quantiles(branch: Branch) -> np.ndarray:
    """Energy at evenly spaced s = 1 - (1 - CDF)^(1/3), in which it is smooth up to the endpoint."""
    edges = np.linspace(0.0, branch.endpoint_kev, 50_001)
    middle = (edges[1:] + edges[:-1]) / 2
    # summed from the endpoint down: 1 - CDF falls with the cube of the distance to it
    above = np.concatenate([np.cumsum(density(branch, middle)[::-1])[::-1], [0.0]])
    s = 1 - np.cbrt(above / above[0])
    return np.interp(np.linspace(0.0, 1.0, _NODES), s, edges)


def energy_kev(
    uniform: Float[Array, "..."], branches: Sequence[Branch], which: Array | int = 0
) -> Float[Array, "..."]:
    """The kinetic energy with this CDF, by linear interpolation between 2049 nodes (1e-6 of the endpoint).

    Args:
        uniform: in (0, 1).
        branches: that can occur.
        which: number of the branch.

    Gradient: none.
    """
    table = jnp.asarray(np.concatenate([_quantiles(branch) for branch in branches]), uniform.dtype)
    position = (1 - jnp.cbrt(1 - uniform)) * (_NODES - 1)
    node = jnp.clip(position.astype(jnp.int32), 0, _NODES - 2)
    fraction = position - node
    first = node + _NODES * jnp.asarray(which)
    return table[first] * (1 - fraction) + table[first + 1] * fraction


def choose(uniform: Float[Array, "..."], branches: Sequence[Branch]) -> Array:
    """Number of a branch, drawn by their shares. Gradient: none (integers)."""
    shares = np.cumsum([branch.share for branch in branches])
    inner = jnp.asarray(shares[:-1] / shares[-1], uniform.dtype)
    return jnp.searchsorted(inner, uniform, side="right")
