"""Training: goes on bit for bit, compiles once, averages, and says so when it diverges."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import inference
from inference import flows, priors
from inference.estimators import Cached, checkpoints, training
from inference.estimators.budget import Schedule
from inference.estimators.networks import AbstractNetwork, Scaling

PRIOR = priors.Prior(
    priors.Scalar("a", "mm", dist.Normal(0.0, 1.0)), priors.Scalar("b", "", dist.Uniform(-3.0, 3.0))
)
NPE = inference.NPE(PRIOR, flow=flows.Coupling(n_layers=1, width=8, n_blocks=1, n_bins=4))
FRESH = inference.Budget(4 * 64 * 5, batch_size=64, n_validation=64, epoch_steps=5)
FIXED = inference.Budget(640, n_passes=3, batch_size=64, n_validation=64)


def observe(key, theta):
    return theta + 0.5 * jax.random.normal(key, theta.shape)


SIMULATE = priors.joint(PRIOR, observe)


def weights(fit):
    return np.asarray(training.weights_of(fit.posterior.network)[0])


@pytest.mark.parametrize("budget", [FRESH, FIXED], ids=["fresh", "fixed"])
def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path, budget):
    whole = NPE.fit(jax.random.key(0), SIMULATE, budget)
    file = tmp_path / "training.npz"

    def stop(history):
        if len(history.steps) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        NPE.fit(jax.random.key(0), SIMULATE, budget, checkpoint=file, after_epoch=stop)
    seen = []
    gone_on = NPE.fit(
        jax.random.key(0), SIMULATE, budget, checkpoint=file, after_epoch=lambda h: seen.append(len(h.steps))
    )
    assert seen[0] == 3
    np.testing.assert_array_equal(weights(gone_on), weights(whole))
    assert gone_on.history.training == whole.history.training
    # must-fail twin: another key gives other weights, and the file is refused for it
    assert not np.array_equal(weights(NPE.fit(jax.random.key(1), SIMULATE, budget)), weights(whole))
    with pytest.raises(ValueError, match="is of another training: key"):
        NPE.fit(jax.random.key(1), SIMULATE, budget, checkpoint=file)


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    """Its identity is the same, but the state that it keeps is not."""
    network = Drawn(jnp.zeros(()))
    state, history = training.start(jax.random.key(0), network, FIXED), training.History()
    file = checkpoints.Checkpoint(tmp_path / "training.npz", {"key": [0]})
    file.write(state, history)
    found, _ = file.read(state, history)
    np.testing.assert_array_equal(found.weights, state.weights)
    arrays, stated = checkpoints.read_archive(file.path)
    arrays.pop("state.1")
    checkpoints.write_archive(file.path, arrays, stated)
    with pytest.raises(ValueError, match="holds another state than this version keeps: remove it"):
        file.read(state, history)


def test_a_checkpoint_with_other_weights_is_refused(tmp_path):
    def fit(weight):
        cached = Cached(theta, x, weight=np.full(640, weight, np.float32))
        NPE.fit(jax.random.key(0), cached, FIXED, checkpoint=tmp_path / "training.npz")

    theta, x = map(np.asarray, SIMULATE(jax.random.key(0), 640))
    fit(1.0)
    with pytest.raises(ValueError, match="is of another training: data"):
        fit(2.0)


def test_a_second_fit_compiles_nothing():
    NPE.fit(jax.random.key(0), SIMULATE, FRESH)
    before = training.epoch_of_simulations._cached._cache_size()
    other = inference.Budget(**{**vars(FRESH), "peak_rate": 3e-3, "n_simulations": 8 * 64 * 5})
    NPE.fit(jax.random.key(1), SIMULATE, other)
    assert training.epoch_of_simulations._cached._cache_size() == before


@pytest.mark.parametrize("flow", [NPE.flow, flows.Autoregressive(n_layers=1, width=8, depth=1)])
def test_networks_of_one_description_share_their_functions(flow):
    from inference.estimators.data import Layout

    npe = inference.NPE(PRIOR, flow=flow)
    layout = Layout((("", (2,)),))
    count = 0

    def traced(network):
        nonlocal count
        count += 1
        return training.weights_of(network)[0].sum()

    import equinox as eqx

    compiled = eqx.filter_jit(traced)
    one, other = (float(compiled(npe.untrained(jax.random.key(i), layout))) for i in (0, 1))
    assert count == 1
    assert one != other


def test_schedule_rises_and_falls():
    schedule = Schedule(*(jnp.asarray(float(v)) for v in (1e-3, 10, 100, 0.99, 0.0)))
    rates = np.asarray(jax.vmap(schedule.rate)(jnp.arange(100)))
    assert np.all(np.diff(rates[:9]) > 0)
    assert np.all(np.diff(rates[11:]) < 0)
    assert rates.max() == pytest.approx(1e-3, rel=1e-3)
    assert rates[-1] < 1e-6


class Spoiled(AbstractNetwork):
    """Its loss is fine until its only weight has moved."""

    weight: jax.Array

    def loss(self, key, u, kind, x):
        return jnp.where(self.weight < 1.0, jnp.nan, self.weight * jnp.ones(u.shape[0]))


class Drawn(AbstractNetwork):
    """Its only weight goes to the mean of x."""

    weight: jax.Array

    def loss(self, key, u, kind, x):
        return (self.weight - x[:, 0]) ** 2


def test_patience_keeps_the_weights_of_the_lowest_loss():
    def data(value):
        return training.Data(jnp.zeros((640, 2)), jnp.zeros(640, jnp.int32), jnp.full((640, 2), value))

    # the weight passes the validation's 0.03 on its way to the training's 1
    budget = inference.Budget(**{**vars(FIXED), "n_passes": 40, "patience": 3, "peak_rate": 1e-3})
    trainer = training.Trainer(Drawn(jnp.zeros(())), budget, PRIOR, data(1.0), data(0.03))
    history = training.History()
    state = training.start(jax.random.key(0), trainer.network, budget)
    state = trainer.run(state, history, after_epoch=lambda *_: None)
    lowest = int(np.argmin(history.validation))
    assert len(history.steps) == lowest + 4 < 40
    kept = trainer.trained(state)
    assert kept.weight != state.averaged[0]
    assert float(training.validation_loss(kept, jax.random.key(0), data(0.03))) == pytest.approx(
        min(history.validation)
    )


class Offset(Drawn):
    """Its loss lacks a constant, and the prior's Jacobian, to be a log density."""

    def offset(self, u):
        return jnp.ones(u.shape[0])


def test_the_scale_of_weights_is_not_in_the_reported_loss():
    key = jax.random.key(0)
    x, u = jax.random.normal(key, (640, 2)), jax.random.normal(jax.random.key(1), (640, 2))
    share = 0.5 + jax.random.uniform(jax.random.key(2), (640,))

    def reported(weight):
        data = training.Data(u, jnp.zeros(640, jnp.int32), x, weight=weight)
        trainer = training.Trainer(Offset(jnp.zeros(())), FIXED, PRIOR, data._replace(weight=None), data)
        history = training.History()
        trainer.run(training.start(key, trainer.network, FIXED), history, after_epoch=lambda *_: None)
        return history.validation

    assert reported(3.0 * jnp.ones(640)) == pytest.approx(reported(None), abs=1e-5)
    assert reported(3.0 * share) == pytest.approx(reported(share), abs=1e-5)
    # must-fail twin: weights that differ do enter
    assert reported(share) != pytest.approx(reported(None), abs=1e-3)


class Scaled(Drawn):
    """With numbers beside its weight that are never trained."""

    scaling: Scaling

    def loss(self, key, u, kind, x):
        return super().loss(key, u, kind, self.scaling(x))


def test_decay_pulls_weights_but_no_scalings():
    def trained(decay):
        data = training.Data(jnp.zeros((640, 2)), jnp.zeros(640, jnp.int32), jnp.full((640, 2), 3.0))
        budget = inference.Budget(**{**vars(FIXED), "n_passes": 40, "weight_decay": decay, "peak_rate": 0.05})
        scaling = Scaling(jnp.ones(2), jnp.full(2, 4.0))
        trainer = training.Trainer(Scaled(jnp.zeros(()), scaling), budget, PRIOR, data, data)
        state = training.start(jax.random.key(0), trainer.network, budget)
        for _ in range(trainer.n_epochs):
            state, _ = trainer.epoch(state)
        network = trainer.trained(state)
        np.testing.assert_array_equal(network.scaling.scale, scaling.scale)
        np.testing.assert_array_equal(network.scaling.shift, scaling.shift)
        return float(network.weight)

    assert trained(0.0) == pytest.approx(0.5, abs=0.02)
    assert trained(3.0) < 0.45


def test_diverging_training_is_one_clear_line():
    data = training.Data(jnp.zeros((640, 2)), jnp.zeros(640, jnp.int32), jnp.zeros((640, 2)))
    network = Spoiled(jnp.ones(()))
    trainer = training.Trainer(network, FIXED, PRIOR, data, data)
    with pytest.raises(
        ValueError, match=r"training diverged: the loss is nan at step 1 \(it was 1 the step before\)"
    ):
        trainer.epoch(training.start(jax.random.key(0), network, FIXED))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_simulations": 100}, "n_simulations is 100: it must be at least two batches of 64"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"peak_rate": -1.0}, "peak_rate is -1.0: it must lie between 0 and 1"),
        ({"averaging": 1.0}, "averaging is 1.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0: it must be 0 or more"),
        ({"patience": 0}, "patience is 0: it must be at least 1, or None"),
    ],
)
def test_impossible_budgets_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        inference.Budget(**{**vars(FRESH), **change})
