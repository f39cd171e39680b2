"""What the stages hand on, in flow order: Deposits, Quanta, Areas, Hits, RawRecords, Peaks, Events.

`ExpectedWaveform` is the mean of what the records hold.

Every ragged quantity of a batch lies in one padded list with an event index and a `valid` mask; capacities
come from a few buckets, and what did not fit is counted in `n_overflow`, never dropped silently.

Coordinates: x, y from the detector's axis; z = 0 at the gate and negative below it (the cathode is at
minus the drift length). Times inside an event are float32 ns from the event's start; an event's start on
the detector's clock is int64 ns and stays outside compiled code.
"""

from enum import IntEnum

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Interaction(IntEnum):
    """What deposited the energy; selects the yield model."""

    ER_BETA = 0
    ER_GAMMA = 1
    ER_WEIGHTED = 2
    NR = 3
    KR83M = 4
    ALPHA = 5
    PHOTONS = 6  # light alone: the deposit's energy is the number of its photons
    ELECTRONS = 7  # charge alone: the deposit's energy is the number of its electrons

    @classmethod
    def named(cls, name: str) -> "Interaction":
        """The member called `name`, such as "er_beta".

        Raises:
            ValueError: if there is none.
        """
        try:
            return cls[name.upper()]
        except KeyError:
            names = ", ".join(member.name.lower() for member in cls)
            raise ValueError(f"interaction {name!r} is not known: choose one of {names}") from None


class Signal(IntEnum):
    """Which light a hit, a peak or a truth row belongs to."""

    UNKNOWN = 0
    S1 = 1  # of a deposit
    S2 = 2  # of a deposit's own electrons
    DELAYED = 3  # S2 light of photoionisation and delayed electrons
    AFTERPULSE = 4  # of a photosensor, after any of the above
    DARK = 5  # dark count of a photosensor


class Deposits(eqx.Module):
    """Energy deposits of a batch of events, sorted by event."""

    event: Int[Array, "deposit"]  # position of the event in this batch, 0 .. n_events - 1, ascending
    interaction: Int[Array, "deposit"]  # `Interaction`
    energy_kev: Float[Array, "deposit"]
    x_mm: Float[Array, "deposit"]
    y_mm: Float[Array, "deposit"]
    z_mm: Float[Array, "deposit"]  # 0 at the gate, negative below
    time_ns: Float[Array, "deposit"]  # from the event's start
    first_event: Int[Array, ""]  # number of the batch's event 0 in its run; random numbers are keyed by it
    event_time_ns: np.ndarray | None  # int64 [event], start on the detector's clock; host only
    n_events: int = eqx.field(static=True)

    def __len__(self) -> int:
        """Number of deposits."""
        return self.energy_kev.shape[0]


class Quanta(eqx.Module):
    """Quanta that leave each deposit, as integer-valued floats."""

    n_photons: Float[Array, "deposit"]
    n_electrons: Float[Array, "deposit"]
    n_excitons: Float[Array, "deposit"]  # the part of n_photons from direct excitation, not delayed


class ElectronClouds(eqx.Module):
    """Electrons at the gas: one row a deposit, then one each group of delayed electrons."""

    event: Int[Array, "cloud"]  # position of the event in the batch
    n_electrons: Float[Array, "cloud"]  # integer-valued
    weight: Float[Array, "cloud"]  # 1, with the gradient of the number of electrons
    time_ns: Float[Array, "cloud"]  # mean arrival, from the event's start
    time_spread_ns: Float[Array, "cloud"]  # standard deviation of the arrival
    x_mm: Float[Array, "cloud"]  # centroid of the cloud
    y_mm: Float[Array, "cloud"]
    spread_mm: Float[Array, "cloud"]  # transverse standard deviation around the centroid
    photons_per_electron: Float[Array, "cloud"]  # detected, mean


class ElectronList(eqx.Module):
    """Extracted electrons of a batch, one padded list."""

    cloud: Int[Array, "electron"]
    index: Int[Array, "electron"]  # number within the cloud
    time_ns: Float[Array, "electron"]  # arrival at the gas, from the event's start
    n_photons: Float[Array, "electron"]  # detected, integer-valued; 0 for an empty slot
    weight: Float[Array, "electron"]  # 1, with the gradient of the electron's survival
    n_overflow: Int[Array, ""]  # electrons without a slot


class Areas(eqx.Module):
    """What an analyst sees of each event, without waveforms. Areas in PE, zero where nothing was seen."""

    s1_pe: Float[Array, "event"]
    s2_pe: Float[Array, "event"]
    cs1_pe: Float[Array, "event"]  # S1 corrected to the volume's average light collection
    cs2_pe: Float[Array, "event"]  # S2 corrected for electron lifetime
    drift_time_ns: Float[Array, "event"]
    x_mm: Float[Array, "event"]  # as reconstructed: smeared by the position resolution
    y_mm: Float[Array, "event"]
    z_mm: Float[Array, "event"]
    s1_acceptance: Float[Array, "event"]  # probability that enough sensors see the S1, given its photons


class Hits(eqx.Module):
    """Detected photons of a batch of events: one padded list, unordered.

    The number of hits cannot carry a gradient, so `weight` does: it is 1 for every hit, with the gradient of
    how likely the hit is. Multiply every sum over hits by it.
    """

    event: Int[Array, "hit"]
    sensor: Int[Array, "hit"]
    time_ns: Float[Array, "hit"]  # anode signal of the photoelectron, from the event's start
    charge_pe: Float[Array, "hit"]  # mean 1 a photoelectron; 0 where not valid
    weight: Float[Array, "hit"]  # 1, or 0 where not valid
    signal: Int[Array, "hit"]  # `Signal`
    deposit: Int[Array, "hit"]  # number in its event of the deposit whose own S1 or S2 it is in; -1: no such
    valid: Bool[Array, "hit"]
    n_overflow: Int[Array, ""]  # detected photons (of the batch) that no slot was left for
    n_events: int = eqx.field(static=True)


class Detected(eqx.Module):
    """Truth of each deposit beyond its quanta: what of them reaches a sensor or the gas."""

    n_s1_photons: Float[Array, "deposit"]  # detected, integer-valued
    n_extracted: Float[Array, "deposit"]  # electrons that reach the gas, integer-valued
    drift_time_ns: Float[Array, "deposit"]  # mean, from the deposit to the gas
    x_gas_mm: Float[Array, "deposit"]  # centroid of its electrons at the gas
    y_gas_mm: Float[Array, "deposit"]


class TruePeaks(eqx.Module):
    """Truth of each signal: photons of one kind of one deposit, or of one event where they are of no deposit.

    Host arrays; only what was seen has a row, sorted by (event, first time).
    """

    event: Int[np.ndarray, "peak"]  # position in the batch
    signal: Int[np.ndarray, "peak"]  # `Signal`
    deposit: Int[np.ndarray, "peak"]  # number in its event, or -1
    n_photons: Int[np.ndarray, "peak"]  # detected
    area_pe: Float[np.ndarray, "peak"]  # summed charge
    area_top_pe: Float[np.ndarray, "peak"]  # of it in the top array
    first_time_ns: Float[np.ndarray, "peak"]  # of the first photon, from the event's start
    last_time_ns: Float[np.ndarray, "peak"]
    mean_time_ns: Float[np.ndarray, "peak"]
    time_spread_ns: Float[np.ndarray, "peak"]  # standard deviation of the photons' times
    x_mm: Float[np.ndarray, "peak"]  # charge-weighted mean place of the top sensors; NaN if they saw nothing
    y_mm: Float[np.ndarray, "peak"]

    def __len__(self) -> int:
        """Number of rows."""
        return self.area_pe.shape[0]


class Truth(eqx.Module):
    """What a simulation knows and an experiment does not, to one of three depths."""

    deposits: Deposits
    quanta: Quanta
    detected: Detected
    peaks: TruePeaks | None  # from depth "peaks" on
    photons: Hits | None  # at depth "photons"


class RawRecords(eqx.Module):
    """Digitised, zero-suppressed waveform fragments in the layout of strax's raw_records.

    `data` holds integers as floats, so that a gradient can pass; `to_strax` gives int16. Rows are sorted by
    (event, start time, channel) and carry only valid rows once they have left the compiled code; they are
    host arrays then, but for `data` under a gradient.
    """

    event: Int[Array | np.ndarray, "record"]
    channel: Int[Array | np.ndarray, "record"]
    start_sample: Int[Array | np.ndarray, "record"]  # from the event's start; may be negative
    length: Int[Array | np.ndarray, "record"]  # valid samples in `data`
    pulse_length: Int[Array | np.ndarray, "record"]  # samples of the whole pulse that the fragment is part of
    record_i: Int[Array | np.ndarray, "record"]  # number of the fragment in its pulse
    data: Float[Array | np.ndarray, "record sample"]  # ADC counts, negative-going from the baseline
    valid: Bool[Array | np.ndarray, "record"]
    n_overflow: Int[Array | np.ndarray, ""]  # records that no slot was left for
    first_event: Int[Array | np.ndarray, ""]
    event_time_ns: np.ndarray | None  # int64 [event]; host only
    n_events: int = eqx.field(static=True)
    sample_ns: int = eqx.field(static=True)
    baseline_adc: int = eqx.field(static=True)  # nominal, for strax's integer field


class ExpectedSignal(eqx.Module):
    """Mean S1 or S2 of each deposit: sensor_pe[sensor] x share[sample], PE in each sample of its window."""

    sensor_pe: Float[Array, "deposit sensor"]  # all of the deposit's light
    start_sample: Int[Array, "deposit"]  # first of the window, from the event's start; may be negative
    share: Float[Array, "deposit sample"]  # of the light; sums to 1 less what lies outside of the window


class ExpectedWaveform(eqx.Module):
    """Mean photoelectrons of each deposit on each sensor and in each sample. Means of deposits add up."""

    event: Int[Array, "deposit"]
    s1: ExpectedSignal
    s2: ExpectedSignal
    n_events: int = eqx.field(static=True)
    sample_ns: int = eqx.field(static=True)

    def signal(self, signal: Signal) -> ExpectedSignal:
        """That of S1 or of S2.

        Raises:
            ValueError: for another signal.
        """
        if signal not in (Signal.S1, Signal.S2):
            raise ValueError(f"signal is {signal!r}: must be Signal.S1 or Signal.S2")
        return self.s1 if signal == Signal.S1 else self.s2

    def sensor_pe(self, signal: Signal) -> Float[Array, "event sensor"]:
        """Mean PE of each event on each sensor, at all times. Gradient: exact."""
        return jax.ops.segment_sum(self.signal(signal).sensor_pe, self.event, num_segments=self.n_events)

    def dense(
        self, signal: Signal, *, start_sample: Int[Array, "event"] | int, n_samples: int
    ) -> Float[Array, "event sensor sample"]:
        """Mean PE of each event on each sensor and in each sample of one window.

        For small cases: memory is events x sensors x samples.

        Args:
            signal: S1 or S2.
            start_sample: first sample of the window, from each event's start.
            n_samples: its length; a deposit's light outside of it is left out.

        Gradient: exact.
        """
        ours = self.signal(signal)
        starts = jnp.broadcast_to(jnp.asarray(start_sample), (self.n_events,))
        sample = starts[self.event][:, None] + jnp.arange(n_samples) - ours.start_sample[:, None]
        inside = (sample >= 0) & (sample < ours.share.shape[1])
        share = jnp.take_along_axis(ours.share, jnp.where(inside, sample, 0), axis=1)
        mean = ours.sensor_pe[:, :, None] * jnp.where(inside, share, 0.0)[:, None, :]
        return jax.ops.segment_sum(mean, self.event, num_segments=self.n_events)


class Peaks(eqx.Module):
    """Groups of hits close in time, with what was measured on each. Host arrays, sorted by time."""

    event: Int[np.ndarray, "peak"]
    time_ns: Int[np.ndarray, "peak"]  # int64, start on the detector's clock
    length_ns: Int[np.ndarray, "peak"]
    area_pe: Float[np.ndarray, "peak"]
    area_top_pe: Float[np.ndarray, "peak"]
    area_per_channel_pe: Float[np.ndarray, "peak sensor"]
    n_hits: Int[np.ndarray, "peak"]  # sensors' threshold crossings
    n_sensors: Int[np.ndarray, "peak"]  # sensors with at least one hit
    tight_coincidence: Int[np.ndarray, "peak"]  # sensors with a hit near the time of the maximum
    center_time_ns: Float[np.ndarray, "peak"]  # area-weighted mean, from the peak's start
    decile_ns: Float[np.ndarray, "peak 11"]  # when 0, 10, .. 100 % of the area have come, from its start
    width_ns: Float[np.ndarray, "peak 11"]  # that the central 0, 10, .. 100 % of the area take
    goodness_of_split: Float[np.ndarray, "peak"]  # largest of natural breaks, 0 to 1; NaN: not searched
    n_saturated: Int[np.ndarray, "peak"]  # samples at the digitiser's floor; mode "compat": channels
    signal: Int[np.ndarray, "peak"]  # `Signal`
    x_mm: Float[np.ndarray, "peak"]  # NaN for peaks other than S2
    y_mm: Float[np.ndarray, "peak"]
    x_error_mm: Float[np.ndarray, "peak"]  # standard deviation, from the likelihood's information
    y_error_mm: Float[np.ndarray, "peak"]
    xy_correlation: Float[np.ndarray, "peak"]  # of the two errors, -1 to 1
    xy_misfit: Float[np.ndarray, "peak"]  # of the light pattern, in standard deviations above the expected

    def __len__(self) -> int:
        """Number of peaks."""
        return self.area_pe.shape[0]

    @property
    def median_time_ns(self) -> Float[np.ndarray, "peak"]:
        """When half of the area has come, from the peak's start."""
        return self.decile_ns[:, 5]

    @property
    def rise_time_ns(self) -> Float[np.ndarray, "peak"]:
        """From 10 % to 50 % of the area."""
        return self.decile_ns[:, 5] - self.decile_ns[:, 1]

    @property
    def width_50_ns(self) -> Float[np.ndarray, "peak"]:
        """From 25 % to 75 % of the area."""
        return self.width_ns[:, 5]

    @property
    def width_90_ns(self) -> Float[np.ndarray, "peak"]:
        """From 5 % to 95 % of the area."""
        return self.width_ns[:, 9]


class Events(eqx.Module):
    """One row an event: its main S1 and S2, the alternates to them, and what else is in its window.

    NaN, or -1 for whole numbers, where there is none; areas of what lies around the main signals are 0
    there. Host arrays, sorted by event.
    """

    event: Int[np.ndarray, "event"]
    time_ns: Int[np.ndarray, "event"]  # int64, of the main S1 (else S2) on the detector's clock
    start_ns: Int[np.ndarray, "event"]  # of the event's window; by number: of its first peak
    end_ns: Int[np.ndarray, "event"]  # of the event's window; by number: of its last peak
    n_peaks: Int[np.ndarray, "event"]
    n_s1: Int[np.ndarray, "event"]
    n_s2: Int[np.ndarray, "event"]
    n_triggers: Int[np.ndarray, "event"]  # S2s that would make an event alone; 2 or more: pile-up
    # main signals
    s1_pe: Float[np.ndarray, "event"]
    s2_pe: Float[np.ndarray, "event"]
    cs1_pe: Float[np.ndarray, "event"]
    cs2_pe: Float[np.ndarray, "event"]  # top and bottom, each corrected by its own
    cs2_bottom_pe: Float[np.ndarray, "event"]
    drift_time_ns: Float[np.ndarray, "event"]  # S2 centre minus S1 centre
    x_mm: Float[np.ndarray, "event"]  # of the deposit, a field's distortion undone; NaN without a drift time
    y_mm: Float[np.ndarray, "event"]
    z_mm: Float[np.ndarray, "event"]
    x_error_mm: Float[np.ndarray, "event"]  # of the main S2's place
    y_error_mm: Float[np.ndarray, "event"]
    xy_correlation: Float[np.ndarray, "event"]
    xy_misfit: Float[np.ndarray, "event"]
    x_observed_mm: Float[np.ndarray, "event"]  # of the main S2 at the surface
    y_observed_mm: Float[np.ndarray, "event"]
    s1_area_fraction_top: Float[np.ndarray, "event"]
    s2_area_fraction_top: Float[np.ndarray, "event"]
    s2_width_50_ns: Float[np.ndarray, "event"]
    energy_kev: Float[np.ndarray, "event"]  # of an electronic recoil: light and charge together
    energy_light_kev: Float[np.ndarray, "event"]
    energy_charge_kev: Float[np.ndarray, "event"]
    # alternates: the next largest that could be the partner of the other main signal
    alt_s1_pe: Float[np.ndarray, "event"]
    alt_s2_pe: Float[np.ndarray, "event"]
    alt_cs1_pe: Float[np.ndarray, "event"]  # at the main S2's place and the main drift time
    alt_cs2_pe: Float[np.ndarray, "event"]  # at its own place and drift time
    alt_s1_drift_time_ns: Float[np.ndarray, "event"]  # main S2 centre minus alternate S1 centre
    alt_s2_drift_time_ns: Float[np.ndarray, "event"]  # alternate S2 centre minus main S1 centre
    alt_s2_x_observed_mm: Float[np.ndarray, "event"]
    alt_s2_y_observed_mm: Float[np.ndarray, "event"]
    ambiguous_s1: Int[np.ndarray, "event"]  # 1 where the alternate is nearly as large as the main one
    ambiguous_s2: Int[np.ndarray, "event"]
    # around the main signals
    s2_before_pe: Float[np.ndarray, "event"]  # sum of S2s before the main one
    largest_s2_before_pe: Float[np.ndarray, "event"]
    largest_s2_after_pe: Float[np.ndarray, "event"]
    largest_unknown_before_pe: Float[np.ndarray, "event"]  # before the main S1, or S2 if there is none
    largest_unknown_between_pe: Float[np.ndarray, "event"]  # between main S1 and S2
    # rows in Peaks, -1 if none
    s1_peak: Int[np.ndarray, "event"]
    s2_peak: Int[np.ndarray, "event"]
    alt_s1_peak: Int[np.ndarray, "event"]
    alt_s2_peak: Int[np.ndarray, "event"]

    def __len__(self) -> int:
        """Number of events."""
        return self.event.shape[0]
