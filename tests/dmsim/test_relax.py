"""Discrete draws have their law, and their gradients the stated rule.

The draws are inverse CDFs, so their law is read off a grid of uniforms instead of random numbers: nothing
here can fail by chance.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dmsim import relax

N = 1 << 20
GRID = (np.arange(N) + 0.5) / N
U = jnp.asarray(GRID, jnp.float32)  # exact: 21 bits
GRAIN = 5e-5  # of the grid: 1/N at each of up to 50 counts

BINOMIAL_SMALL = [(1, 0.3), (7, 0.5), (20, 0.55), (40, 0.299), (1000, 1e-6), (1000, 0.01), (30000, 3.9e-4)]
BINOMIAL_SMALL += [(23, 0.5), (1000, 0.9999), (100, 0.95), (200, 0.941)]
BINOMIAL_LARGE = [
    (25, 0.5),
    (100, 0.13),
    (100, 0.88),
    (1000, 0.0125),
    (1000, 0.5),
    (30000, 0.12),
    (5000, 0.97),
]
POISSON_SMALL = [1e-3, 0.1, 1.0, 3.7, 11.9]
POISSON_LARGE = [12.1, 20.0, 50.0, 300.0, 3000.0]

draw_binomial = jax.jit(lambda u, n, p: relax.binomial(u, n, p))
draw_poisson = jax.jit(lambda u, mean: relax.poisson(u, mean))


def distance(k, law):
    """Total variation distance between the counts on the grid and a law of scipy's."""
    k = np.asarray(k)
    assert np.array_equal(k, np.round(k))
    top = int(max(k.max(), law.isf(1e-9))) + 1
    observed = np.bincount(k.astype(int), minlength=top + 1) / N
    return 0.5 * np.abs(observed - law.pmf(np.arange(observed.size))).sum()


@pytest.mark.parametrize(("n", "p"), BINOMIAL_SMALL)
def test_binomial_is_exact_at_small_means(n, p):
    assert distance(draw_binomial(U, float(n), p), stats.binom(n, np.float32(p).astype(float))) < GRAIN


@pytest.mark.parametrize(("n", "p"), BINOMIAL_LARGE)
def test_binomial_is_within_2e_3_at_large_means(n, p):
    assert distance(draw_binomial(U, float(n), p), stats.binom(n, p)) < 2e-3 + GRAIN


@pytest.mark.parametrize("mean", POISSON_SMALL)
def test_poisson_is_exact_at_small_means(mean):
    assert distance(draw_poisson(U, mean), stats.poisson(np.float32(mean).astype(float))) < GRAIN


@pytest.mark.parametrize("mean", POISSON_LARGE)
def test_poisson_is_within_2e_3_at_large_means(mean):
    assert distance(draw_poisson(U, mean), stats.poisson(mean)) < 2e-3 + GRAIN


def test_the_distance_sees_a_mean_that_is_1_percent_off():
    assert distance(draw_poisson(U, 20.2), stats.poisson(20)) > 5 * (2e-3 + GRAIN)
    assert distance(draw_binomial(U, 1000.0, 0.0101), stats.binom(1000, 0.01)) > 100 * GRAIN


def test_counts_rise_with_the_uniform():
    for k in (draw_poisson(U, 3.7), draw_poisson(U, 300.0), draw_binomial(U, 1000.0, 0.01)):
        assert (np.diff(k) >= 0).all()
    for p in (0.5, 0.88, 0.9999):
        assert (np.diff(draw_binomial(U, 1000.0, p)) >= 0).all()


def test_no_count_runs_away_at_the_extreme_uniforms():
    # in float32 the summed CDF may end under the largest uniform; the law itself gives at most ppf(u) + 1 there
    means = np.geomspace(1e-4, 11.9, 500).astype(np.float32)
    for u in ((2.0**23 - 0.5) * 2.0**-23, 2.0**-24):
        k = np.asarray(relax.poisson(jnp.full(500, u, jnp.float32), means))
        assert np.abs(k - stats.poisson.ppf(u, means.astype(float))).max() <= 2
        n, p = jnp.full(500, 1000.0), means / 1000
        assert np.abs(relax.binomial(jnp.full(500, u), n, p) - stats.binom.ppf(u, 1000, p)).max() <= 2
        mirrored = relax.binomial(jnp.full(500, 1 - u), n, 1 - p)
        assert np.abs(1000 - mirrored - stats.binom.ppf(u, 1000, p)).max() <= 2


def test_limits():
    u = jnp.linspace(0.01, 0.99, 9)
    np.testing.assert_array_equal(relax.binomial(u, 17.0, 0.0), np.zeros(9))
    np.testing.assert_array_equal(relax.binomial(u, 17.0, 1.0), np.full(9, 17.0))
    np.testing.assert_array_equal(relax.binomial(u, 17.0, 1.5), np.full(9, 17.0))
    np.testing.assert_array_equal(relax.binomial(u, 0.0, 0.3), np.zeros(9))
    np.testing.assert_array_equal(relax.binomial(u, 1e6, 0.0), np.zeros(9))
    np.testing.assert_array_equal(relax.poisson(u, 0.0), np.zeros(9))
    np.testing.assert_array_equal(relax.poisson(u, -1.0), np.zeros(9))


@pytest.mark.parametrize(("n", "p"), [(0.0, 0.3), (17.0, 0.0), (17.0, 1.0), (1.0, 0.5), (1e6, 0.4)])
def test_gradients_are_finite_at_the_limits(n, p):
    u = jnp.linspace(0.01, 0.99, 9)
    by_n, by_p = jax.grad(lambda n, p: relax.binomial(u, n, p).sum(), argnums=(0, 1))(n, p)
    assert np.isfinite([by_n, by_p]).all()
    assert np.isfinite(jax.grad(lambda m: relax.poisson(u, m).sum())(n))


def test_binomial_tangent_is_the_matched_normals():
    u, n, p = jnp.linspace(0.01, 0.99, 33), 50.0, 0.3
    k, tangent = jax.jvp(lambda p: relax.binomial(u, n, p), (p,), (1.0,))
    np.testing.assert_allclose(tangent, n + (k - n * p) * (1 - 2 * p) / (2 * p * (1 - p)), rtol=1e-5)
    k, tangent = jax.jvp(lambda n: relax.binomial(u, n, p), (n,), (1.0,))
    np.testing.assert_allclose(tangent, p + (k - n * p) / (2 * n), rtol=1e-5)


def test_poisson_tangent_is_the_matched_normals():
    u, mean = jnp.linspace(0.01, 0.99, 33), 7.0
    k, tangent = jax.jvp(lambda m: relax.poisson(u, m), (mean,), (1.0,))
    np.testing.assert_allclose(tangent, 1 + (k - mean) / (2 * mean), rtol=1e-5)


@pytest.mark.parametrize(("n", "p"), [(20, 0.4), (1000, 0.01), (3000, 0.12), (100, 0.9)])
def test_mean_gradients_of_binomial_are_those_of_its_moments(n, p):
    def moments(p):
        k = relax.binomial(U, float(n), p)
        return k.mean(), ((k - n * jax.lax.stop_gradient(p)) ** 2).mean()

    for derive in (jax.jacrev, jax.jacfwd):
        by_mean, by_variance = derive(moments)(jnp.float32(p))
        assert by_mean == pytest.approx(n, rel=2e-4)  # d(np)/dp
        assert by_variance == pytest.approx(n * (1 - 2 * p), rel=2e-3)  # d(np(1 - p))/dp


@pytest.mark.parametrize("mean", [0.5, 8.0, 40.0])
def test_mean_gradients_of_poisson_are_those_of_its_moments(mean):
    def moments(m):
        k = relax.poisson(U, m)
        return k.mean(), ((k - jax.lax.stop_gradient(m)) ** 2).mean()

    for derive in (jax.jacrev, jax.jacfwd):
        np.testing.assert_allclose(derive(moments)(jnp.float32(mean)), [1.0, 1.0], rtol=2e-3)


def test_implicit_gives_the_quantiles_derivative():
    # t = -tau log(u) has dt/dtau = t / tau; implicit must find it from the CDF alone
    def draw(tau):
        u = jnp.linspace(0.05, 0.95, 19)
        t = -jax.lax.stop_gradient(tau) * jnp.log(u)
        return relax.implicit(t, 1 - jnp.exp(-t / tau), jnp.exp(-t / tau) / tau)

    tau = jnp.float32(24.0)
    t, tangent = jax.jvp(draw, (tau,), (jnp.float32(1),))
    np.testing.assert_allclose(tangent, t / tau, rtol=1e-5)
    np.testing.assert_allclose(jax.jacrev(draw)(tau), t / tau, rtol=1e-5)


def test_weight_is_one_with_the_gradient_of_the_logarithm():
    x = jnp.array([0.0, 0.25, 3.0])
    np.testing.assert_array_equal(relax.weight(x), np.ones(3))
    np.testing.assert_allclose(jax.grad(lambda x: relax.weight(x).sum())(x), [0, 4, 1 / 3], rtol=1e-6)


def test_roundings_keep_the_hard_value_and_the_smooth_gradient():
    x = jnp.array([0.2, 1.7, -2.6])
    np.testing.assert_array_equal(relax.round_through(x), [0, 2, -3])
    np.testing.assert_array_equal(jax.grad(lambda x: relax.round_through(x).sum())(x), np.ones(3))
    value, tangent = jax.jvp(lambda p: relax.bernoulli(jnp.array([0.1, 0.6]), p), (0.4,), (1.0,))
    np.testing.assert_array_equal(value, [1, 0])
    np.testing.assert_allclose(tangent, [0.5 / 0.4, 0.5 / 0.6], rtol=1e-6)


@pytest.mark.parametrize(("mean", "std"), [(25.0, 6.0), (40.3, 2.5), (1e3, 37.0)])
def test_rounded_normal_has_the_moments_it_was_asked_for(mean, std):
    z = jnp.asarray(stats.norm.ppf(GRID), jnp.float32)
    k = np.asarray(relax.rounded_normal(z, mean, std), np.float64)
    assert np.array_equal(k, np.round(k))
    assert k.mean() == pytest.approx(mean, rel=1e-3)
    assert k.std() == pytest.approx(std, rel=1e-3)
    by_mean, by_std = jax.grad(lambda m, s: relax.rounded_normal(z, m, s).mean(), argnums=(0, 1))(mean, std)
    assert by_mean == pytest.approx(1, abs=1e-3)
    assert by_std == pytest.approx(0, abs=1e-3)


def test_safe_sqrt_has_no_infinite_gradient():
    assert relax.safe_sqrt(jnp.float32(-1)) == 0
    assert jax.grad(relax.safe_sqrt)(0.0) == 0
    assert jax.grad(relax.safe_sqrt)(4.0) == pytest.approx(0.25)


def test_binomial_log_pmf_is_scipys():
    k = jnp.arange(0.0, 31.0)
    ours = relax.binomial_log_pmf(k, jnp.float32(4000), jnp.float32(0.003))
    np.testing.assert_allclose(ours, stats.binom.logpmf(k, 4000, np.float32(0.003).astype(float)), atol=5e-3)
    small = relax.binomial_log_pmf(jnp.arange(0.0, 9.0), jnp.float32(8), jnp.float32(0.25))
    np.testing.assert_allclose(small, stats.binom.logpmf(np.arange(9), 8, 0.25), atol=5e-3)
    assert relax.binomial_log_pmf(jnp.float32(9), jnp.float32(8), jnp.float32(0.25)) == -np.inf


def test_everything_runs_in_double_precision(x64):
    u = jnp.asarray(GRID[::64])
    for k in (relax.binomial(u, 1000.0, 0.01), relax.poisson(u, 30.0), relax.rounded_normal(u, 9.0, 2.0)):
        assert k.dtype == jnp.float64
    exact = relax.poisson(u, 3.7)
    np.testing.assert_array_equal(exact, stats.poisson.ppf(GRID[::64], 3.7))
