from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
from synthetic_records import DT, records_of, s1, s2

import dmsim
from dmsim.reconstruction import Settings, find_peaks
from dmsim.reconstruction.settings import settings_from
from dmsim.records import Signal

# a row each for two live events and an S2 of many fragments a sensor
S1_AT, S2_AT = 5_000.0, 400_000.0


def shuffled(records, random):
    rows = random.permutation(len(records.event))
    names = ("event", "channel", "start_sample", "length", "pulse_length", "record_i", "data", "valid")
    return replace(records, **{name: getattr(records, name)[rows] for name in names})


def only(records, mask):
    names = ("event", "channel", "start_sample", "length", "pulse_length", "record_i", "data", "valid")
    return replace(records, **{name: getattr(records, name)[mask] for name in names})


def test_areas_and_times_of_an_s1_and_an_s2(detector, random):
    photons = s1(random, 0, S1_AT, 300) + s2(random, detector, 0, S2_AT, 8000)
    peaks = find_peaks(detector, records_of(detector, photons))
    assert peaks.signal.tolist() == [Signal.S1, Signal.S2]
    # every photon of 1 PE passes the threshold but for rare phases: what is left is baseline noise of
    # 0.4 ADC x the samples integrated, about 3 PE in an S1 of 200 sensors and 30 PE in this S2
    assert peaks.area_pe[0] == pytest.approx(300, abs=18)
    assert peaks.area_pe[1] == pytest.approx(8000, abs=120)
    assert peaks.area_pe[0] == pytest.approx(peaks.area_per_channel_pe[0].sum(), rel=1e-5)
    top = sum(p[3] for p in photons[300:] if p[1] < 253)
    assert peaks.area_top_pe[1] == pytest.approx(top, abs=100)
    true_center = np.mean([p[2] for p in photons[300:]])
    measured = peaks.time_ns[1] + peaks.center_time_ns[1]
    delay = float(detector.electronics.pulse_rise_ns + detector.electronics.pulse_decay_ns)
    assert measured == pytest.approx(true_center + delay, abs=80)  # 6 x 2000 / sqrt(8000) = 130 at most
    # a normal: 25-75 % spans 1.349 sigma, 5-95 % 3.290, 10-50 % 1.2816
    assert peaks.width_50_ns[1] == pytest.approx(1.349 * 2000, rel=0.06)
    assert peaks.width_90_ns[1] == pytest.approx(3.290 * 2000, rel=0.06)
    assert peaks.rise_time_ns[1] == pytest.approx(1.2816 * 2000, rel=0.06)
    assert peaks.n_sensors[0] == len({p[1] for p in photons[:300]})
    assert peaks.tight_coincidence[0] > 100
    assert (peaks.n_saturated == 0).all()
    assert np.isnan(peaks.x_mm[0])
    assert np.hypot(peaks.x_mm[1], peaks.y_mm[1]) < 15


def test_each_sensor_may_have_a_gain_of_its_own(detector, random):
    photons = s1(random, 0, S1_AT, 300) + s2(random, detector, 0, S2_AT, 8000)
    factor = np.where(np.arange(detector.light.sensors.n_sensors) % 2, 1.0, 1.4).astype(np.float32)
    own = eqx.tree_at(lambda d: d.electronics.gain, detector, detector.electronics.gain * factor)
    one, each = find_peaks(detector, records_of(detector, photons)), find_peaks(own, records_of(own, photons))
    assert each.signal.tolist() == one.signal.tolist()
    np.testing.assert_allclose(each.area_pe, one.area_pe, rtol=0.02)
    np.testing.assert_allclose([each.x_mm[1], each.y_mm[1]], [one.x_mm[1], one.y_mm[1]], atol=2)
    # must fail: one gain for all
    wrong = find_peaks(detector, records_of(own, photons))
    assert (wrong.area_pe > 1.1 * one.area_pe).all()


def test_later_fragments_take_the_baseline_of_the_first(detector, random):
    # one sensor lit for 12 us: eleven fragments, of which ten hold no free baseline
    long = [(0, 5, 10_000.0 + 20.0 * k, 1.0) for k in range(600)]
    other = [(0, 6, 10_000.0 + 500.0 * k, 1.0) for k in range(24)]
    # a little noise, or rounding has the same sign in every sample
    records = records_of(detector, long + other, noise=0.5)
    assert (records.record_i > 5).any()
    peaks = find_peaks(detector, records)
    assert len(peaks) == 1
    # the baseline's 0.08 ADC over 1300 samples is 0.9 PE
    assert peaks.area_per_channel_pe[0, 5] == pytest.approx(600, abs=5)
    # must fail: read as pulses of their own, later fragments take lit samples for their baseline
    alone = replace(records, record_i=np.zeros_like(records.record_i))
    assert find_peaks(detector, alone).area_per_channel_pe[0, 5] < 300


def test_a_readout_that_begins_late_gives_fewer_baseline_samples(random):
    # the preset reads 24 samples before a trigger: 40 would hold the pulse itself
    lux = dmsim.load_detector("lux")
    assert lux.electronics.zle_samples_before < Settings().hits.baseline_samples
    photons = s1(random, 0, S1_AT, 300, n_sensors=122, n_top=61)
    peaks = find_peaks(lux, records_of(lux, photons))
    assert peaks.signal.tolist() == [Signal.S1]
    assert peaks.area_pe[0] == pytest.approx(300, abs=10)


def test_a_missing_later_fragment_takes_away_only_its_own_area(detector):
    long = [(0, 5, 10_000.0 + 20.0 * k, 1.0) for k in range(600)]
    other = [(0, 6, 10_000.0 + 500.0 * k, 1.0) for k in range(24)]
    records = records_of(detector, long + other, noise=0.0)
    lost = (records.channel == 5) & (records.record_i == 4)
    whole, torn = find_peaks(detector, records), find_peaks(detector, only(records, ~lost))
    area = (16_000 - records.data[lost]).sum() / float(detector.electronics.adc_per_pe)
    gone = whole.area_per_channel_pe[0, 5] - torn.area_per_channel_pe[0, 5]
    assert gone == pytest.approx(area, abs=0.05)


def test_a_pulse_over_two_fragments_is_one_hit(detector):
    # the flat top of a long pulse crosses the fragment border at sample 110
    dense = [(0, c, 5_000.0 + 10.0 * k, 2.0) for c in (1, 2) for k in range(100)]
    peaks = find_peaks(detector, records_of(detector, dense, noise=0.0))
    assert peaks.n_hits.tolist() == [2]
    assert peaks.n_sensors.tolist() == [2]


def test_saturated_samples_are_counted(detector):
    records = records_of(detector, [(0, 1, 5_000.0, 900.0), (0, 2, 5_000.0, 10.0)], noise=0.0)
    expected = int((records.data[:, :][np.arange(110) < records.length[:, None]] <= 0).sum())
    assert expected >= 2
    assert find_peaks(detector, records).n_saturated.tolist() == [expected]


def test_no_records_give_no_peaks(detector):
    peaks = find_peaks(detector, records_of(detector, [], n_events=3))
    assert len(peaks) == 0
    assert peaks.area_per_channel_pe.shape == (0, 494)


def test_a_flat_channel_makes_no_hit_and_lone_hits_no_peak(detector):
    quiet = records_of(detector, [(0, 3, 5_000.0, 0.0)], threshold=-100)
    assert (quiet.channel == 3).all()
    assert len(quiet.event) > 0
    assert len(find_peaks(detector, quiet)) == 0
    lone = records_of(detector, [(0, 3, 5_000.0, 1.0)])
    assert len(find_peaks(detector, lone)) == 0
    assert len(find_peaks(detector, lone, settings=settings_from({"clustering": {"min_sensors": 1}}))) == 1


def test_a_record_may_touch_several_peaks(detector):
    # with a short gap three pairs of photons lie within one record of 1.1 us
    photons = [(0, c, t, 1.0) for c in (1, 2) for t in (5_000.0, 5_300.0, 5_600.0)]
    settings = settings_from(
        {"clustering": {"gap_ns": 150, "right_extension_ns": 100}, "merging": {"max_duration_ns": 0}}
    )
    peaks = find_peaks(detector, records_of(detector, photons, noise=0.0), settings=settings)
    assert len(peaks) == 3
    np.testing.assert_allclose(peaks.area_pe, 2.0, atol=0.1)


def test_windows_contain_hits_with_their_extensions(detector, random):
    peaks = find_peaks(detector, records_of(detector, s1(random, 0, S1_AT, 100)))
    assert (peaks.time_ns % DT == 0).all()
    assert peaks.time_ns[0] <= S1_AT
    assert peaks.length_ns[0] >= 230


def test_pieces_of_an_s2_are_joined_and_an_s1_is_not(detector, random):
    single = [s2(random, detector, 0, 50_000.0 + 3_000.0 * k, 60, sigma_ns=200.0) for k in range(4)]
    photons = s1(random, 0, S1_AT, 100) + sum(single, [])
    records = records_of(detector, photons)
    joined = find_peaks(detector, records)
    apart = find_peaks(detector, records, settings=settings_from({"merging": {"max_duration_ns": 0}}))
    assert joined.signal.tolist() == [Signal.S1, Signal.S2]
    assert apart.signal.tolist() == [Signal.S1] + [Signal.S2] * 4
    assert joined.area_pe[1] == pytest.approx(apart.area_pe[1:].sum(), rel=1e-5)
    assert joined.n_hits[1] == apart.n_hits[1:].sum()
    assert joined.width_90_ns[1] > 6_000


def test_invalid_rows_are_left_out(detector, random):
    records = records_of(detector, s1(random, 0, S1_AT, 100))
    garbage = replace(
        records,
        channel=np.append(records.channel, -5),
        data=np.append(records.data, np.full((1, 110), np.nan, np.float32), axis=0),
        valid=np.append(records.valid, False),
        **{
            name: np.append(getattr(records, name), 0)
            for name in ("event", "start_sample", "length", "pulse_length", "record_i")
        },
    )
    a, b = find_peaks(detector, records), find_peaks(detector, garbage)
    np.testing.assert_array_equal(a.area_per_channel_pe, b.area_per_channel_pe)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("channel", 494, "records.channel is 494 in valid row 0: allowed are 0 to 493"),
        ("channel", -1, "records.channel is -1"),
        ("event", 1, "records.event is 1 in valid row 0: allowed are 0 to 0"),
        ("length", 111, "records.length is 111"),
        ("record_i", -1, "records.record_i is -1"),
        ("data", np.nan, "not finite in valid row 0"),
        ("data", np.inf, "not finite in valid row 0"),
        ("data", 15_999.5, "not a whole number of 16 bits in valid row 0"),
        ("data", 40_000.0, "not a whole number of 16 bits in valid row 0"),
    ],
)
def test_bad_records_are_refused(detector, random, name, value, message):
    records = records_of(detector, s1(random, 0, S1_AT, 10))
    column = getattr(records, name).copy()
    column[0] = value
    with pytest.raises(ValueError, match=message):
        find_peaks(detector, replace(records, **{name: column}))


def test_overflow_and_foreign_sampling_are_refused(detector, random):
    records = records_of(detector, s1(random, 0, S1_AT, 10))
    with pytest.raises(ValueError, match="records lack 3 rows"):
        find_peaks(detector, replace(records, n_overflow=np.asarray(3)))
    with pytest.raises(ValueError, match="samples every 10 ns"):
        find_peaks(detector, replace(records, sample_ns=4))


def test_runs_in_double_precision(detector, random, x64):
    photons = s1(random, 0, S1_AT, 100) + s2(random, detector, 0, S2_AT, 1000)
    records = records_of(detector, photons)
    single = find_peaks(detector, records)
    double = find_peaks(
        detector.as_dtype(jax.numpy.float64), replace(records, data=records.data.astype(float))
    )
    assert double.area_pe.dtype == np.float64
    np.testing.assert_allclose(single.area_pe, double.area_pe, rtol=1e-5)
    np.testing.assert_allclose(single.x_mm, double.x_mm, atol=0.2)
