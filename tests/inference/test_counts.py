"""The binomial probabilities that the band sums over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from inference.likelihood.counts import binomial_log_pmf


@pytest.mark.parametrize(
    ("n", "within"), [(0, 1e-7), (1, 1e-6), (2, 1e-3), (3, 2e-4), (5, 3e-5), (30, 2e-6), (1000, 5e-5)]
)
def test_probabilities(n, within):
    k = np.arange(120)
    ours = np.exp(
        np.asarray(binomial_log_pmf(jnp.asarray(k, jnp.float32), jnp.float32(n), jnp.float32(0.11)))
    )
    assert np.abs(ours - stats.binom.pmf(k, n, 0.11)).sum() < within


def test_gradients():
    by_n, by_p = jax.grad(binomial_log_pmf, argnums=(1, 2))(
        jnp.float32(50), jnp.float32(400), jnp.float32(0.11)
    )
    expected = special.digamma(401) - special.digamma(351) + np.log(0.89)
    np.testing.assert_allclose(by_n, expected, rtol=1e-4)
    np.testing.assert_allclose(by_p, 50 / 0.11 - 350 / 0.89, rtol=1e-4)


def test_gradient_is_finite_at_the_edges():
    n = jnp.arange(4.0)
    total = jax.grad(
        lambda n: jnp.sum(jnp.exp(binomial_log_pmf(jnp.arange(6.0)[:, None], n, jnp.full(4, 0.2))))
    )(n)
    assert np.all(np.isfinite(total))
