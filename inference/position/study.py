"""Prior, simulator and network of the position posterior."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim import relax
from dmsim.detector import Detector
from dmsim.reconstruction.charge_model import charge_model
from dmsim.reconstruction.light_table import top_shares
from inference import embeddings, flows, priors
from inference.estimators import NPE
from inference.position.anchor import PositionSummary


def position_prior(detector: Detector) -> priors.Prior:
    """Uniform over the active volume's cross-section, up to the wall."""
    return priors.Prior(priors.Disc(("x_mm", "y_mm"), "mm", radius=float(detector.geometry.radius_mm)))


def position_estimator(detector: Detector, *, n_layers: int = 2, width: int = 24, n_bins: int = 6) -> NPE:
    """A small coupling flow around the summary's anchor.

    Args:
        detector: of its radius.
        n_layers: of the flow.
        width: of its networks.
        n_bins: of its splines.
    """
    flow = flows.Anchored(n_layers=n_layers, width=width, n_blocks=1, n_bins=n_bins, plane=(0, 1))
    return NPE(position_prior(detector), embeddings.Raw(), flow)


def light_patterns(
    key: PRNGKeyArray, detector: Detector, xy_mm: Float[Array, "event 2"], top_pe: Float[Array, "event"]
) -> Float[Array, "event sensor"]:
    """Areas of all sensors: Poisson photons of the pattern, their charge, noise of the sensors that are lit.

    Args:
        key: of the draws.
        detector: of its light and electronics.
        xy_mm: of the light, at the surface.
        top_pe: mean light on the top array [PE], > 0.

    Returns:
        In PE; zero on the bottom array.

    Gradient: none meant.
    """
    sensors = detector.light.sensors
    keys = jax.random.split(key, 4)
    share = top_shares(detector.light, detector.geometry, xy_mm)
    dtype, shape = share.dtype, share.shape
    one = sensors.spe_moments()[0] if sensors.spe_quantiles is not None else jnp.ones((), dtype)
    mean = top_pe[:, None] / (one * (1 + detector.electronics.double_pe_probability)) * share
    photons = relax.poisson(jax.random.uniform(keys[0], shape, dtype, minval=1e-7), mean)
    area = sensor_areas(keys[1:], detector, photons)
    return jnp.pad(area, ((0, 0), (0, sensors.n_sensors - sensors.n_top)))


def sensor_areas(
    keys: PRNGKeyArray, detector: Detector, photons: Float[Array, "event top"]
) -> Float[Array, "event top"]:
    """Areas of the top sensors from their photons: charge, and noise where there is a photon.

    Args:
        keys: three, of second photoelectrons, charge and noise.
        detector: of its electronics.
        photons: that each sensor detects.

    Returns:
        In PE.

    Gradient: none meant.
    """
    electronics, sensors = detector.electronics, detector.light.sensors
    dtype, shape = photons.dtype, photons.shape
    one, spread = jnp.ones((), dtype), electronics.spe_width
    if sensors.spe_quantiles is not None:
        one, variance = sensors.spe_moments()
        spread = jnp.sqrt(variance)
    double = electronics.double_pe_probability
    second = relax.binomial(
        jax.random.uniform(keys[0], shape, dtype, minval=1e-7), photons, jnp.broadcast_to(double, shape)
    )
    electrons = photons + second
    charge = one * electrons + spread * jnp.sqrt(electrons) * jax.random.normal(keys[1], shape, dtype)
    samples = electronics.zle_samples_before + electronics.pulse_samples + electronics.zle_samples_after
    gain = jnp.broadcast_to(electronics.adc_per_pe, (sensors.n_sensors,))[: sensors.n_top]
    noise = electronics.noise_adc * jnp.sqrt(samples * one) / gain
    return jnp.maximum(charge, 0.0) + (photons > 0) * noise * jax.random.normal(keys[2], shape, dtype)


def position_simulator(
    detector: Detector, summary: PositionSummary, *, top_pe: tuple[float, float] = (8.0, 2e5)
) -> Callable[[PRNGKeyArray, int], tuple[Array, Array]]:
    """(key, n) -> places and summaries of their patterns, as `NPE.fit` takes it.

    Args:
        detector: of the patterns.
        summary: of `position_summary`.
        top_pe: least and most mean light on top [PE]; log-uniform between.

    Raises:
        ValueError: for a range that is none.
    """
    low, high = top_pe
    if not 0 < low < high:
        raise ValueError(f"top_pe is {top_pe}: needs two rising positive numbers of PE")
    charge_model(detector)  # raises here, not inside of a compiled step, where it cannot be made
    prior = position_prior(detector)

    def simulate(key: PRNGKeyArray, n: int) -> tuple[Array, Array]:
        key_place, key_light, key_pattern = jax.random.split(key, 3)
        xy = prior.sample(key_place, n)
        light = jnp.exp(jax.random.uniform(key_light, (n,), xy.dtype, jnp.log(low), jnp.log(high)))
        return xy, summary(light_patterns(key_pattern, detector, xy, light))

    return simulate
