"""Pulses and hits of the hard reading, and excursions that noise could make hits of. Host code."""

from typing import NamedTuple

import numpy as np

from dmsim.detector import Detector
from dmsim.reconstruction.hits import around_hits, find_hits
from dmsim.reconstruction.pulses import Pulses, free_samples, measure_pulses
from dmsim.reconstruction.settings import Settings, replaced
from dmsim.reconstruction.soft import atoms
from dmsim.reconstruction.soft.temperature import Temperature
from dmsim.reconstruction.tables import (
    Gains,
    HitTable,
    RecordTable,
    event_and_time_ns,
    gains_of,
    record_table,
)
from dmsim.records import RawRecords


class Found(NamedTuple):
    """Records, pulses and hits of the hard reading."""

    table: RecordTable
    source: np.ndarray  # row of `RawRecords` of each row of the table
    pulses: Pulses
    gains: Gains
    hits: HitTable
    event: np.ndarray  # of each hit
    faint: HitTable  # excursions under the threshold that noise could lift over it
    n_first: int
    clip_adc: float  # largest distance to their median of the baseline's samples


def find(detector: Detector, records: RawRecords, settings: Settings, t: Temperature) -> Found:
    """Hits, and what could be one."""
    table = record_table(detector, records)
    valid = np.flatnonzero(np.asarray(records.valid))
    order = np.lexsort(
        [np.asarray(getattr(records, name))[valid] for name in ("channel", "start_sample", "event")]
    )  # fmt: skip
    gains = gains_of(detector)
    n_first = free_samples(detector, settings.hits)
    pulses = measure_pulses(settings.hits, table, n_first=n_first)
    hits = find_hits(table, pulses, gains)
    faint = hits.rows(slice(0, 0))
    if float(t.hit_adc) > 0:
        assert settings.hits.threshold_adc is not None
        low = max(float(settings.hits.threshold_adc) - atoms.REACH * float(t.hit_adc), 1.0)
        lower = replaced(
            settings.hits, threshold_adc=low, threshold_rms=min(float(settings.hits.threshold_rms), 1.0)
        )
        faint = find_hits(table, measure_pulses(lower, table, n_first=n_first), gains)
        limit = pulses.limit[faint.pulse] * 64
        faint = faint.rows(pulses.baseline[faint.pulse] - faint.height > limit)
    table = around_hits(settings.clustering, table, hits)
    event = event_and_time_ns(hits.time_ns, table.dt)[0]
    assert settings.hits.baseline_clip_adc is not None
    clip = float(settings.hits.baseline_clip_adc)
    return Found(table, valid[order], pulses, gains, hits, event, faint, n_first, clip)
