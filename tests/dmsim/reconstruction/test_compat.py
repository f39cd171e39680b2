"""mode "compat" against strax itself: every integer and, though 1e-5 would do, every float bit for bit."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from random_raw import random_raw, saturating_raw

from dmsim.reconstruction import settings as tree
from dmsim.reconstruction.settings import replaced

strax = pytest.importorskip("strax", reason="strax is in the extra `strax`, below Python 3.13")
import strax_reference as reference  # noqa: E402 (needs strax)

from dmsim.reconstruction import compat  # noqa: E402

UNCORRECTED = tree.Saturation(correct=False)
SETTINGS = tree.Settings(
    hits=tree.Hits(threshold_adc=15),
    classification=tree.Classification(s1_min_coincidence=3),
    saturation=UNCORRECTED,
    splitting=tree.Splitting(method="natural_breaks"),
)
PE_PER_ADC = 0.0076 * np.array([1.0, 0.8, 1.1, 1.0, 0.9, 1.3, 0.0, 1.0, 1.0, 0.7, 1.0, 1.2])
CASES = {
    "as straxen": {},
    "noise threshold": {"hits": {"threshold_adc": 5, "threshold_rms": 4.0, "baseline_samples": 27}},
    "short peaks": {"clustering": {"max_duration_ns": 3000.0}},
    "wide": {
        "clustering": {
            "gap_ns": 2000.0,
            "left_extension_ns": 75.0,
            "right_extension_ns": 930.0,
            "min_sensors": 1,
        },
        "coincidence": {"left_ns": 500.0, "right_ns": 300.0},
    },
    "splits early": {
        "splitting": {"min_area_pe": 0.0, "s1_threshold": (0.2, 0.1), "s2_threshold": (0.3, 0.1)}
    },
    "two rounds": {"splitting": {"max_iterations": 2, "filter_wing_ns": 30.0, "s1_threshold": (0.3, 0.1)}},
    "local minimum": {
        "splitting": {
            "method": "local_minimum",
            "min_area_pe": 0.0,
            "minimum_height_pe": 0.01,
            "minimum_ratio": 1.3,
        }
    },
}  # fmt: skip

RARE = ("local minimum",)  # strax compiles anew


def with_sections(sections):
    return dataclasses.replace(
        SETTINGS, **{name: replaced(getattr(SETTINGS, name), **values) for name, values in sections.items()}
    )


def assert_equal(found, expected, *, but=()):
    """Bit for bit, integers and floats."""
    assert len(found) == len(expected)
    assert found.dtype == strax.remove_titles_from_dtype(expected.dtype)
    for name in found.dtype.names:
        if name not in but:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def compare(raw, settings, pe_per_adc=PE_PER_ADC, n_top=5, chunk_ns=None):
    found = compat.find_with(settings, raw, pe_per_adc=pe_per_adc, n_top=n_top, chunk_ns=chunk_ns)
    records, hits, lone, peaks = reference.find(
        raw, settings, pe_per_adc=pe_per_adc, n_top=n_top, chunk_ns=chunk_ns
    )
    assert_equal(found.records, records)
    assert_equal(found.hits, hits)
    assert_equal(found.lone_hits, lone)
    assert_equal(found.peaks, peaks)
    return found


@pytest.mark.parametrize(
    "case",
    [pytest.param(name, marks=[pytest.mark.slow] if name in RARE else []) for name in CASES],
)
def test_random_records(case):
    settings = with_sections(CASES[case])
    n_peaks = n_split = 0
    for seed in range(12):
        crowd = {"n_channels": 5, "n_pulses": 300, "span_ns": 100_000} if seed % 2 else {}
        try:
            found = compare(random_raw(seed, **crowd), settings)
        except ValueError as error:
            # where a peak is cut for its length, the next one may reach into it, and strax stops
            if case != "short peaks" or "zero-size array" not in str(error):
                raise
            continue
        n_peaks += len(found.peaks)
        n_split += int((found.peaks["max_gap"] == -1).sum())
    assert n_peaks > 150
    assert n_split > 5


@pytest.mark.parametrize("seed", range(3))
def test_saturated_records(seed):
    found = compare(saturating_raw(seed), SETTINGS)
    assert (found.peaks["n_saturated_channels"] > 0).sum() >= 3


@pytest.mark.slow  # strax compiles anew
def test_gains_in_single_precision_and_another_sampling():
    raw = random_raw(3)
    raw["dt"], raw["time"] = 8, raw["time"] // 10 * 8
    compare(raw, SETTINGS, pe_per_adc=PE_PER_ADC.astype(np.float32))


def test_peaks_are_cut_at_the_borders_of_a_chunk():
    raw = random_raw(5)
    chunk = int(raw["time"].min()), int(strax.endtime(raw).max()) - 150
    free = compare(raw, SETTINGS)
    cut = compare(raw, SETTINGS, chunk_ns=(chunk[0] + 0, max(chunk[1], int(raw["time"].max()) + 10)))
    assert len(free.peaks) >= len(cut.peaks)


@pytest.mark.slow  # strax compiles anew
def test_few_channels_and_no_top():
    compare(random_raw(8, n_channels=3), SETTINGS, pe_per_adc=np.full(3, 0.01), n_top=0)


def test_one_record_and_none():
    raw = random_raw(1)
    alone = raw[raw["pulse_length"] <= 110][:1]
    compare(alone, SETTINGS)
    empty = compat.find_with(SETTINGS, raw[:0], pe_per_adc=PE_PER_ADC, n_top=5)
    assert [len(part) for part in empty] == [0] * 5


def compare_several(settings):
    for seed in range(6):
        compare(random_raw(seed), settings)


# twins: without one quirk, the comparison must fail
def test_a_moving_average_without_its_quirk_is_refused(monkeypatch):
    from dmsim.reconstruction.compat import splitting

    def right(wave, n, wing, out):
        for s in range(n):
            window = wave[max(0, s - wing) : s + wing + 1]
            out[s] = window[: n - max(0, s - wing)].mean()

    def natural_breaks(data, length, dt, large, limit, wing_ns):
        original = splitting._moving_average
        splitting._moving_average = right
        try:
            spread = splitting._spread
            splitting._spread = spread.py_func
            return splitting_natural(data, length, dt, large, limit, wing_ns)
        finally:
            splitting._moving_average, splitting._spread = original, spread

    splitting_natural = splitting._natural_breaks.py_func
    monkeypatch.setattr(splitting, "_natural_breaks", natural_breaks)
    with pytest.raises(AssertionError), np.errstate(all="ignore"):
        compare_several(with_sections(CASES["splits early"]))


def test_a_last_sample_that_is_kept_is_refused(monkeypatch):
    from dmsim.reconstruction.compat import splitting

    original = splitting._natural_breaks

    def whole(data, length, dt, large, limit, wing_ns):
        cuts, goodness = original(data, length, dt, large, limit, wing_ns)
        cuts[1::2, 2] += 1
        return cuts, goodness

    monkeypatch.setattr(splitting, "_natural_breaks", whole)
    with pytest.raises(AssertionError):
        compare_several(SETTINGS)


def test_a_waveform_that_loses_no_sample_is_refused(monkeypatch):
    from dmsim.reconstruction.compat import chain

    original = chain.sum_waveforms

    def rounded_up(peaks, *args, **kwargs):
        before = peaks["length"].copy()
        original(peaks, *args, **kwargs)
        left_over = before - peaks["length"].astype(np.int64) * (peaks["dt"] // 10)
        peaks["length"] += (left_over > 0) & (peaks["length"] < 200)

    monkeypatch.setattr(chain, "sum_waveforms", rounded_up)
    with pytest.raises(AssertionError):
        compare_several(SETTINGS)


def test_bad_records_are_refused_in_one_line():
    raw = random_raw(2)
    with pytest.raises(ValueError, match="not sorted by time"):
        compat.find_with(SETTINGS, raw[::-1], pe_per_adc=PE_PER_ADC, n_top=5)
    orphan = raw[~((raw["record_i"] == 0) & (raw["channel"] == raw["channel"][np.argmax(raw["record_i"])]))]
    with pytest.raises(ValueError, match="has no first fragment"):
        compat.find_with(SETTINGS, orphan, pe_per_adc=PE_PER_ADC, n_top=5)
    with pytest.raises(ValueError, match="from another detector"):
        compat.find_with(SETTINGS, raw, pe_per_adc=PE_PER_ADC[:4], n_top=2)
    bad = raw.copy()
    bad["length"][3] = 111
    with pytest.raises(ValueError, match="raw_records.length is 111 in row 3"):
        compat.find_with(SETTINGS, bad, pe_per_adc=PE_PER_ADC, n_top=5)
    less = np.asarray(raw[[name for name in raw.dtype.names if name != "baseline"]])
    with pytest.raises(ValueError, match="lack the fields baseline"):
        compat.find_with(SETTINGS, less, pe_per_adc=PE_PER_ADC, n_top=5)


# straxen is no dependency of the tests: its output is carried (tests/data/straxen/SOURCE.md)
def restored(**saturation):
    with np.load(Path(__file__).parents[2] / "data" / "straxen" / "saturated.npz") as file:
        raw, records, peaks = (file[name] for name in ("raw", "records", "peaks"))
    settings = dataclasses.replace(SETTINGS, saturation=tree.Saturation(**saturation))
    found = compat.find_with(settings, raw, pe_per_adc=np.full(12, 0.0076), n_top=5)
    return found, records, peaks


def test_saturation_is_restored_as_in_straxen():
    found, records, peaks = restored()
    assert_equal(found.records, records)
    assert_equal(found.peaks, peaks)
    assert (records["amplitude_bit_shift"] > 0).any()


@pytest.mark.parametrize("other", [{"correct": False}, {"reference_samples": 40}])
def test_saturation_restored_otherwise_is_refused(other):
    found, records, peaks = restored(**other)
    with pytest.raises(AssertionError):
        assert_equal(found.records, records)
    with pytest.raises(AssertionError):
        assert_equal(found.peaks, peaks)


def test_reconstruct_in_mode_compat(detector):
    from synthetic_records import records_of, s1, s2

    import dmsim

    random = np.random.default_rng(5)
    photons = [
        photon
        for event in range(3)
        for photon in (
            *s1(random, event, 0.0, 80),
            *s2(random, detector, event, 4e5, 3000, 100.0 * event, 0.0),
        )
    ]
    records = records_of(detector, photons, n_events=3)
    peaks, events = dmsim.reconstruct(detector, records, mode="compat")
    ours, our_events = dmsim.reconstruct(detector, records)
    # two chains of one definition: 2 % holds their baselines, cuts and sums apart
    np.testing.assert_allclose(events.s2_pe, our_events.s2_pe, rtol=0.02)
    np.testing.assert_allclose(events.s1_pe, our_events.s1_pe, rtol=0.08)
    np.testing.assert_allclose(events.drift_time_ns, our_events.drift_time_ns, atol=100)
    assert (
        events.s1_pe < our_events.s1_pe
    ).all()  # a rise inside the baseline's window, kept as strax has it
    for name in ("n_hits", "signal", "event", "decile_ns", "goodness_of_split"):
        assert getattr(peaks, name).dtype == getattr(ours, name).dtype
    # peaks that no joining touched are strax's own
    raw = dmsim.io.records_to_strax(records).raw_records
    array = compat.find(detector, raw).peaks
    alone = np.isin(peaks.area_pe, array["area"])
    assert alone.sum() >= 3
    with pytest.raises(ValueError, match="mode is 'smooth': choose from 'fast'"):
        dmsim.reconstruct(detector, records, mode="smooth")


@pytest.mark.slow  # strax compiles anew for each number of channels
@pytest.mark.parametrize(("name", "n_events"), [("xenonnt", 6), ("xams", 20)])
def test_simulated_records(name, n_events):
    """Of the whole preset: noise, late light, dark counts."""
    import jax

    import dmsim

    detector = dmsim.load_detector(name)
    key = jax.random.key(8)
    deposits = dmsim.sources.mono(key, detector, n_events=n_events, energy_kev=30.0, interaction="er_beta")
    raw = dmsim.io.records_to_strax(dmsim.simulate_records(key, detector, deposits)).raw_records
    settings = dataclasses.replace(tree.Settings(), saturation=UNCORRECTED).resolved(detector)
    n_top = detector.light.sensors.n_top
    found = compare(raw, settings, pe_per_adc=compat.chain.gains(detector), n_top=n_top)
    assert len(found.peaks) > n_events
