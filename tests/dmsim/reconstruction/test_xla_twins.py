"""The accelerator's path of the dense steps against the host's: the same whole numbers."""

import core_reference as slow
import jax
import numpy as np
import pytest
from synthetic_records import records_of, s1, s2
from test_core_kernels import N_TOP, UNITS, table_of

from dmsim.reconstruction import find_peaks, xla
from dmsim.reconstruction.hits import around_hits, find_hits
from dmsim.reconstruction.integrate import integrate
from dmsim.reconstruction.pulses import measure_pulses
from dmsim.reconstruction.settings import Clustering, Hits
from dmsim.reconstruction.tables import Gains, Windows


def equal(one, other):
    for name in one._fields:
        a, b = getattr(one, name), getattr(other, name)
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert np.asarray(a).dtype == np.asarray(b).dtype, name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold_rms", [0.0, 6.0])
def test_whole_numbers_are_equal(seed, threshold_rms, monkeypatch):
    monkeypatch.setattr(xla, "BLOCK", 32)  # several blocks
    random = np.random.default_rng(seed)
    table = table_of(*slow.random_columns(random, n_pulses=100))
    settings = Hits(threshold_adc=15.0, baseline_clip_adc=7.5, threshold_rms=threshold_rms)
    gains = Gains(UNITS, N_TOP)
    pulses = [measure_pulses(settings, table, n_first=8, backend=b) for b in ("host", "xla")]
    equal(*pulses)
    hits = find_hits(table, pulses[0], gains)
    equal(hits, find_hits(table, pulses[0], gains, backend="xla"))
    start = table.time_ns[0] + np.arange(0, 6000, 400)
    windows = Windows(start, start + random.integers(10, 40, len(start)) * 10)
    equal(*(integrate(table, pulses[0], gains, windows, backend=b) for b in ("host", "xla")))
    near = around_hits(Clustering(left_extension_ns=10.0, right_extension_ns=20.0), table, hits)
    sums = [integrate(near, pulses[0], gains, windows, backend=b) for b in ("host", "xla")]
    equal(*sums)
    assert not np.array_equal(sums[0].total, integrate(table, pulses[0], gains, windows).total)
    assert not jax.config.jax_enable_x64


def test_no_records():
    table = table_of([], [], [], [], np.zeros((0, slow.SAMPLES)))
    settings, gains = Hits(threshold_adc=15.0, baseline_clip_adc=7.5), Gains(UNITS, N_TOP)
    pulses = measure_pulses(settings, table, n_first=8, backend="xla")
    hits = find_hits(table, pulses, gains, backend="xla")
    assert len(hits.time_ns) == 0
    none = Windows(np.zeros(0, np.int64), np.zeros(0, np.int64))
    equal(*(integrate(table, pulses, gains, none, backend=b) for b in ("host", "xla")))


def test_peaks_have_the_same_bytes(detector, random):
    photons = s1(random, 0, 5_000.0, 100) + s2(random, detector, 0, 400_000.0, 3000)
    records = records_of(detector, photons)
    host, device = (find_peaks(detector, records, backend=b) for b in ("host", "xla"))
    for name in host.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(host, name), getattr(device, name), err_msg=name)


def test_another_backend_is_refused(detector, random):
    records = records_of(detector, s1(random, 0, 5_000.0, 10))
    with pytest.raises(ValueError, match="backend is 'gpu': choose from host, xla"):
        find_peaks(detector, records, backend="gpu")
