"""Expected clusters against all 2^gaps outcomes, against sampled jitter, and against the hard rule."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim.reconstruction import soft

T, TAU = 700.0, 120.0


def hits(n=9, seed=3):
    random = np.random.default_rng(seed)
    time = np.sort(random.uniform(0, 700.0 * n, n))
    return time, random.uniform(0.5, 3.0, n)


def clusters_of(cuts, area):
    """Sums of the clusters, and the cluster of each hit."""
    of_hit = np.concatenate([[0], np.cumsum(cuts)])
    return np.bincount(of_hit, weights=area), of_hit


def enumerate_all(split, area, function):
    """Mean of a function of (sums, cluster of each hit) over all outcomes."""
    total = 0.0
    for cuts in itertools.product((0, 1), repeat=len(split)):
        probability = np.prod(np.where(cuts, split, 1 - split))
        total = total + probability * np.asarray(function(*clusters_of(cuts, area)))
    return total


def gamma_above(area, threshold, phases):
    x = phases * area / threshold
    below = sum(np.exp(-x) * x**m / float(np.prod(np.arange(1, m + 1))) for m in range(phases))
    return np.sum(1 - below)


FUNCTIONS = {
    "number": (lambda c, a: c.number(), lambda sums, of: len(sums)),
    "area of cluster": (lambda c, a: c.value_of_cluster(a), lambda sums, of: sums[of]),
    "squares": (lambda c, a: c.sum_of_squares(a), lambda sums, of: np.sum(sums**2)),
    "exponentials": (
        lambda c, a: c.sum_of_exponentials(a, jnp.array([0.1, 1.0])),
        lambda sums, of: np.exp(-np.outer(sums, [0.1, 1.0])).sum(axis=0),
    ),
    "above, jittered": (
        lambda c, a: c.number_above(a, 4.0, phases=8),
        lambda sums, of: gamma_above(sums, 4.0, 8),
    ),
    "above": (lambda c, a: c.number_above(a, 4.0, phases=0), lambda sums, of: np.sum(sums > 4.0)),
    "together": (
        lambda c, a: c.together(jnp.array([0, 5, 3]), jnp.array([2, 3, 3])),
        lambda sums, of: of[[0, 5, 3]] == of[[2, 3, 3]],
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_expectations_equal_the_sum_over_all_outcomes(x64, name):
    time, area = hits()
    clusters = soft.soft_clusters(jnp.diff(time), T, TAU)
    ours, reference = FUNCTIONS[name]
    split = 1 / (1 + np.exp(-(np.diff(time) - T) / TAU))
    assert 0.2 < split.mean() < 0.8
    np.testing.assert_allclose(
        ours(clusters, jnp.asarray(area)), enumerate_all(split, area, reference), rtol=1e-9
    )
    # twin: a threshold 5 ns off is seen
    wrong = 1 / (1 + np.exp(-(np.diff(time) - T - 5) / TAU))
    assert not np.allclose(
        ours(clusters, jnp.asarray(area)), enumerate_all(wrong, area, reference), rtol=1e-3
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_expectations_equal_the_mean_over_sampled_jitter(x64, name):
    # 10,000 draws; 5 standard errors, two-sided: 6e-7 a number, 22 numbers, 1.3e-5 in all
    time, area = hits(6, seed=5)
    random = np.random.default_rng(1)
    ours, reference = FUNCTIONS[name]
    value = np.asarray(ours(soft.soft_clusters(jnp.diff(time), T, TAU), jnp.asarray(area)))
    drawn = np.array(
        [
            reference(*clusters_of(np.diff(time) + TAU * random.logistic(size=5) > T, area))
            for _ in range(10_000)
        ]
    )
    error = drawn.std(axis=0) / 100
    assert np.all(np.abs(drawn.mean(axis=0) - value) <= 5 * error + 1e-9)
    # twin: a threshold 40 ns off
    twin = np.asarray(ours(soft.soft_clusters(jnp.diff(time), T - 40, TAU), jnp.asarray(area)))
    assert np.any(np.abs(drawn.mean(axis=0) - twin) > 5 * error)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_at_temperature_zero_they_are_the_hard_clusters(name):
    time, area = hits(200, seed=8)
    cuts = np.diff(time) > T
    ours, reference = FUNCTIONS[name]
    value = ours(soft.soft_clusters(jnp.diff(time), T, 0.0), jnp.asarray(area, jnp.float32))
    np.testing.assert_allclose(value, reference(*clusters_of(cuts, area)), rtol=3e-5)


def test_gradients_are_those_of_finite_differences(x64):
    time, area = hits(40, seed=2)

    def loss(time, area, threshold, cut):
        e = soft.cluster_expectations(time, area, threshold, temperature_ns=90.0)
        above = e.clusters.number_above(area, cut)
        return e.number + e.sum_of_squared_areas + jnp.sum(e.area_of_cluster**2) + 3 * above

    at = (jnp.asarray(time), jnp.asarray(area), jnp.asarray(T), jnp.asarray(5.0))
    loss_of = jax.jit(loss)
    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))(*at)
    np.testing.assert_allclose(value, loss_of(*at), rtol=1e-12)
    random = np.random.default_rng(4)
    for k, gradient in enumerate(gradients):
        direction = random.normal(size=at[k].shape)
        step = [1e-3 * direction if i == k else 0.0 for i in range(4)]
        up, down = (loss_of(*(a + s * d for a, d in zip(at, step, strict=True))) for s in (1, -1))
        along = np.sum(gradient * direction)
        assert abs(along) > 1e-3
        np.testing.assert_allclose(along, (up - down) / 2e-3, rtol=1e-5)


def test_vmap_is_a_loop_and_one_hit_is_one_cluster():
    times = jnp.asarray([hits(12, seed=s)[0] for s in range(3)])
    areas = jnp.asarray([hits(12, seed=s)[1] for s in range(3)])

    def squares(time, area):
        return soft.cluster_expectations(time, area, T).sum_of_squared_areas

    one_by_one = [squares(t, a) for t, a in zip(times, areas, strict=True)]
    np.testing.assert_allclose(jax.vmap(squares)(times, areas), one_by_one, rtol=1e-5)
    alone = soft.cluster_expectations(jnp.zeros(1), jnp.full(1, 2.0), T)
    assert (float(alone.number), float(alone.sum_of_squared_areas)) == (1.0, 4.0)
    np.testing.assert_allclose(alone.clusters.number_above(jnp.full(1, 20.0), 2.0), 1.0, rtol=1e-5)


def test_default_temperature_leaves_few_accidental_splits():
    n = 10_000
    e = soft.cluster_expectations(jnp.zeros(n), jnp.ones(n), T)
    assert float(e.number) - 1 < np.exp(-3) * 1.01  # n e^-(ln n + 3)
    # twin: T / 7, at which a tenth splits off
    twin = soft.cluster_expectations(jnp.zeros(n), jnp.ones(n), T, temperature_ns=T / 7)
    assert float(twin.number) - 1 > 5
    assert float(e.area_of_cluster.mean()) > 0.95 * n


def test_far_hits_keep_their_digits_in_single_precision():
    """A sum of logs over 1e5 hits would lose the difference between neighbours."""
    clusters = soft.soft_clusters(jnp.full(99_999, 650.0).at[9::10].set(5000.0), T, 50.0)
    pair = clusters.together(jnp.array([99_992]), jnp.array([99_993]))
    np.testing.assert_allclose(pair, 1 / (1 + np.exp(-1.0)), rtol=1e-5)
