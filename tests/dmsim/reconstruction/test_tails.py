"""Records end with the right extension of their pulse's last hit."""

import numpy as np
import pytest

from dmsim.reconstruction.hits import without_tails
from dmsim.reconstruction.settings import Clustering
from dmsim.reconstruction.tables import HitTable, RecordTable

DT = 10


def table():
    """Pulse 0 of three fragments of 100 samples, pulses 1 and 2 of one, on channels 0, 1, 2."""
    return RecordTable(
        time_ns=np.array([0, 0, 0, 1000, 2000]),
        channel=np.array([0, 1, 2, 0, 0], np.int32),
        length=np.full(5, 100, np.int32),
        record_i=np.array([0, 0, 0, 1, 2], np.int32),
        pulse=np.array([0, 1, 2, 0, 0]),
        first=np.array([0, 1, 2, 0, 0]),
        data=np.zeros((5, 100), np.int16),
        dt=DT,
        baseline_adc=16000,
    )


def hits(*rows):
    """Hits of (time, end, pulse)."""
    time, end, pulse = (np.array(c, np.int64) for c in zip(*sorted(rows), strict=True))
    zero = np.zeros(len(time), np.int64)
    return HitTable(time, end, time, zero.astype(np.int32), zero, pulse, zero.astype(np.int32), zero == 0)


@pytest.mark.parametrize("right_ns", [200.0, 195.0])  # rounded up to samples
def test_the_last_hit_decides_and_other_pulses_stay(right_ns):
    settings = Clustering(right_extension_ns=right_ns)
    found = hits((500, 540, 0), (900, 950, 0), (500, 530, 1))
    kept = without_tails(settings, table(), found, n_first=40)
    # pulse 0 ends at 950 + 200 ns: 15 samples of its second fragment; pulse 2 has no hit
    assert kept.length.tolist() == [100, 73, 100, 15, 0]
    assert kept.length.dtype == np.int32


def test_samples_of_the_baseline_stay():
    kept = without_tails(Clustering(), table(), hits((0, 20, 1)), n_first=40)
    assert kept.length.tolist() == [100, 40, 100, 100, 100]
