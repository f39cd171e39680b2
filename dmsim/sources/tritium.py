"""The beta spectrum of tritium.

Allowed shape p E (Q - T)^2 with the non-relativistic Fermi function of the helium nucleus.
Source: Q = 18.591 keV, Nagy et al., Europhys. Lett. 74 (2006) 404; shape as in LUX's tritium calibration,
arXiv:1512.03133.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Q_KEV = 18.591
_ELECTRON_KEV = 510.99895  # CODATA 2018
_ALPHA = 1 / 137.035999  # CODATA 2018
_Z_DAUGHTER = 2
_NODES = 2049


def density(energy_kev: np.ndarray) -> np.ndarray:
    """Decays a keV up to a factor, for 0 < T < Q; 0 elsewhere."""
    inside = (energy_kev > 0) & (energy_kev < Q_KEV)
    kinetic = np.where(inside, energy_kev, 1.0)
    total = kinetic + _ELECTRON_KEV
    momentum = np.sqrt(kinetic * (kinetic + 2 * _ELECTRON_KEV))
    x = 2 * math.pi * _ALPHA * _Z_DAUGHTER * total / momentum
    fermi = x / -np.expm1(-x)
    return np.where(inside, fermi * momentum * total * (Q_KEV - kinetic) ** 2, 0.0)


@functools.cache
def _inverse_cdf() -> np.ndarray:
    """Energy at evenly spaced s = 1 - (1 - CDF)^(1/3), in which it is smooth up to the endpoint."""
    edges = np.linspace(0.0, Q_KEV, 100_001)
    middle = (edges[1:] + edges[:-1]) / 2
    # summed from the endpoint down: 1 - CDF falls with the cube of the distance to it
    above = np.concatenate([np.cumsum(density(middle)[::-1])[::-1], [0.0]])
    s = 1 - np.cbrt(above / above[0])
    return np.interp(np.linspace(0.0, 1.0, _NODES), s, edges)


def energy_kev(uniform: Float[Array, "..."]) -> Float[Array, "..."]:
    """The kinetic energy [keV] with this CDF, by linear interpolation between 2049 nodes (1e-5 keV).

    Gradient: none.
    """
    table = jnp.asarray(_inverse_cdf(), uniform.dtype)
    position = (1 - jnp.cbrt(1 - uniform)) * (_NODES - 1)
    node = jnp.clip(position.astype(jnp.int32), 0, _NODES - 2)
    fraction = position - node
    return table[node] * (1 - fraction) + table[node + 1] * fraction
