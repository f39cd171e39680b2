"""S1 or S2, by rise time, area fraction top and coincidence."""

import numpy as np
from jaxtyping import Float, Int

from dmsim.reconstruction.settings import Classification
from dmsim.records import Signal


def classify(
    settings: Classification,
    *,
    area_pe: Float[np.ndarray, "peak"],
    area_fraction_top: Float[np.ndarray, "peak"],
    rise_time_ns: Float[np.ndarray, "peak"],
    n_sensors: Int[np.ndarray, "peak"],
    tight_coincidence: Int[np.ndarray, "peak"],
) -> Int[np.ndarray, "peak"]:
    """`Signal` of each peak; UNKNOWN where neither fits or a quantity is NaN.

    Source: the cuts of straxen's peaklet classification, restated: S1 rises fast (a boundary that falls
    with area, and with the area fraction top for small ones) and is seen by enough sensors at once; S2
    rises slowly, is brighter on top and reaches enough sensors.
    """
    s = settings
    with np.errstate(over="ignore", invalid="ignore"):
        by_area = s.rise_norm_ns * np.exp(-np.maximum(area_pe, 0.0) / s.rise_tau_pe) + s.rise_constant_ns
        by_top = np.where(
            area_fraction_top >= s.aft_flat_from,
            s.aft_flat_rise_ns,
            10.0 ** (s.aft_slope * area_fraction_top + s.aft_offset),
        )
        small = area_pe < s.s1_small_area_pe
        fast = np.where(
            small, (rise_time_ns < by_area) & (rise_time_ns < by_top), rise_time_ns <= s.s1_max_rise_ns
        )
        s1 = fast & (tight_coincidence >= s.s1_min_coincidence)
        s2 = (
            ~s1
            & (rise_time_ns > by_area)
            & (n_sensors >= s.s2_min_sensors)
            & (area_pe >= s.s2_min_area_pe)
            & (area_fraction_top > s.s2_min_area_fraction_top)
            & ((tight_coincidence >= s.s2_min_coincidence) | (area_pe >= s.s2_small_area_pe))
        )
    return np.select([s1, s2], [int(Signal.S1), int(Signal.S2)], int(Signal.UNKNOWN))
