"""The joint-score term: its gradient, its optimum, and what it refuses."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import inference
from inference import flows, priors
from inference.estimators import joint_score, training
from inference.estimators.data import Layout

PRIOR = priors.Prior(
    priors.Scalar("a", "", dist.Normal(0.0, 1.0)), priors.Scalar("b", "", dist.Uniform(-3.0, 3.0))
)
WIDTH = 0.5


def simulate(key, n):
    """A latent of width 0.3 around theta, the data of width 0.4 around it: 0.5 in all."""
    key_theta, key_z, key_x = jax.random.split(key, 3)
    theta = PRIOR.sample(key_theta, n)
    z = theta + 0.3 * jax.random.normal(key_z, theta.shape)
    return theta, z + 0.4 * jax.random.normal(key_x, theta.shape), (z - theta) / 0.3**2


@pytest.mark.quick_compile
def test_target_is_the_gradient_of_the_joint_density():
    theta, x, score = simulate(jax.random.key(0), 200)
    u = PRIOR.to_unbounded(theta)
    z = theta + 0.3**2 * score

    def log_joint(u):
        theta = PRIOR.to_physical(u)
        prior = dist.Normal(0.0, 1.0).log_prob(theta[0]) + PRIOR.log_jacobian(u)
        return lambda z: prior - jnp.sum((z - theta) ** 2) / (2 * 0.3**2)

    def by_hand(u, z):
        return jax.grad(lambda u: log_joint(u)(z))(u)

    found = joint_score.target(PRIOR, theta, u, score)
    np.testing.assert_allclose(found, jax.vmap(by_hand)(u, z), rtol=1e-3, atol=1e-3)


def network(key):
    return inference.NPE(PRIOR, flow=flows.Coupling(n_layers=1, width=6, n_blocks=1, n_bins=4)).untrained(
        key, Layout((("", (2,)),))
    )


@pytest.mark.quick_compile
def test_gradient_of_the_term_by_finite_differences():
    with jax.enable_x64(True):
        net = network(jax.random.key(1))
        batch = training.prepare(PRIOR, *simulate(jax.random.key(2), 16))
        flat, build = training.weights_of(net)
        # away from the identity, where many derivatives vanish
        flat = flat + 0.2 * jax.random.normal(jax.random.key(3), flat.shape)

        def term(flat):
            return jnp.mean(joint_score.losses(build(flat), jax.random.key(0), batch, jnp.ones(2))[1])

        # scalings are among the weights, but not trained
        trained = jax.tree.map(lambda part: jnp.ones_like(part) if eqx.is_inexact_array(part) else part, net)
        for name in ("u_scaling", "x_scaling"):
            none = jax.tree.map(jnp.zeros_like, getattr(net, name))
            trained = eqx.tree_at(lambda net, name=name: getattr(net, name), trained, none)
        way = training.weights_of(trained)[0] * jax.random.normal(jax.random.key(4), flat.shape)
        compiled, step = jax.jit(term), 1e-6
        slope = (compiled(flat + step * way) - compiled(flat - step * way)) / (2 * step)
        assert flat.dtype == jnp.float64
        np.testing.assert_allclose(jnp.vdot(jax.jit(jax.grad(term))(flat), way), slope, rtol=1e-5)


class Gaussian(eqx.Module):
    """Normal in u, mean and log width straight lines of x: holds the posterior of a normal prior exactly."""

    slope: jax.Array
    log_width: jax.Array

    def loss(self, key, u, kind, x):
        del key, kind
        residual = (u - self.slope * x) / jnp.exp(self.log_width)
        return jnp.sum(0.5 * residual**2 + self.log_width, axis=-1)


def optimum(sign):
    """Slope and width that the term alone finds, by Newton's method on 20,000 events; the prior's score
    enters with a sign."""
    prior = priors.Prior(priors.Scalar("a", "", dist.Normal(0.0, 1.0)))
    key_theta, key_z, key_x = jax.random.split(jax.random.key(5), 3)
    theta = prior.sample(key_theta, 20_000)
    z = theta + 0.3 * jax.random.normal(key_z, theta.shape)
    x = z + 0.4 * jax.random.normal(key_x, theta.shape)
    batch = training.prepare(prior, theta, x, (z - theta) / 0.3**2)
    # u is theta for a standard normal: the prior's score is -theta
    batch = batch._replace(score=batch.score + (1 - sign) * theta)

    def term(flat):
        net = Gaussian(flat[0], flat[1])
        return jnp.mean(joint_score.losses(net, jax.random.key(0), batch, jnp.ones(1))[1])

    @jax.jit
    def newton(flat):
        return flat - jnp.linalg.solve(jax.hessian(term)(flat), jax.grad(term)(flat))

    flat = jnp.array([0.8, np.log(WIDTH)])
    for _ in range(10):
        flat = newton(flat)
    return np.array([flat[0], np.exp(flat[1])])


# posterior of a normal prior of width 1 and data of width 0.5: slope 1 / 1.25, width sqrt(0.2)
EXACT = np.array([0.8, np.sqrt(0.2)])


@pytest.mark.quick_compile
def test_optimum_is_the_exact_posterior():
    # the term's gradient has a spread of some 4 of its own, so slope and width have standard errors of about
    # 0.006 on 20,000 events: false positives below 1e-4
    np.testing.assert_allclose(optimum(1), EXACT, atol=0.025)


@pytest.mark.quick_compile
def test_wrong_sign_of_the_priors_score_is_seen():
    # precision 4 - 1 in place of 4 + 1
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(optimum(-1), EXACT, atol=0.025)


@pytest.mark.quick_compile
def test_what_is_refused():
    npe = inference.NPE(PRIOR, flow=flows.Coupling(n_layers=1, width=6, n_blocks=1, n_bins=4))
    budget = inference.Budget(400, batch_size=100, n_validation=100, joint_score=0.1)
    with pytest.raises(ValueError, match="the simulator gives no score"):
        npe.fit(jax.random.key(0), lambda key, n: simulate(key, n)[:2], budget)
    with pytest.raises(ValueError, match=r"score has shape .*: it must be .*an entry a continuous parameter"):
        npe.fit(jax.random.key(0), lambda key, n: (*simulate(key, n)[:2], jnp.zeros((n, 3))), budget)
    with pytest.raises(ValueError, match="joint_score needs an estimator"):
        inference.NLE(PRIOR, flow=npe.flow).fit(jax.random.key(0), simulate, budget)
    with pytest.raises(ValueError, match="joint_score is -1"):
        inference.Budget(400, batch_size=100, joint_score=-1.0)


@pytest.mark.quick_compile
def test_a_fit_with_the_term():
    npe = inference.NPE(PRIOR, flow=flows.Coupling(n_layers=1, width=6, n_blocks=1, n_bins=4))
    budget = inference.Budget(
        800, batch_size=100, n_validation=100, n_passes=2, peak_rate=5e-3, joint_score=0.1
    )
    fit = npe.fit(jax.random.key(0), simulate, budget)
    assert np.isfinite(fit.history.validation).all()
    # the reported loss is the density's alone; the training's holds the term
    assert fit.history.training[0] > fit.history.validation[0]
