"""Decisions of event building as signed margins, once for the hard and for the soft reading.

The hard reading asks whether a margin is positive; a NaN decides for "no".
"""

from typing import Any

from dmsim.reconstruction.settings import EventBuilding


def trigger_area(settings: EventBuilding, area_pe: Any) -> Any:
    """An S2's area minus that of a trigger [PE]. At zero: no trigger."""
    return area_pe - settings.trigger_min_area_pe


def trigger_proximity(settings: EventBuilding, score: Any) -> Any:
    """What is left of the proximity score that a trigger may have [1/(ms mm)]. At zero: no trigger."""
    return settings.trigger_max_proximity - score


def longest_drift_ns(settings: EventBuilding, cathode_drift_ns: Any) -> Any:
    """Longest time from S1 to S2 of a pair [ns]."""
    return cathode_drift_ns * (1 + settings.max_drift_excess)


def paired(drift_ns: Any, longest_ns: Any) -> Any:
    """How far an S2's centre minus an S1's is inside 0 to the longest drift [ns]. At zero: no pair."""
    return longest_ns / 2 - abs(drift_ns - longest_ns / 2)


def ambiguous(settings: EventBuilding, alternate_pe: Any, main_pe: Any) -> Any:
    """An alternate's area minus that at which it could be the main one [PE]. At zero: clear."""
    return alternate_pe - settings.ambiguous_fraction * main_pe
