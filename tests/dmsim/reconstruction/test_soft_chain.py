"""The whole soft chain: at temperature 0 it is the hard one, above it the readings that are near."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_records import records_of, s1, s2

import dmsim
from dmsim.reconstruction import build_events, find_peaks
from dmsim.reconstruction import soft as soft_reading
from dmsim.reconstruction.settings import Settings, replaced
from dmsim.reconstruction.soft import reconstruct_soft

pytestmark = pytest.mark.quick_compile


def busy(detector, random):
    """Events with near gaps, an S2 that is split, one that is merged, small S1s and a lone hit."""
    photons = s1(random, 0, 20_000, 60) + s2(random, detector, 0, 500_000, 600, 100.0, 50.0, 900.0)
    photons += s1(random, 1, 10_000, 30) + s1(random, 1, 10_900, 10)
    photons += s2(random, detector, 1, 800_000, 500, -100.0, 50.0, 300.0)
    photons += s2(random, detector, 1, 803_000, 400, -100.0, 50.0, 300.0)
    photons += s1(random, 2, 5_000, 3) + s2(random, detector, 2, 300_000, 60, 0.0, 0.0, 400.0)
    photons += s2(random, detector, 2, 306_000, 70, 0.0, 0.0, 400.0) + [(2, 7, 100_000.0, 1.0)]
    return photons


@pytest.fixture(scope="module")
def records(detector):
    return records_of(detector, busy(detector, np.random.default_rng(3)), n_events=4)


SAME = ("area_pe", "area_top_pe", "n_hits", "n_sensors", "tight_coincidence", "center_time_ns", "decile_ns")


def assert_same(detector, records, settings, rtol, *, planned_at=0.0):
    peaks = find_peaks(detector, records, settings=settings)
    events = build_events(detector, peaks, n_events=records.n_events, settings=settings)
    plan = soft_reading.plan(detector, records, settings=settings, temperature=planned_at)
    soft, soft_events = soft_reading.evaluate(
        plan, detector, records.data, settings=settings, temperature=0.0
    )
    chosen = np.asarray(soft.probability) > 0
    np.testing.assert_array_equal(np.asarray(soft.probability)[chosen], 1.0)
    order = np.flatnonzero(chosen)[np.lexsort((soft.time_ns[chosen], soft.event[chosen]))]
    np.testing.assert_array_equal(soft.time_ns[order], peaks.time_ns)
    np.testing.assert_array_equal(soft.length_ns[order], peaks.length_ns)
    np.testing.assert_array_equal(soft.event[order], peaks.event)
    for k, name in enumerate(("unknown", "s1", "s2")):
        np.testing.assert_array_equal(np.asarray(getattr(soft, name))[order], peaks.signal == k)
    for name in SAME:
        value = np.asarray(getattr(soft, name))[order]
        np.testing.assert_allclose(value, getattr(peaks, name), rtol=rtol, atol=10 * rtol, err_msg=name)
    for name in (
        "s1_pe",
        "s2_pe",
        "cs1_pe",
        "cs2_pe",
        "energy_kev",
        "energy_light_kev",
        "drift_time_ns",
        "x_mm",
        "y_mm",
        "z_mm",
        "n_s1",
        "n_s2",
        "n_peaks",
        "s1_area_fraction_top",
        "s2_area_fraction_top",
        "s2_width_50_ns",
    ):
        value, hard = np.asarray(getattr(soft_events, name)), getattr(events, name)
        np.testing.assert_allclose(value, hard, rtol=rtol, atol=rtol, err_msg=name)
    return peaks, soft


def test_at_temperature_zero_every_quantity_is_the_hard_chains(detector, records):
    # among all that is plausible at the default temperature, which the tests below share
    peaks, _ = assert_same(detector, records, None, 2e-5, planned_at=1.0)
    assert {0, 1, 2} >= set(peaks.signal.tolist()) >= {1, 2}


@pytest.mark.slow
def test_at_temperature_zero_in_double_precision(x64):
    detector = dmsim.load_detector("xenonnt")
    records = records_of(detector, busy(detector, np.random.default_rng(3)), n_events=4)
    assert_same(detector, records, None, 1e-9)
    assert_same(detector, records, None, 1e-9, planned_at=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        ("splitting", {"s2_threshold": (0.6, 0.2)}),
        ("merging", {"max_duration_ns": 0.0}),
        ("splitting", {"method": "local_minimum", "minimum_height_pe": 5.0}),
    ],
)
def test_at_temperature_zero_with_other_settings(detector, records, change):
    section, values = change
    settings = Settings()
    settings = replaced(settings, **{section: replaced(getattr(settings, section), **values)})
    default = find_peaks(detector, records)
    peaks, _ = assert_same(detector, records, settings, 2e-5)
    assert section == "splitting" or len(peaks) >= len(default)


def test_readings_of_a_near_gap_share_its_probability(detector, records):
    soft, events = reconstruct_soft(detector, records)
    peaks = find_peaks(detector, records)
    # event 1: two S1s 900 ns apart, separated or not
    mine = (soft.event == 1) & (soft.time_ns < 100_000) & (np.asarray(soft.probability) > 0.01)
    p, area = np.asarray(soft.probability)[mine], np.asarray(soft.area_pe)[mine]
    assert len(p) == 3
    np.testing.assert_allclose(p[np.argmax(area)] + p[np.argmin(area)], 1.0, atol=1e-4)
    assert 0.01 < p.min() < 0.99
    np.testing.assert_allclose(float(events.n_s1[1]), p.sum(), atol=0.02)
    assert len(soft) > len(peaks)
    # near the hard reading in sum
    np.testing.assert_allclose(np.sum(soft.probability * soft.area_pe), peaks.area_pe.sum(), rtol=5e-3)


def test_what_is_split_again_goes_with_its_split(detector):
    """Three bumps: a half of the S2 splits at once, if the S2 does."""
    random, photons = np.random.default_rng(5), []
    for time_ns in (500_000, 502_300, 505_600):
        photons += s2(random, detector, 0, time_ns, 200, 0.0, 0.0, 350.0)
    three = records_of(detector, photons, n_events=1)

    def at(level):
        changes = {"splitting": dict.fromkeys(("s1_threshold", "s2_threshold"), (level, level))}
        changes["merging"] = {"max_duration_ns": 0.0}
        settings = Settings().resolved(detector)
        return replaced(settings, **{k: replaced(getattr(settings, k), **v) for k, v in changes.items()})

    goodness = replaced(soft_reading.Temperature().scaled(0.0), goodness=0.02)
    levels = np.arange(0.15, 1.0, 0.005)
    hard = np.array([len(find_peaks(detector, three, settings=at(level))) for level in levels])
    assert (np.diff(hard) < -1).any()
    jump = levels[1:][np.diff(hard) < -1][-1]
    area_pe = find_peaks(detector, three).area_pe.sum()
    for level in (jump - 0.01, jump + 0.01):
        # the hard number under jitter of all thresholds at once, from where it jumps
        passed = 1 / (1 + np.exp((level - levels[1:] + 0.0025) / 0.02))
        expected = hard[-1] - np.sum(np.diff(hard) * passed)
        plan = soft_reading.plan(detector, three, settings=at(level), temperature=goodness)
        found = soft_reading.peak_columns(plan, three.data, settings=at(level), temperature=goodness)
        p = np.asarray(found["probability"])
        np.testing.assert_allclose(np.sum(p * found["area_pe"]), area_pe, rtol=1e-3)
        np.testing.assert_allclose(p.sum(), expected, rtol=0.03)


def test_records_without_hits_have_no_peaks(detector):
    records = records_of(detector, [(0, 5, 1000.0, 0.02)], n_events=2, threshold=0)
    soft, events = reconstruct_soft(detector, records)
    assert float(jnp.sum(soft.probability)) == 0
    assert np.isnan(np.asarray(events.s2_pe)).all()
    np.testing.assert_array_equal(events.n_s1, 0)


def test_the_pipeline_has_the_soft_mode(detector, records):
    peaks, events = dmsim.reconstruct(detector, records, mode="soft", temperature=1.0)
    same, _ = reconstruct_soft(detector, records)
    np.testing.assert_array_equal(peaks.probability, same.probability)
    assert len(events) == 4
    with pytest.raises(ValueError, match="temperature"):
        dmsim.reconstruct(detector, records, temperature=1.0)
    with pytest.raises(ValueError, match="inside jax.jit"):
        jax.jit(lambda gap: dmsim.reconstruct(
            detector, records, mode="soft",
            settings=replaced(Settings(), clustering=replaced(Settings().clustering, gap_ns=gap)),
        )[1].s1_pe)(700.0)  # fmt: skip
