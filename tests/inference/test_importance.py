"""Importance sampling against laws whose evidence, efficiency and tails are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from inference.sampling.importance import LARGEST_K, fit_pareto, refine, smooth, weigh

pytestmark = pytest.mark.quick_compile

N = 4000
LOG_EVIDENCE = 1.7


def normal(scale=1.0, shift=0.0):
    """Sampler and log-density of a round normal in two dimensions."""
    law = jax.scipy.stats.norm

    def sample(key, n):
        return shift + scale * jax.random.normal(key, (n, 2))

    return sample, lambda rows: jnp.sum(law.logpdf(rows, shift, scale), axis=1)


def target(rows):
    return normal()[1](rows) + LOG_EVIDENCE


@jax.jit
def many(keys):
    return jax.vmap(lambda key: refine(key, *normal(1.3), target, N))(keys)


def test_evidence_and_its_error():
    """Mean and spread of 200 runs: 4 and 3.9 standard errors, false-positive rate 1e-4 each."""
    runs = many(jax.random.split(jax.random.key(0), 200))
    pulls = np.asarray((runs.log_evidence - LOG_EVIDENCE) / runs.log_evidence_error)
    assert abs(pulls.mean()) < 4 / np.sqrt(200)
    assert abs(pulls.std() - 1) < 3.9 / np.sqrt(400)
    # efficiency of a wider normal: (2 - 1/s^2) / s^2 under the root, a dimension
    assert np.asarray(runs.efficiency).mean() == pytest.approx((2 - 1 / 1.69) / 1.69, abs=0.01)
    assert np.all(runs.pareto_k < 0.5)


def test_a_wrong_evidence_is_refused():
    """Must fail: off by 0.02, where a run's error is 0.007."""
    runs = many(jax.random.split(jax.random.key(0), 200))
    pulls = np.asarray((runs.log_evidence - LOG_EVIDENCE - 0.02) / runs.log_evidence_error)
    assert abs(pulls.mean()) > 4 / np.sqrt(200)


def test_moments_come_out_right_and_those_of_the_proposal_do_not():
    found = refine(jax.random.key(1), *normal(1.3, 0.2), target, N)
    np.testing.assert_allclose(found.mean(), 0, atol=0.08)  # 4 standard errors
    np.testing.assert_allclose(found.std(), 1, atol=0.06)
    again = found.resample(jax.random.key(2), 2000)
    np.testing.assert_allclose(again.std(axis=0), 1, atol=0.08)
    assert np.all(np.abs(found.draws.std(axis=0) - 1) > 0.2)


@pytest.mark.parametrize(("scale", "k"), [(0.5, 0.75), (0.8, 0.36), (1.0, -np.inf)])
def test_k_where_the_proposal_is_too_narrow(scale, k):
    """In two dimensions weights follow a Pareto law of k = 1 - scale^2, which the fit draws towards 1/2.

    100 runs of 190 tail weights each: 4 standard errors of (1 + k) / sqrt(190 x 100), and 0.02.
    """
    keys = jax.random.split(jax.random.key(3), 100)
    found = jax.jit(jax.vmap(lambda key: refine(key, *normal(scale), target, N).pareto_k))(keys)
    drawn = (k * 190 + 5) / 200
    assert np.mean(found) == (drawn if k == -np.inf else pytest.approx(drawn, abs=0.07))


def test_k_alarms_where_the_proposal_misses():
    assert float(refine(jax.random.key(3), *normal(0.25, 3.0), target, N).pareto_k) > LARGEST_K


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.8])
def test_fitted_tail(k):
    """Against 40 known samples of 300; the fit is drawn to 1/2 by 10 in 310 points: 0.03 at most."""
    rows = stats.genpareto.rvs(k, scale=2.0, size=(40, 300), random_state=4)
    law = jax.vmap(fit_pareto)(jnp.sort(jnp.asarray(rows, jnp.float32), axis=1))
    drawn = (k * 300 + 0.5 * 10) / 310
    assert np.mean(law.k) == pytest.approx(drawn, abs=4 * (1 + abs(k)) / np.sqrt(300 * 40) + 0.01)
    assert np.mean(law.scale) == pytest.approx(2.0, rel=0.1)


def test_smoothing_keeps_order_and_tames_the_largest():
    raw = jnp.asarray(stats.genpareto.rvs(0.9, size=1000, random_state=5), jnp.float32)
    found = smooth(jnp.log(raw))
    assert float(jnp.sum(jnp.exp(found.log_weights))) == pytest.approx(1, abs=1e-5)
    order = np.argsort(raw)
    assert np.all(np.diff(np.asarray(found.log_weights)[order]) >= -1e-5)
    assert float(jnp.max(jnp.exp(found.log_weights))) <= float(jnp.max(raw) / jnp.sum(raw)) * 1.3
    equal = smooth(jnp.zeros(100))
    np.testing.assert_allclose(equal.log_weights, -np.log(100), rtol=1e-5)
    assert float(equal.pareto_k) == -np.inf


def test_no_mass_and_no_numbers_are_counted():
    rows, log_proposal = jnp.zeros((100, 2)), jnp.zeros(100)
    nothing = weigh(rows, log_proposal, jnp.full(100, -jnp.inf))
    assert float(nothing.efficiency) == 0
    assert float(nothing.pareto_k) == np.inf
    assert float(nothing.log_evidence) == -np.inf
    some = weigh(rows, log_proposal, jnp.where(jnp.arange(100) < 7, jnp.nan, 0.0))
    assert int(some.n_invalid) == 7
    assert float(some.efficiency) == pytest.approx(0.93)
    assert float(some.log_evidence) == pytest.approx(np.log(0.93), abs=1e-5)
    with pytest.raises(ValueError, match="10 draws: Pareto smoothing needs 25 at least"):
        smooth(jnp.zeros(10))
