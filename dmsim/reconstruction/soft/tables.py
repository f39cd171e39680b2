"""What the soft reading gives: possible peaks, and events as means over them."""

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int


class SoftPeaks(eqx.Module):
    """Possible peaks: those of the hard reading, and what a near decision would make in their place.

    A sum over peaks is expected to be sum(probability x value). At temperature 0 the rows with probability 1
    are the hard peaks, and all others have 0. Times count from `time_ns`.
    """

    event: Int[np.ndarray, "peak"]
    time_ns: Int[np.ndarray, "peak"]  # int64, host: of the hard window
    length_ns: Int[np.ndarray, "peak"]
    probability: Float[Array, "peak"]  # that this run of samples is a peak
    s1: Float[Array, "peak"]  # that it is an S1, if it is a peak
    s2: Float[Array, "peak"]
    unknown: Float[Array, "peak"]
    area_pe: Float[Array, "peak"]
    area_top_pe: Float[Array, "peak"]
    area_per_channel_pe: Float[Array, "peak sensor"]
    n_hits: Float[Array, "peak"]  # expected
    n_sensors: Float[Array, "peak"]  # expected
    tight_coincidence: Float[Array, "peak"]  # expected
    center_time_ns: Float[Array, "peak"]
    decile_ns: Float[Array, "peak 11"]
    width_ns: Float[Array, "peak 11"]
    maximum_ns: Float[Array, "peak"]  # start of the largest sample; no gradient
    x_mm: Float[Array, "peak"]  # NaN where hardly an S2
    y_mm: Float[Array, "peak"]
    position: Float[Array, "peak"]  # probability that its light on top is enough for a place

    def __len__(self) -> int:
        """Number of rows."""
        return self.time_ns.shape[0]

    @property
    def rise_time_ns(self) -> Float[Array, "peak"]:
        """From 10 to 50 % of the area."""
        return self.decile_ns[:, 5] - self.decile_ns[:, 1]

    @property
    def area_fraction_top(self) -> Float[Array, "peak"]:
        """Share of the area in the top array."""
        return self.area_top_pe / self.area_pe


class SoftEvents(eqx.Module):
    """One row an event. Quantities are means over what the main signals may be, given that they are.

    NaN where there is none.
    """

    event: Int[np.ndarray, "event"]
    has_s1: Float[Array, "event"]  # probability
    has_s2: Float[Array, "event"]
    has_pair: Float[Array, "event"]
    s1_pe: Float[Array, "event"]
    s2_pe: Float[Array, "event"]
    s1_area_fraction_top: Float[Array, "event"]
    s2_area_fraction_top: Float[Array, "event"]
    s2_width_50_ns: Float[Array, "event"]
    cs1_pe: Float[Array, "event"]  # this and what follows: given a pair
    cs2_pe: Float[Array, "event"]
    energy_kev: Float[Array, "event"]  # of light and charge together
    energy_light_kev: Float[Array, "event"]
    energy_charge_kev: Float[Array, "event"]
    drift_time_ns: Float[Array, "event"]
    x_mm: Float[Array, "event"]
    y_mm: Float[Array, "event"]
    z_mm: Float[Array, "event"]
    n_peaks: Float[Array, "event"]  # expected numbers
    n_s1: Float[Array, "event"]
    n_s2: Float[Array, "event"]
    n_triggers: Float[Array, "event"]  # S2s larger than a trigger; earlier S2s are not looked at

    def __len__(self) -> int:
        """Number of events."""
        return self.event.shape[0]
