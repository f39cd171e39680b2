"""Peaks of strax's integers as `Peaks`: classified, S2s joined, placed. What strax has no say in is ours."""

from dataclasses import replace

import numpy as np

from dmsim.detector import Detector
from dmsim.reconstruction.classify import classify
from dmsim.reconstruction.compat import features, properties
from dmsim.reconstruction.compat.chain import Found, find_with, gains
from dmsim.reconstruction.compat.intervals import end_ns
from dmsim.reconstruction.compat.pulses import links
from dmsim.reconstruction.compat.waveform import sum_waveforms
from dmsim.reconstruction.merging import merge_pieces
from dmsim.reconstruction.position import Positions, positions
from dmsim.reconstruction.settings import Settings
from dmsim.reconstruction.tables import RecordTable, Windows, event_and_time_ns, record_table
from dmsim.records import Peaks, RawRecords, Signal
from dmsim.strax_layout import SUM_CHANNEL, raw_record_dtype


def find_peaks(detector: Detector, records: RawRecords, *, settings: Settings | None = None) -> Peaks:
    """Find, measure and classify the peaks of records of events, as mode "compat" does.

    Args:
        detector: that took the records.
        records: in any order.
        settings: thresholds; the defaults if None.

    Returns:
        Peaks sorted by (event, time), as those of `dmsim.reconstruction.find_peaks`.

    Raises:
        ValueError: if a field is out of its range, records overlap, or a pulse lacks its first fragment.

    Gradient: none.
    """
    peaks = peaks_of_table(detector, record_table(detector, records), settings=settings)
    event, time_ns = event_and_time_ns(peaks.time_ns, records.sample_ns)
    if records.event_time_ns is not None:
        time_ns = time_ns + np.asarray(records.event_time_ns, np.int64)[event]
    return replace(peaks, event=event + int(records.first_event), time_ns=time_ns)


def peaks_of_table(detector: Detector, table: RecordTable, *, settings: Settings | None = None) -> Peaks:
    """The same of records on one clock, as `dmsim.reconstruction.peaks_of`; `event` is 0.

    Args:
        detector: that took them.
        table: of whole pulses.
        settings: the defaults if None.

    Raises:
        ValueError: as `find_peaks`.
    """
    return peaks_of(detector, _raw_records(table), settings=settings)


def peaks_of(
    detector: Detector,
    raw_records: np.ndarray,
    *,
    settings: Settings | None = None,
    chunk_ns: tuple[int, int] | None = None,
) -> Peaks:
    """The same of raw_records in strax's layout, on one clock; `event` is 0.

    Args:
        detector: that took them.
        raw_records: sorted by time.
        settings: the defaults if None.
        chunk_ns: start and end of the chunk, at which peaks are cut; nothing is cut if None.

    Raises:
        ValueError: as `find_peaks`.
    """
    settings = (settings or Settings()).for_host(detector)
    to_pe, n_top = gains(detector), detector.light.sensors.n_top
    found = find_with(settings, raw_records, pe_per_adc=to_pe, n_top=n_top, chunk_ns=chunk_ns)
    signal = signals(found.peaks, settings)
    joined, signal = _joined(found, signal, settings, to_pe, n_top)
    return _assembled(detector, settings, joined, signal)


def signals(peaks: np.ndarray, settings: Settings) -> np.ndarray:
    """`Signal` of peaks in strax's layout, by our classification.

    Args:
        peaks: measured.
        settings: resolved.
    """
    return classify(
        settings.classification,
        area_pe=peaks["area"].astype(np.float64),
        area_fraction_top=peaks["area_fraction_top"].astype(np.float64),
        rise_time_ns=-peaks["area_decile_from_midpoint"][:, 1].astype(np.float64),
        n_sensors=_n_sensors(peaks),
        tight_coincidence=peaks["tight_coincidence"].astype(np.int64),
    ).astype(np.int8)


def _n_sensors(peaks: np.ndarray) -> np.ndarray:
    return np.count_nonzero(peaks["area_per_channel"] > 0, axis=1)


def _raw_records(table: RecordTable) -> np.ndarray:
    raw = np.zeros(len(table.time_ns), raw_record_dtype(table.data.shape[1]))
    raw["time"], raw["channel"], raw["length"] = table.time_ns, table.channel, table.length
    raw["record_i"], raw["dt"], raw["baseline"] = table.record_i, table.dt, table.baseline_adc
    total = np.bincount(table.pulse, weights=table.length, minlength=table.n_pulses)
    raw["pulse_length"] = total[table.pulse]
    raw["data"] = table.data
    return raw


def _joined(
    found: Found, signal: np.ndarray, settings: Settings, to_pe: np.ndarray, n_top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of S2s as one peak, measured again from the hits between its ends."""
    peaks = found.peaks
    if len(peaks) < 2:
        return peaks, signal
    ends = end_ns(peaks)
    first = merge_pieces(
        settings.merging, Windows(peaks["time"], ends), peaks["area"].astype(np.float64), signal
    )
    begin, last = first[:-1], first[1:] - 1
    alone = begin == last
    if alone.all():
        return peaks, signal
    dt = int(found.records["dt"][0])
    joint = np.zeros((~alone).sum(), peaks.dtype)
    joint["time"], joint["dt"], joint["channel"] = peaks["time"][begin[~alone]], dt, SUM_CHANNEL
    joint["length"] = (ends[last[~alone]] - joint["time"]) // dt
    joint["max_gap"] = -1
    goodness = np.fmax.reduceat(peaks["max_goodness_of_split"], begin)
    joint["max_goodness_of_split"] = goodness[~alone]
    before, after = links(found.records)
    sum_waveforms(joint, found.hitlets, found.records, before, after, to_pe, n_top=n_top)
    properties.describe(joint, n_top=n_top)
    features.add_hit_features(joint, found.hitlets, settings.coincidence)
    out = np.empty(len(begin), peaks.dtype)
    out[alone], out[~alone] = peaks[begin[alone]], joint
    return out, np.where(alone, signal[begin], np.int8(Signal.S2))


def _assembled(detector: Detector, settings: Settings, peaks: np.ndarray, signal: np.ndarray) -> Peaks:
    dtype = np.dtype(detector.light.top_height_mm.dtype)
    n = len(peaks)
    n_top = detector.light.sensors.n_top
    area = peaks["area_per_channel"].astype(dtype)
    places = {name: np.full(n, np.nan, dtype) for name in Positions._fields}
    s2 = signal == int(Signal.S2)
    found = positions(detector, area[s2], settings.position)
    for name, column in zip(found._fields, found, strict=True):
        places[name][s2] = column
    median = peaks["median_time"]
    searched = (settings.splitting.search == "natural_breaks") & (
        peaks["area"] >= settings.splitting.min_area_pe
    )
    return Peaks(
        event=np.zeros(n, np.int64),
        time_ns=peaks["time"].copy(),
        length_ns=peaks["length"].astype(np.int64) * peaks["dt"],
        area_pe=peaks["area"].astype(dtype),
        area_top_pe=area[:, :n_top].sum(axis=1).astype(dtype),
        area_per_channel_pe=area,
        n_hits=peaks["n_hits"].astype(np.int64),
        n_sensors=_n_sensors(peaks),
        tight_coincidence=peaks["tight_coincidence"].astype(np.int64),
        center_time_ns=(peaks["center_time"] - peaks["time"]).astype(dtype),
        decile_ns=(median[:, None] + peaks["area_decile_from_midpoint"]).astype(dtype),
        width_ns=peaks["width"].astype(dtype),
        goodness_of_split=np.where(searched, peaks["max_goodness_of_split"], np.nan).astype(dtype),
        n_saturated=peaks["n_saturated_channels"].astype(np.int64),
        signal=signal,
        **places,
    )
