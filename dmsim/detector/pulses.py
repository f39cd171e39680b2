"""What photosensors and electronics add to the photons: afterpulses, dark counts, noise."""

import equinox as eqx
from jaxtyping import Array, Float

from dmsim.detector.quantities import leaf, leaves


class Afterpulses(eqx.Module):
    """Pulses of ions freed in a photosensor, and other late pulses, one entry a species.

    The delay is the sum of its mean, a normal and a uniform part; most species have one of the two. A table
    read with `electronics.read_afterpulses` has one column a sensor.
    """

    probability: Float[Array, "species *sensor"] = leaves("pulse/PE", 0, 1, "afterpulses for a photoelectron")
    delay_ns: Float[Array, "species *sensor"] = leaves("ns", 0, 1e6, "mean delay")
    delay_spread_ns: Float[Array, "species *sensor"] = leaves(
        "ns", 0, 1e6, "standard deviation of the delay's normal part"
    )
    delay_width_ns: Float[Array, "species *sensor"] = leaves(
        "ns", 0, 1e6, "full width of the delay's uniform part"
    )
    charge_pe: Float[Array, "species *sensor"] = leaves("PE", 0, 100, "mean number of photoelectrons")
    charge_spread_pe: Float[Array, "species *sensor"] = leaves(
        "PE", 0, 100, "standard deviation of that number"
    )


class DarkCounts(eqx.Module):
    """Single photoelectrons without light, in a window around each event in which energy was deposited."""

    rate_hz: Float[Array, ""] = leaf("Hz", 0, 1e6, "of a sensor; none of a dead one")
    before_ns: Float[Array, ""] = leaf("ns", 0, 1e9, "start of the window before the event's start")
    after_ns: Float[Array, ""] = leaf("ns", 0, 1e9, "end of the window after the event's last deposit")


class Noise(eqx.Module):
    """What is on the baseline beside white noise (`electronics.noise_adc`)."""

    correlated_adc: Float[Array, ""] = leaf("adc", 0, 1000, "standard deviation of the low-pass noise")
    correlation_ns: Float[Array, ""] = leaf("ns", 1, 1e6, "its correlation time")
    band_power_adc2: Float[Array, "band"] = leaves(
        "adc2", 0, 1e6, "variance in equal bands of frequency up to half the sampling rate; 0 for none"
    )
    wander_adc: Float[Array, ""] = leaf("adc", 0, 1000, "amplitude of the baseline's slow wander, a sine")
    wander_period_ns: Float[Array, ""] = leaf("ns", 100, 1e12, "its period; its phase is random")
