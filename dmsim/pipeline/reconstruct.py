"""From records back to events."""

from dmsim import reconstruction
from dmsim.charge import prepare
from dmsim.detector import Detector
from dmsim.records import Events, Peaks, RawRecords


def reconstruct(
    detector: Detector,
    records: RawRecords,
    *,
    settings: reconstruction.Settings | None = None,
    mode: str = "fast",
) -> tuple[Peaks, Events]:
    """Peaks and events from records, simulated or measured.

    Args:
        detector: as the analyst believes it: conversion to PE, light pattern, corrections.
        records: of whole events; any number of them.
        settings: thresholds; the defaults if not given.
        mode: "fast" (or "hard"), real decisions; "compat", the same with hits and peaks of strax's integers,
            quirks included (docs/physics/strax-compatibility.md).

    Returns:
        Peaks, and one event row an event, with the event's number in the run.

    Raises:
        ValueError: if the records are not the detector's, not finite or out of range, or for another mode.

    Gradient: none.
    """
    if mode not in ("fast", "hard", "compat"):
        raise ValueError(f"mode is {mode!r}: choose from 'fast' (or 'hard') and 'compat'")
    detector = prepare(detector)  # the inverse of the drift needs its map
    find_peaks = reconstruction.find_peaks
    if mode == "compat":
        from dmsim.reconstruction import compat  # noqa: PLC0415  numba only when it is used

        find_peaks = compat.find_peaks
    peaks = find_peaks(detector, records, settings=settings)
    events = reconstruction.build_events(
        detector, peaks, n_events=records.n_events, first_event=int(records.first_event), settings=settings
    )
    return peaks, events
