"""Records -> Peaks."""

from typing import NamedTuple

import numpy as np

from dmsim.detector import Detector
from dmsim.reconstruction.acceptance import lost_charge_per_lone_hit
from dmsim.reconstruction.classify import classify
from dmsim.reconstruction.clustering import Windows, cluster, count_sensors, joint_time, merge_pieces
from dmsim.reconstruction.hits import HitTable, find_hits
from dmsim.reconstruction.integrate import Integrals, integrate
from dmsim.reconstruction.position import positions
from dmsim.reconstruction.pulses import Table, baseline_shifts, checked, table_of
from dmsim.reconstruction.settings import Settings
from dmsim.reconstruction.shape import Shapes, shapes_of
from dmsim.records import Peaks, RawRecords, Signal

POSITION_QUALITY = ("x_error_mm", "y_error_mm", "xy_correlation", "xy_misfit")
_UNITS_PER_ADC = 1024  # of waveforms as whole numbers
_GROUP_ROWS = 32_768  # records worked on at once: 14 MB of float32 samples


class _Group(NamedTuple):
    """Peaks of a few events. Times in samples from the event's start."""

    windows: Windows
    area: np.ndarray  # peak sensor, PE
    n_hits: np.ndarray
    n_sensors: np.ndarray
    coincidence: np.ndarray
    n_saturated: np.ndarray
    shape: Shapes
    signal: np.ndarray


def find_peaks(detector: Detector, records: RawRecords, *, settings: Settings | None = None) -> Peaks:
    """Find, measure and classify the peaks of a batch of records.

    Args:
        detector: that took the records; its electronics give the conversion to PE.
        records: in any order; `event` is the position in the batch.
        settings: thresholds; the defaults if None.

    Returns:
        Peaks sorted by (event, time). `event` is the number in the run, `first_event` + position, so that
        batches can be joined; times count from the event's start if `event_time_ns` is None.

    Raises:
        ValueError: if a field of the records is out of range or not finite, or if rows overflowed.

    Gradient: none (host arrays; the kernels in `dmsim.reconstruction.kernels` are differentiable in the
    samples at fixed windows).
    """
    settings = (settings or Settings()).resolved(detector)
    n_sensors = detector.light.sensors.n_sensors
    _check_electronics(detector, records)
    columns = checked(records, n_sensors)
    lost = lost_charge_per_lone_hit(detector.electronics)
    groups = [
        _group(detector, records, table_of(columns, rows), settings, lost)
        for rows in _row_groups(columns.event)
    ]
    return _assemble(detector, records, groups, settings)


def _check_electronics(detector: Detector, records: RawRecords) -> None:
    sample_ns = detector.electronics.sample_ns
    if records.sample_ns != sample_ns:
        raise ValueError(
            f"records.sample_ns is {records.sample_ns} ns, but detector {detector.name} samples every "
            f"{sample_ns} ns: reconstruct with the detector that took the records"
        )


def _row_groups(event: np.ndarray) -> list[np.ndarray | slice]:
    """Rows of whole events, a bounded number at a time unless one event alone has more."""
    order = None if (np.diff(event) >= 0).all() else np.argsort(event, kind="stable")
    groups, begin, end = [], 0, 0
    for rows in np.bincount(event):
        if end > begin and end + rows - begin > _GROUP_ROWS:
            groups.append((begin, end))
            begin = end
        end += rows
    if end > begin:
        groups.append((begin, end))
    return [slice(*group) if order is None else order[slice(*group)] for group in groups]


def _group(detector, records: RawRecords, table: Table, settings: Settings, lost_pe: float) -> _Group:
    nominal, dt = records.baseline_adc, records.sample_ns
    n_sensors = detector.light.sensors.n_sensors
    electronics = detector.electronics
    # a pulse's first samples are free of light only as far as its readout begins before the trigger
    n_first = min(settings.hits.baseline_samples, max(electronics.zle_samples_before, 1))
    shift = baseline_shifts(table, nominal, n_first)
    threshold = settings.hits.threshold_adc
    assert threshold is not None  # resolved
    hits = find_hits(table, shift, nominal, threshold)
    # whole samples: windows never shrink, gaps never grow
    windows, hit_peak = cluster(
        hits,
        gap=settings.clustering.gap_ns / dt,
        left=int(np.ceil(settings.clustering.left_extension_ns / dt)),
        right=int(np.ceil(settings.clustering.right_extension_ns / dt)),
        min_sensors=settings.clustering.min_sensors,
    )
    kept = hit_peak >= 0
    hits, hit_peak = HitTable(*(column[kept] for column in hits)), hit_peak[kept]
    integrals = integrate(table, shift, windows, nominal, n_sensors)
    n = len(windows.event)
    lone = np.bincount((hit_peak * n_sensors + hits.channel)[hits.alone], minlength=n * n_sensors)
    area = integrals.area / float(electronics.adc_per_pe) + lost_pe * lone.reshape(n, n_sensors)
    group = _describe(detector, settings, windows, area, hits, hit_peak, integrals, dt)
    piece_of = _merge(group, settings, dt)
    if n == 0 or piece_of[-1] == n - 1:
        return group
    return _join(detector, settings, group, piece_of, hits, hit_peak, integrals, dt)


def _describe(detector, settings, windows, area, hits, hit_peak, integrals, dt) -> _Group:
    shape = _shapes(windows, integrals, dt)
    return _finish(detector, settings, windows, area, hits, hit_peak, integrals.n_saturated, shape, dt)


def _shapes(windows: Windows, integrals: Integrals, dt: int, first_piece: np.ndarray | None = None) -> Shapes:
    waveform = np.concatenate([*integrals.waveform, np.zeros(0)])
    offset = np.cumsum([0, *map(len, integrals.waveform)])
    units = np.rint(waveform * _UNITS_PER_ADC).astype(np.int64)
    start_ns = joint_time(windows.event, windows.start) * dt
    return shapes_of(start_ns, offset, units, dt, first_piece=first_piece)


def _merge(group: _Group, settings: Settings, dt: int) -> np.ndarray:
    n = len(group.signal)
    if n < 2 or settings.merging.max_duration_ns == 0:
        return np.arange(n)
    return merge_pieces(
        group.windows,
        group.area.sum(axis=1),
        group.signal,
        sample_ns=dt,
        max_duration_ns=settings.merging.max_duration_ns,
        log10_area=settings.merging.log10_area,
        gap_ns=settings.merging.gap_ns,
    )


def _join(detector, settings, group, piece_of, hits, hit_peak, integrals, dt) -> _Group:
    """Measure again with pieces joined; between them the waveform counts as zero."""
    first = np.flatnonzero(np.diff(piece_of, prepend=-1))
    last = np.append(first[1:], len(piece_of)) - 1
    old = group.windows
    windows = Windows(old.event[first], old.start[first], old.end[last])
    shape = _shapes(old, integrals, dt, np.append(first, len(piece_of)))
    joined = _finish(
        detector, settings, windows, np.add.reduceat(group.area, first, axis=0), hits, piece_of[hit_peak],
        np.add.reduceat(group.n_saturated, first), shape, dt,
    )  # fmt: skip
    # what was joined to an S2 piece is S2, what stands alone keeps its class
    signal = np.where(first == last, group.signal[first], int(Signal.S2))
    return joined._replace(signal=signal)


def _finish(detector, settings, windows, area, hits, hit_peak, n_saturated, shape, dt) -> _Group:
    n = len(windows.event)
    n_top = detector.light.sensors.n_top
    late = (hits.maximum - windows.start[hit_peak]) * dt - shape.maximum_ns[hit_peak]
    tight = (late >= -settings.coincidence.left_ns) & (late <= settings.coincidence.right_ns)
    coincidence = count_sensors(hit_peak[tight], hits.channel[tight], n)
    n_sensors = count_sensors(hit_peak, hits.channel, n)
    total = area.sum(axis=1)
    signal = classify(
        settings.classification,
        area_pe=total,
        area_fraction_top=area[:, :n_top].sum(axis=1) / np.where(total != 0, total, np.nan),
        rise_time_ns=shape.rise_ns,
        n_sensors=n_sensors,
        tight_coincidence=coincidence,
    )
    n_hits = np.bincount(hit_peak, minlength=n)
    return _Group(windows, area, n_hits, n_sensors, coincidence, n_saturated, shape, signal)


def _assemble(detector: Detector, records: RawRecords, groups: list[_Group], settings: Settings) -> Peaks:
    dtype = np.dtype(detector.light.top_height_mm.dtype)
    sensors = detector.light.sensors

    def column(get, empty_shape=(0,)):
        return np.concatenate([np.asarray(get(g)) for g in groups] or [np.zeros(empty_shape, np.int64)])

    event = column(lambda g: g.windows.event)
    area = column(lambda g: g.area, (0, sensors.n_sensors)).astype(dtype)
    signal = column(lambda g: g.signal).astype(np.int8)
    begin, end = column(lambda g: g.windows.start), column(lambda g: g.windows.end)
    start_ns = np.zeros(records.n_events, np.int64)
    if records.event_time_ns is not None:
        start_ns = np.asarray(records.event_time_ns, np.int64)
    xy = np.full((len(event), 2), np.nan, dtype)
    s2 = signal == int(Signal.S2)
    xy[s2] = positions(detector, area[s2], max_steps=settings.position.max_steps)
    total = column(lambda g: g.area.sum(axis=1))
    return Peaks(
        event=event + int(records.first_event),
        time_ns=start_ns[event] + begin * records.sample_ns,
        length_ns=(end - begin) * records.sample_ns,
        area_pe=total.astype(dtype),
        area_top_pe=column(lambda g: g.area[:, : sensors.n_top].sum(axis=1)).astype(dtype),
        area_per_channel_pe=area,
        n_hits=column(lambda g: g.n_hits),
        n_sensors=column(lambda g: g.n_sensors),
        tight_coincidence=column(lambda g: g.coincidence),
        center_time_ns=column(lambda g: g.shape.center_ns).astype(dtype),
        decile_ns=column(lambda g: g.shape.decile_ns, (0, 11)).astype(dtype),
        width_ns=column(lambda g: g.shape.width_ns, (0, 11)).astype(dtype),
        goodness_of_split=np.full(len(event), np.nan, dtype),
        n_saturated=column(lambda g: g.n_saturated),
        signal=signal,
        x_mm=xy[:, 0],
        y_mm=xy[:, 1],
        **{name: np.full(len(event), np.nan, dtype) for name in POSITION_QUALITY},
    )
