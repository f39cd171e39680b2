"""Training: one compiled epoch, a schedule with averaged weights, and a bit-exact way to go on.

Weights are one flat vector, so that Adam, clipping and averaging are a few operations instead of a few for
each array. The loss takes them as arrays, cut from the vector once a step: cut inside the loss, every kernel
that reads a weight would hold its cut, which took 16 instead of 6 CPU-s to compile. The epoch is compiled
once for each architecture, batch and epoch length; rates and lengths of a schedule are arguments, so that
another seed, another rate or another fit of equal shapes compiles nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from inference.estimators import joint_score
from inference.estimators.budget import Budget, Schedule
from inference.estimators.data import Simulate
from inference.estimators.networks import AbstractNetwork
from inference.priors import Prior


class Data(NamedTuple):
    """A batch or a set as networks take it."""

    u: Float[Array, "event unbounded"]
    kind: Int[Array, "event"]
    x: Any
    score: Float[Array, "event unbounded"] | None = None  # gradient in u that a posterior's is to match
    weight: Float[Array, "event"] | None = None  # in the loss

    def mean(self, loss: Float[Array, "event"]) -> Float[Array, ""]:
        """Of weight times loss: what a step lowers, as unbiased on few events as on many."""
        return jnp.mean(loss if self.weight is None else self.weight * loss)

    def average(self, value: Float[Array, "event"]) -> Float[Array, ""]:
        """Over the events with weights as shares, so that their scale does not matter: what is reported."""
        return jnp.average(value, weights=self.weight)


class State(NamedTuple):
    """All that a training goes on from."""

    weights: Float[Array, "weight"]
    averaged: Float[Array, "weight"]
    optimiser: optax.OptState
    step: Int[Array, ""]
    key: PRNGKeyArray
    best: Float[Array, "weight"]  # averaged ones at the lowest validation loss


@dataclass
class History:
    """What a training saw, an entry an epoch; losses in nats an event, weighted where events have weights.

    The training loss is a mean of weight times loss, in nats for weights of mean 1; the validation loss is
    over the sum of the weights.
    """

    steps: list[int] = field(default_factory=list)
    training: list[float] = field(default_factory=list)  # mean over the epoch, with the score's term
    validation: list[float] = field(default_factory=list)  # averaged weights, at the epoch's end
    seconds: list[float] = field(default_factory=list)  # wall time since the start, without what was resumed


def prepare(
    prior: Prior, theta: Float[Array, "event parameter"], x: Any, score: Any = None, weight: Any = None
) -> Data:
    """A simulated batch as networks take it."""
    kind = theta[:, -1].astype(jnp.int32) if prior.category else jnp.zeros(theta.shape[0], jnp.int32)
    u = prior.to_unbounded(theta)
    return Data(u, kind, x, None if score is None else joint_score.target(prior, theta, u, score), weight)


def weights_of(network: AbstractNetwork) -> tuple[Float[Array, "weight"], Callable[[Any], AbstractNetwork]]:
    """All float arrays as one vector, and the way back.

    The way back cuts a traced vector where it is traced and others on the host, where a cut compiles nothing.
    """
    trained, rest = eqx.partition(network, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(trained)
    ends = np.cumsum([leaf.size for leaf in leaves])

    def build(vector):
        if isinstance(vector, Tracer):
            parts = jnp.split(vector, ends[:-1])
        else:
            parts = [jnp.asarray(part) for part in np.split(np.asarray(vector), ends[:-1])]
        cut = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        return eqx.combine(jax.tree.unflatten(structure, cut), rest)

    return ravel_pytree(trained)[0], build


def _optimiser(clip: float) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(clip), optax.scale_by_adam())


def start(key: PRNGKeyArray, network: AbstractNetwork, budget: Budget) -> State:
    """The state before the first step."""
    flat, _ = weights_of(network)
    return State(flat, flat, _optimiser(budget.clip).init(flat), jnp.zeros((), jnp.int32), key, flat)


def _step(
    state: State, network: AbstractNetwork, batch: Data, schedule: Schedule, clip: float
) -> tuple[tuple[State, Any], Array]:
    """The next state and its network's trained part, and the loss; the network has the state's weights."""
    key = jax.random.fold_in(state.key, state.step)
    trained, rest = eqx.partition(network, eqx.is_inexact_array)

    def mean_loss(trained):
        here = eqx.combine(trained, rest)
        if schedule.score_weight is None or schedule.score_scale is None:
            return batch.mean(here.loss(key, batch.u, batch.kind, batch.x))
        loss, misfit = joint_score.losses(here, key, batch, schedule.score_scale)
        return batch.mean(loss + schedule.score_weight * misfit)

    loss, gradient = jax.value_and_grad(mean_loss)(trained)
    direction: Any
    direction, optimiser = _optimiser(clip).update(ravel_pytree(gradient)[0], state.optimiser)
    # scalings are among the weights, never have a gradient, and do not decay
    direction = direction + schedule.weight_decay * jnp.where(direction == 0, 0.0, state.weights)
    weights = state.weights - schedule.rate(state.step) * direction
    # early averages would keep the untrained weights: the decay grows with the steps done
    decay = jnp.minimum(schedule.averaging, (1.0 + state.step) / (10.0 + state.step))
    averaged = state.averaged + (1 - decay) * (weights - state.averaged)
    following = State(weights, averaged, optimiser, state.step + 1, state.key, state.best)
    return (following, eqx.filter(weights_of(network)[1](weights), eqx.is_inexact_array)), loss


def _steps(
    state: State, network: AbstractNetwork, batch_of: Callable[[State, Any], Data], over: Any, *options: Any
) -> tuple[State, Float[Array, "step"]]:
    """A step for each entry of `over`, with the batch that `batch_of` makes of it."""
    trained, rest = eqx.partition(network, eqx.is_inexact_array)

    def body(carry, entry):
        state, trained = carry
        return _step(state, eqx.combine(trained, rest), batch_of(state, entry), *options)

    (state, _), losses = jax.lax.scan(body, (state, trained), over)
    return state, losses


@eqx.filter_jit
def epoch_of_set(
    state: State, network: AbstractNetwork, schedule: Schedule, data: Data, batch_size: int, clip: float
) -> tuple[State, Float[Array, "step"]]:
    """One pass over a fixed set in random order; what does not fill a batch waits for another pass.

    The network has the state's weights.
    """
    n = data.u.shape[0]
    order = jax.random.permutation(jax.random.fold_in(state.key, -1 - state.step), n)
    batches = order[: n // batch_size * batch_size].reshape(-1, batch_size)

    def batch_of(_, chosen):
        return jax.tree.map(lambda part: part[chosen], data)

    return _steps(state, network, batch_of, batches, schedule, clip)


@eqx.filter_jit
def epoch_of_simulations(
    state: State,
    network: AbstractNetwork,
    schedule: Schedule,
    simulate: Simulate,
    prior: Prior,
    batch_size: int,
    clip: float,
    n_steps: int,
) -> tuple[State, Float[Array, "step"]]:
    """Steps that each simulate their own batch. The network has the state's weights."""

    def batch_of(state, _):
        key = jax.random.fold_in(state.key, -1 - state.step)
        return prepare(prior, *simulate(key, batch_size))

    return _steps(state, network, batch_of, jnp.arange(n_steps), schedule, clip)


@eqx.filter_jit
def validation_loss(network: AbstractNetwork, key: PRNGKeyArray, data: Data) -> Float[Array, ""]:
    """Mean loss on events that training never sees."""
    return data.average(network.loss(key, data.u, data.kind, data.x))


class Trainer:
    """Runs epochs until the budget is spent.

    Args:
        network: untrained, scalings set.
        budget: see there.
        prior: of the parameters.
        source: a prepared set, or a function that simulates.
        validation: a prepared set.
    """

    def __init__(
        self,
        network: AbstractNetwork,
        budget: Budget,
        prior: Prior,
        source: Data | Simulate,
        validation: Data,
    ):
        self.network, self.budget, self.prior = network, budget, prior
        self.build = weights_of(network)[1]
        self.source, self.validation = source, validation
        self.finished: State | None = None  # after the last whole epoch
        if isinstance(source, Data):
            self.epoch_steps = source.u.shape[0] // budget.batch_size
            self.n_epochs = budget.n_passes
        else:
            total = budget.n_simulations // budget.batch_size
            self.n_epochs = -(-total // budget.epoch_steps)
            self.epoch_steps = total // self.n_epochs
        n_steps = self.n_epochs * self.epoch_steps
        n_warmup = max(1.0, budget.warmup * n_steps)
        numbers = (budget.peak_rate, n_warmup, n_steps, budget.averaging, budget.weight_decay)
        self.schedule = Schedule(*(jnp.asarray(float(number)) for number in numbers))
        if budget.joint_score:
            weight, scale = jnp.asarray(float(budget.joint_score)), joint_score.width(validation.score)
            self.schedule = self.schedule._replace(score_weight=weight, score_scale=scale)

    def epoch(self, state: State) -> tuple[State, Float[np.ndarray, "step"]]:
        """One epoch, and the losses of its steps.

        Raises:
            ValueError: if a loss is not finite.
        """
        budget, network = self.budget, self.build(state.weights)
        if isinstance(self.source, Data):
            state, losses = epoch_of_set(
                state, network, self.schedule, self.source, budget.batch_size, budget.clip
            )
        else:
            state, losses = epoch_of_simulations(
                state,
                network,
                self.schedule,
                self.source,
                self.prior,
                budget.batch_size,
                budget.clip,
                self.epoch_steps,
            )
        losses = np.asarray(losses)
        if not np.isfinite(losses).all():
            bad = int(np.argmin(np.isfinite(losses)))
            step = int(state.step) - len(losses) + bad
            last = f"it was {losses[bad - 1]:.3g} the step before" if bad else "from the epoch's start"
            raise ValueError(
                f"training diverged: the loss is {losses[bad]} at step {step} ({last}); lower peak_rate, now "
                f"{budget.peak_rate:g}, or look for data that are not finite"
            )
        return state, losses

    def run(self, state: State, history: History, *, after_epoch: Callable[[State, History], None]) -> State:
        """Train to the end.

        Args:
            state: from `start`, or from a file.
            history: is appended to.
            after_epoch: called with the state and the history, to show progress and to keep both.
        """
        offset, u = 0.0, self.validation.u
        if jnp.any(self.network.offset(u)):
            offset = float(self.validation.average(self.network.offset(u) + self.prior.log_jacobian(u)))
        key = jax.random.key(0)  # the same noise each time, so that epochs compare
        begin = time.perf_counter()
        while len(history.steps) < self.n_epochs and not self._stalled(history):
            state, losses = self.epoch(state)
            value = float(validation_loss(self.build(state.averaged), key, self.validation))
            history.steps.append(int(state.step))
            history.training.append(float(losses.mean()) + offset)
            history.validation.append(value + offset)
            history.seconds.append(time.perf_counter() - begin)
            if history.validation[-1] == min(history.validation):
                state = state._replace(best=state.averaged)
            self.finished = state
            after_epoch(state, history)
        return state

    def _stalled(self, history: History) -> bool:
        patience, losses = self.budget.patience, history.validation
        if patience is None or not losses:
            return False
        return len(losses) - 1 - int(np.argmin(losses)) >= patience

    def trained(self, state: State) -> AbstractNetwork:
        """The network with the averaged weights."""
        return self.build(state.best if self.budget.patience else state.averaged)
