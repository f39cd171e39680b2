"""Truth: the same as what is simulated, whether drawn with it or again."""

import jax
import numpy as np
import pytest

import dmsim
from dmsim.pipeline import hits as hits_level
from dmsim.pipeline import iterate_records_with_truth
from dmsim.pipeline import truth as truths
from dmsim.records import Signal

pytestmark = pytest.mark.quick_compile

KEY = jax.random.key(7)
DETECTOR = dmsim.load_detector("xams").without("all")
N_EVENTS = 6


@pytest.fixture(autouse=True)
def one_plan(monkeypatch):
    """One size for every batch, so that little is compiled."""
    monkeypatch.setattr(hits_level, "plan", lambda *_: hits_level.Sizes(128, 128, 2896))


def deposits():
    """Events of two deposits; the last but one has no energy."""
    random, n = np.random.default_rng(1), 2 * N_EVENTS
    energy = random.uniform(2, 9, n)
    energy[[8, 9]] = 0.0
    return dmsim.sources.deposits(
        DETECTOR,
        energy_kev=energy,
        x_mm=random.uniform(-20, 20, n),
        y_mm=random.uniform(-20, 20, n),
        z_mm=random.uniform(-45, -5, n),
        time_ns=np.tile([0.0, 50.0], N_EVENTS),
        interaction="er_beta",
        event=np.repeat(np.arange(N_EVENTS), 2),
    )


@pytest.fixture(scope="module")
def truth():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hits_level, "plan", lambda *_: hits_level.Sizes(128, 128, 2896))
        return dmsim.truth_of(KEY, DETECTOR, deposits(), depth="photons")


def test_deposits_have_their_quanta_and_what_was_detected(truth):
    quanta = dmsim.simulate_quanta(KEY, DETECTOR, deposits())
    np.testing.assert_array_equal(truth.quanta.n_electrons, quanta.n_electrons)
    assert np.all(truth.detected.n_extracted <= quanta.n_electrons)
    assert np.all(truth.detected.n_s1_photons <= quanta.n_photons)
    expected_ns = DETECTOR.electrons.drift_time_ns(np.asarray(truth.deposits.z_mm))
    seen = truth.detected.n_extracted > 0
    np.testing.assert_allclose(truth.detected.drift_time_ns[seen], expected_ns[seen], rtol=1e-4)
    alone = dmsim.truth_of(KEY, DETECTOR, deposits(), depth="deposits")
    assert alone.peaks is None
    np.testing.assert_array_equal(alone.detected.n_s1_photons, truth.detected.n_s1_photons)


def test_peaks_are_sums_over_photons(truth):
    photons, peaks = truth.photons, truth.peaks
    assert peaks.n_photons.sum() == photons.sensor.size
    top = photons.sensor < DETECTOR.light.sensors.n_top
    x_mm = np.asarray(DETECTOR.light.sensors.x_mm)[photons.sensor]
    for row in range(len(peaks)):
        ours = (photons.event == peaks.event[row]) & (photons.signal == peaks.signal[row])
        ours &= photons.deposit == peaks.deposit[row]
        times, charge = photons.time_ns[ours].astype(np.float64), photons.charge_pe[ours]
        assert ours.sum() == peaks.n_photons[row]
        np.testing.assert_allclose(charge.sum(), peaks.area_pe[row], rtol=1e-5)
        np.testing.assert_allclose(charge[top[ours]].sum(), peaks.area_top_pe[row], rtol=1e-5)
        assert (times.min(), times.max()) == (peaks.first_time_ns[row], peaks.last_time_ns[row])
        np.testing.assert_allclose(times.mean(), peaks.mean_time_ns[row], rtol=1e-5, atol=1e-2)
        np.testing.assert_allclose(times.std(), peaks.time_spread_ns[row], rtol=1e-4, atol=1e-2)
        if peaks.area_top_pe[row] > 0:
            x = np.average(x_mm[ours & top], weights=charge[top[ours]])
            np.testing.assert_allclose(x, peaks.x_mm[row], rtol=1e-4, atol=1e-3)


def test_s1_photons_are_those_of_the_deposits(truth):
    s1 = truth.peaks.signal == Signal.S1
    first_row = 2 * truth.peaks.event[s1]
    counted = np.zeros(2 * N_EVENTS)
    counted[first_row + truth.peaks.deposit[s1]] = truth.peaks.n_photons[s1]
    np.testing.assert_array_equal(counted, truth.detected.n_s1_photons)
    assert not counted[[8, 9]].any()
    # the twin: with the deposits of an event exchanged it does not hold
    assert np.any(counted.reshape(-1, 2)[:, ::-1].ravel() != truth.detected.n_s1_photons)


@pytest.mark.parametrize("size", [1, 4])
def test_truth_with_records_is_that_of_truth_of(truth, size):
    parts = list(
        iterate_records_with_truth(KEY, DETECTOR, deposits(), depth="photons", events_per_batch=size)
    )
    together = truths.join([part for _, part in parts])
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    records = dmsim.simulate_records(KEY, DETECTOR, deposits())
    np.testing.assert_array_equal(np.concatenate([r.data for r, _ in parts]), records.data)


def test_split_and_join(truth):
    together = truths.join(truths.split(truth, 2))
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(truth), strict=True):
        np.testing.assert_array_equal(one, other)
    nothing, whole = truths.split(truth, 0)
    assert nothing.deposits.n_events == 0
    assert len(nothing.peaks) == 0
    assert len(whole.peaks) == len(truth.peaks)


def test_another_depth_is_refused():
    with pytest.raises(ValueError, match="depth 'hits' is not known: choose one of deposits, peaks, photons"):
        dmsim.truth_of(KEY, DETECTOR, deposits(), depth="hits")
