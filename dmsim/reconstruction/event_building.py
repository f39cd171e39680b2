"""Windows of events in continuous data: around S2s that trigger.

An S2 triggers if it is large enough and is not the aftermath of an earlier, larger one (proximity score).
Its window reaches from the longest drift time and an extension before its start to an extension after its
end; windows that overlap or touch are joined. A peak is of the event whose window holds all of it.

Source: the definition of straxen's plugins events and peak_proximity (4.1), restated.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dmsim.detector import Detector
from dmsim.reconstruction import event_margins as margins
from dmsim.reconstruction.settings import EventBuilding
from dmsim.records import Peaks, Signal


class EventWindows(NamedTuple):
    """Disjoint windows, ascending. All int64."""

    start_ns: Int[np.ndarray, "event"]
    end_ns: Int[np.ndarray, "event"]
    first_trigger_ns: Int[np.ndarray, "event"]  # start of the first S2 that triggered
    n_triggers: Int[np.ndarray, "event"]


class CarryOver(NamedTuple):
    """What a stream keeps when its peaks are known up to some time."""

    n_settled: int  # leading windows that no later peak can change
    triggers_from_ns: int  # `triggers_from_ns` of the next call
    keep_from_ns: int  # peaks that start at this time or later belong into the next call


def cathode_drift_ns(detector: Detector) -> int:
    """Drift time of an electron from the cathode, in whole ns."""
    return round(float(detector.electrons.drift_time_ns(-detector.geometry.drift_length_mm)))


def _left_right_ns(detector: Detector, settings: EventBuilding) -> tuple[int, int]:
    left = cathode_drift_ns(detector) + round(float(settings.left_extension_ns))
    return left, round(float(settings.right_extension_ns))


def reach_ns(detector: Detector, settings: EventBuilding) -> int:
    """Farthest in time that a peak can matter to a window that it is not in [ns].

    An event depends on peaks inside its window, on S2s that start up to `proximity_window_ns` before one of
    its triggers, and on the absence of triggers within the longest drift time and the left extension after
    its end. The largest of these.
    """
    left, right = _left_right_ns(detector, settings)
    return max(int(np.ceil(settings.proximity_window_ns)), left, right)


def triggers(
    settings: EventBuilding,
    *,
    time_ns: Int[np.ndarray, "peak"],
    center_time_ns: Float[np.ndarray, "peak"],
    area_pe: Float[np.ndarray, "peak"],
    x_mm: Float[np.ndarray, "peak"],
    y_mm: Float[np.ndarray, "peak"],
    signal: Int[np.ndarray, "peak"],
) -> Bool[np.ndarray, "peak"]:
    """Which peaks would make an event. Peaks ascend in time; centres count from the peak's start.

    Gradient: none (host arrays).
    """
    from dmsim.reconstruction.host import events as host  # noqa: PLC0415  numba only when it is used

    rows = np.flatnonzero(signal == int(Signal.S2))
    time, area = np.ascontiguousarray(time_ns[rows], np.int64), area_pe[rows].astype(np.float64)
    score = host.proximity(
        time,
        time + np.rint(np.nan_to_num(center_time_ns[rows])).astype(np.int64),
        area,
        x_mm[rows].astype(np.float64),
        y_mm[rows].astype(np.float64),
        int(np.ceil(settings.proximity_window_ns)),
        float(settings.proximity_min_area_fraction),
        float(settings.proximity_width_mm),
    )
    makes = (margins.trigger_area(settings, area) > 0) & (margins.trigger_proximity(settings, score) > 0)
    out = np.zeros(len(signal), bool)
    out[rows[makes]] = True
    return out


def event_windows(
    detector: Detector, peaks: Peaks, settings: EventBuilding, *, triggers_from_ns: int | None = None
) -> EventWindows:
    """Windows of the events in continuous data.

    Args:
        detector: its longest drift time sets the windows.
        peaks: ascending in time.
        settings: of event building.
        triggers_from_ns: peaks that start before only count as earlier S2s; all may trigger if None.

    Returns:
        One row an event. What an event is depends on no peak farther than `reach_ns` from its window.

    Raises:
        ValueError: if the peaks do not ascend in time.

    Gradient: none (host arrays).
    """
    from dmsim.reconstruction.host import events as host  # noqa: PLC0415  numba only when it is used

    time = np.asarray(peaks.time_ns, np.int64)
    late = np.flatnonzero(np.diff(time) < 0)
    if late.size:
        raise ValueError(f"peaks.time_ns goes back at row {late[0] + 1}: peaks must ascend in time")
    makes = triggers(
        settings,
        time_ns=time,
        center_time_ns=peaks.center_time_ns,
        area_pe=peaks.area_pe,
        x_mm=peaks.x_mm,
        y_mm=peaks.y_mm,
        signal=peaks.signal,
    )
    if triggers_from_ns is not None:
        makes &= time >= triggers_from_ns
    end = time[makes] + np.asarray(peaks.length_ns, np.int64)[makes]
    return EventWindows(*host.join_triggers(time[makes], end, *_left_right_ns(detector, settings)))


def carry_over(
    detector: Detector, settings: EventBuilding, windows: EventWindows, *, until_ns: int
) -> CarryOver:
    """What is settled once every peak that starts before `until_ns` is known, and what must be kept.

    The next call gets the peaks from `keep_from_ns` on, with `triggers_from_ns`; its windows follow the
    settled ones, as if all peaks had come at once.

    Args:
        detector: as for `event_windows`.
        settings: as for `event_windows`.
        windows: of `event_windows`.
        until_ns: all peaks that start before are known.
    """
    left, _ = _left_right_ns(detector, settings)
    # a later trigger joins a window if its own begins no later than the window ends
    n_settled = int(np.searchsorted(windows.end_ns, until_ns - left, side="left"))
    from_ns, keep = until_ns, until_ns - left
    if n_settled < len(windows.start_ns):
        from_ns = min(from_ns, int(windows.first_trigger_ns[n_settled]))
        keep = min(keep, int(windows.start_ns[n_settled]))
    keep = min(keep, from_ns - int(np.ceil(settings.proximity_window_ns)))
    return CarryOver(n_settled, from_ns, keep)
