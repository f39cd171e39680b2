"""Charge of a detected photon."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim import relax
from dmsim.detector.model import Electronics


def photoelectrons(
    u_double: Float[Array, "..."], z_charge: Float[Array, "..."], electronics: Electronics
) -> Float[Array, "..."]:
    """Charge [PE] of each detected photon: one or two photoelectrons with the spread of the dynodes.

    A sum of n photoelectrons is Normal(n, spe_width sqrt(n)), cut at zero (0.1 % of the mean at a width of
    0.4).

    Gradient: matched-normal in the second photoelectron, pathwise in the width.
    Source: Faham et al., arXiv:1506.08748 (double photoelectrons); NEST sPEres (arXiv:2211.10726).
    """
    n = 1 + relax.bernoulli(u_double, electronics.double_pe_probability)
    return jnp.maximum(n + electronics.spe_width * jnp.sqrt(n) * z_charge, 0.0)


def area(
    u_double: Float[Array, "..."],
    z_charge: Float[Array, "..."],
    n_photons: Float[Array, "..."],
    electronics: Electronics,
) -> Float[Array, "..."]:
    """Summed charge [PE] of `n_photons` detected photons.

    Gradient: matched-normal in the photoelectrons, pathwise in the width.
    """
    n = n_photons + relax.binomial(u_double, n_photons, electronics.double_pe_probability)
    charge = jnp.maximum(n + electronics.spe_width * relax.safe_sqrt(n) * z_charge, 0.0)
    return jnp.where(n > 0, charge, n)  # where nothing was detected, the count's gradient passes whole
