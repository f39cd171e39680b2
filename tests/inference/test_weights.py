"""Weights of simulated events: theta from a proposal, and still the prior's posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import inference
from inference import flows, priors
from inference.estimators import Cached

pytestmark = pytest.mark.quick_compile
PRIOR = priors.Prior(
    priors.Scalar("a", "mm", dist.Normal(0.0, 1.0)), priors.Scalar("b", "mm", dist.Normal(0.0, 1.0))
)
NPE = inference.NPE(PRIOR, flow=flows.Coupling(n_layers=1, width=8, n_blocks=1, n_bins=4))
BUDGET = inference.Budget(8192, n_passes=6, batch_size=256, n_validation=512, peak_rate=1e-2)
X = np.zeros((1, 2), np.float32)


def drawn(*, weighted: bool) -> Cached:
    """x = theta + a unit normal; half of the a are drawn about 1.5, not about 0."""
    keys = jax.random.split(jax.random.key(0), 3)
    n = BUDGET.n_simulations
    at = jnp.where(jax.random.bernoulli(keys[2], 0.5, (n,)), 1.5, 0.0)
    theta = jax.random.normal(keys[0], (n, 2)).at[:, 0].add(at)
    a = theta[:, 0]
    # prior over an even mixture of the prior and of a normal about 1.5
    weight = 2 / (1 + jnp.exp(-0.5 * ((a - 1.5) ** 2 - a**2)))
    x = theta + jax.random.normal(keys[1], (n, 2))
    return Cached(*map(np.asarray, (theta, x)), weight=np.asarray(weight if weighted else jnp.ones(n)))


def mean_of_a(cached: Cached) -> float:
    post = NPE.fit(jax.random.key(1), cached, BUDGET).posterior
    return float(np.mean(post.sample(jax.random.key(2), X, 4000)[0, :, 0]))


def test_weights_undo_the_proposal():
    """The posterior at x = 0 is a normal about 0 of width 0.7; 8,000 events find its mean to some 0.02."""
    assert abs(mean_of_a(drawn(weighted=True))) < 0.1
    # must-fail twin: without weights the posterior is the proposal's, half of it about 0.75, less likely at 0
    assert mean_of_a(drawn(weighted=False)) > 0.15


def test_bad_weights_are_refused():
    cached = drawn(weighted=True)
    wrong = Cached(cached.theta, cached.x, weight=-cached.weight)
    with pytest.raises(ValueError, match="weight has shape .* finite values above 0"):
        NPE.fit(jax.random.key(0), wrong, BUDGET)
    with pytest.raises(ValueError, match="weights need an estimator that is trained by the density"):
        inference.NLE(PRIOR).fit(jax.random.key(0), cached, BUDGET)
