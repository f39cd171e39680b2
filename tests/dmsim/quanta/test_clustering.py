"""Clustering of deposits: what is merged, and the laws that any clustering obeys."""

import dataclasses

import jax
import numpy as np
import pytest

from dmsim.detector import load_detector
from dmsim.quanta import cluster
from dmsim.records import Interaction
from dmsim.sources.own import deposits as own_deposits

DETECTOR = load_detector("xams")


def made(**columns):
    given = {"x_mm": 0.0, "y_mm": 0.0, "z_mm": -20.0, "interaction": "er_beta", "energy_kev": 1.0} | columns
    return own_deposits(DETECTOR, **given)


def tracks(n_events, seed=3):
    """Random walks of micrometre steps, with jumps in place and time, over several events."""
    random = np.random.default_rng(seed)
    n = 12 * n_events
    jump = random.uniform(size=n) < 0.2
    step = random.normal(scale=np.where(jump, 3.0, 0.002)[:, None], size=(n, 3))
    place = np.clip(np.cumsum(step, axis=0) / 2, -15, 15)
    late = np.cumsum(np.where(random.uniform(size=n) < 0.1, 40.0, 0.1)) % 1000
    return made(
        energy_kev=random.exponential(2.0, n),
        x_mm=place[:, 0],
        y_mm=place[:, 1],
        z_mm=place[:, 2] - 20,
        time_ns=late,
        event=np.repeat(np.arange(n_events), 12),
        interaction=random.choice(["er_beta", "er_gamma", "nr"], n),
    )


def test_close_deposits_become_one():
    deposits = made(
        energy_kev=np.array([1.0, 3.0, 2.0, 5.0]),
        x_mm=np.array([0.0, 0.004, 0.008, 1.0]),
        time_ns=np.array([0.0, 8.0, 16.0, 16.0]),
        interaction=["er_beta", "er_gamma", "er_beta", "nr"],
        event=np.zeros(4, int),
    )
    merged, row, n_merged = cluster(deposits)
    assert list(row) == [0, 0, 0, 1]
    assert n_merged == 2
    np.testing.assert_allclose(merged.energy_kev, [6.0, 5.0])
    # a chain of steps below 0.005 mm and 10 ns; energy-weighted place and time; the strongest part's kind
    assert float(merged.x_mm[0]) == pytest.approx((3 * 0.004 + 2 * 0.008) / 6, rel=1e-6)
    assert float(merged.time_ns[0]) == pytest.approx((3 * 8 + 2 * 16) / 6, rel=1e-6)
    assert list(merged.interaction) == [Interaction.ER_GAMMA, Interaction.NR]
    assert cluster(deposits, distance_mm=0.003).n_merged == 0
    assert cluster(deposits, time_ns=7.0).n_merged == 0
    assert cluster(deposits, distance_mm=2.0).n_merged == 3


@pytest.mark.parametrize("settings", [{}, {"distance_mm": 0.5, "time_ns": 50.0}, {"distance_mm": 0.0}])
def test_laws(settings):
    deposits = tracks(40)
    merged, row, n_merged = cluster(deposits, **settings)
    assert len(merged) == len(deposits) - n_merged == row.max() + 1
    assert (n_merged > 0) == (settings.get("distance_mm") != 0)
    event, energy = np.asarray(deposits.event), np.asarray(deposits.energy_kev, float)
    after = np.bincount(merged.event, np.asarray(merged.energy_kev, float), minlength=40)
    np.testing.assert_allclose(after, np.bincount(event, energy, minlength=40), rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(merged.event)[row], event)
    for name in ("x_mm", "y_mm", "z_mm", "time_ns"):  # first moments of an event stay
        before = np.bincount(event, energy * np.asarray(getattr(deposits, name), float))
        moment = np.bincount(merged.event, np.asarray(merged.energy_kev, float) * getattr(merged, name))
        np.testing.assert_allclose(moment, before, rtol=1e-5, atol=1e-4)
    again = cluster(merged, **settings)
    assert again.n_merged == 0
    for field in dataclasses.fields(merged):
        np.testing.assert_array_equal(getattr(again.deposits, field.name), getattr(merged, field.name))


def test_batching_does_not_matter():
    whole = cluster(tracks(40), distance_mm=0.5, time_ns=50.0).deposits
    part = jax.tree.map(lambda x: x[12 * 15 : 12 * 25] if np.ndim(x) else x, tracks(40))
    part = dataclasses.replace(part, event=part.event - 15, n_events=10, event_time_ns=None)
    ours = cluster(part, distance_mm=0.5, time_ns=50.0).deposits
    inside = (np.asarray(whole.event) >= 15) & (np.asarray(whole.event) < 25)
    for name in ("energy_kev", "x_mm", "z_mm", "time_ns", "interaction"):
        np.testing.assert_array_equal(getattr(ours, name), np.asarray(getattr(whole, name))[inside])


def test_what_cannot_be_mixed_stays_with_its_like():
    deposits = made(
        energy_kev=np.array([32.1, 9.4, 1.0, 20.0, 30.0]),
        time_ns=np.array([0.0, 5.0, 2.0, 2.0, 3.0]),
        interaction=["kr83m", "kr83m", "er_beta", "photons", "photons"],
        event=np.zeros(5, int),
    )
    merged = cluster(deposits).deposits
    np.testing.assert_allclose(merged.energy_kev, [41.5, 1.0, 50.0], rtol=1e-6)


def test_no_energy_and_no_deposits():
    two = made(energy_kev=np.zeros(2), time_ns=np.array([0.0, 4.0]), event=np.zeros(2, int))
    merged = cluster(two).deposits
    assert float(merged.energy_kev[0]) == 0
    assert float(merged.time_ns[0]) == 2.0
    empty = own_deposits(
        DETECTOR, energy_kev=[], x_mm=[], y_mm=[], z_mm=[], interaction="nr", event=[], n_events=2
    )
    assert cluster(empty).n_merged == 0
    assert cluster(empty).deposits.n_events == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distance_mm": -1.0}, "distance_mm is -1.0 mm"),
        ({"time_ns": np.inf}, "time_ns is inf ns: must be finite and 0 ns or more"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        cluster(tracks(1), **settings)


def test_needs_concrete_numbers():
    with pytest.raises(ValueError, match="cluster needs concrete numbers"):
        jax.jit(lambda d: cluster(d).deposits.energy_kev)(dataclasses.replace(tracks(1), event_time_ns=None))
