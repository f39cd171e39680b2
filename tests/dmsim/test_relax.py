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

draw_binomial = jax.jit(relax.binomial)
draw_poisson = jax.jit(relax.poisson)


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
    # a summed float32 CDF may end under the largest uniform (k = 40 for a mean of 0.1); one in 1e7 draws
    means = np.geomspace(1e-4, 11.9, 500).astype(np.float32)
    for u in ((2.0**23 - 0.5) * 2.0**-23, 2.0**-24):
        same = jnp.full(500, u, jnp.float32)
        expected = stats.poisson.ppf(u, means.astype(float))
        assert np.abs(draw_poisson(same, means) - expected).max() <= 4
        assert np.abs(draw_binomial(same, jnp.full(500, 3e4), means / 3e4) - expected).max() <= 4


U_FEW = jnp.asarray(GRID[:: N // 32][:32] + 0.01, jnp.float32)


def test_limits():
    def binomial(n, p):
        return draw_binomial(U_FEW, n, p)

    np.testing.assert_array_equal(binomial(17.0, 0.0), np.zeros(32))
    np.testing.assert_array_equal(binomial(17.0, 1.0), np.full(32, 17.0))
    np.testing.assert_array_equal(binomial(17.0, 1.5), np.full(32, 17.0))
    np.testing.assert_array_equal(binomial(0.0, 0.3), np.zeros(32))
    np.testing.assert_array_equal(binomial(1e6, 0.0), np.zeros(32))
    np.testing.assert_array_equal(draw_poisson(U_FEW, 0.0), np.zeros(32))
    np.testing.assert_array_equal(draw_poisson(U_FEW, -1.0), np.zeros(32))


@jax.jit
def tangents(n, p):
    """The counts, and their tangents in n and p; the same of poisson in its mean n."""
    k, by_n = jax.jvp(lambda n: relax.binomial(U_FEW, n, p), (n,), (1.0,))
    _, by_p = jax.jvp(lambda p: relax.binomial(U_FEW, n, p), (p,), (1.0,))
    return (k, by_n, by_p), jax.jvp(lambda m: relax.poisson(U_FEW, m), (n,), (1.0,))


@pytest.mark.parametrize(("n", "p"), [(0.0, 0.3), (17.0, 0.0), (17.0, 1.0), (1.0, 0.5), (1e6, 0.4)])
def test_gradients_are_finite_at_the_limits(n, p):
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(tangents(n, p)))


@pytest.mark.parametrize(("n", "p"), [(50.0, 0.3), (9.0, 0.9), (4000.0, 0.2)])
def test_tangents_are_the_matched_normals(n, p):
    (k, by_n, by_p), (counts, by_mean) = tangents(n, p)
    np.testing.assert_allclose(by_p, n + (k - n * p) * (1 - 2 * p) / (2 * p * (1 - p)), rtol=1e-4)
    np.testing.assert_allclose(by_n, p + (k - n * p) / (2 * n), rtol=1e-4)
    np.testing.assert_allclose(by_mean, 1 + (counts - n) / (2 * n), rtol=1e-4)


def binomial_moments(p, n):
    k = relax.binomial(U[::8], n, p)
    return jnp.stack([k.mean(), ((k - n * jax.lax.stop_gradient(p)) ** 2).mean()])


def poisson_moments(mean):
    k = relax.poisson(U[::8], mean)
    return jnp.stack([k.mean(), ((k - jax.lax.stop_gradient(mean)) ** 2).mean()])


REVERSE = jax.jit(jax.jacrev(binomial_moments)), jax.jit(jax.jacrev(poisson_moments))
FORWARD = jax.jit(jax.jacfwd(binomial_moments)), jax.jit(jax.jacfwd(poisson_moments))


@pytest.mark.parametrize("derive", [REVERSE, FORWARD], ids=["reverse", "forward"])
def test_mean_gradients_are_those_of_the_moments(derive):
    for n, p in [(20.0, 0.4), (1000.0, 0.01), (3000.0, 0.12), (100.0, 0.9)]:
        expected = [n, n * (1 - 2 * p)]  # d(np)/dp, d(np(1 - p))/dp
        np.testing.assert_allclose(derive[0](p, n), expected, rtol=3e-3)
    for mean in (0.5, 8.0, 40.0):
        np.testing.assert_allclose(derive[1](mean), [1.0, 1.0], rtol=3e-3)


def test_the_mean_gradient_is_not_that_of_the_mean_alone():
    # the twin: with the tangent of the mean, dk = n dp, the variance's derivative is 0 on average
    n, p = 1000.0, 0.01
    k = np.asarray(draw_binomial(U, n, p), np.float64)
    assert abs((2 * (k - n * p) * n).mean()) < 0.1 * n * (1 - 2 * p)


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


def test_bernoulli_tangent_is_the_matched_normals():
    value, tangent = jax.jvp(lambda p: relax.bernoulli(jnp.array([0.1, 0.6]), p), (0.4,), (1.0,))
    np.testing.assert_array_equal(value, [1, 0])
    np.testing.assert_allclose(tangent, [0.5 / 0.4, 0.5 / 0.6], rtol=1e-6)  # mean 1, as dp/dp


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


def test_everything_runs_in_double_precision(x64):
    u = jnp.asarray(GRID[::64])
    for k in (relax.binomial(u, 1000.0, 0.01), relax.poisson(u, 30.0), relax.rounded_normal(u, 9.0, 2.0)):
        assert k.dtype == jnp.float64
    exact = relax.poisson(u, 3.7)
    np.testing.assert_array_equal(exact, stats.poisson.ppf(GRID[::64], 3.7))
