"""records -> hits, and records with nothing left outside of hits."""

import numpy as np

from dmsim.reconstruction.compat.intervals import CACHED
from dmsim.reconstruction.host.jit import njit
from dmsim.strax_layout import HIT_DTYPE

_HITS_ONLY = 2  # strax's ReductionLevel


def find_hits(records: np.ndarray, threshold_adc: np.ndarray, threshold_rms: np.ndarray) -> np.ndarray:
    """Intervals at or above threshold, record by record, in strax's layout.

    Args:
        records: from `records_of`.
        threshold_adc: of each channel, ADC counts above the baseline.
        threshold_rms: of each channel, in units of the baseline's rms; the larger of both holds.
    """
    hits = np.zeros(max(1000, len(records)), HIT_DTYPE)
    row, n, max_time = 0, 0, 0
    while True:
        row, n, max_time = _find(records, threshold_adc, threshold_rms, hits, row, n, max_time)
        if row == len(records):
            return hits[:n]
        hits = np.concatenate([hits, np.zeros(len(hits), HIT_DTYPE)])


@njit(**CACHED)
def _find(records, threshold_adc, threshold_rms, hits, row, n, max_time):
    """Hits of records from `row` on, behind the first n; stops where a record might not fit."""
    n_samples = records["data"].shape[1]
    while row < len(records):
        if n + n_samples // 2 + 1 > len(hits):
            break
        channel = records["channel"][row]
        time, dt = records["time"][row], records["dt"][row]
        length = records["length"][row]
        threshold = max(threshold_adc[channel], records["baseline_rms"][row] * threshold_rms[channel])
        fraction = float(records["baseline"][row] % 1)
        data = records["data"][row]
        start = -1
        total = height = 0
        for s in range(length + 1):
            # a record's end ends a hit, although the pulse may go on in the next record
            if s < length and data[s] >= threshold:
                if start < 0:
                    start, total, height = s, 0, 0
                total += data[s]
                if data[s] > height:
                    height = data[s]
                    max_time = time + s * dt
            elif start >= 0:
                hits["time"][n] = time + start * dt
                hits["length"][n] = s - start
                hits["dt"][n] = dt
                hits["channel"][n] = channel
                hits["area"][n] = total + (s - start) * fraction
                hits["left"][n] = start
                hits["right"][n] = s
                hits["record_i"][n] = row
                hits["threshold"][n] = threshold
                hits["height"][n] = height + fraction
                hits["max_time"][n] = max_time
                n += 1
                start = -1
        row += 1
    return row, n, max_time


def cut_outside(
    records: np.ndarray, hits: np.ndarray, before: np.ndarray, after: np.ndarray, *, left: int, right: int
) -> None:
    """Set every sample to zero that is not within `left` before or `right` after a hit of its pulse.

    Args:
        records: changed in place.
        hits: in any order.
        before: rows of the fragments before, from `links`.
        after: and of those after.
        left: samples kept before a hit; at most a record.
        right: samples kept after a hit; at most a record.
    """
    _blank(records, hits, before, after, left, right)
    records["reduction_level"] = _HITS_ONLY


@njit(**CACHED)
def _blank(records, hits, before, after, left, right):
    n_samples = records["data"].shape[1]
    keep = np.zeros((len(records), n_samples), np.bool_)
    for h in range(len(hits)):
        row = hits["record_i"][h]
        first, last = hits["left"][h] - left, hits["right"][h] + right
        keep[row, max(first, 0) : min(last, n_samples)] = True
        if first < 0 and before[row] >= 0:
            keep[before[row], max(n_samples + first, 0) :] = True
        if last > n_samples and after[row] >= 0:
            keep[after[row], : min(last - n_samples, n_samples)] = True
    for row in range(len(records)):
        data = records["data"][row]
        for s in range(n_samples):
            if not keep[row, s]:
                data[s] = 0
