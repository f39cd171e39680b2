from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_records import records_of, s1, s2

from dmsim.reconstruction import build_events, find_peaks
from dmsim.reconstruction.corrections import delay_offset_ns

S1_AT = 5_000.0


@pytest.fixture
def mixed(detector, random):
    """Events: nothing, S1 only, S2 only, S1 and two S2s, S1 after the S2."""
    photons = (
        s1(random, 1, S1_AT, 100)
        + s2(random, detector, 2, 300_000.0, 2000)
        + s1(random, 3, S1_AT, 200)
        + s2(random, detector, 3, 300_000.0, 1500, 100.0, 50.0)
        + s2(random, detector, 3, 900_000.0, 4000, -200.0, 300.0)
        + s2(random, detector, 4, 300_000.0, 2000)
        + s1(random, 4, 600_000.0, 100)
    )
    records = records_of(detector, photons, n_events=5, first_event=10)
    records = replace(records, event_time_ns=10**18 + 10**9 * np.arange(5))
    return find_peaks(detector, records)


def test_main_s1_and_s2(detector, mixed):
    events = build_events(detector, mixed, n_events=5, first_event=10)
    assert events.event.tolist() == [10, 11, 12, 13, 14]
    assert events.n_s1.tolist() == [0, 1, 0, 1, 1]
    assert events.n_s2.tolist() == [0, 0, 1, 2, 1]
    assert (events.s1_peak >= 0).tolist() == [False, True, False, True, False]
    assert np.isnan(events.s1_pe).tolist() == [True, False, True, False, True]
    assert np.isnan(events.s2_pe).tolist() == [True, True, False, False, False]
    assert events.s2_pe[3] == pytest.approx(4000, rel=0.03)  # the larger of two
    assert events.drift_time_ns[3] == pytest.approx(895_000, abs=300)
    assert np.isnan(events.drift_time_ns[[0, 1, 2, 4]]).all()
    assert events.time_ns[0] == -1
    assert events.time_ns[3] == pytest.approx(10**18 + 3 * 10**9 + S1_AT, abs=100)
    assert events.x_mm[3] == pytest.approx(-200, abs=20)
    assert events.y_mm[3] == pytest.approx(300, abs=20)
    # an S2 without an S1 is seen somewhere, but its deposit has no place
    assert np.isfinite(events.x_observed_mm).tolist() == [False, False, True, True, True]
    assert np.isfinite(events.x_mm).tolist() == [False, False, False, True, False]
    assert np.isfinite(events.y_mm).tolist() == [False, False, False, True, False]


def test_depth_and_corrections(detector, mixed):
    events = build_events(detector, mixed, n_events=5, first_event=10)
    drift = float(events.drift_time_ns[3]) - delay_offset_ns(detector)
    z = float(detector.electrons.z_mm(drift))
    assert events.z_mm[3] == pytest.approx(z, rel=1e-5)
    x, y = float(events.x_mm[3]), float(events.y_mm[3])
    s1_yield = float(detector.light.s1_relative_yield(detector.geometry, x, y, z))
    s2_yield = float(detector.light.s2_relative_yield(detector.geometry, x, y))
    survival = float(detector.electrons.survival(jnp.asarray(drift)))
    assert events.cs1_pe[3] == pytest.approx(float(events.s1_pe[3]) / s1_yield, rel=1e-5)
    assert events.cs2_pe[3] == pytest.approx(float(events.s2_pe[3]) / s2_yield / survival, rel=1e-4)
    assert np.isnan(events.cs1_pe[1])  # no depth, no correction


def test_an_s1_too_early_for_the_drift_length_is_not_paired(detector, random):
    far = 3 * float(detector.electrons.drift_time_ns(-detector.geometry.drift_length_mm))
    photons = s1(random, 0, S1_AT, 200) + s2(random, detector, 0, far, 2000)
    peaks = find_peaks(detector, records_of(detector, photons))
    events = build_events(detector, peaks, n_events=1)
    assert events.s1_peak.tolist() == [-1]
    assert events.n_s1.tolist() == [1]


def test_no_peaks_and_no_events(detector):
    peaks = find_peaks(detector, records_of(detector, [], n_events=2))
    events = build_events(detector, peaks, n_events=2)
    assert np.isnan(events.s1_pe).all()
    assert events.s2_peak.tolist() == [-1, -1]
    assert len(build_events(detector, peaks, n_events=0)) == 0


def test_a_peak_outside_the_events_is_refused(detector, mixed):
    with pytest.raises(ValueError, match="peaks.event spans 11 to 14: allowed are 0 to 4"):
        build_events(detector, mixed, n_events=5)
