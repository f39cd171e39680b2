"""Delayed electrons, afterpulses and dark counts: beside the light that made them, never in it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from dmsim import ragged
from dmsim.detector.delayed import DelayedElectrons, Photoionisation
from dmsim.detector.pulses import Afterpulses, DarkCounts
from dmsim.pipeline import hits as hits_level
from dmsim.records import Signal

pytestmark = pytest.mark.quick_compile

KEY = jax.random.key(21)
EVENT = np.array([0, 1, 1, 2, 4, 5])  # event 3 has no deposit
ENERGY = np.array([5.0, 2.0, 3.0, 0.0, 8.0, 4.0])  # event 2 has no energy
N_EVENTS = 6
FIELDS = ("sensor", "signal", "time_ns", "charge_pe", "weight", "deposit")


def leaf(*values):
    return jnp.asarray(values if len(values) > 1 else values[0], jnp.float32)


BARE = dmsim.load_detector("xams").without("all")
DETECTOR = dataclasses.replace(
    BARE,
    photoionisation=Photoionisation(leaf(0.01), leaf(2e4), leaf(3e4)),
    delayed_electrons=DelayedElectrons(leaf(0.05), leaf(-1.0), leaf(4e4), leaf(1e6), leaf(5.0)),
    afterpulses=Afterpulses(
        leaf(0.03, 0.05),
        leaf(500.0, 2000.0),
        leaf(40.0, 0.0),
        leaf(0.0, 3000.0),
        leaf(6.0, 1.0),
        leaf(3.0, 0.0),
    ),
    dark_counts=DarkCounts(leaf(2e4), leaf(1e4), leaf(2e5)),
)


def some_events(start=0, stop=N_EVENTS):
    rows = (start <= EVENT) & (EVENT < stop)
    return dmsim.sources.deposits(
        DETECTOR,
        energy_kev=ENERGY[rows],
        x_mm=np.linspace(-20, 20, EVENT.size)[rows],
        y_mm=5.0,
        z_mm=np.linspace(-45, -2, EVENT.size)[rows],
        time_ns=np.linspace(0, 300, EVENT.size)[rows],
        interaction="er_beta",
        event=EVENT[rows] - start,
        n_events=stop - start,
        first_event=start,
    )


def sorted_hits(hits, keep=None, first_event=0):
    valid = np.asarray(hits.valid)
    valid = valid if keep is None else valid & np.isin(np.asarray(hits.signal), keep)
    columns = [np.asarray(hits.event)[valid] + first_event]
    columns += [np.asarray(getattr(hits, name))[valid] for name in FIELDS]
    rows = np.stack([column.astype(np.float64) for column in columns])
    return rows[:, np.lexsort(rows)]


@pytest.fixture(scope="module", autouse=True)
def few_shapes():
    """One size for every batch, so that little is compiled."""
    with pytest.MonkeyPatch.context() as patch:
        ladder = ragged.bucket
        patch.setattr(hits_level, "plan", lambda *_: hits_level.Sizes(32, 256, 1024))
        patch.setattr(ragged, "bucket", lambda needed, **options: ladder(max(needed, 2000), **options))
        yield


@pytest.fixture(scope="module")
def whole():
    return dmsim.simulate_hits(KEY, DETECTOR, some_events())


def test_every_kind_is_there_and_belongs_to_no_deposit(whole):
    valid, signal = np.asarray(whole.valid), np.asarray(whole.signal)
    late = valid & ~np.isin(signal, (Signal.S1, Signal.S2))
    assert set(signal[late]) == {Signal.DELAYED, Signal.AFTERPULSE, Signal.DARK}
    assert (np.asarray(whole.deposit)[late] == -1).all()
    assert (np.asarray(whole.deposit)[valid & ~late] >= 0).all()
    assert set(np.asarray(whole.event)[valid]) == {0, 1, 4, 5}  # where no energy was, nothing is read out
    assert int(whole.n_overflow) == 0


def test_the_deposits_own_light_is_the_same_without_them(whole):
    bare = dmsim.simulate_hits(KEY, DETECTOR.without("all"), some_events())
    np.testing.assert_array_equal(sorted_hits(whole, (Signal.S1, Signal.S2)), sorted_hits(bare))


def test_dark_counts_stand_alone(whole):
    alone = DETECTOR.without("photoionisation", "delayed_electrons", "afterpulses")
    found = sorted_hits(dmsim.simulate_hits(KEY, alone, some_events()))
    assert set(found[2]) == {Signal.S1, Signal.S2, Signal.DARK}
    dark = (Signal.DARK,)
    np.testing.assert_array_equal(found[:, found[2] == Signal.DARK], sorted_hits(whole, dark))


@pytest.mark.parametrize("size", [1, 4])
def test_they_do_not_depend_on_the_batch(whole, size):
    parts = []
    for start in range(0, N_EVENTS, size):
        deposits = some_events(start, min(start + size, N_EVENTS))
        parts.append(sorted_hits(dmsim.simulate_hits(KEY, DETECTOR, deposits), first_event=start))
    together = np.concatenate(parts, axis=1)
    np.testing.assert_array_equal(together[:, np.lexsort(together)], sorted_hits(whole))


def test_another_key_gives_others(whole):
    other = dmsim.simulate_hits(jax.random.key(22), DETECTOR, some_events())
    assert sorted_hits(other).shape != sorted_hits(whole).shape
