"""Embeddings: dead sensors and empty places do not count, order does not, and all have finite gradients."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference import embeddings

pytestmark = pytest.mark.quick_compile

RING = tuple((float(np.cos(a)), float(np.sin(a))) for a in np.linspace(0, 2 * np.pi, 12, endpoint=False))
CASES = {
    "features": (embeddings.Features(), {"a": (2, 3), "b": ()}),
    "mlp": (embeddings.MLP(n_out=5, width=8), {"": (4,)}),
    "hit_pattern": (
        embeddings.HitPattern(RING, mask="alive", signal="pe", width=8),
        {"pe": (12,), "alive": (12,)},
    ),
    "waveform": (embeddings.Waveform(width=4, n_out=6), {"": (30,)}),
    "event_set": (embeddings.EventSet("events", "valid", width=8), {"events": (7, 3), "valid": (7,)}),
    "attention_set": (
        embeddings.AttentionSet("events", "valid", width=8, n_heads=2, n_inducing=3, n_seeds=2),
        {"events": (7, 3), "valid": (7,)},
    ),
    "set_means": (embeddings.SetMeans("events", "valid", width=8), {"events": (7, 3), "valid": (7,)}),
}
SETS = ["event_set", "attention_set", "set_means"]


def example(shapes, seed=0):
    x = {
        name: jax.random.exponential(jax.random.fold_in(jax.random.key(seed), i), shape)
        for i, (name, shape) in enumerate(shapes.items())
    }
    return x[""] if set(x) == {""} else x


@pytest.mark.parametrize("name", CASES)
def test_batch_is_loop_and_gradients_are_finite(name):
    description, shapes = CASES[name]
    net = description.build(jax.random.key(0), shapes)
    events = [example(shapes, seed) for seed in range(3)]
    one = eqx.filter_jit(lambda net, x: net(x))
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *events)
    together = eqx.filter_jit(lambda net, x: jax.vmap(net)(x))(net, stacked)
    np.testing.assert_allclose(together, jnp.stack([one(net, x) for x in events]), rtol=1e-4, atol=1e-5)
    slope = eqx.filter_jit(eqx.filter_grad(lambda both: jnp.sum(both[0](both[1]) ** 2)))
    nothing = jax.tree.map(jnp.zeros_like, events[0])
    for x in (events[0], nothing):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope((net, x))))


def test_a_dead_sensor_gives_nothing():
    description, shapes = CASES["hit_pattern"]
    net = description.build(jax.random.key(0), shapes)
    pe = jax.random.poisson(jax.random.key(1), 5.0, (12,)).astype(float)
    alive = jnp.ones(12).at[3].set(0.0)
    without = net({"pe": pe.at[3].set(0.0), "alive": alive})
    np.testing.assert_array_equal(net({"pe": pe.at[3].set(1e4), "alive": alive}), without)
    # must-fail twin: the same number in a live sensor is seen, and so is that a sensor is dead
    assert np.abs(net({"pe": pe.at[3].set(1e4), "alive": jnp.ones(12)}) - without).max() > 1e-3
    assert np.abs(net({"pe": pe.at[3].set(0.0), "alive": jnp.ones(12)}) - without).max() > 1e-4


def test_sensors_that_never_work():
    dead = embeddings.HitPattern(RING, alive=(False, *[True] * 11)).build(jax.random.key(0), {"": (12,)})
    pe = jnp.ones(12)
    np.testing.assert_array_equal(dead(pe), dead(pe.at[0].set(50.0)))


@pytest.mark.parametrize("name", SETS)
def test_order_and_empty_places_of_a_set_do_not_matter(name):
    description, shapes = CASES[name]
    net = description.build(jax.random.key(0), shapes)
    events = jax.random.normal(jax.random.key(1), (7, 3))
    valid = jnp.arange(7) < 4
    base = net({"events": events, "valid": valid})
    order = jnp.array([2, 0, 3, 1, 6, 5, 4])
    np.testing.assert_allclose(net({"events": events[order], "valid": valid[order]}), base, atol=1e-5)
    np.testing.assert_array_equal(net({"events": events.at[5].set(jnp.nan), "valid": valid}), base)
    assert np.abs(net({"events": events, "valid": jnp.arange(7) < 5}) - base).max() > 1e-4
    # must-fail twin: the same events, each twice, are another set, though every mean is the same
    twice = {"events": jnp.concatenate([events, events]), "valid": jnp.concatenate([valid, valid])}
    assert np.abs(net(twice) - base).max() > 1e-4
    # an empty place has no gradient, whatever stands in it
    slope = jax.grad(lambda events: jnp.sum(net({"events": events, "valid": valid}) ** 2))(events)
    np.testing.assert_array_equal(slope[4:], 0.0)
    assert np.all(np.abs(slope[:4]).max(axis=1) > 0)


@pytest.mark.parametrize("name", SETS)
def test_a_set_in_other_units_is_the_same(name):
    description, shapes = CASES[name]
    scaled = dataclasses.replace(description, centre=(1.0, 2.0, 3.0), scale=(10.0, 0.1, 5.0))
    events, valid = jax.random.normal(jax.random.key(1), (7, 3)), jnp.arange(7) < 4
    moved = events * jnp.array([10.0, 0.1, 5.0]) + jnp.array([1.0, 2.0, 3.0])
    one, other = (d.build(jax.random.key(0), shapes) for d in (description, scaled))
    expected = one({"events": events, "valid": valid})
    np.testing.assert_allclose(other({"events": moved, "valid": valid}), expected, atol=1e-4)


# means of two features and the number of events, then what is learned
@pytest.mark.parametrize(("kind", "n_pooled"), [(embeddings.EventSet, 7), (embeddings.SetMeans, 3)])
def test_what_is_pooled_is_standardised_before_training(kind, n_pooled):
    """A twin that is not standardised keeps the small ripple on large numbers that many events leave."""
    events = 3.0 + jax.random.normal(jax.random.key(1), (64, 50, 2))
    x = {"events": events, "valid": jnp.arange(50) < jnp.arange(20, 52, 0.5)[:, None]}
    shapes = {"events": (50, 2), "valid": (50,)}
    for on in (True, False):
        net = kind("events", "valid", width=4, standardised=on).build(jax.random.key(0), shapes).started(x)
        pooled = (jax.vmap(net.before_sums)(x) - net.shift) / net.scale
        assert pooled.shape == (64, n_pooled)
        spread = pooled.std(axis=0)
        np.testing.assert_allclose(spread, 1.0, rtol=1e-3) if on else np.testing.assert_array_less(
            spread, 0.4
        )
        # means and number reach the flow as they are
        np.testing.assert_allclose(jax.vmap(net)(x)[:, -3:], pooled[:, :3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("description", "shapes", "message"),
    [
        (embeddings.EventSet(centre=(1.0,)), {"": (7, 3)}, "centre has 1 numbers for 3 features"),
        (embeddings.EventSet(scale=(1.0, 0.0, 1.0)), {"": (7, 3)}, "each must be above 0"),
        (embeddings.AttentionSet(width=9, n_heads=2), {"": (7, 3)}, "must be a multiple of n_heads"),
        (embeddings.AttentionSet("events"), {"": (7, 3)}, "event set"),
        (embeddings.HitPattern(RING), {"": (11,)}, "12 positions"),
        (embeddings.Waveform(), {"": (2, 3, 4)}, "waveform"),
        (embeddings.EventSet("events"), {"": (7, 3)}, "event set"),
    ],
)
def test_data_of_another_kind_are_refused(description, shapes, message):
    with pytest.raises(ValueError, match=message):
        description.build(jax.random.key(0), shapes)


def test_a_kind_is_taken_once():
    class Other:
        kind = "mlp"
        scales_itself = False

    with pytest.raises(ValueError, match="'mlp' already"):
        embeddings.register(Other)
