"""Peaks -> Events: the main S1 and S2 of each event, drift time, depth and corrected areas."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dmsim.detector import Detector
from dmsim.reconstruction.settings import Settings
from dmsim.records import Events, Peaks, Signal


def delay_offset_ns(detector: Detector) -> float:
    """Mean of (S2 centre - S1 centre) minus the electrons' drift time [ns].

    An S2's light comes over the gap's transit, uniformly, and then after the gas's scintillation; an S1's
    after the liquid's singlet or triplet decay. Recombination adds tens of ns to an S1, with an energy
    that is not known here: below 0.1 mm at any drift speed of the presets, and left out. What both share
    (propagation, transit in the sensor, pulse shape) cancels.
    """
    gas, liquid = detector.electroluminescence, detector.scintillation
    mean_gas = (
        float(gas.singlet_fraction) * float(gas.singlet_lifetime_ns)
        + (1 - float(gas.singlet_fraction)) * float(gas.triplet_lifetime_ns)
    )  # fmt: skip
    singlet = float(liquid.singlet_fraction_er)
    mean_liquid = (
        singlet * float(liquid.singlet_lifetime_ns) + (1 - singlet) * float(liquid.triplet_lifetime_er_ns)
    )  # fmt: skip
    center = jnp.zeros(())
    transit = detector.gap_transit_ns(center, center)
    in_gap = transit / 2 if detector.gas_gap is None else detector.gas_gap.mean_emission_ns(transit)
    return float(in_gap) + mean_gas - mean_liquid


def _largest(
    candidate: np.ndarray, row: np.ndarray, area: Float[np.ndarray, "peak"], n_events: int
) -> np.ndarray:
    """Index of the largest candidate peak of each event, -1 if none; the earliest of equals."""
    index = np.flatnonzero(candidate)
    order = index[np.lexsort((-index, area[index], row[index]))]  # the largest comes last in its event
    best = np.full(n_events, -1, np.int64)
    best[row[order]] = order
    return best


def build_events(
    detector: Detector,
    peaks: Peaks,
    *,
    n_events: int,
    first_event: int = 0,
    settings: Settings | None = None,
) -> Events:
    """Pair the main S1 and S2 of each event.

    The main S2 is the largest; the main S1 is the largest that comes before it by no more than the
    cathode's drift time (and `events.max_drift_excess`). Without an S2 the main S1 is the largest.

    Args:
        detector: that took the data.
        peaks: of events first_event .. first_event + n_events - 1, in any order.
        n_events: rows to give, >= 0.
        first_event: number in the run of the first row.
        settings: the defaults if None.

    Returns:
        One row an event; NaN or -1 where a quantity does not exist. `drift_time_ns` is the plain difference
        of the centre times; depth and lifetime correction take `delay_offset_ns` off it.

    Raises:
        ValueError: if a peak belongs to an event outside the range.

    Gradient: none (host arrays).
    """
    settings = settings or Settings()
    row = peaks.event - first_event
    if len(row) and (row.min() < 0 or row.max() >= n_events):
        raise ValueError(
            f"peaks.event spans {peaks.event.min()} to {peaks.event.max()}: "
            f"allowed are {first_event} to {first_event + n_events - 1}"
        )
    is_s1, is_s2 = peaks.signal == int(Signal.S1), peaks.signal == int(Signal.S2)
    s2 = _largest(is_s2, row, peaks.area_pe, n_events)
    drift_all = _time_to_main_s2(peaks, row, s2)
    longest = float(detector.electrons.drift_time_ns(-detector.geometry.drift_length_mm))
    longest *= 1 + settings.events.max_drift_excess
    paired = np.isnan(drift_all) | ((drift_all > 0) & (drift_all <= longest))
    s1 = _largest(is_s1 & paired, row, peaks.area_pe, n_events)

    dtype = peaks.area_pe.dtype

    def of(index: np.ndarray, column: np.ndarray) -> np.ndarray:
        taken = np.where(index >= 0, column[index], np.nan) if len(column) else np.full(n_events, np.nan)
        return taken.astype(dtype)

    drift = of(s1, drift_all) if len(drift_all) else np.full(n_events, np.nan, dtype)
    x, y = of(s2, peaks.x_mm), of(s2, peaks.y_mm)
    true_drift = drift - delay_offset_ns(detector)
    z = np.asarray(detector.electrons.z_mm(jnp.asarray(true_drift)), dtype)
    s1_pe, s2_pe = of(s1, peaks.area_pe), of(s2, peaks.area_pe)
    place = [jnp.asarray(column) for column in (x, y, z)]
    s1_yield = np.asarray(detector.light.s1_relative_yield(detector.geometry, *place))
    s2_yield = np.asarray(detector.light.s2_relative_yield(detector.geometry, *place[:2]))
    survival = np.asarray(detector.electrons.survival(jnp.asarray(true_drift)))
    start = np.where(s1 >= 0, s1, s2)
    time_ns = np.full(n_events, -1, np.int64)
    time_ns[start >= 0] = peaks.time_ns[start[start >= 0]]
    return Events(
        event=first_event + np.arange(n_events),
        time_ns=time_ns,
        s1_pe=s1_pe,
        s2_pe=s2_pe,
        cs1_pe=(s1_pe / s1_yield).astype(dtype),
        cs2_pe=(s2_pe / (s2_yield * survival)).astype(dtype),
        drift_time_ns=drift,
        x_mm=x,
        y_mm=y,
        z_mm=z,
        s1_area_fraction_top=of(s1, peaks.area_top_pe) / s1_pe,
        s2_area_fraction_top=of(s2, peaks.area_top_pe) / s2_pe,
        s2_width_50_ns=of(s2, peaks.width_50_ns),
        n_s1=np.bincount(row[is_s1], minlength=n_events),
        n_s2=np.bincount(row[is_s2], minlength=n_events),
        s1_peak=s1,
        s2_peak=s2,
    )


def _time_to_main_s2(peaks: Peaks, row: np.ndarray, s2: np.ndarray) -> Float[np.ndarray, "peak"]:
    """Centre of the event's main S2 minus the centre of each peak [ns]; NaN without an S2."""
    if not len(row):
        return np.zeros(0)
    main = s2[row]
    # int64 first: absolute times do not fit a float
    start = (peaks.time_ns[main] - peaks.time_ns).astype(np.float64)
    drift = start + peaks.center_time_ns[main] - peaks.center_time_ns
    return np.where(main >= 0, drift, np.nan)
