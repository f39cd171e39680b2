"""Collects what `dmsim plot event` draws: the event's records, its peaks and their decisions."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from dmsim.detector import Detector
from dmsim.io.reconstruction import read_reconstruction
from dmsim.io.records_input import RecordsInput
from dmsim.plot.event import Decision, EventView
from dmsim.plot.waveforms import WaveForm, summed_samples
from dmsim.reconstruction import margins
from dmsim.reconstruction.settings import Classification, Settings, settings_from
from dmsim.records import Events, Peaks, Signal

_COLUMNS = [
    "",
    "start [µs]",
    "area [PE]",
    "rise [ns]",
    "top",
    "sensors",
    "tight coincidence",
    "split",
    "class",
]
_MAIN = {"s1_peak": "S1", "s2_peak": "S2", "alt_s1_peak": "alt. S1", "alt_s2_peak": "alt. S2"}
_MARGIN_NS = 2_000  # of waveform before the first and after the last peak


def event_view(
    detector: Detector, source: RecordsInput, run: Path, settings: dict[str, Any], number: int
) -> EventView:
    """All that is drawn of one event.

    Args:
        detector: that the run was made with.
        source: the records it was made from.
        run: output folder of `dmsim reconstruct`.
        settings: of the run's provenance.
        number: of the event, as in its table.

    Raises:
        ValueError: if there is no such event, or no records of it.
    """
    peaks, events = read_reconstruction(run, partly=True)
    rows = np.flatnonzero(events.event == number)
    if not rows.size:
        span = f"0 to {events.event.max()}" if len(events) else "none"
        raise ValueError(f"{run} has no event {number}: its events are {span}")
    row = int(rows[0])
    is_stream = settings.get("events") == "triggered"
    if is_stream:
        end_ns = peaks.time_ns + peaks.length_ns
        mine = np.flatnonzero((peaks.time_ns >= events.start_ns[row]) & (end_ns <= events.end_ns[row]))
    else:
        mine = np.flatnonzero(peaks.event == number)
    read = _span if is_stream else _numbered
    zero_ns = int(peaks.time_ns[mine].min(initial=np.iinfo(np.int64).max)) if mine.size else 0
    waveform = read(detector, source, events, row, zero_ns)
    ours = Peaks(**{field.name: getattr(peaks, field.name)[mine] for field in fields(Peaks)})
    names = ["" for _ in mine]
    for column, name in _MAIN.items():
        for i in np.flatnonzero(mine == getattr(events, column)[row]):
            names[int(i)] = name
    start_ns = (ours.time_ns - zero_ns).astype(float)
    resolved = settings_from(settings["reconstruction"]).resolved(detector)
    return EventView(
        title=_title(detector, events, row),
        waveform=waveform,
        peaks=ours,
        start_ns=start_ns,
        names=names,
        columns=_COLUMNS,
        decisions=_decisions(resolved, ours, names, start_ns),
        sample_ns=detector.electronics.sample_ns,
    )


def _title(detector: Detector, events: Events, row: int) -> str:
    text = f"{detector.name}, event {events.event[row]}: {events.n_s1[row]} S1, {events.n_s2[row]} S2"
    if np.isfinite(events.drift_time_ns[row]):
        text += (
            f"; drift {events.drift_time_ns[row] / 1e3:.1f} µs from centre to centre, "
            f"x {events.x_mm[row]:.0f}, y {events.y_mm[row]:.0f}, z {events.z_mm[row]:.0f} mm, "
            f"{events.energy_kev[row]:.2f} keV"
        )
    return text


def _numbered(detector: Detector, source: RecordsInput, events: Events, row: int, zero_ns: int) -> WaveForm:
    number = int(events.event[row])
    for chunk in range(source.n_chunks):
        records = source.read_events(chunk)
        place = number - int(records.first_event)
        if not 0 <= place < records.n_events:
            continue
        mine = np.asarray(records.event) == place
        begin_ns = 0 if records.event_time_ns is None else int(records.event_time_ns[place])
        time_ns = begin_ns + np.asarray(records.start_sample)[mine].astype(np.int64) * records.sample_ns
        columns = (np.asarray(getattr(records, name))[mine] for name in ("channel", "length", "data"))
        return _summed(detector, time_ns - zero_ns, *columns)
    raise ValueError(f"{source.folder} has no records of event {number}")


def _span(detector: Detector, source: RecordsInput, events: Events, row: int, zero_ns: int) -> WaveForm:
    first, last = int(events.start_ns[row]) - _MARGIN_NS, int(events.end_ns[row]) + _MARGIN_NS
    parts = []
    for chunk in range(source.n_chunks):  # in order of time
        records = source.read_span(chunk)
        if records.n_records and records.time_ns[0] >= last:
            break
        parts.append(records.take(np.flatnonzero((records.time_ns < last) & (records.end_ns > first))))
    names = ("time_ns", "channel", "length", "data")
    time_ns, *columns = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return _summed(detector, time_ns - zero_ns, *columns)


def _summed(
    detector: Detector, time_ns: np.ndarray, channel: np.ndarray, length: np.ndarray, data: np.ndarray
) -> WaveForm:
    """Time of each sample from the first peak [ns], and the sensors' sum [PE a sample]."""
    if not time_ns.size:
        return np.zeros(1), np.zeros(1)
    electronics = detector.electronics
    dt, first = electronics.sample_ns, int(time_ns.min())
    start = (time_ns - first) // dt
    total = summed_samples(detector, start, channel, length, data, baseline_adc=electronics.baseline_adc)
    return first + np.arange(total.size) * float(dt), total


def _decisions(
    settings: Settings, peaks: Peaks, names: list[str], start_ns: np.ndarray
) -> list[list[Decision]]:
    """The cells of the table for each peak: held against what an S1, or what an S2 must have.

    An unknown peak is held against an S2 if it rises slowly enough for one and too slowly for an S1.
    """
    cuts = settings.classification
    area, rise = peaks.area_pe.astype(np.float64), peaks.rise_time_ns.astype(np.float64)
    top = peaks.area_top_pe / np.where(area != 0, area, np.nan)
    margin = margins.classes(
        cuts, area_pe=area, area_fraction_top=top, rise_time_ns=rise,
        n_sensors=peaks.n_sensors, tight_coincidence=peaks.tight_coincidence,
    )  # fmt: skip
    passed = margins.passed(margin)
    small = passed.small > 0
    fast = np.where(small, passed.s1_rise_small, passed.s1_rise_large) > 0
    slowest_ns = rise + np.where(small, margin.s1_rise_small, margin.s1_rise_large)
    unknown = peaks.signal == int(Signal.UNKNOWN)
    as_s2 = (peaks.signal == int(Signal.S2)) | (unknown & (passed.s2_rise > 0) & ~fast)
    threshold = margins.split_threshold(settings.splitting, area, rise)
    rows = []
    for i in range(len(peaks)):
        if as_s2[i]:
            cells = _s2_cells(cuts, peaks, passed, i, rise[i] - margin.s2_rise[i], top[i])
        else:
            bound = f"{rise[i]:.0f} ({'<' if small[i] else '<='} {slowest_ns[i]:.0f})"
            cells = [
                Decision(f"{area[i]:,.1f}", None),
                Decision(bound, bool(fast[i])),
                Decision(f"{top[i]:.2f}", None),
                Decision(f"{peaks.n_sensors[i]}", None),
                Decision(
                    f"{peaks.tight_coincidence[i]} (>= {cuts.s1_min_coincidence})",
                    bool(passed.s1_coincidence[i]),
                ),
            ]
        goodness = peaks.goodness_of_split[i]
        rows.append(
            [
                Decision(names[i], None),
                Decision(f"{start_ns[i] / 1e3:.2f}", None),
                *cells,
                Decision("" if np.isnan(goodness) else f"{goodness:.2f} (< {threshold[i]:.2f})", None),
                Decision(Signal(int(peaks.signal[i])).name.lower(), None),
            ]
        )
    return rows


def _s2_cells(
    cuts: Classification, peaks: Peaks, passed: margins.ClassMargins, i: int, fastest_ns: float, top: float
) -> list[Decision]:
    """Area, rise, top, sensors and coincidence of a peak, held against what an S2 must have."""
    needs = not passed.s2_large[i]
    at_once = f"{peaks.tight_coincidence[i]}" + (f" (>= {cuts.s2_min_coincidence})" if needs else "")
    return [
        Decision(f"{peaks.area_pe[i]:,.1f} (>= {cuts.s2_min_area_pe:g})", bool(passed.s2_area[i])),
        Decision(f"{peaks.rise_time_ns[i]:.0f} (> {fastest_ns:.0f})", bool(passed.s2_rise[i])),
        Decision(f"{top:.2f} (> {cuts.s2_min_area_fraction_top:g})", bool(passed.s2_top[i])),
        Decision(f"{peaks.n_sensors[i]} (>= {cuts.s2_min_sensors})", bool(passed.s2_sensors[i])),
        Decision(at_once, bool(passed.s2_coincidence[i]) if needs else None),
    ]
