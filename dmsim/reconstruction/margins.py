"""Every decision of the reconstruction as a signed margin, once for the hard and for the soft reading.

The hard reading asks whether a margin is positive, the soft one takes sigmoid(margin / tau). What happens
at exactly zero is said for each: it only matters to the hard reading. A NaN decides for "no".

All functions work on arrays of numpy and of jax.numpy alike; `xp` is the namespace that does the work.
Counts are compared half-way between two whole numbers, so that their margins are never zero.
"""

from typing import Any, NamedTuple

import numpy as np

from dmsim.reconstruction.settings import (
    Classification,
    Clustering,
    Coincidence,
    Hits,
    Merging,
    Splitting,
)

_RISE_NS = 1.0, 1e5  # range of the rise time in the threshold of a split; straxen's
_LEAST_AREA_PE = 1.0  # below it a logarithm of an area counts as 0; straxen's


def hit(settings: Hits, depth_adc: Any, rms_adc: Any = 0.0, *, xp: Any = np) -> Any:
    """A sample's depth below the baseline minus the threshold [ADC]. At zero: above.

    Args:
        settings: resolved.
        depth_adc: baseline minus sample.
        rms_adc: of the baseline's samples.
        xp: array namespace.
    """
    assert settings.threshold_adc is not None  # resolved
    return depth_adc - xp.maximum(settings.threshold_adc, settings.threshold_rms * xp.asarray(rms_adc))


def gap(settings: Clustering, gap_ns: Any) -> Any:
    """A gap between hits minus what ends a peak [ns]. At zero: no end."""
    return gap_ns - settings.gap_ns


def sensors(settings: Clustering, n_sensors: Any) -> Any:
    """Sensors of a group of hits minus those that a peak needs. Never zero."""
    return n_sensors - settings.min_sensors + 0.5


def split_threshold(settings: Splitting, area_pe: Any, rise_ns: Any, *, xp: Any = np) -> Any:
    """Goodness of split that two pieces must exceed, for a peak of this area and rise time.

    Between a curve for fast peaks and one for slow ones, each linear in log10 of the area, with a weight
    that is a sigmoid of log10 of the rise time.

    Source: straxen, plugin peaklets, natural_breaks_threshold; restated.
    """
    s = settings
    log_rise = xp.log10(xp.clip(rise_ns, *_RISE_NS) / s.rise_ns)
    # a sigmoid that does not overflow: (1 + tanh(x / 2)) / 2
    slow = 0.5 * (1 + xp.tanh(0.5 * s.rise_power * log_rise))
    log_area = xp.log10(xp.maximum(area_pe, _LEAST_AREA_PE))
    s1 = xp.interp(log_area, xp.asarray(s.s1_log10_area), xp.asarray(s.s1_threshold))
    s2 = xp.interp(log_area, xp.asarray(s.s2_log10_area), xp.asarray(s.s2_threshold))
    return slow * s2 + (1 - slow) * s1


def split(settings: Splitting, goodness: Any, area_pe: Any, rise_ns: Any, *, xp: Any = np) -> Any:
    """Goodness of split minus its threshold. At zero: no split."""
    return goodness - split_threshold(settings, area_pe, rise_ns, xp=xp)


def split_area(settings: Splitting, area_pe: Any) -> Any:
    """Area of a peak minus that from which it may be split [PE]. At zero: it may."""
    return area_pe - settings.min_area_pe


def local_minimum(settings: Splitting, minimum_pe: Any, side_pe: Any, *, xp: Any = np) -> Any:
    """Height of the lower of two sides minus what the minimum between them asks [PE]. At zero: no split.

    Args:
        settings: of the splitting.
        minimum_pe: moving sum at the minimum.
        side_pe: the lower of the highest moving sums before and after it.
        xp: array namespace.

    Source: strax, LocalMinimumSplitter; restated.
    """
    asked = xp.maximum(minimum_pe + settings.minimum_height_pe, minimum_pe * settings.minimum_ratio)
    return side_pe - asked


def coincidence(settings: Coincidence, late_ns: Any, *, xp: Any = np) -> Any:
    """By how much a hit's maximum lies inside the window around a peak's maximum [ns]. At zero: inside.

    Args:
        settings: of the coincidence.
        late_ns: time of the hit's maximum minus that of the peak's.
        xp: array namespace.
    """
    return xp.minimum(late_ns + settings.left_ns, settings.right_ns - late_ns)


class ClassMargins(NamedTuple):
    """What S1 and S2 are decided by. The comment says what a zero means."""

    small: Any  # PE below the area from which one bound on the rise time is enough for an S1; 0: large
    s1_rise_small: Any  # ns below the lower of both bounds on a small S1's rise time; 0: not an S1
    s1_rise_large: Any  # ns below the bound on a large S1's; 0: an S1
    s1_coincidence: Any  # sensors over those an S1 needs; never 0
    s2_rise: Any  # ns over the bound by area; 0: not an S2
    s2_sensors: Any  # sensors over those an S2 needs; never 0
    s2_area: Any  # PE over the least; 0: an S2
    s2_top: Any  # area fraction top over the least; 0: not an S2
    s2_coincidence: Any  # sensors over those a small S2 needs; never 0
    s2_large: Any  # PE over the area from which an S2 needs no coincidence; 0: needs none


_ZERO_PASSES = ClassMargins(
    small=False, s1_rise_small=False, s1_rise_large=True, s1_coincidence=True, s2_rise=False,
    s2_sensors=True, s2_area=True, s2_top=False, s2_coincidence=True, s2_large=True,
)  # fmt: skip


def classes(
    settings: Classification,
    *,
    area_pe: Any,
    area_fraction_top: Any,
    rise_time_ns: Any,
    n_sensors: Any,
    tight_coincidence: Any,
    xp: Any = np,
) -> ClassMargins:
    """Margins of every cut of the classification.

    Args:
        settings: resolved.
        area_pe: of each peak.
        area_fraction_top: NaN where the area is not positive.
        rise_time_ns: from 10 to 50 % of the area; NaN where the area is not positive.
        n_sensors: with a hit.
        tight_coincidence: sensors with a hit near the maximum.
        xp: array namespace.

    Source: straxen, plugin peaklet_classification_vanilla; restated.
    """
    s = settings
    assert s.s1_min_coincidence is not None  # resolved
    by_area = s.rise_norm_ns * xp.exp(-xp.maximum(area_pe, 0.0) / s.rise_tau_pe) + s.rise_constant_ns
    by_top = xp.where(
        area_fraction_top >= s.aft_flat_from,
        s.aft_flat_rise_ns,
        10.0 ** (s.aft_slope * area_fraction_top + s.aft_offset),
    )
    return ClassMargins(
        small=s.s1_small_area_pe - area_pe,
        s1_rise_small=xp.minimum(by_area, by_top) - rise_time_ns,
        s1_rise_large=s.s1_max_rise_ns - rise_time_ns,
        s1_coincidence=tight_coincidence - s.s1_min_coincidence + 0.5,
        s2_rise=rise_time_ns - by_area,
        s2_sensors=n_sensors - s.s2_min_sensors + 0.5,
        s2_area=area_pe - s.s2_min_area_pe,
        s2_top=area_fraction_top - s.s2_min_area_fraction_top,
        s2_coincidence=tight_coincidence - s.s2_min_coincidence + 0.5,
        s2_large=area_pe - s.s2_small_area_pe,
    )


def passed(margins: ClassMargins) -> ClassMargins:
    """The hard reading of every cut: 1.0 where it is passed, else 0.0."""
    pairs = zip(margins, _ZERO_PASSES, strict=True)
    return ClassMargins(*((m >= 0 if zero else m > 0) * 1.0 for m, zero in pairs))


def s1_and_s2(chance: ClassMargins, *, xp: Any = np) -> tuple[Any, Any]:
    """Chances of S1 and of S2 from the chance to pass each cut; what remains is unknown.

    Exact for chances of 0 and 1, which is the hard reading. Between them it is the chance when the rise
    time, the coincidence and the rest vary independently, while all bounds on the rise time see the same
    rise time, and all on the coincidence the same coincidence.

    Args:
        chance: that each cut is passed, 0 to 1.
        xp: array namespace.
    """
    p = chance
    s1_small = p.small * p.s1_rise_small * p.s1_coincidence
    s1_large = (1 - p.small) * p.s1_rise_large * p.s1_coincidence
    # a small S2's rise time lies above the bound that a small S1's lies below; a large S1's need not
    enough = p.s2_coincidence + (1 - p.s2_coincidence) * p.s2_large
    both = xp.maximum(p.s2_rise + p.s1_rise_large - 1, 0.0) * xp.minimum(p.s1_coincidence, enough)
    slow = p.s2_rise * enough - (1 - p.small) * both
    return s1_small + s1_large, slow * p.s2_sensors * p.s2_area * p.s2_top


class MergeMargins(NamedTuple):
    """Two neighbouring pieces are joined where all three are positive or zero."""

    gap: Any  # ns that the gap is shorter than allowed
    area: Any  # that log10 of the smaller area is below the largest
    duration: Any  # ns that the joint peak is shorter than allowed


def merge(settings: Merging, gap_ns: Any, smaller_pe: Any, duration_ns: Any, *, xp: Any = np) -> MergeMargins:
    """Margins to join two pieces of an S2. At zero: joined.

    One S2 loses pieces of a few electrons at its ends, and rarely a large one; so it is the smaller of both
    that says how likely they are of one S2. Their joint area does not: two large ones are two S2s.

    Args:
        settings: of the merging.
        gap_ns: between the end of one and the start of the next.
        smaller_pe: area of the smaller of both.
        duration_ns: of the joint peak.
        xp: array namespace.

    Source: straxen, plugin merged_s2s_vanilla, for the limits on gap and duration; restated.
    """
    log_area = xp.log10(xp.maximum(smaller_pe, _LEAST_AREA_PE))
    allowed = xp.interp(log_area, xp.asarray(settings.log10_area), xp.asarray(settings.gap_ns))
    return MergeMargins(
        gap=allowed - gap_ns,
        area=settings.log10_area[-1] - log_area,
        duration=settings.max_duration_ns - duration_ns,
    )
