"""NUTS and the quadratic stand-in on laws that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference.sampling.nuts import sample
from inference.sampling.surrogate import Linearised, expand

COVARIANCE = np.array([[1.0, 0.9], [0.9, 2.0]])


@pytest.fixture(scope="module")
def chains():
    precision = jnp.asarray(np.linalg.inv(COVARIANCE), jnp.float32)
    return sample(
        jax.random.key(0),
        lambda v: -0.5 * (v - 1) @ precision @ (v - 1),
        jnp.ones(2),
        directions=jnp.asarray(np.linalg.cholesky(COVARIANCE), jnp.float32),
    )


def consistent(chains, mean):
    """|mean - expected| under 4.9 standard errors: false-positive rate 2e-6 with two parameters."""
    error = np.sqrt(np.diag(COVARIANCE) / chains.effective_size)
    return bool(np.all(np.abs(chains.flat.mean(axis=0) - mean) < 4.9 * error))


def test_known_normal(chains):
    assert consistent(chains, 1.0)
    assert not consistent(chains, 1.25)  # must fail: a quarter of a standard deviation off
    np.testing.assert_allclose(np.cov(chains.flat.T), COVARIANCE, rtol=0.2)
    assert chains.trouble() == []


def test_trouble_is_named():
    few = sample(jax.random.key(1), lambda v: -0.5 * jnp.sum(v**2), jnp.zeros(1), n_warmup=20, n_samples=10)
    assert any("effective sample size" in line for line in few.trouble())


def test_expansion_of_a_quadratic_is_exact():
    bend = jax.random.normal(jax.random.key(2), (5, 3, 3))

    def predict(v):
        return jnp.arange(5.0) + jnp.einsum("oij,i,j->o", bend, v, v) + v[0]

    model = Linearised(predict)
    stand_in = expand(
        model, jnp.array([0.3, -0.2, 0.1]), jnp.array([[0.5, 0.1, 0], [0, 0.4, 0.2], [0, 0, 1.0]])
    )
    far = jnp.array([2.0, 1.0, -1.5])
    np.testing.assert_allclose(stand_in(far), predict(far), rtol=1e-4, atol=1e-4)


def test_expansion_of_a_cubic_is_not():
    stand_in = expand(Linearised(lambda v: v**3), jnp.zeros(1), jnp.eye(1) * 0.1)
    assert abs(float(stand_in(jnp.ones(1))[0]) - 1.0) > 0.5
