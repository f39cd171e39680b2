"""Hits: runs of samples of one sensor over threshold."""

import numpy as np

from dmsim.reconstruction import xla
from dmsim.reconstruction.host import hits as host
from dmsim.reconstruction.pulses import PER_ADC, Pulses
from dmsim.reconstruction.settings import Clustering
from dmsim.reconstruction.tables import Gains, HitTable, RecordTable


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


def without_tails(settings: Clustering, table: RecordTable, hits: HitTable, *, n_first: int) -> RecordTable:
    """Records that end with the right extension of their pulse's last hit.

    What is read out later holds no light above threshold, but noise, and the baseline's error times its
    length: with it the areas of S1s of 30 to 1000 PE in XENONnT spread by 1.3 to 1.6 times as much around
    their light (experiments/reconstruction_quality). Pulses without a hit stay as they are.

    Args:
        settings: of the clustering; its right extension, rounded up to samples.
        table: records, all of each pulse.
        hits: of the records, sorted by time.
        n_first: samples that the baseline is taken from; a first fragment keeps them.
    """
    right = int(np.ceil(settings.right_extension_ns / table.dt))
    last = np.full(table.n_pulses, np.iinfo(np.int64).max // 2)
    last[hits.pulse] = hits.end_ns  # of several the last one counts
    length = (last[table.pulse] - table.time_ns) // table.dt + right
    length = np.where(table.record_i == 0, np.maximum(length, n_first), length)
    return table._replace(length=np.clip(length, 0, table.length).astype(table.length.dtype))


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
