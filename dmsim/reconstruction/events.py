"""Peaks -> Events: windows, main and alternate signals, place, corrected areas and energy."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dmsim.detector import Detector
from dmsim.reconstruction import event_margins as margins
from dmsim.reconstruction.corrections import Correction, corrections
from dmsim.reconstruction.energy import kev_per_pe
from dmsim.reconstruction.event_building import EventWindows, cathode_drift_ns, event_windows, triggers
from dmsim.reconstruction.settings import EventBuilding, Settings
from dmsim.records import Events, Peaks

_NEVER = np.iinfo(np.int64).max


class _Rows(NamedTuple):
    """Which peaks each event may have: first .. last - 1 of `order`, those that end by `until_ns`."""

    order: Int[np.ndarray, "peak"]
    first: Int[np.ndarray, "event"]
    last: Int[np.ndarray, "event"]
    until_ns: Int[np.ndarray, "event"]
    start_ns: Int[np.ndarray, "event"]
    end_ns: Int[np.ndarray, "event"]
    n_triggers: Int[np.ndarray, "event"]


def build_events(
    detector: Detector,
    peaks: Peaks,
    *,
    n_events: int | None = None,
    first_event: int = 0,
    windows: EventWindows | None = None,
    settings: Settings | None = None,
) -> Events:
    """Events from peaks: by the number that the peaks carry, or around S2s that trigger.

    The main S2 is the largest; the main S1 is the largest that comes before it by no more than the
    cathode's drift time (and `events.max_drift_excess`). Without an S2 the main S1 is the largest. The
    alternate S1 is the next largest under the same conditions. The alternate S2 is the largest other one
    that could belong to the main S1, or of all if there is no S1.

    Args:
        detector: that took the data; with its drift field as a map, where it has one.
        peaks: of events first_event .. first_event + n_events - 1, in any order; by trigger: ascending in
            time.
        n_events: rows to give, >= 0, one each number; None: events are what triggers.
        first_event: number in the run of the first row.
        windows: by trigger: of `event_windows`, in place of those of these peaks.
        settings: the defaults if None.

    Returns:
        One row an event; NaN or -1 where a quantity does not exist: without an S1 or an S2 there is no place
        of the deposit, where the main S2 was seen is in `x_observed_mm`. `drift_time_ns` is the difference
        of the centre times; depth and lifetime correction take `delay_offset_ns` off it.

    Raises:
        ValueError: if a peak belongs to an event outside the range, or, by trigger, peaks do not ascend in
            time.

    Gradient: none (host arrays).
    """
    from dmsim.reconstruction.host import events as host  # noqa: PLC0415  numba only when it is used

    chosen_settings = (settings or Settings()).for_host(detector).events
    if n_events is None:
        if windows is None:
            windows = event_windows(detector, peaks, chosen_settings)
        rows = _rows_by_trigger(peaks, windows)
    else:
        rows = _rows_by_number(peaks, n_events, first_event, chosen_settings)
    order, time = rows.order, np.asarray(peaks.time_ns, np.int64)
    chosen, counts, around, last_end = host.pair(
        rows.first, rows.last, rows.until_ns, time[order],
        (time + np.asarray(peaks.length_ns, np.int64))[order],
        np.asarray(peaks.center_time_ns, np.float64)[order],
        np.asarray(peaks.area_pe, np.float64)[order],
        np.asarray(peaks.signal, np.int64)[order],
        float(margins.longest_drift_ns(chosen_settings, float(cathode_drift_ns(detector)))),
    )  # fmt: skip
    if len(order):
        chosen = np.where(chosen >= 0, order[chosen], -1)
    rows = rows._replace(end_ns=np.where(rows.end_ns >= 0, rows.end_ns, last_end))
    return _assemble(detector, peaks, chosen_settings, rows, chosen, counts, around, first_event)


def _rows_by_number(peaks: Peaks, n_events: int, first_event: int, settings: EventBuilding) -> _Rows:
    row = peaks.event - first_event
    if len(row) and (row.min() < 0 or row.max() >= n_events):
        raise ValueError(
            f"peaks.event spans {peaks.event.min()} to {peaks.event.max()}: "
            f"allowed are {first_event} to {first_event + n_events - 1}"
        )
    time = np.asarray(peaks.time_ns, np.int64)
    order = np.lexsort((time, row))
    last = np.cumsum(np.bincount(row, minlength=n_events)).astype(np.int64)
    first = np.concatenate([np.zeros(1, np.int64), last[:-1]])[:n_events]
    start = np.full(n_events, -1, np.int64)
    start[last > first] = time[order[first[last > first]]]
    n_triggers = np.zeros(n_events, np.int64)
    for_trigger = {
        name: getattr(peaks, name)[order] for name in ("area_pe", "center_time_ns", "x_mm", "y_mm", "signal")
    }
    # events that carry numbers may share a clock: each is laid apart, so that none sees another's S2s
    apart = _laid_apart(time[order], row[order], first, last, settings)
    makes = triggers(settings, time_ns=apart, **for_trigger)
    np.add.at(n_triggers, row[order[makes]], 1)
    none = np.full(n_events, -1, np.int64)
    return _Rows(order, first, last, np.full(n_events, _NEVER), start, none, n_triggers)


def _laid_apart(time, row, first, last, settings) -> Int[np.ndarray, "peak"]:
    """Times with events one after the other, more than the proximity window apart."""
    filled = np.flatnonzero(last > first)
    if not filled.size:
        return time
    begin, end = time[first[filled]], time[last[filled] - 1]
    length = end - begin + int(np.ceil(settings.proximity_window_ns)) + 1
    offset = np.zeros(len(first), np.int64)
    offset[filled] = np.concatenate([[0], np.cumsum(length)[:-1]]) - begin
    return time + offset[row]


def _rows_by_trigger(peaks: Peaks, windows: EventWindows) -> _Rows:
    time = np.asarray(peaks.time_ns, np.int64)
    first = np.searchsorted(time, windows.start_ns, side="left").astype(np.int64)
    last = np.searchsorted(time, windows.end_ns, side="left").astype(np.int64)
    order = np.arange(len(time))
    return _Rows(order, first, last, windows.end_ns, windows.start_ns, windows.end_ns, windows.n_triggers)


def _assemble(
    detector: Detector,
    peaks: Peaks,
    settings: EventBuilding,
    rows: _Rows,
    chosen: Int[np.ndarray, "event 4"],
    counts: Int[np.ndarray, "event 3"],
    around: Float[np.ndarray, "event 5"],
    first_event: int,
) -> Events:
    s1, s2, alt_s1, alt_s2 = chosen.T
    main = corrections(detector, _of(peaks.x_mm, s2), _of(peaks.y_mm, s2), _drift_ns(peaks, s1, s2))
    floats = _main_columns(detector, peaks, s1, s2, main)
    floats |= _alternate_columns(detector, peaks, chosen, main)
    floats |= dict(zip(_AROUND, around.T, strict=True))
    start = np.where(s1 >= 0, s1, s2)
    time_ns = np.full(len(chosen), -1, np.int64)
    time_ns[start >= 0] = peaks.time_ns[start[start >= 0]]
    ambiguous_s1 = margins.ambiguous(settings, floats["alt_s1_pe"], floats["s1_pe"]) > 0
    ambiguous_s2 = margins.ambiguous(settings, floats["alt_s2_pe"], floats["s2_pe"]) > 0
    dtype = np.dtype(peaks.area_pe.dtype)
    return Events(
        event=first_event + np.arange(len(chosen)),
        time_ns=time_ns,
        start_ns=rows.start_ns,
        end_ns=rows.end_ns,
        n_triggers=rows.n_triggers,
        n_peaks=counts[:, 0],
        n_s1=counts[:, 1],
        n_s2=counts[:, 2],
        s1_peak=s1,
        s2_peak=s2,
        alt_s1_peak=alt_s1,
        alt_s2_peak=alt_s2,
        ambiguous_s1=ambiguous_s1.astype(np.int8),
        ambiguous_s2=ambiguous_s2.astype(np.int8),
        **{name: np.asarray(value).astype(dtype) for name, value in floats.items()},
    )


# what lies around the main signals, in the order of `host.events.pair`
_AROUND = (
    "s2_before_pe", "largest_s2_before_pe", "largest_s2_after_pe", "largest_unknown_before_pe",
    "largest_unknown_between_pe",
)  # fmt: skip


def _of(column: Float[np.ndarray, "peak"], index: Int[np.ndarray, "event"]) -> Float[np.ndarray, "event"]:
    """The value of each event's peak; NaN where it has none (-1)."""
    if not len(column):
        return np.full(len(index), np.nan, column.dtype)
    return np.where(index >= 0, column[index], np.nan).astype(column.dtype)


def _drift_ns(
    peaks: Peaks, early: Int[np.ndarray, "event"], late: Int[np.ndarray, "event"]
) -> Float[np.ndarray, "event"]:
    """Centre of one peak of each event minus that of another [ns], in float64; NaN where one is missing."""
    out = np.full(len(early), np.nan)
    both = (early >= 0) & (late >= 0)
    i, j = early[both], late[both]
    # int64 first: absolute times do not fit a float
    out[both] = (peaks.time_ns[j] - peaks.time_ns[i]).astype(np.float64)
    out[both] += peaks.center_time_ns[j].astype(np.float64) - peaks.center_time_ns[i]
    return out


def _main_columns(
    detector: Detector,
    peaks: Peaks,
    s1: Int[np.ndarray, "event"],
    s2: Int[np.ndarray, "event"],
    main: Correction,
) -> dict[str, np.ndarray]:
    """Areas, place, corrected areas and energy of the main signals."""
    s1_pe, s2_pe, s2_top = _of(peaks.area_pe, s1), _of(peaks.area_pe, s2), _of(peaks.area_top_pe, s2)
    drift_ns = _drift_ns(peaks, s1, s2)
    cs1 = s1_pe * main.s1
    cs2_bottom = (s2_pe - s2_top) * main.s2_bottom
    cs2 = s2_top * main.s2_top + cs2_bottom
    light, charge = (area * kev for area, kev in zip((cs1, cs2), kev_per_pe(detector), strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        s1_aft, s2_aft = _of(peaks.area_top_pe, s1) / s1_pe, s2_top / s2_pe
    of_place = ("x_error_mm", "y_error_mm", "xy_correlation", "xy_misfit")
    return {
        "s1_pe": s1_pe,
        "s2_pe": s2_pe,
        "cs1_pe": cs1,
        "cs2_pe": cs2,
        "cs2_bottom_pe": cs2_bottom,
        "drift_time_ns": drift_ns,
        "x_mm": np.where(np.isfinite(drift_ns), main.x_mm, np.nan),
        "y_mm": np.where(np.isfinite(drift_ns), main.y_mm, np.nan),
        "z_mm": main.z_mm,
        "x_observed_mm": _of(peaks.x_mm, s2),
        "y_observed_mm": _of(peaks.y_mm, s2),
        "s1_area_fraction_top": s1_aft,
        "s2_area_fraction_top": s2_aft,
        "s2_width_50_ns": _of(peaks.width_50_ns, s2),
        "energy_kev": light + charge,
        "energy_light_kev": light,
        "energy_charge_kev": charge,
    } | {name: _of(getattr(peaks, name), s2) for name in of_place}


def _alternate_columns(
    detector: Detector,
    peaks: Peaks,
    chosen: Int[np.ndarray, "event 4"],
    main: Correction,
) -> dict[str, np.ndarray]:
    """Areas and drift times of the alternates: the S1 corrected as the main one, the S2 at its own place."""
    s1, s2, alt_s1, alt_s2 = chosen.T
    x, y, drift_ns = _of(peaks.x_mm, alt_s2), _of(peaks.y_mm, alt_s2), _drift_ns(peaks, s1, alt_s2)
    other = corrections(detector, x, y, drift_ns)
    s1_pe, s2_pe, s2_top = (
        _of(column, index)
        for column, index in ((peaks.area_pe, alt_s1), (peaks.area_pe, alt_s2), (peaks.area_top_pe, alt_s2))
    )
    return {
        "alt_s1_pe": s1_pe,
        "alt_s2_pe": s2_pe,
        "alt_cs1_pe": s1_pe * main.s1,
        "alt_cs2_pe": s2_top * other.s2_top + (s2_pe - s2_top) * other.s2_bottom,
        "alt_s1_drift_time_ns": _drift_ns(peaks, alt_s1, s2),
        "alt_s2_drift_time_ns": drift_ns,
        "alt_s2_x_observed_mm": x,
        "alt_s2_y_observed_mm": y,
    }
