"""Charge of a detected photon."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dmsim import relax, rng
from dmsim.detector.model import Electronics
from dmsim.detector.sensors import SensorArray


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


def photon_charge(
    u_double: Float[Array, "..."],
    u_second: Float[Array, "..."],
    z_charge: Float[Array, "..."],
    sensor: Int[Array, "..."],
    electronics: Electronics,
    sensors: SensorArray,
) -> Float[Array, "..."]:
    """Charge [PE] of each detected photon on its sensor: `photoelectrons`, or from the measured spectra.

    With spectra, two photoelectrons are two independent draws.

    Args:
        u_double: uniforms in (0, 1).
        u_second: uniforms in (0, 1), of the second photoelectron.
        z_charge: standard normals, of the first.
        sensor: of each photon.
        electronics: probability of a second photoelectron, and the width without spectra.
        sensors: with the spectra, or none.

    Gradient: matched-normal in the second photoelectron, pathwise in the width or the spectra.
    Source: as `photoelectrons`.
    """
    if sensors.spe_quantiles is None:
        return photoelectrons(u_double, z_charge, electronics)
    second = relax.bernoulli(u_double, electronics.double_pe_probability)
    return sensors.spe_charge(sensor, z_charge) + second * sensors.spe_charge(sensor, rng.normal_of(u_second))


def area(
    u_double: Float[Array, "..."],
    z_charge: Float[Array, "..."],
    n_photons: Float[Array, "..."],
    electronics: Electronics,
    sensors: SensorArray | None = None,
) -> Float[Array, "..."]:
    """Summed charge [PE] of `n_photons` detected photons.

    Of the sensors' spectra, where they are measured, the mean over the sensors counts.

    Gradient: matched-normal in the photoelectrons, pathwise in the width or the spectra.
    """
    n = n_photons + relax.binomial(u_double, n_photons, electronics.double_pe_probability)
    if sensors is None or sensors.spe_quantiles is None:
        mean, width = n, electronics.spe_width
    else:
        of_one, variance = sensors.spe_moments()
        mean, width = of_one * n, relax.safe_sqrt(variance)
    charge = jnp.maximum(mean + width * relax.safe_sqrt(n) * z_charge, 0.0)
    return jnp.where(n > 0, charge, n)  # where nothing was detected, the count's gradient passes whole
