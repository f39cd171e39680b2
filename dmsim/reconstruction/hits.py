"""Hits: runs of samples of one sensor over threshold."""

import numpy as np

from dmsim.reconstruction.host import hits as host
from dmsim.reconstruction.pulses import PER_ADC, Pulses
from dmsim.reconstruction.tables import Gains, HitTable, RecordTable


def find_hits(table: RecordTable, pulses: Pulses, gains: Gains) -> HitTable:
    """Threshold crossings of all live sensors; a run that goes on in the next fragment is one hit."""
    rows, of_pulse = host.find(
        table.data, table.time_ns, table.channel, table.length, table.pulse, pulses.baseline, pulses.limit,
        gains.live, table.n_pulses, table.dt, PER_ADC,
    )  # fmt: skip
    start, end, at_largest, channel, record, pulse, height = rows[
        np.lexsort((rows[:, 3], rows[:, 0]))
    ].T.copy()
    return HitTable(
        start, end, at_largest, channel.astype(np.int32), record, pulse, height.astype(np.int32),
        of_pulse[pulse] == 1,
    )  # fmt: skip
