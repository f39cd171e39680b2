"""Records by hand with decisions near their thresholds, for the checks of the soft reading."""

import sys
from functools import cache
from pathlib import Path

import numpy as np

import dmsim
from dmsim.reconstruction.settings import Settings, replaced

sys.path.insert(0, str(Path(__file__).parents[1] / "dmsim" / "reconstruction"))
from synthetic_records import records_of, s1, s2


@cache
def detector():
    """XENONnT."""
    return dmsim.load_detector("xenonnt")


def changed(settings: Settings, **sections) -> Settings:
    """With other values: section={name: value}."""
    new = {name: replaced(getattr(settings, name), **values) for name, values in sections.items()}
    return replaced(settings, **new)


@cache
def near():
    """Four events in which nearly every decision is near, and the settings for which that holds."""
    xenon, random = detector(), np.random.default_rng(3)
    longest = 1.05 * float(xenon.electrons.drift_time_ns(-xenon.geometry.drift_length_mm))
    photons = s1(random, 0, 20_000, 60) + s2(random, xenon, 0, 500_000, 300, 100.0, 50.0, 350.0)
    photons += s2(random, xenon, 0, 501_800, 250, 100.0, 50.0, 350.0)  # splits, and joins again
    photons += s1(random, 1, 10_000, 30) + s1(random, 1, 10_900, 10)  # a gap
    photons += s2(random, xenon, 1, 800_000, 250, -100.0, 50.0, 300.0)
    photons += s1(random, 2, 5_000, 3) + s2(random, xenon, 2, 300_000, 60, 0.0, 0.0, 400.0)
    photons += s2(random, xenon, 2, 327_000, 70, 0.0, 0.0, 400.0)  # joins, just
    photons += s1(random, 3, 10_000, 12) + s2(random, xenon, 3, 10_300 + longest, 25, 0.0, 0.0, 200.0)
    settings = changed(
        Settings(),
        hits={"threshold_rms": 5.5},
        splitting={
            "min_area_pe": 530.0,
            "rise_power": 2.0,
            "s2_threshold": (0.85, 0.6),
            "s2_log10_area": (2.2, 4.0),
            "s1_threshold": (0.9, 0.5),
        },
        classification={
            "s1_small_area_pe": 61.0,
            "s1_max_rise_ns": 24.0,
            "aft_slope": -1.5,
            "aft_offset": 1.8,
            "s2_small_area_pe": 25.0,
        },
        merging={
            "max_duration_ns": 29_600.0,
            "log10_area": (1.2, 1.65, 2.35, 2.43),
            "gap_ns": (2.84e4, 2.6e4, 2.2e4, 0.0),
        },
        position={"min_area_pe": 20.0},
    )
    return records_of(xenon, photons, n_events=4), settings.resolved(xenon)
