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
    mode: str = "hard",
) -> tuple[Peaks, Events]:
    """Peaks and events from records, simulated or measured.

    Args:
        detector: as the analyst believes it: conversion to PE, light pattern, corrections.
        records: of whole events; any number of them.
        settings: thresholds; the defaults if not given.
        mode: "hard", real decisions. "soft", through which a gradient reaches the thresholds, is not there
            yet.

    Returns:
        Peaks, and one event row an event, with the event's number in the run.

    Raises:
        ValueError: if the records are not the detector's, not finite or out of range, or for another mode.

    Gradient: none.
    """
    if mode != "hard":
        raise ValueError(f"mode is {mode!r}: only 'hard' is there in this version")
    detector = prepare(detector)  # the inverse of the drift needs its map
    peaks = reconstruction.find_peaks(detector, records, settings=settings)
    events = reconstruction.build_events(
        detector, peaks, n_events=records.n_events, first_event=int(records.first_event), settings=settings
    )
    return peaks, events
