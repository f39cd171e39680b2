"""Hits: runs of samples of one sensor over threshold."""

import numpy as np

from dmsim.reconstruction import xla
from dmsim.reconstruction.host import hits as host
from dmsim.reconstruction.pulses import PER_ADC, Pulses
from dmsim.reconstruction.settings import Clustering
from dmsim.reconstruction.tables import Gains, HitTable, RecordTable, Stretches


def find_hits(table: RecordTable, pulses: Pulses, gains: Gains, *, backend: str = "host") -> HitTable:
    """Threshold crossings of all live sensors; a run that goes on in the next fragment is one hit.

    Args:
        table: records.
        pulses: of the records.
        gains: of the sensors.
        backend: "host", or "xla", which gives the same.
    """
    if backend == "xla":
        rows, of_pulse = xla.find(table, pulses.baseline, pulses.limit, gains, per_adc=PER_ADC)
        return _table(rows, of_pulse, table, gains)
    rows, of_pulse = host.find(
        table.data, table.time_ns, table.channel, table.length, table.pulse, pulses.baseline, pulses.limit,
        gains.live, table.n_pulses, table.dt, PER_ADC,
    )  # fmt: skip
    return _table(rows, of_pulse, table, gains)


def around_hits(settings: Clustering, table: RecordTable, hits: HitTable) -> RecordTable:
    """Records of which only the samples around the hits of their pulse are summed.

    From the left extension before each hit to the right extension after it, as strax does. What is read out
    beyond holds no light above threshold, but noise, and the baseline's error times its length: with it the
    areas of S2s in XENONnT spread by 1.4 times as much around their light, with the same mean
    (experiments/reconstruction_quality). Pulses without a hit are left out.

    Args:
        settings: of the clustering; its extensions, rounded up to samples.
        table: records, all of each pulse.
        hits: of the records, sorted by time.
    """
    left, right = (
        int(np.ceil(ns / table.dt)) * table.dt
        for ns in (settings.left_extension_ns, settings.right_extension_ns)
    )
    kept = host.stretches(
        table.time_ns, table.length, table.pulse, hits.time_ns - left, hits.end_ns + right, hits.pulse,
        table.n_pulses, table.dt,
    )  # fmt: skip
    return table._replace(near_hits=Stretches(*kept))


def _table(rows: np.ndarray, of_pulse: np.ndarray, table: RecordTable, gains: Gains) -> HitTable:
    start, end, at_largest, channel, record, pulse, height = host.columns(rows, _order(rows, table, gains))
    return HitTable(
        start, end, at_largest, channel.astype(np.int32), record, pulse, height.astype(np.int32),
        of_pulse[pulse] == 1,
    )  # fmt: skip


def _order(rows: np.ndarray, table: RecordTable, gains: Gains) -> np.ndarray:
    """Order by (time, channel); no two hits have both in common."""
    time, channel, n_channels = rows[:, host.START], rows[:, host.CHANNEL], len(gains.units_per_count)
    if len(rows) and int(table.time_ns[-1] - table.time_ns[0]) // table.dt < 2**62 // n_channels:
        return np.argsort((time - table.time_ns[0]) // table.dt * n_channels + channel)  # one key is faster
    return np.lexsort((channel, time))
