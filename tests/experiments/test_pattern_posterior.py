"""Pieces of the posterior from light patterns: proposal and weights, labels, the path of attributions."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from inference.position import position_summary
from inference.priors import Disc

pytestmark = pytest.mark.quick_compile


@pytest.fixture(scope="module")
def study(loaded):
    with loaded("event_posterior", "run_patterns") as module:
        yield module


def test_weights_turn_the_proposal_back_into_the_prior(study):
    """50,000 events: shares to 0.25 % each; five errors."""
    import pattern_events

    events = SimpleNamespace(
        detector=SimpleNamespace(geometry=SimpleNamespace(radius_mm=664.0)),
        wall_share=0.3, wall_from=0.94, wall_weight=1.0,
    )  # fmt: skip
    made = pattern_events.PatternEvents
    keys = jax.random.split(jax.random.key(0))
    r = 664.0 * jnp.sqrt(jax.random.uniform(keys[0], (50_000,)))
    theta = jnp.zeros((50_000, 5)).at[:, 1].set(r)
    theta = made.pushed(events, keys[1], theta)
    x = jnp.zeros((50_000, study.pattern_checks.RADIUS_COLUMN + 1))
    weight, r = np.asarray(made.weight(events, theta, x)), np.linalg.norm(theta[:, 1:3], axis=1) / 664.0
    assert abs(weight.mean() - 1) < 0.0125
    for low in (0.5, 0.94, 0.98):
        assert abs(np.mean(weight * (r > low)) - (1 - low**2)) < 0.0125
    # must fail: without weights
    assert abs(np.mean(r > 0.94) - (1 - 0.94**2)) > 0.2


def test_unresolved_sources_have_the_anchor_of_one(study):
    import pattern_summary

    x = np.random.default_rng(0).normal(size=(2, 92)).astype(np.float32)
    x[:, pattern_summary.GAIN_COLUMN] = np.log1p([1.0, 100.0]) / 2
    out = np.asarray(pattern_summary.with_unresolved(jnp.asarray(x), 664.0))
    before, after = (v[:, :48].reshape(2, 6, 2, 4) for v in (x, out))
    np.testing.assert_allclose(after[0, 2:4, 0, 1:3], before[0, [0, 0], 0, 1:3], rtol=1e-5)
    np.testing.assert_allclose(after[1], before[1], rtol=1e-5)
    np.testing.assert_allclose(after[0, [0, 1, 4, 5]], before[0, [0, 1, 4, 5]])
    np.testing.assert_allclose(out[:, -1], [0, 1], atol=1e-6)


def test_photons_are_shared_out_whole(study):
    import pattern_sharing

    share = jnp.array([[0.5, 0.25, 0.25, 0.0, 0.0], [0.1, 0.2, 0.3, 0.2, 0.2]])
    drawn = pattern_sharing.multinomial(jax.random.key(0), jnp.array([40_000.0, 7.0]), share)
    assert drawn.sum(axis=1).tolist() == [40_000, 7]
    np.testing.assert_allclose(drawn[0] / 40_000, share[0], atol=0.0125)  # five errors


def test_the_path_of_attributions_joins_the_centre_to_the_data(study):
    detector = dmsim.load_detector("xenonnt")
    one = position_summary(detector)
    prior = Disc(("x_mm", "y_mm"), "mm", radius=float(detector.geometry.radius_mm))
    place = jnp.array([[300.0, -100.0], [250.0, 0.0]])
    way = study.explained.SourcePath(one, prior, place, jnp.array([0.75, 0.25]), jnp.asarray(500.0))
    x = {"s2_top_pe": jnp.arange(253.0), "s1_top_pe": jnp.ones(1), "second_source": jnp.arange(17.0)}
    baseline = way.baseline(x)
    # the fit of the sources goes with them, and is at its own values when they are at their places
    np.testing.assert_allclose(
        way(0.25, baseline, x)["second_source"], (baseline["second_source"] + jnp.arange(17.0)) / 2, rtol=1e-5
    )
    np.testing.assert_allclose(way(0.5, baseline, x)["second_source"], jnp.arange(17.0), rtol=1e-5)
    fit = study.explained.unpacked(jnp.asarray(baseline["second_source"])[None])
    np.testing.assert_allclose(
        study.explained.packed(fit)[0], baseline["second_source"], rtol=1e-4, atol=1e-4
    )
    apart = fit.place_mm[0, 0] - fit.place_mm[0, 1]
    np.testing.assert_allclose(jnp.abs(apart), [50.0, 100.0], atol=15)  # as the sources are
    for share, pattern in ((0.0, baseline["s2_top_pe"]), (0.5, way.expected(1.0)), (1.0, x["s2_top_pe"])):
        np.testing.assert_allclose(way(share, baseline, x)["s2_top_pe"], pattern, rtol=1e-5, atol=1e-5)
    sensors = detector.light.sensors
    at = np.stack([sensors.x_mm[:253], sensors.y_mm[:253]])
    centre = at @ baseline["s2_top_pe"] / 500
    assert np.abs(centre).max() < 5
    assert np.abs(at @ np.asarray(way.expected(1.0)) / 500).max() > 100  # must fail: the places themselves
