"""What photosensors and electronics add to the photons: afterpulses, dark counts, noise."""

import equinox as eqx
from jaxtyping import Array, Float

from dmsim.detector.quantities import leaf, leaves


class Afterpulses(eqx.Module):
    """Pulses of ions freed in a photosensor, one entry a species."""

    probability: Float[Array, "species"] = leaves("pulse/PE", 0, 1, "afterpulses for a photoelectron")
    delay_ns: Float[Array, "species"] = leaves("ns", 0, 1e6, "mean delay")
    delay_spread_ns: Float[Array, "species"] = leaves("ns", 0, 1e6, "standard deviation of the delay")
    charge_pe: Float[Array, "species"] = leaves("PE", 0, 100, "mean charge")


class DarkCounts(eqx.Module):
    """Single photoelectrons without light."""

    rate_hz: Float[Array, ""] = leaf("Hz", 0, 1e6, "of a sensor")


class Noise(eqx.Module):
    """What is on the baseline beside white noise (`electronics.noise_adc`)."""

    correlated_adc: Float[Array, ""] = leaf("adc", 0, 1000, "standard deviation of the low-pass noise")
    correlation_ns: Float[Array, ""] = leaf("ns", 1, 1e6, "its correlation time")
    wander_adc: Float[Array, ""] = leaf("adc", 0, 1000, "amplitude of the baseline's slow wander")
    wander_period_ns: Float[Array, ""] = leaf("ns", 100, 1e12, "its period")
