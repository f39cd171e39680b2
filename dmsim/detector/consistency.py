"""What the numbers of a preset must satisfy together, beyond the range of each."""

import numpy as np

from dmsim.detector.model import Detector


def check(detector: Detector) -> None:
    """Refuse a detector whose parameters contradict each other.

    Raises:
        ValueError: one line with the parameters, what comes out of them and what must.
    """
    electronics = detector.electronics
    full_scale = 2**electronics.n_bits
    if not electronics.zle_threshold_adc < electronics.baseline_adc < full_scale:
        raise ValueError(
            f"electronics.baseline_adc is {electronics.baseline_adc} adc: must be above zle_threshold_adc "
            f"{electronics.zle_threshold_adc} and below 2^n_bits = {full_scale}"
        )
    depth = np.linspace(0.0, 1.0, 201)
    height = float(detector.geometry.gate_height_mm) - depth * float(detector.geometry.drift_length_mm)
    coefficients = np.asarray(detector.xenon.field_v_per_cm, float)
    field = np.polynomial.polynomial.polyval(height, coefficients)
    if not field.min() > 0:
        worst = int(np.argmin(field))
        raise ValueError(
            f"xenon.field_v_per_cm gives {field[worst]:g} V/cm at height {height[worst]:g} mm: must be "
            "above 0 everywhere between cathode and gate"
        )
    light = detector.light
    along = 2 * depth - 1
    s1_z = 1 + float(light.s1_slope_z) * along + float(light.s1_curve_z) * (along**2 - 1 / 3)
    s1_r = abs(float(light.s1_slope_r2)) / 2
    s2_r = abs(float(light.s2_slope_r2)) / 2
    least = {
        "light.s1_slope_z, s1_curve_z, s1_slope_r2 give an S1": s1_z.min() - s1_r,
        "light.s2_slope_r2 gives an S2": 1 - s2_r,
    }
    for names, low in least.items():
        if not low > 0:
            raise ValueError(f"{names} yield of {low:g} of its average somewhere: must be above 0")
    detected = float(light.g1_phd_per_photon) * (s1_z.max() + s1_r)
    if not detected <= 1:
        raise ValueError(
            f"light.g1_phd_per_photon reaches {detected:g} phd/photon somewhere: must be at most 1"
        )
