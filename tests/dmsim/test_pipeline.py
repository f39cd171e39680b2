"""The chain as a whole: an event comes out the same whatever batch it is in, and nothing is lost.

One set of events carries the hard cases: several deposits, no deposit, no energy, no hits.
"""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from dmsim import batches, rng
from dmsim.pipeline import hits as hits_level
from dmsim.records import Signal
from dmsim.sources.own import deposits as own_deposits

pytestmark = pytest.mark.quick_compile

KEY = jax.random.key(11)
DETECTOR = dmsim.load_detector("xams")
EVENT = np.array([0, 1, 1, 1, 2, 4, 5, 5, 6])  # event 3 has no deposit
ENERGY = np.array([5.0, 2.0, 3.0, 1.0, 0.0, 8.0, 0.02, 20.0, 4.0])  # event 2 has no energy
KIND = ["er_beta", "er_gamma", "er_beta", "nr", "er_beta", "nr", "er_beta", "alpha", "er_weighted"]
N_EVENTS = 8  # the last has no deposit
SHORT, LARGE = hits_level.Sizes(16, 32, 512), hits_level.Sizes(23, 46, 725)  # one bucket apart
HIT_FIELDS = ("sensor", "signal", "time_ns", "charge_pe", "weight")
RECORD_FIELDS = ("channel", "start_sample", "length", "pulse_length", "record_i", "data")


def some_events(start=0, stop=N_EVENTS, detector=DETECTOR):
    """Events start .. stop - 1 of the set, numbered as in the whole run."""
    rows = (start <= EVENT) & (EVENT < stop)
    return own_deposits(
        detector,
        energy_kev=ENERGY[rows],
        x_mm=np.linspace(-20, 20, EVENT.size)[rows],
        y_mm=np.linspace(15, -5, EVENT.size)[rows],
        z_mm=np.linspace(-45, -2, EVENT.size)[rows],
        time_ns=np.linspace(0, 300, EVENT.size)[rows],
        interaction=[kind for kind, row in zip(KIND, rows, strict=True) if row],
        event=EVENT[rows] - start,
        n_events=stop - start,
        first_event=start,
    )


def sorted_hits(hits, first_event=0):
    """Every valid hit as one row of numbers, in an order of its own."""
    valid = np.asarray(hits.valid)
    columns = [np.asarray(hits.event)[valid] + first_event]
    columns += [np.asarray(getattr(hits, name))[valid] for name in HIT_FIELDS]
    table = np.stack([c.astype(np.float64) for c in columns])
    return table[:, np.lexsort(table)]


@pytest.fixture
def large_plan(monkeypatch):
    """One size for every batch, so that little is compiled; the sizes' own tests are below."""
    monkeypatch.setattr(hits_level, "plan", lambda *_: LARGE)


@pytest.fixture(scope="module")
def whole():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hits_level, "plan", lambda *_: LARGE)
        return dmsim.simulate_hits(KEY, DETECTOR, some_events())


def test_hits_are_complete_and_in_range(whole):
    valid = np.asarray(whole.valid)
    assert int(whole.n_overflow) == 0
    assert whole.n_events == N_EVENTS
    assert set(np.asarray(whole.event)[valid]) == {0, 1, 4, 5, 6}
    assert not np.asarray(whole.charge_pe)[~valid].any()
    assert np.isfinite(np.asarray(whole.time_ns)[valid]).all()
    assert set(np.asarray(whole.sensor)[valid]) == set(range(5))
    clouds, n_s1 = hits_level._jitted_signals(*_inputs())
    of_s1 = np.asarray(whole.signal)[valid] == Signal.S1.value
    assert of_s1.sum() == np.asarray(n_s1).sum()
    assert (~of_s1).sum() > 5 * np.asarray(clouds.n_electrons).sum()


def _inputs():
    words, padded = rng.words_of(KEY), batches.padded(some_events())
    return words, DETECTOR, padded, hits_level.draw_quanta(words, DETECTOR, padded)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_hits_of_an_event_do_not_depend_on_its_batch(whole, large_plan, size):
    parts = []
    for start in range(0, N_EVENTS, size):
        deposits = some_events(start, min(start + size, N_EVENTS))
        parts.append(sorted_hits(dmsim.simulate_hits(KEY, DETECTOR, deposits), start))
    together = np.concatenate(parts, axis=1)
    np.testing.assert_array_equal(together[:, np.lexsort(together)], sorted_hits(whole))


def test_another_event_number_gives_other_hits(whole, large_plan):
    # the twin: what the comparison above would show if numbers were keyed by place in the batch
    other = replace(some_events(), first_event=jnp.int32(1))
    hits = sorted_hits(dmsim.simulate_hits(KEY, DETECTOR, other))
    expected = sorted_hits(whole)
    assert hits.shape != expected.shape or not np.array_equal(hits, expected)


@pytest.fixture(scope="module")
def whole_records():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hits_level, "plan", lambda *_: LARGE)
        return dmsim.simulate_records(KEY, DETECTOR, some_events())


@pytest.mark.parametrize("size", [1, 3, 7])
def test_records_do_not_depend_on_the_batches(whole_records, large_plan, size):
    parts = list(dmsim.iterate_records(KEY, DETECTOR, some_events(), events_per_batch=size))
    assert [part.n_events for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert sum(part.n_events for part in parts) == N_EVENTS
    event = np.concatenate([part.event + part.first_event for part in parts])
    np.testing.assert_array_equal(event, whole_records.event)
    for name in RECORD_FIELDS:
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole_records, name), err_msg=name)


def test_records_are_sorted_valid_and_complete(whole_records):
    records = whole_records
    assert records.valid.all()
    assert int(records.n_overflow) == 0
    order = np.lexsort((records.channel, records.start_sample, records.event))
    assert (np.diff(order) == 1).all()
    assert set(records.event) <= {0, 1, 4, 5, 6}
    assert {0, 1, 4, 5, 6} - set(records.event) == set()
    assert records.event_time_ns.shape == (N_EVENTS,)


def test_a_batch_of_empty_events_is_empty(large_plan):
    records = dmsim.simulate_records(KEY, DETECTOR, some_events(2, 4))
    assert records.event.size == 0
    assert records.data.shape == (0, DETECTOR.electronics.samples_per_record)
    assert records.n_events == 2
    areas = dmsim.simulate_areas(KEY, DETECTOR, some_events(2, 4))
    for values in jax.tree.leaves(areas):
        np.testing.assert_array_equal(values, np.zeros(2))


def test_areas_and_quanta_do_not_depend_on_batch_or_padding(monkeypatch):
    quanta = dmsim.simulate_quanta(KEY, DETECTOR, some_events())
    areas = dmsim.simulate_areas(KEY, DETECTOR, some_events())
    alone = [dmsim.simulate_areas(KEY, DETECTOR, some_events(i, i + 1)) for i in range(N_EVENTS)]
    for name in ("s1_pe", "s2_pe", "cs1_pe", "cs2_pe", "drift_time_ns", "x_mm", "y_mm", "z_mm"):
        one_by_one = np.concatenate([getattr(a, name) for a in alone])
        np.testing.assert_array_equal(one_by_one, getattr(areas, name), err_msg=name)
    monkeypatch.setattr(batches, "_PAD_BELOW", 0)
    bare = dmsim.simulate_quanta(KEY, DETECTOR, some_events())
    for padded, without in zip(jax.tree.leaves(quanta), jax.tree.leaves(bare), strict=True):
        np.testing.assert_array_equal(padded, without)


def test_too_small_a_plan_is_run_again_and_loses_nothing(whole, monkeypatch):
    plans = []

    def tiny(*_):
        plans.append(1)
        return SHORT

    monkeypatch.setattr(hits_level, "plan", tiny)
    hits = dmsim.simulate_hits(KEY, DETECTOR, some_events())
    assert plans == [1]
    assert int(hits.n_overflow) == 0
    assert hits.valid.size == whole.valid.size  # the next bucket was needed
    np.testing.assert_array_equal(sorted_hits(hits), sorted_hits(whole))


def test_one_round_of_a_short_list_counts_what_did_not_fit(whole):
    words, detector, padded, quanta = _inputs()
    clouds, n_s1 = hits_level._jitted_signals(words, detector, padded, quanta)
    short, _ = hits_level._hits(words, detector, padded, quanta, clouds, n_s1, SHORT)
    assert int(short.n_overflow) == int(whole.valid.sum()) - int(short.valid.sum()) > 0


def test_the_plan_holds_its_batch():
    words, detector, padded, quanta = _inputs()
    clouds, n_s1 = hits_level._jitted_signals(words, detector, padded, quanta)
    sizes = hits_level.plan(detector, clouds, n_s1)
    assert sizes.s1 >= np.ceil(np.asarray(n_s1) / hits_level._S1_PAGE).sum()
    assert sizes.electrons >= np.ceil(np.asarray(clouds.n_electrons) / hits_level._ELECTRON_PAGE).sum()
    assert sizes.s2 <= 2 * LARGE.s2


def test_more_photons_than_the_largest_bucket_is_one_clear_line():
    bright = eqx.tree_at(lambda d: d.electroluminescence.se_gain_phd, DETECTOR, jnp.float32(500))
    deposits = replace(some_events(), energy_kev=jnp.full(EVENT.size, 1e5, jnp.float32))
    with pytest.raises(ValueError, match="more photons than the largest bucket") as error:
        dmsim.simulate_hits(KEY, bright, deposits)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("simulate", [dmsim.simulate_hits, dmsim.simulate_records])
def test_under_jit_hits_and_records_say_what_to_do(simulate):
    with pytest.raises(ValueError, match=r"needs concrete numbers .* call it outside") as error:
        jax.jit(lambda energy: simulate(KEY, DETECTOR, replace(some_events(), energy_kev=energy)))(
            some_events().energy_kev
        )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_of_no_events_is_refused(size):
    with pytest.raises(ValueError, match=f"events_per_batch is {size} events: must be at least 1"):
        list(dmsim.iterate_records(KEY, DETECTOR, some_events(), events_per_batch=size))


def test_a_bad_key_is_refused():
    with pytest.raises(ValueError, match="give one Threefry key"):
        dmsim.simulate_quanta(3, DETECTOR, some_events())


def test_double_precision_tells_the_same_events(whole, large_plan, x64):
    detector = DETECTOR.as_dtype(jnp.float64)
    hits = dmsim.simulate_hits(KEY, detector, some_events(detector=detector))
    assert hits.time_ns.dtype == hits.charge_pe.dtype == jnp.float64
    assert int(hits.n_overflow) == 0
    # the same uniforms: only draws within rounding of a border between counts may differ
    for event in range(N_EVENTS):
        ours = int((np.asarray(hits.event)[np.asarray(hits.valid)] == event).sum())
        theirs = int((np.asarray(whole.event)[np.asarray(whole.valid)] == event).sum())
        assert abs(ours - theirs) <= 0.02 * theirs


COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: COMPILED.append(name) if name.endswith("backend_compile_duration") else None
)


def test_the_same_shapes_compile_once(whole, large_plan):
    other = eqx.tree_at(lambda d: d.light.g1_phd_per_photon, DETECTOR, jnp.float32(0.09))
    key, deposits = jax.random.key(3), replace(some_events(), first_event=jnp.int32(100))
    COMPILED.clear()
    dmsim.simulate_hits(key, other, deposits)
    assert COMPILED == []
    # the twin: another static setting is another program
    jax.jit(lambda x: x * len(COMPILED) + 3.25)(jnp.ones(7))
    assert COMPILED != []
