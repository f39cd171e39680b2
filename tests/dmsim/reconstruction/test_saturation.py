"""Restored samples against the light that was there before the digitiser cut it."""

import numpy as np
import pytest

from dmsim.reconstruction import find_peaks
from dmsim.reconstruction.acceptance import pulse_integral
from dmsim.reconstruction.settings import settings_from
from dmsim.records import RawRecords

BASELINE, SAMPLES, DT, N, BEFORE = 16_000, 110, 10, 600, 50


def bright_s2(detector, *, n_pe, seed, hottest=0.08, n_lit=200):
    """Records of one S2 whose brightest sensors go beyond the digitiser's range, and each sensor's charge."""
    random = np.random.default_rng(seed)
    adc_per_pe = float(detector.electronics.adc_per_pe)
    share = hottest * 0.9 ** np.arange(n_lit) + 1e-4
    share /= share.sum()
    shape = np.exp(-0.5 * ((np.arange(N) - 300) / 60) ** 2)
    mean = n_pe * share[:, None] * shape / shape.sum()
    light = random.poisson(mean) * 1.0
    edges = np.arange(16) * DT
    pulse = np.diff(pulse_integral(edges, float(detector.electronics.pulse_rise_ns),
                                   float(detector.electronics.pulse_decay_ns)))  # fmt: skip
    wave = np.array([np.convolve(row, pulse)[:N] for row in light]) * adc_per_pe
    adc = np.round(BASELINE + 2.5 * random.normal(size=(n_lit, BEFORE + N)))
    adc[:, BEFORE:] -= np.round(wave)
    adc = np.clip(adc, 0, 2**14 - 1)
    n_records = -(-adc.shape[1] // SAMPLES)
    padded = np.zeros((n_lit, n_records * SAMPLES), np.int16)
    padded[:, : adc.shape[1]] = adc
    fragment = np.tile(np.arange(n_records, dtype=np.int32), n_lit)
    size = n_lit * n_records
    records = RawRecords(
        event=np.zeros(size, np.int32),
        channel=np.repeat(np.arange(n_lit, dtype=np.int32), n_records),
        start_sample=fragment * SAMPLES,
        length=np.minimum(adc.shape[1] - fragment * SAMPLES, SAMPLES),
        pulse_length=np.full(size, adc.shape[1], np.int32),
        record_i=fragment,
        data=padded.reshape(size, SAMPLES),
        valid=np.ones(size, bool),
        n_overflow=np.zeros((), np.int32),
        first_event=np.zeros((), np.int32),
        event_time_ns=None,
        n_events=1,
        sample_ns=DT,
        baseline_adc=BASELINE,
    )
    return records, light.sum(axis=1)


OFF = settings_from({"saturation": {"correct": False}})


def test_lost_light_is_restored(detector):
    bias, without, hottest = [], [], []
    for seed in range(5):
        records, truth = bright_s2(detector, n_pe=1_000_000, seed=seed)
        peaks = find_peaks(detector, records)
        cut = find_peaks(detector, records, settings=OFF)
        assert len(peaks) == 1
        assert peaks.n_saturated[0] == cut.n_saturated[0] > 100
        bias.append(peaks.area_pe[0] / truth.sum() - 1)
        without.append(cut.area_pe[0] / truth.sum() - 1)
        hottest.append(peaks.area_per_channel_pe[0, 0] / truth[0] - 1)
    # a scale rests on some 3,000 PE before the sensor saturates: 0.6 % an S2, measured; 1e-5 two-sided at
    # 4.42 # sigma of a mean of five
    assert abs(np.mean(bias)) < 4.42 * 0.006 / 5**0.5
    assert np.mean(without) < -0.2  # must fail without
    assert abs(np.mean(hottest)) < 4.42 * 0.018 / 5**0.5


def test_only_saturated_samples_change(detector):
    records, _ = bright_s2(detector, n_pe=1_000_000, seed=1)
    on, off = find_peaks(detector, records), find_peaks(detector, records, settings=OFF)
    at_floor = (records.data <= 0) & (np.arange(SAMPLES) < records.length[:, None])
    saturated = np.unique(records.channel[at_floor.any(axis=1)])
    same = np.setdiff1d(np.arange(494), saturated)
    np.testing.assert_array_equal(on.area_per_channel_pe[:, same], off.area_per_channel_pe[:, same])
    more = on.area_per_channel_pe[0, saturated] - off.area_per_channel_pe[0, saturated]
    assert more.min() >= 0
    assert more.max() > 20_000


def test_peaks_within_range_are_not_touched(detector):
    records, _ = bright_s2(detector, n_pe=50_000, seed=2)
    on, off = find_peaks(detector, records), find_peaks(detector, records, settings=OFF)
    assert on.n_saturated[0] == 0
    for name in on.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(on, name), getattr(off, name), err_msg=name)


@pytest.mark.parametrize(
    ("n_lit", "settings"),
    [(1, {"clustering": {"min_sensors": 1}}), (200, {"saturation": {"min_reference_samples": 10_000}})],
)
def test_nothing_is_made_up(detector, n_lit, settings):
    """Where no sensor is left to tell the shape, or too little comes before, samples stay as they are."""
    records, _ = bright_s2(detector, n_pe=300_000 if n_lit == 1 else 1_000_000, seed=3, n_lit=n_lit)
    on = find_peaks(detector, records, settings=settings_from(settings))
    off = find_peaks(
        detector, records, settings=settings_from({**settings, "saturation": {"correct": False}})
    )
    assert on.n_saturated[0] > 0
    np.testing.assert_array_equal(on.area_per_channel_pe, off.area_per_channel_pe)
