"""raw_records -> hits and peaks, with strax's integers: the steps in straxen's order."""

from typing import NamedTuple

import numpy as np

from dmsim.detector import Detector
from dmsim.reconstruction.compat import features, properties, saturation, splitting, windows
from dmsim.reconstruction.compat import find_hits as finder
from dmsim.reconstruction.compat.intervals import by_time
from dmsim.reconstruction.compat.pulses import links, records_of
from dmsim.reconstruction.compat.waveform import sum_waveforms
from dmsim.reconstruction.settings import Settings


class Found(NamedTuple):
    """What strax's chain makes of a chunk of raw_records, in strax's layouts."""

    records: np.ndarray  # baseline off, upright, zero outside of hits, restored where saturated
    hits: np.ndarray  # all, sorted by time
    lone_hits: np.ndarray  # those in no peak, integrated
    hitlets: np.ndarray  # those in peaks, with the time and length that each integrates
    peaks: np.ndarray


def find(
    detector: Detector,
    raw_records: np.ndarray,
    *,
    settings: Settings | None = None,
    pe_per_adc: np.ndarray | None = None,
    chunk_ns: tuple[int, int] | None = None,
) -> Found:
    """Hits and peaks of one chunk as strax 2.2 and straxen's default settings find them.

    Args:
        detector: number of sensors, gain and threshold.
        raw_records: in strax's layout, sorted by time, of one sample width; of whole pulses.
        settings: sections hits, clustering, splitting, saturation and coincidence; the defaults if None.
        pe_per_adc: PE per ADC count and sample of each channel, 0 for one that is off; the detector's if
            None. In float32 or float64: strax's sums depend on it.
        chunk_ns: start and end of the chunk, at which peaks are cut; nothing is cut if None.

    Returns:
        Records, hits, lone hits and peaks.

    Raises:
        ValueError: if raw_records are not whole pulses in strax's layout, or do not fit the detector.

    Gradient: none.
    """
    sensors = detector.light.sensors
    if pe_per_adc is None:
        pe_per_adc = gains(detector)
    if len(pe_per_adc) != sensors.n_sensors:
        raise ValueError(
            f"pe_per_adc has {len(pe_per_adc)} channels: detector {detector.name} has {sensors.n_sensors}"
        )
    settings = (settings or Settings()).for_host(detector)
    return find_with(settings, raw_records, pe_per_adc=pe_per_adc, n_top=sensors.n_top, chunk_ns=chunk_ns)


def gains(detector: Detector) -> np.ndarray:
    """PE per ADC count and sample of each channel; 0, by which it is ignored, for those of no efficiency."""
    sensors = detector.light.sensors
    adc_per_pe = np.broadcast_to(np.asarray(detector.electronics.adc_per_pe, np.float64), sensors.n_sensors)
    live = (adc_per_pe > 0) & (np.asarray(sensors.efficiency) > 0)
    return np.where(live, 1 / np.where(live, adc_per_pe, 1.0), 0.0)


def find_with(
    settings: Settings,
    raw_records: np.ndarray,
    *,
    pe_per_adc: np.ndarray,
    n_top: int,
    chunk_ns: tuple[int, int] | None = None,
) -> Found:
    """The same for settings that leave nothing to the detector (`Settings.resolved`).

    Args:
        settings: resolved.
        raw_records: as in `find`.
        pe_per_adc: of each channel; its length is the number of channels.
        n_top: channels below it are on top.
        chunk_ns: as in `find`.

    Raises:
        ValueError: as in `find`.
    """
    n_channels = len(pe_per_adc)
    records = records_of(raw_records, baseline_samples=settings.hits.baseline_samples)
    if len(records) and records["channel"].max() >= n_channels:
        raise ValueError(
            f"raw_records.channel reaches {records['channel'].max()} and the detector has {n_channels} "
            "sensors: the records are from another detector"
        )
    before, after = links(records)
    hits = _hits(records, settings, n_channels)
    grouping = settings.clustering
    if len(records):
        dt = int(records["dt"][0])
        extension = int(grouping.left_extension_ns), int(grouping.right_extension_ns)
        left, right = (-(-ns // dt) for ns in extension)
        finder.cut_outside(records, hits, before, after, left=left, right=right)
    else:
        dt, extension = 1, (0, 0)
    every_hit = by_time(hits)
    hits = every_hit[pe_per_adc[every_hit["channel"]] != 0]
    start, end = chunk_ns if chunk_ns is not None else _everything(hits, extension)
    peaks = windows.find_peaks(hits, pe_per_adc, grouping)
    windows.clip(peaks, start, end)
    peak_of = windows.contained(hits, peaks)
    lone, hitlets = hits[peak_of < 0], hits[peak_of >= 0]
    bounds = {"extension_ns": extension}
    windows.integration_bounds(
        lone, records, (peaks["time"], windows.end_ns(peaks)), within_record=True, **bounds
    )
    windows.integrate_lone(lone, records)
    windows.integration_bounds(
        hitlets, records, windows.outside(peaks, start, end), within_record=False, **bounds
    )
    windows.to_hitlets(hitlets)
    hitlets = by_time(hitlets)
    windows.clip(hitlets, start, end)

    def measure(some: np.ndarray, rows: np.ndarray | None = None) -> None:
        sum_waveforms(some, hitlets, records, before, after, pe_per_adc, n_top=n_top, rows=rows)
        properties.describe(some, n_top=n_top, rows=rows)

    measure(peaks)
    peaks = splitting.split(peaks, settings.splitting, dt=dt, measure=measure)
    if settings.saturation.correct:
        measure(peaks, saturation.restore(peaks, records, pe_per_adc, settings.saturation))
    features.add_hit_features(peaks, hitlets, settings.coincidence)
    return Found(records, every_hit, lone, hitlets, peaks)


def _hits(records: np.ndarray, settings: Settings, n_sensors: int) -> np.ndarray:
    threshold = settings.hits.threshold_adc
    assert threshold is not None  # resolved
    amplitude = np.full(n_sensors, float(threshold))
    noise = np.full(n_sensors, float(settings.hits.threshold_rms))
    return finder.find_hits(records, amplitude, noise)


def _everything(hits: np.ndarray, extension: tuple[int, int]) -> tuple[int, int]:
    """A chunk that no peak reaches out of."""
    if not len(hits):
        return 0, 0
    margin = max(extension) + 1
    return int(hits["time"][0]) - margin, int(windows.end_ns(hits).max()) + margin
