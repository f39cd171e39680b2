"""Splitting, classes and merging in the whole chain, on records made by hand."""

import numpy as np
import pytest
from synthetic_records import records_of, s1, s2

import dmsim
from dmsim.reconstruction import find_peaks
from dmsim.reconstruction.settings import settings_from
from dmsim.records import Signal

AT = 10_000.0
UNSPLIT = settings_from({"splitting": {"method": "none"}})


def delayed_s1(random, event, n_photons, delay_ns):
    return s1(random, event, AT + delay_ns, n_photons)


def cloud(random, detector, event, time_ns, n_electrons, sigma_ns, photons=30):
    """Electrons at normal times, each with its light over 300 ns."""
    out = []
    for time in time_ns + sigma_ns * random.normal(size=n_electrons):
        out += s2(random, detector, event, time, photons, sigma_ns=90.0)
    return out


def test_two_s1s_500_ns_apart_are_two(detector, random):
    photons = s1(random, 0, AT, 200) + delayed_s1(random, 0, 60, 500.0)
    records = records_of(detector, photons)
    peaks = find_peaks(detector, records)
    assert peaks.signal.tolist() == [Signal.S1, Signal.S1]
    assert peaks.area_pe == pytest.approx([200, 60], abs=15)
    assert peaks.time_ns[0] + peaks.length_ns[0] == peaks.time_ns[1]
    one = find_peaks(detector, records, settings=UNSPLIT)
    assert len(one) == 1
    assert peaks.area_per_channel_pe.sum() == pytest.approx(one.area_pe[0], rel=1e-6)
    np.testing.assert_allclose(peaks.area_per_channel_pe.sum(axis=0), one.area_per_channel_pe[0], atol=1e-4)
    assert peaks.n_hits.sum() == one.n_hits[0]
    assert np.isnan(one.goodness_of_split[0])


@pytest.mark.parametrize("n_photons", [50, 150, 1000])
def test_a_clean_s1_stays_whole(detector, random, n_photons):
    # 10 events a size: a true rate of wrong splits of 25 % would pass in 6 % of runs; none in thousands is
    # what tests/physics/test_splitting_fractions.py prints
    photons = [p for event in range(10) for p in s1(random, event, AT, n_photons)]
    peaks = find_peaks(detector, records_of(detector, photons, n_events=10))
    assert peaks.event.tolist() == list(range(10))
    assert (peaks.signal == Signal.S1).all()
    searched = peaks.area_pe >= 40
    assert searched.any()
    assert np.all((peaks.goodness_of_split > 0)[searched])
    assert np.isnan(peaks.goodness_of_split[~searched]).all()


def test_a_clean_s2_stays_whole_and_lower_thresholds_split_it(detector, random):
    photons = [p for event in range(4) for p in s2(random, detector, event, 50_000.0, 3000, sigma_ns=800.0)]
    records = records_of(detector, photons, n_events=4)
    peaks = find_peaks(detector, records)
    assert peaks.event.tolist() == list(range(4))
    assert (peaks.signal == Signal.S2).all()
    # must fail: a threshold that an S2's own shape passes
    low = settings_from({"splitting": {"s2_threshold": [0.2, 0.2]}, "merging": {"max_duration_ns": 0.0}})
    assert len(find_peaks(detector, records, settings=low)) > 8


def test_s1s_come_apart_from_a_few_hundred_ns_on(detector, random):
    delays = [0.0, 100.0, 300.0, 400.0, 600.0]
    photons = [
        p
        for event, delay in enumerate(delays)
        for p in s1(random, event, AT, 235) + delayed_s1(random, event, 70, delay)
    ]
    peaks = find_peaks(detector, records_of(detector, photons, n_events=len(delays)))
    assert np.bincount(peaks.event).tolist() == [1, 1, 2, 2, 2]


def test_photoionisation_behind_an_s2(detector, random):
    """Single electrons 40 us apart behind a large S2 stay alone; gaps of 50 us at any area join them all."""
    photons = s2(random, detector, 0, 50_000.0, 20_000, sigma_ns=700.0)
    for k in range(6):
        photons += cloud(random, detector, 0, 90_000.0 + 40_000.0 * k, 1, 0.0)
    records = records_of(detector, photons)
    peaks = find_peaks(detector, records)
    assert len(peaks) == 7
    assert peaks.signal[0] == Signal.S2
    assert peaks.area_pe[0] == pytest.approx(20_000, rel=0.02)
    assert peaks.area_pe[1:].sum() == pytest.approx(6 * 30, rel=0.15)
    far = {"log10_area": [1.0, 6.0], "gap_ns": [5e4, 5e4], "max_duration_ns": 5e5}
    joined = find_peaks(detector, records, settings=settings_from({"merging": far}))
    assert len(joined) == 1
    assert joined.area_pe[0] == pytest.approx(peaks.area_pe.sum(), rel=1e-6)


def test_three_electrons_are_one_s2(detector, random):
    photons = [
        p for event in range(5) for p in cloud(random, detector, event, 50_000.0, 3, 1500.0, photons=32)
    ]
    records = records_of(detector, photons, n_events=5)
    peaks = find_peaks(detector, records)
    assert peaks.event.tolist() == list(range(5))
    assert (peaks.signal == Signal.S2).all()
    assert peaks.area_pe == pytest.approx([96] * 5, rel=0.15)
    apart = find_peaks(detector, records, settings=settings_from({"merging": {"max_duration_ns": 0.0}}))
    assert len(apart) > 7
    # what merging joins is the light of its pieces, measured again as one
    joined = np.bincount(apart.event, apart.area_pe)
    assert peaks.area_pe == pytest.approx(joined, rel=1e-5)
    several = np.bincount(apart.event) > 1
    longest = np.zeros(5)
    np.maximum.at(longest, apart.event, apart.width_ns[:, 10])
    assert np.all(peaks.width_ns[several, 10] > longest[several])


def test_five_sensors_split_at_local_minima(random):
    xams = dmsim.load_detector("xams")
    n_sensors, n_top = xams.light.sensors.n_sensors, xams.light.sensors.n_top

    def light(event, time_ns, n):
        return s1(random, event, time_ns, n, n_sensors=n_sensors, n_top=n_top)

    photons = light(0, AT, 300) + light(0, AT + 400.0, 150) + light(1, AT, 300)
    photons += [
        (2, int(c), t, 1.0)
        for c, t in zip(random.integers(0, n_sensors, 3000), AT + 900 * random.normal(size=3000), strict=True)
    ]
    records = records_of(xams, photons, n_events=3)
    settings = settings_from({"splitting": {"method": "local_minimum", "filter_wing_ns": 40.0}})
    peaks = find_peaks(xams, records, settings=settings)
    # the two S1s come apart, the S1 alone and a smooth S2 stay whole
    assert peaks.event.tolist() == [0, 0, 1, 2]
    assert np.isnan(peaks.goodness_of_split).all()
    # must fail: a minimum of any depth cuts an S2 up
    eager = settings_from(
        {"splitting": {"method": "local_minimum", "filter_wing_ns": 10.0, "minimum_height_pe": 1.0,
                       "minimum_ratio": 1.0}, "merging": {"max_duration_ns": 0.0}}
    )  # fmt: skip
    assert (find_peaks(xams, records, settings=eager).event == 2).sum() > 3
