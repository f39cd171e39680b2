"""hits -> peaks' windows, and what each hit integrates."""

import numpy as np

from dmsim.reconstruction.compat.intervals import CACHED, container_of, end_ns
from dmsim.reconstruction.host.jit import njit
from dmsim.reconstruction.settings import Clustering
from dmsim.strax_layout import SUM_CHANNEL, peak_dtype

_FAR = np.iinfo(np.int64).max


def find_peaks(hits: np.ndarray, pe_per_adc: np.ndarray, settings: Clustering) -> np.ndarray:
    """Groups of hits, in strax's layout; of their quantities those that grouping gives.

    Args:
        hits: sorted by time.
        pe_per_adc: PE per ADC count and sample of each channel; hits of channels at 0 must be gone.
        settings: gap, extensions, sensors, longest duration.
    """
    n_channels = len(pe_per_adc)
    if not len(hits):
        return np.zeros(0, peak_dtype(n_channels))
    left, right = int(settings.left_extension_ns), int(settings.right_extension_ns)
    start, end, gap, total, area = _group(
        hits, pe_per_adc, int(settings.gap_ns), left, right, int(settings.max_duration_ns),
        settings.min_sensors,
    )  # fmt: skip
    peaks = np.zeros(len(start), peak_dtype(n_channels))
    dt = int(hits["dt"][0])
    peaks["time"] = start
    peaks["dt"] = dt
    peaks["length"] = (end - start) / dt  # cut, not rounded
    peaks["channel"] = SUM_CHANNEL
    peaks["max_gap"] = gap
    peaks["area"], peaks["area_per_channel"] = total, area
    return peaks


@njit(**CACHED)
def _group(hits, pe_per_adc, gap_ns, left, right, max_duration, min_sensors):
    """Start, end, largest gap, area and area per channel of each group that is kept.

    A group is cut before a hit that would make it longer than allowed, counting the left extension twice.
    A channel counts if its hits' area is not zero, and a group of negative area is dropped.
    """
    n = len(hits)
    start, end = np.empty(n, np.int64), np.empty(n, np.int64)
    gap, areas = np.empty(n, np.int32), np.empty(n, np.float32)
    groups = np.empty((n, 2), np.int64)
    n_kept = 0
    area = np.zeros(len(pe_per_adc), np.float32)
    first = 0
    while first < n:
        area[:] = 0
        total = np.float32(0)
        begin = hits["time"][first] - left
        last_end = hits["time"][first] + np.int64(hits["length"][first]) * hits["dt"][first]
        widest = 0
        h = first
        while True:
            time = hits["time"][h]
            if h > first:
                widest = max(widest, time - last_end)
            last_end = max(last_end, time + np.int64(hits["length"][h]) * hits["dt"][h])
            channel = hits["channel"][h]
            pe = hits["area"][h] * pe_per_adc[channel]
            area[channel] += pe
            total = np.float32(total + pe)
            h += 1
            if h == n or hits["time"][h] - last_end >= gap_ns:
                break
            span = hits["time"][h] - begin + np.int64(hits["length"][h]) * hits["dt"][h]
            if span + left + right > max_duration:
                break
        n_sensors = 0
        for channel in range(len(area)):
            n_sensors += area[channel] != 0
        if not total < 0 and n_sensors >= min_sensors:
            start[n_kept], end[n_kept] = begin, last_end + right
            gap[n_kept], areas[n_kept] = widest, total
            groups[n_kept, 0], groups[n_kept, 1] = first, h
            n_kept += 1
        first = h
    per_channel = np.zeros((n_kept, len(pe_per_adc)), np.float32)
    for k in range(n_kept):
        for h in range(groups[k, 0], groups[k, 1]):
            per_channel[k, hits["channel"][h]] += hits["area"][h] * pe_per_adc[hits["channel"][h]]
    return start[:n_kept], end[:n_kept], gap[:n_kept], areas[:n_kept], per_channel


def clip(rows: np.ndarray, start_ns: int, end_ns_: int) -> None:
    """Cut rows at the borders of a chunk, in place. The end of one that starts too early moves with it."""
    late = rows["time"] < start_ns
    rows["time"][late] = start_ns
    over = end_ns(rows) > end_ns_
    rows["length"][over] = (end_ns_ - rows["time"][over]) // rows["dt"][over]


def contained(hits: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Number of the peak that holds the whole of each hit, or -1."""
    return container_of(hits["time"], end_ns(hits), peaks["time"], end_ns(peaks))


def outside(peaks: np.ndarray, start_ns: int, end_ns_: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of what lies before, between and behind disjoint peaks; nothing if there are no peaks."""
    if not len(peaks):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.append(start_ns, end_ns(peaks)), np.append(peaks["time"], end_ns_)


def integration_bounds(
    hits: np.ndarray,
    records: np.ndarray,
    excluded: tuple[np.ndarray, np.ndarray],
    *,
    extension_ns: tuple[int, int],
    within_record: bool,
) -> None:
    """Set left_integration and right_integration of hits, samples of their record.

    Args:
        hits: sorted by time; changed in place.
        records: that they were found in.
        excluded: start and end of intervals that no hit's extension reaches into.
        extension_ns: left and right of a hit.
        within_record: whether it ends with the record.
    """
    if len(hits):
        n_channels = int(hits["channel"].max()) + 1
        _bounds(hits, records, *excluded, *extension_ns, within_record, n_channels)


@njit(**CACHED)
def _bounds(hits, records, start, end, left, right, within_record, n_channels):
    begin, stop = np.empty(len(hits), np.int64), np.empty(len(hits), np.int64)
    last = np.full(n_channels, -1, np.int64)
    k = 0
    for h in range(len(hits)):
        time, row, channel = hits["time"][h], hits["record_i"][h], hits["channel"][h]
        dt = np.int64(hits["dt"][h])
        while k < len(start) and start[k] < time:
            k += 1
        low = end[k - 1] if k > 0 else 0
        high = start[k] if k < len(start) else _FAR
        if within_record:
            low = max(low, records["time"][row])
            high = min(high, records["time"][row] + np.int64(records["length"][row]) * records["dt"][row])
        begin[h] = max(low, time - left)
        stop[h] = min(high, time + np.int64(hits["length"][h]) * dt + right)
        previous = last[channel]
        if previous >= 0:
            # a sample is integrated once: the earlier hit stops where this one begins, else it has the sample
            stop[previous] = min(stop[previous], time)
            begin[h] = max(stop[previous], begin[h])
        last[channel] = h
    for h in range(len(hits)):
        row = hits["record_i"][h]
        hits["left_integration"][h] = (begin[h] - records["time"][row]) // records["dt"][row]
        hits["right_integration"][h] = (stop[h] - records["time"][row]) // records["dt"][row]


@njit(**CACHED)
def integrate_lone(hits, records):
    """Area of each hit between its bounds, in its record alone, ADC counts x samples."""
    for h in range(len(hits)):
        row = hits["record_i"][h]
        first, last = hits["left_integration"][h], hits["right_integration"][h]
        total = 0
        for s in range(first, last):
            total += records["data"][row, s]
        hits["area"][h] = total + (records["baseline"][row] % 1) * (last - first)


def to_hitlets(hits: np.ndarray) -> None:
    """Turn hits into what they integrate: time and length from the bounds, in place."""
    # in 16 bits, as strax has it: an extension above 32767 ns wraps
    hits["time"] -= (hits["left"] - hits["left_integration"]) * hits["dt"]
    hits["length"] = hits["right_integration"] - hits["left_integration"]
