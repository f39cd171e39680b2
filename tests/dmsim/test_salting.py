"""Simulated signals on records that are there already."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from dmsim.pipeline import hits as hits_level

pytestmark = pytest.mark.quick_compile

KEY, OTHER = jax.random.key(5), jax.random.key(8)
DETECTOR = dmsim.load_detector("xams").without("all")
SAMPLE_NS = DETECTOR.electronics.sample_ns
COLUMNS = ("event", "channel", "start_sample", "length", "pulse_length", "record_i", "data")
FULL_SCALE = 2**DETECTOR.electronics.n_bits - 1


@pytest.fixture(autouse=True)
def one_plan(monkeypatch):
    """One size for every batch, so that little is compiled."""
    monkeypatch.setattr(hits_level, "plan", lambda *_: hits_level.Sizes(128, 128, 2896))


def events_at(*time_ns, seed=2, **changes):
    random, n = np.random.default_rng(seed), len(time_ns)
    options = {
        "energy_kev": random.uniform(1, 5, n),
        "x_mm": random.uniform(-15, 15, n),
        "y_mm": random.uniform(-15, 15, n),
        "z_mm": random.uniform(-50, -3, n),
        "interaction": "er_beta",
        "event_time_ns": np.asarray(time_ns, np.int64),
    }
    return dmsim.sources.deposits(DETECTOR, **options | changes)


@pytest.fixture(scope="module")
def recorded():
    """Three events, 10 ms apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hits_level, "plan", lambda *_: hits_level.Sizes(128, 128, 2896))
        return dmsim.simulate_records(OTHER, DETECTOR, events_at(10**7, 2 * 10**7, 3 * 10**7, seed=3))


def nothing():
    """Records of no event."""
    empty = {name: np.zeros(0, np.int32) for name in COLUMNS[:-1]}
    return dmsim.records.RawRecords(
        **empty,
        data=np.zeros((0, DETECTOR.electronics.samples_per_record), np.float32),
        valid=np.zeros(0, bool),
        n_overflow=np.int32(0),
        first_event=np.int32(0),
        event_time_ns=np.zeros(0, np.int64),
        n_events=0,
        sample_ns=SAMPLE_NS,
        baseline_adc=DETECTOR.electronics.baseline_adc,
    )


def assert_equal(one, other):
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_array_equal(one.event_time_ns, other.event_time_ns)
    assert one.n_events == other.n_events


def test_salting_onto_nothing_is_the_simulation():
    deposits = events_at(10**7, 10**7 + 2000, 2 * 10**7)
    salted, salt = dmsim.salt(KEY, DETECTOR, nothing(), deposits)
    (simulated,) = dmsim.iterate_stream(KEY, DETECTOR, deposits)
    assert_equal(salted, simulated)
    assert salt.event.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(salt.row, np.arange(salted.event.size))
    np.testing.assert_array_equal(salt.n_new, salted.length)
    assert not salt.n_added.any()


def test_salting_with_an_empty_event_changes_nothing(recorded):
    for time_ns in (10**7 + 1000, 15 * 10**6):
        salted, salt = dmsim.salt(KEY, DETECTOR, recorded, events_at(time_ns, energy_kev=np.zeros(1)))
        assert_equal(salted, recorded)
        assert salt.event.tolist() == [-1]
        assert salt.row.size == 0


def test_a_salted_event_in_silence_is_a_new_event(recorded):
    deposits = events_at(15 * 10**6, 25 * 10**6)
    salted, salt = dmsim.salt(KEY, DETECTOR, recorded, deposits)
    assert salt.event.tolist() == [1, 3]
    assert salted.event_time_ns.tolist() == [10**7, 15 * 10**6, 2 * 10**7, 25 * 10**6, 3 * 10**7]
    ours = np.zeros(salted.event.size, bool)
    ours[salt.row] = True
    np.testing.assert_array_equal(ours, np.isin(salted.event, [1, 3]))
    for name in COLUMNS[1:]:  # what was there is as it was
        np.testing.assert_array_equal(getattr(salted, name)[~ours], getattr(recorded, name), err_msg=name)


def depth(records, span):
    """Counts below baseline of each channel and sample."""
    low, n = span
    column = np.arange(records.data.shape[1])
    place = records.event_time_ns[records.event] // SAMPLE_NS + records.start_sample - low
    used = column < records.length[:, None]
    flat = records.channel[:, None] * n + np.where(used, place[:, None] + column, 0)
    values = np.where(used, records.baseline_adc - records.data, 0)
    size = n * DETECTOR.light.sensors.n_sensors
    covered = np.bincount(flat.ravel(), used.ravel(), minlength=size)
    return np.bincount(flat.ravel(), values.ravel(), minlength=size), covered


def test_salt_on_data_adds_the_bare_signal(recorded):
    # at the same time as a recorded event: pulses meet, overlap in part, and stand alone
    deposits = events_at(10**7 + 300)
    salted, salt = dmsim.salt(KEY, DETECTOR, recorded, deposits)
    electronics = replace(DETECTOR.electronics, noise_adc=jnp.zeros(()), zle_threshold_adc=0)
    (bare,) = dmsim.iterate_stream(KEY, replace(DETECTOR, electronics=electronics), deposits)
    (noisy,) = dmsim.iterate_stream(KEY, DETECTOR, deposits)
    span = (10**7 // SAMPLE_NS - 1000, 20_000)
    first = replace(recorded, **{n: getattr(recorded, n)[recorded.event == 0] for n in (*COLUMNS, "valid")})
    of_event_0 = salted.event == 0
    result, there = depth(replace(salted, **{n: getattr(salted, n)[of_event_0] for n in COLUMNS}), span)
    old, was = depth(first, span)
    signal, _ = depth(bare, span)
    new, is_new = depth(noisy, span)
    assert there.max() == 1  # no sample twice
    np.testing.assert_array_equal(there > 0, (was > 0) | (is_new > 0))
    data_there = was > 0
    np.testing.assert_array_equal(result[data_there], (old + signal)[data_there])
    only_new = (is_new > 0) & ~data_there
    assert only_new.any()
    np.testing.assert_array_equal(result[only_new], new[only_new])
    assert (result[data_there] != (old + new)[data_there]).any()  # the twin: noise added to noise
    assert salt.event.tolist() == [0]
    assert salt.n_added.sum() == np.count_nonzero(signal[data_there])
    assert salt.n_new.sum() == only_new.sum()


def test_pulses_are_whole_where_old_and_new_meet(recorded):
    salted, _ = dmsim.salt(KEY, DETECTOR, recorded, events_at(10**7 + 300, 2 * 10**7 + 100))
    heads = salted.record_i == 0
    order = np.lexsort((salted.start_sample, salted.channel, salted.event))
    pulse = np.cumsum(heads[order]) - 1
    length = np.bincount(pulse, salted.length[order])
    np.testing.assert_array_equal(length, salted.pulse_length[order][heads[order]])
    end = salted.start_sample + salted.length
    follows = ~heads[order][1:]
    np.testing.assert_array_equal(salted.start_sample[order][1:][follows], end[order][:-1][follows])


def test_order_of_salting_does_not_matter(recorded):
    one, two = events_at(10**7 + 300, seed=4), events_at(2 * 10**7 + 300, first_event=1, seed=6)
    forth, back = recorded, recorded
    for deposits in (one, two):
        forth, _ = dmsim.salt(KEY, DETECTOR, forth, deposits)
    for deposits in (two, one):
        back, _ = dmsim.salt(KEY, DETECTOR, back, deposits)
    assert_equal(forth, back)


def test_saturation_is_kept(recorded):
    bright = events_at(10**7 + 100, energy_kev=np.full(1, 20.0), z_mm=np.full(1, -5.0), x_mm=np.zeros(1))
    dark = replace(recorded, data=np.where(recorded.data > 0, 3.0, 0.0).astype(np.float32))
    salted, salt = dmsim.salt(KEY, DETECTOR, dark, bright)
    assert salted.data.min() == 0
    assert salted.data.max() <= FULL_SCALE
    assert salt.n_added.any()


def test_reconstruction_finds_the_salt(recorded):
    salted, salt = dmsim.salt(KEY, DETECTOR, recorded, events_at(15 * 10**6))
    _, events = dmsim.reconstruct(DETECTOR, salted)
    _, before = dmsim.reconstruct(DETECTOR, recorded)
    others = np.delete(np.arange(4), salt.event)
    np.testing.assert_array_equal(events.s2_pe[others], before.s2_pe)
    assert np.isfinite(events.s2_pe[salt.event]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event_time_ns": None}, "event_time_ns is None: salting needs"),
        ({"sample_ns": 4}, "records have sample_ns = 4, detector xams has"),
        ({"event_time_ns": np.array([3, 2, 1]) * 10**7}, "event_time_ns goes back"),
    ],
)
def test_bad_input_is_refused(change, message, recorded):
    with pytest.raises(ValueError, match=message):
        dmsim.salt(KEY, DETECTOR, replace(recorded, **change), events_at(10**7))


def test_overlapping_records_are_refused(recorded):
    twice = {n: np.concatenate([getattr(recorded, n)] * 2) for n in (*COLUMNS, "valid")}
    with pytest.raises(ValueError, match="records overlap in time on one channel"):
        dmsim.salt(KEY, DETECTOR, replace(recorded, **twice), events_at(10**7))
