"""S1 or S2, by rise time, area fraction top and coincidence."""

import numpy as np
from jaxtyping import Float, Int

from dmsim.reconstruction import margins
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

    S1 rises fast (a boundary that falls with area, and with the area fraction top for small ones) and is
    seen by enough sensors at once; S2 rises slowly, is brighter on top and reaches enough sensors.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        cuts = margins.classes(
            settings,
            area_pe=area_pe,
            area_fraction_top=area_fraction_top,
            rise_time_ns=rise_time_ns,
            n_sensors=n_sensors,
            tight_coincidence=tight_coincidence,
        )
        s1, s2 = margins.s1_and_s2(margins.passed(cuts))
    return np.select([s1 > 0, s2 > 0], [int(Signal.S1), int(Signal.S2)], int(Signal.UNKNOWN))
