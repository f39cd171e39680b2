"""The sets of cuts that are tuned: 8 flat thresholds, 20, and curves that follow S1, S2 and height."""

from collections.abc import Sequence

import numpy as np
from samples import FLOOR_NS, Columns

from dmsim.detector import Detector
from dmsim.selection import Band, Curve, CutSet, Radius, Range, SingleScatter, TimeShadow, TopFraction, Width

S1_KNOTS = (4.0, 8.0, 14.0, 22.0, 35.0, 55.0, 80.0, 110.0)  # PE
BAND_KNOTS = (4.0, 6.0, 9.0, 14.0, 21.0, 32.0, 48.0, 72.0, 105.0)  # PE, of the reference's quantiles
S2_KNOTS = (150.0, 400.0, 1000.0, 2500.0, 8000.0)  # PE
Z_KNOTS = (-1450.0, -1000.0, -500.0, -30.0)  # mm


def _flat(of: str, knots: Sequence[float], value: float, *, log: bool = True) -> Curve:
    return Curve(of, tuple(knots), np.full(len(knots), value), axis="log" if log else "linear")


def _width(detector: Detector, low, high) -> Width:
    electrons = detector.electrons
    return Width(
        name="width",
        low=low,
        high=high,
        diffusion_mm2_per_us=float(electrons.diffusion_longitudinal_cm2_per_s) * 1e-4,
        drift_velocity_mm_per_us=float(electrons.drift_speed_mm_per_us),
        gate_ns=float(electrons.surface_delay_ns),
        floor_ns=FLOOR_NS,
        missing="fail",
    )


def _band(reference: Columns, low, high) -> Band:
    return Band.of_population("band", reference, knots_s1=BAND_KNOTS, low=low, high=high, missing="fail")


# Defaults: S1 to 100 PE, S2 above 200 PE and a fiducial volume of about 4 t as XENONnT's first WIMP search
# (arXiv:2303.14729) had them, numbers from memory; between -2 standard deviations and the median of the band
# of nuclear recoils, the classic discrimination; all others at about 3 standard deviations (assumed)
def eight(detector: Detector, reference: Columns) -> CutSet:
    """S1, S2, band of nuclear recoils, fiducial cylinder."""
    del detector
    return CutSet(
        (
            Range(name="cs1", column="cs1_pe", low=3.0, high=100.0),
            Range(name="s2", column="s2_pe", low=200.0),
            _band(reference, -2.0, 0.0),
            Radius("radius", high=614.0),
            Range(name="depth", column="z_mm", low=-1420.0, high=-130.0),
        )
    )


def twenty(detector: Detector, reference: Columns) -> CutSet:
    """With width, shares of light, pattern, alternates, shadow, and a radius that follows the height."""
    first = eight(detector, reference)
    knots = (-1450.0, -750.0, -30.0)
    return CutSet(
        (
            *(cut for cut in first if cut.name not in ("radius", "s2")),
            Radius("radius", high=_flat("z_mm", knots, 614.0, log=False)),
            Range(name="s2", column="s2_pe", low=200.0, high=15000.0),
            _width(detector, 0.6, 1.5),
            TopFraction("s2_top", low=0.65, high=0.85),
            Range(name="s1_top", column="s1_area_fraction_top", low=-0.01, high=0.5),
            Range(name="misfit", column="xy_misfit", high=3.0),
            SingleScatter("single", high=0.5),
            TimeShadow("shadow", column="shadow_pe_per_ns", high=-0.5),
        )
    )


def curves(detector: Detector, reference: Columns) -> CutSet:
    """The same variables, thresholds that follow S1, S2 or height where physics makes them."""
    return CutSet(
        (
            Range(name="cs1", column="cs1_pe", low=3.0, high=100.0),
            _band(reference, _flat("cs1_pe", S1_KNOTS, -2.0), _flat("cs1_pe", S1_KNOTS, 0.0)),
            Range(name="depth", column="z_mm", low=-1420.0, high=-130.0),
            Radius("radius", high=_flat("s2_pe", S2_KNOTS, 614.0)),
            Range(name="s2", column="s2_pe", low=200.0, high=15000.0),
            _width(detector, _flat("s2_pe", S2_KNOTS, 0.6), _flat("s2_pe", S2_KNOTS, 1.5)),
            TopFraction("s2_top", low=_flat("s2_pe", S2_KNOTS, 0.65), high=_flat("s2_pe", S2_KNOTS, 0.85)),
            Range(
                name="s1_top",
                column="s1_area_fraction_top",
                low=_flat("z_mm", Z_KNOTS, -0.01, log=False),
                high=_flat("z_mm", Z_KNOTS, 0.5, log=False),
            ),
            Range(name="misfit", column="xy_misfit", high=3.0),
            SingleScatter("single", high=_flat("s2_pe", S2_KNOTS, 0.5)),
            TimeShadow("shadow", column="shadow_pe_per_ns", high=_flat("s2_pe", S2_KNOTS, -0.5)),
        )
    )


SETS = {"eight": eight, "twenty": twenty, "curves": curves}
