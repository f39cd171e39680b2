from dataclasses import replace

import equinox as eqx
import numpy as np
import pytest
from io_examples import assert_same, only_valid, random_peaks, random_records

from dmsim.io import strax_peaks, strax_records
from dmsim.strax_layout import POSITION_FIELDS

SEEDS = range(8)


@pytest.mark.parametrize("samples", [110, 64])
def test_raw_record_layout_is_that_of_strax(samples):
    strax = pytest.importorskip("strax")
    expected = strax.remove_titles_from_dtype(np.dtype(strax.raw_record_dtype(samples)))
    assert strax_records.raw_record_dtype(samples) == expected


@pytest.mark.parametrize("n_channels", [2, 100, 494])
def test_peak_layout_is_that_of_strax(n_channels):
    strax = pytest.importorskip("strax")
    expected = strax.remove_titles_from_dtype(np.dtype(strax.peak_dtype(n_channels)))
    assert strax_peaks.peak_dtype(n_channels) == expected
    with_extra = strax_peaks.peak_dtype(n_channels, extra=True)
    assert with_extra.descr[: len(expected.descr)] == expected.descr


@pytest.mark.parametrize("seed", SEEDS)
def test_records_round_trip(seed):
    random = np.random.default_rng(seed)
    records = random_records(random, n=10 * seed)
    arrays = strax_records.records_to_strax(records)
    assert np.all(np.diff(arrays.raw_records["time"]) >= 0)
    found = strax_records.records_from_strax(arrays)
    # an empty batch has no row to tell its baseline
    exceptions = ("n_overflow",) if seed else ("n_overflow", "baseline_adc", "data")
    assert_same(found, only_valid(records), except_for=exceptions)


def test_records_of_overlapping_events_round_trip(random):
    records = random_records(random, n=200)
    clock = records.event_time_ns[0] + np.arange(records.n_events) * 40
    records = eqx.tree_at(lambda r: r.event_time_ns, records, clock)
    found = strax_records.records_from_strax(strax_records.records_to_strax(records))
    assert_same(found, only_valid(records), except_for=("n_overflow",))


def test_records_without_clock_get_one_by_event_number(random):
    records = random_records(random, clock=False)
    found = strax_records.records_from_strax(strax_records.records_to_strax(records))
    assert_same(found, only_valid(records), except_for=("n_overflow", "event_time_ns"))
    expected = (int(records.first_event) + 1 + np.arange(records.n_events)) * 10_000_000
    np.testing.assert_array_equal(found.event_time_ns, expected)


def test_strax_arrays_round_trip(random):
    """From strax's side: the rows come back byte by byte."""
    arrays = strax_records.records_to_strax(random_records(random, n=300))
    again = strax_records.records_to_strax(strax_records.records_from_strax(arrays))
    for found, expected in zip(again, arrays, strict=True):
        assert found.tobytes() == expected.tobytes()


def test_events_from_gaps(random):
    records = random_records(random, n=300, all_valid=True)
    raw = strax_records.records_to_strax(records).raw_records
    gaps = strax_records.split_into_events(raw, first_event=5, gap_ns=1_000_000)
    found = strax_records.records_from_strax(gaps)
    # 3 ms of records in events 5 ms or more apart, 50 records in each: gaps tell them apart
    np.testing.assert_array_equal(found.event, records.event)
    np.testing.assert_array_equal(found.data, records.data)
    assert int(found.first_event) == 5
    assert (
        strax_records.records_from_strax(
            strax_records.split_into_events(raw[:0], first_event=0, gap_ns=1)
        ).n_events
        == 0
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("data", 32768.0, "data .* has values from .* to 32768"),
        ("data", 0.25, "not whole numbers"),
        ("channel", 40_000, "channel has values from .* to 40000.*: strax holds"),
        ("start_sample", -(10**9), "strax needs times of 0 or more"),
    ],
)
def test_values_that_strax_cannot_hold_are_refused(name, value, message, random):
    records = random_records(random, all_valid=True, clock=False)
    records = eqx.tree_at(lambda r: r.first_event, records, 0)
    wrong = eqx.tree_at(lambda r: getattr(r, name), records, getattr(records, name).at[0].set(value))
    with pytest.raises(ValueError, match=message):
        strax_records.records_to_strax(wrong)


def test_arrays_that_do_not_belong_together_are_refused(random):
    arrays = strax_records.records_to_strax(random_records(random))
    with pytest.raises(ValueError, match="times differ"):
        strax_records.records_from_strax(arrays._replace(record_events=arrays.record_events[::-1]))
    with pytest.raises(ValueError, match="consecutive event numbers"):
        strax_records.records_from_strax(arrays._replace(event_starts=arrays.event_starts[::2]))
    with pytest.raises(ValueError, match="an event that event_starts does not have"):
        strax_records.records_from_strax(arrays._replace(event_starts=arrays.event_starts[:1]))
    off_grid = arrays.raw_records.copy()
    off_grid["time"][-1] += 3
    events = arrays.record_events.copy()
    events["time"][-1] += 3
    with pytest.raises(ValueError, match="off the events' grid of 10 ns"):
        strax_records.records_from_strax(arrays._replace(raw_records=off_grid, record_events=events))


@pytest.mark.parametrize("seed", SEEDS)
def test_peaks_round_trip(seed):
    peaks = random_peaks(np.random.default_rng(seed), n=5 * seed)
    array = strax_peaks.peaks_to_strax(peaks)
    assert np.all(array["length"] <= 200)
    assert_same(strax_peaks.peaks_from_strax(array), peaks)


def test_saturated_samples_are_not_counted_as_channels(random):
    """More of them than strax's 16 bits hold, as of a muon."""
    peaks = random_peaks(random, n=3)
    peaks = replace(peaks, n_saturated=np.array([0, 7, 200_000], np.int32))
    array = strax_peaks.peaks_to_strax(peaks)
    assert array["n_saturated_channels"].tolist() == [0, -1, -1]
    assert strax_peaks.peaks_from_strax(array).n_saturated.tolist() == [0, 7, 200_000]


def test_peaks_without_extra_fields_keep_what_strax_has(random):
    peaks = random_peaks(random)
    found = strax_peaks.peaks_from_strax(strax_peaks.peaks_to_strax(peaks, extra=False))
    lost = (
        "event",
        "n_sensors",
        "n_saturated",
        "area_top_pe",
        "center_time_ns",
        "decile_ns",
        *POSITION_FIELDS,
    )
    assert_same(found, peaks, except_for=lost)
    np.testing.assert_allclose(found.area_top_pe, peaks.area_top_pe, rtol=1e-6)
    np.testing.assert_allclose(found.center_time_ns, peaks.center_time_ns, atol=0.5)
    np.testing.assert_allclose(found.decile_ns, peaks.decile_ns, atol=1e-3)


def test_strax_measures_the_same_widths():
    """Our widths stand where strax puts its own: on a flat peak of 200 samples both are known."""
    strax = pytest.importorskip("strax")
    peak = np.zeros(1, strax.peak_dtype(2))
    peak["length"], peak["dt"], peak["data"], peak["area"] = 200, 10, 1.0, 200.0
    strax.compute_properties(peak) if hasattr(strax, "compute_properties") else strax.compute_widths(peak)
    found = strax_peaks.peaks_from_strax(np.asarray(peak, strax_peaks.peak_dtype(2)))
    if not hasattr(strax, "compute_properties"):
        _, width, decile = strax.compute_widths(peak)
        peak["width"], peak["area_decile_from_midpoint"] = width, decile
        found = strax_peaks.peaks_from_strax(np.asarray(peak, strax_peaks.peak_dtype(2)))
    assert found.width_50_ns[0] == pytest.approx(1000.0)
    assert found.width_90_ns[0] == pytest.approx(1800.0)
    assert found.rise_time_ns[0] == pytest.approx(800.0)
