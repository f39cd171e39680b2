"""From records back to events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from dmsim import reconstruction
from dmsim.charge import prepare
from dmsim.detector import Detector
from dmsim.records import Events, Peaks, RawRecords

if TYPE_CHECKING:
    from dmsim.reconstruction.soft import SoftEvents, SoftPeaks, Temperature


@overload
def reconstruct(
    detector: Detector,
    records: RawRecords,
    *,
    settings: reconstruction.Settings | None = None,
    mode: Literal["soft"],
    temperature: Temperature | float | None = None,
) -> tuple[SoftPeaks, SoftEvents]: ...


@overload
def reconstruct(
    detector: Detector,
    records: RawRecords,
    *,
    settings: reconstruction.Settings | None = None,
    mode: str = "fast",
) -> tuple[Peaks, Events]: ...


def reconstruct(
    detector: Detector,
    records: RawRecords,
    *,
    settings: reconstruction.Settings | None = None,
    mode: str = "fast",
    temperature: Temperature | float | None = None,
) -> Any:
    """Peaks and events from records, simulated or measured.

    Args:
        detector: as the analyst believes it: conversion to PE, light pattern, corrections.
        records: of whole events; any number of them.
        settings: thresholds; the defaults if not given.
        mode: "fast" (or "hard"), real decisions; "compat", the same with hits and peaks of strax's integers,
            quirks included (docs/physics/strax-compatibility.md); "soft", each decision as a probability,
            through which a gradient reaches the thresholds and the samples.
        temperature: of mode "soft": of each decision, or a factor on the default ones; 0 is the hard reading.

    Returns:
        Peaks, and one event row an event, with the event's number in the run; in mode "soft" `SoftPeaks` and
        `SoftEvents`.

    Raises:
        ValueError: if the records are not the detector's, not finite or out of range, or for another mode.

    Gradient: none; in mode "soft" as `dmsim.reconstruction.soft.reconstruct_soft`.
    """
    if mode not in ("fast", "hard", "compat", "soft"):
        raise ValueError(f"mode is {mode!r}: choose from 'fast' (or 'hard'), 'compat' and 'soft'")
    if temperature is not None and mode != "soft":
        raise ValueError(f"temperature is given with mode {mode!r}: only mode 'soft' has one")
    detector = prepare(detector)  # the inverse of the drift needs its map
    if mode == "soft":
        from dmsim.reconstruction.soft import reconstruct_soft  # noqa: PLC0415  only when it is asked for

        return reconstruct_soft(detector, records, settings=settings, temperature=temperature)
    find_peaks = reconstruction.find_peaks
    if mode == "compat":
        from dmsim.reconstruction import compat  # noqa: PLC0415  numba only when it is used

        find_peaks = compat.find_peaks
    peaks = find_peaks(detector, records, settings=settings)
    events = reconstruction.build_events(
        detector, peaks, n_events=records.n_events, first_event=int(records.first_event), settings=settings
    )
    return peaks, events
