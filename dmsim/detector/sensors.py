"""Photosensors: positions, relative efficiencies, and the charge of a single photoelectron."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# a spectrum is tabulated at normal scores, so that its tails are resolved
SPE_SCORES = np.linspace(-4.0, 4.0, 65)


@functools.cache
def score_moments() -> tuple[np.ndarray, np.ndarray]:
    """Of x(z), linear between its values q at the scores and constant beyond, z a standard normal.

    E[x] = weights . q and E[x^2] = q . product q.
    """
    nodes, node_weights = np.polynomial.legendre.leggauss(8)
    n = SPE_SCORES.size
    weights, product = np.zeros(n), np.zeros((n, n))
    for k in range(n - 1):
        low, high = SPE_SCORES[k : k + 2]
        z = low + (high - low) * (nodes + 1) / 2
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * node_weights * (high - low) / 2
        hats = np.stack([high - z, z - low]) / (high - low)
        weights[k : k + 2] += hats @ density
        product[k : k + 2, k : k + 2] += (hats * density) @ hats.T
    beyond = math.erfc(-SPE_SCORES[0] / math.sqrt(2)) / 2
    for end in (0, -1):
        weights[end] += beyond
        product[end, end] += beyond
    return weights, product


class SensorArray(eqx.Module):
    """Sensors in channel order, the top array first."""

    x_mm: Float[Array, "sensor"]
    y_mm: Float[Array, "sensor"]
    efficiency: Float[Array, "sensor"]  # relative to a nominal sensor; 0 for a dead one
    n_top: int = eqx.field(static=True)
    # charge of one photoelectron at `SPE_SCORES`, mean 1; None: a truncated normal of `spe_width` for all
    spe_quantiles: Float[Array, "sensor score"] | None = None

    @property
    def n_sensors(self) -> int:
        """All sensors, dead ones included."""
        return self.x_mm.shape[0]

    def _spectra(self) -> Float[Array, "sensor score"]:
        if self.spe_quantiles is None:
            raise ValueError("spe_quantiles is None: supply the sensors' spectra")
        return self.spe_quantiles

    def spe_charge(self, sensor: Array, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Charge [PE] of one photoelectron of these sensors at normal score z. Gradient: exact (pathwise)."""
        n = SPE_SCORES.size
        position = jnp.clip((z - SPE_SCORES[0]) * ((n - 1) / (SPE_SCORES[-1] - SPE_SCORES[0])), 0.0, n - 1.0)
        cell = jnp.minimum(jax.lax.stop_gradient(position).astype(jnp.int32), n - 2)
        share = position - cell
        flat, place = self._spectra().reshape(-1), sensor * n + cell
        return (1 - share) * flat[place] + share * flat[place + 1]

    def spe_moments(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Mean and variance of one photoelectron's charge [PE], each a mean over sensors by efficiency.

        Gradient: exact.
        """
        spectra = self._spectra()
        weights, product = (jnp.asarray(m, spectra.dtype) for m in score_moments())
        mean = spectra @ weights
        second = jnp.sum((spectra @ product) * spectra, axis=1)
        share = self.efficiency / jnp.sum(self.efficiency)
        return share @ mean, share @ (second - mean**2)
