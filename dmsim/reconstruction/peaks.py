"""Records -> Peaks: the hard chain, step by step."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dmsim.detector import Detector
from dmsim.reconstruction.acceptance import lost_charge_of_sensors
from dmsim.reconstruction.classify import classify
from dmsim.reconstruction.clustering import cluster
from dmsim.reconstruction.coincidence import count_sensors, tight_coincidence
from dmsim.reconstruction.hits import around_hits, find_hits
from dmsim.reconstruction.integrate import integrate, integrate_pieces
from dmsim.reconstruction.merging import merge_pieces
from dmsim.reconstruction.position import Positions, positions
from dmsim.reconstruction.pulses import Pulses, free_samples, measure_pulses
from dmsim.reconstruction.saturation import correct_saturation
from dmsim.reconstruction.settings import Settings
from dmsim.reconstruction.shape import Shapes, shapes_of
from dmsim.reconstruction.splitting import split_windows
from dmsim.reconstruction.tables import (
    Gains,
    HitTable,
    RecordTable,
    Waveforms,
    Windows,
    event_and_time_ns,
    gains_of,
    record_table,
)
from dmsim.records import Peaks, RawRecords, Signal

BACKENDS = "host", "xla"


class _Measured(NamedTuple):
    """Windows and what was measured in them."""

    windows: Windows
    area: Int[np.ndarray, "peak sensor"]  # int64 units
    n_saturated: Int[np.ndarray, "peak"]
    shape: Shapes
    goodness: Float[np.ndarray, "peak"]  # of split
    n_hits: Int[np.ndarray, "peak"]
    n_sensors: Int[np.ndarray, "peak"]
    coincidence: Int[np.ndarray, "peak"]
    signal: Int[np.ndarray, "peak"]


def find_peaks(
    detector: Detector, records: RawRecords, *, settings: Settings | None = None, backend: str = "host"
) -> Peaks:
    """Find, measure and classify the peaks of a batch of records.

    The same bytes come out for any order of the records and any cut of the events into batches: samples stay
    int16, and baselines, waveforms and areas are sums of int64.

    Args:
        detector: that took the records; its electronics give the conversion to PE.
        records: in any order; `event` is the position in the batch. `data` as int16 is not copied.
        settings: thresholds; the defaults if None.
        backend: "host", or "xla" for baselines, thresholds and integrals on an accelerator; both give the
            same bytes.

    Returns:
        Peaks sorted by (event, time). `event` is the number in the run, `first_event` + position, so that
        batches can be joined; times count from the event's start if `event_time_ns` is None.

    Raises:
        ValueError: if a field of the records is out of range, not whole or not finite, if rows overflowed,
            or if records of one channel overlap.

    Gradient: none (host arrays).
    """
    peaks = peaks_of(detector, record_table(detector, records), settings=settings, backend=backend)
    event, time_ns = event_and_time_ns(peaks.time_ns, records.sample_ns)
    if records.event_time_ns is not None:
        time_ns = time_ns + np.asarray(records.event_time_ns, np.int64)[event]
    return replace(peaks, event=event + int(records.first_event), time_ns=time_ns)


def peaks_of(
    detector: Detector, table: RecordTable, *, settings: Settings | None = None, backend: str = "host"
) -> Peaks:
    """Find, measure and classify the peaks of records on one clock.

    Args:
        detector: that took the records.
        table: from `record_table` or `record_table_from_columns`.
        settings: thresholds; the defaults if None.
        backend: "host", or "xla" for baselines, thresholds and integrals on an accelerator; both give the
            same bytes.

    Returns:
        Peaks sorted by time, on the table's clock; `event` is 0.

    Raises:
        ValueError: if a peak's area does not fit 64 bits, or for another backend.
    """
    settings = (settings or Settings()).for_host(detector)
    pulses, hits = hits_of(detector, table, settings, backend=backend)
    return peaks_of_hits(detector, table, pulses, hits, settings, backend=backend)


def hits_of(
    detector: Detector, table: RecordTable, settings: Settings, *, backend: str = "host"
) -> tuple[Pulses, HitTable]:
    """What is found before any peak: it depends on `settings.hits` alone.

    Args:
        detector: that took the records.
        table: of them.
        settings: of `Settings.for_host`.
        backend: as of `peaks_of`.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}: choose from {', '.join(BACKENDS)}")
    n_first = free_samples(detector, settings.hits)
    pulses = measure_pulses(settings.hits, table, n_first=n_first, backend=backend)
    return pulses, find_hits(table, pulses, gains_of(detector), backend=backend)


def peaks_of_hits(
    detector: Detector,
    table: RecordTable,
    pulses: Pulses,
    hits: HitTable,
    settings: Settings,
    *,
    backend: str = "host",
) -> Peaks:
    """The rest of `peaks_of`: many settings can be tried on the same hits."""
    n_sensors, gains = detector.light.sensors.n_sensors, gains_of(detector)
    table = around_hits(settings.clustering, table, hits)
    windows = cluster(settings.clustering, hits, dt=table.dt, n_sensors=n_sensors)
    waveforms = integrate(table, pulses, gains, windows, backend=backend)
    pieces = split_windows(settings.splitting, windows, waveforms, table.dt)
    waveforms = integrate_pieces(table, pulses, gains, pieces, waveforms)
    windows = pieces.windows
    waveforms = correct_saturation(settings.saturation, table, pulses, gains, windows, waveforms)
    waveforms = _with_lost_charge(detector, waveforms, windows, hits)
    measured = _measure(settings, gains, windows, waveforms, pieces.goodness, hits, table.dt)
    merged = _merge(settings, gains, measured, waveforms, hits, table.dt)
    return _assemble(detector, settings, gains, merged, waveforms.scale)


def _with_lost_charge(
    detector: Detector, waveforms: Waveforms, windows: Windows, hits: HitTable
) -> Waveforms:
    """Add what lone photons below the threshold took away, for each one that was seen alone."""
    per_hit = lost_charge_of_sensors(detector.electronics, detector.light.sensors.n_sensors)
    lost = np.rint(per_hit / waveforms.scale).astype(np.int64)
    lone = hits.rows(hits.alone)
    peak = windows.find(lone.max_time_ns)
    area, inside = waveforms.area_per_channel, peak >= 0
    channel = lone.channel[inside]
    np.add.at(area, (peak[inside], channel), lost[channel])
    return waveforms._replace(area_per_channel=area)


def _measure(
    settings: Settings,
    gains: Gains,
    windows: Windows,
    waveforms: Waveforms,
    goodness: Float[np.ndarray, "window"],
    hits: HitTable,
    dt: int,
    first_piece: Int[np.ndarray, "peak+1"] | None = None,
) -> _Measured:
    """Shape, hits, coincidence and class of each window.

    Args:
        settings: resolved.
        gains: of the sensors.
        windows: of the waveforms.
        waveforms: of the windows.
        goodness: of split, of the windows.
        hits: of all records.
        dt: ns a sample.
        first_piece: if given, windows first_piece[p] to first_piece[p + 1] are joined to one peak.
    """
    shape = shapes_of(windows.start_ns, waveforms.offset, waveforms.total, dt, first_piece=first_piece)
    area, n_saturated = waveforms.area_per_channel, waveforms.n_saturated
    if first_piece is not None:
        begin = first_piece[:-1]
        windows = Windows(windows.start_ns[begin], windows.end_ns[first_piece[1:] - 1])
        area, n_saturated = np.add.reduceat(area, begin, axis=0), np.add.reduceat(n_saturated, begin)
        # the largest of its pieces; fmax passes over those that were not searched
        goodness = np.fmax.reduceat(goodness, begin)
    n, n_sensors = len(windows.start_ns), len(gains.units_per_count)
    peak = windows.find(hits.max_time_ns)
    in_all = count_sensors(peak, hits.channel, n, n_sensors)
    at_once = tight_coincidence(settings.coincidence, hits, windows.start_ns + shape.maximum_ns, n_sensors)
    area_pe = _in_pe(area, waveforms.scale)
    signal = classify(
        settings.classification,
        area_pe=area_pe,
        area_fraction_top=_fraction(area[:, : gains.n_top], area),
        rise_time_ns=shape.rise_ns,
        n_sensors=in_all,
        tight_coincidence=at_once,
    )
    n_hits = np.bincount(peak[peak >= 0], minlength=n)
    return _Measured(windows, area, n_saturated, shape, goodness, n_hits, in_all, at_once, signal)


def _merge(
    settings: Settings, gains: Gains, measured: _Measured, waveforms: Waveforms, hits: HitTable, dt: int
) -> _Measured:
    """Join pieces of S2s and measure again; between pieces the waveform counts as zero."""
    area_pe = _in_pe(measured.area, waveforms.scale)
    first_piece = merge_pieces(settings.merging, measured.windows, area_pe, measured.signal)
    if len(first_piece) == len(area_pe) + 1:
        return measured
    windows, goodness = measured.windows, measured.goodness
    joined = _measure(settings, gains, windows, waveforms, goodness, hits, dt, first_piece)
    # what was joined to an S2 piece is S2, what stands alone keeps its class
    alone = np.diff(first_piece) == 1
    return joined._replace(signal=np.where(alone, measured.signal[first_piece[:-1]], int(Signal.S2)))


def _in_pe(area: Int[np.ndarray, "peak sensor"], scale: float) -> Float[np.ndarray, "peak"]:
    """Sum over sensors [PE]: whole numbers first, so that the order does not matter."""
    return area.sum(axis=1) * scale


def _fraction(
    part: Int[np.ndarray, "peak sensor"], whole: Int[np.ndarray, "peak sensor"]
) -> Float[np.ndarray, "peak"]:
    """Sum of the part over that of the whole; NaN where the whole is 0."""
    total = whole.sum(axis=1).astype(np.float64)
    return part.sum(axis=1) / np.where(total != 0, total, np.nan)


def _assemble(
    detector: Detector, settings: Settings, gains: Gains, measured: _Measured, scale: float
) -> Peaks:
    dtype = np.dtype(detector.light.top_height_mm.dtype)
    windows, shape = measured.windows, measured.shape
    n = len(windows.start_ns)
    area = (measured.area * scale).astype(dtype)
    s2 = measured.signal == int(Signal.S2)
    places = {name: np.full(n, np.nan, dtype) for name in Positions._fields}
    found = positions(detector, area[s2], settings.position)
    for name, column in zip(found._fields, found, strict=True):
        places[name][s2] = column
    return Peaks(
        event=np.zeros(n, np.int64),
        time_ns=windows.start_ns,
        length_ns=windows.end_ns - windows.start_ns,
        area_pe=_in_pe(measured.area, scale).astype(dtype),
        area_top_pe=_in_pe(measured.area[:, : gains.n_top], scale).astype(dtype),
        area_per_channel_pe=area,
        n_hits=measured.n_hits,
        n_sensors=measured.n_sensors,
        tight_coincidence=measured.coincidence,
        center_time_ns=shape.center_ns.astype(dtype),
        decile_ns=shape.decile_ns.astype(dtype),
        width_ns=shape.width_ns.astype(dtype),
        goodness_of_split=measured.goodness.astype(dtype),
        n_saturated=measured.n_saturated,
        signal=measured.signal.astype(np.int8),
        **places,
    )
