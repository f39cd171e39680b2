"""Training: one compiled epoch, a schedule with averaged weights, and a bit-exact way to go on.

Weights are one flat vector, so that Adam, clipping and averaging are a few operations instead of a few for
each array. The epoch is compiled once for each architecture, batch and epoch length; rates and lengths of a
schedule are arguments, so that another seed, another rate or another fit of equal shapes compiles nothing.
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
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from inference.estimators import joint_score
from inference.estimators.data import Simulate
from inference.estimators.networks import AbstractNetwork
from inference.priors import Prior


@dataclass(frozen=True)
class Budget:
    """How much to simulate and how to train on it.

    With one pass, every step simulates its own batch and no event is seen twice; with more, a set is drawn
    once and used pass after pass.

    Args:
        n_simulations: events simulated for training, validation included if there is more than one pass.
        n_passes: times that each is used.
        batch_size: events of a step.
        n_validation: events on which the loss is reported; a tenth of the simulations at most if they are a
            fixed set, further ones if not.
        peak_rate: highest learning rate of the schedule.
        warmup: share of all steps over which the rate rises; it then falls as a cosine to 0.
        clip: longest gradient, in units of the weights' space.
        averaging: decay a step of the averaged weights, which are the ones that are kept.
        epoch_steps: steps between two reports when each step simulates; a pass is one otherwise.
        joint_score: weight of a term that fits the simulator's own gradient, see
            `inference.estimators.joint_score`; 0 for none. NPE only.
        patience: epochs without a lower validation loss after which training stops, the weights of the lowest
            kept: for small sets, which many passes overfit. None for all epochs and the last weights.
    """

    n_simulations: int
    n_passes: int = 1
    batch_size: int = 256
    n_validation: int = 2048
    peak_rate: float = 1e-3
    warmup: float = 0.03
    clip: float = 5.0
    averaging: float = 0.998
    epoch_steps: int = 200
    joint_score: float = 0.0
    patience: int | None = None

    def __post_init__(self):
        for name in ("n_simulations", "n_passes", "batch_size", "n_validation", "epoch_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.n_simulations < 2 * self.batch_size:
            raise ValueError(
                f"n_simulations is {self.n_simulations}: it must be at least two batches of {self.batch_size}"
            )
        for name, low, high in (
            ("peak_rate", 0, 1),
            ("warmup", 0, 1),
            ("averaging", 0, 1),
            ("clip", 0, np.inf),
        ):
            if not low < getattr(self, name) < high:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie between {low} and {high}")
        if not 0 <= self.joint_score < np.inf:
            raise ValueError(f"joint_score is {self.joint_score}: it must be 0 or more")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience is {self.patience}: it must be at least 1, or None")


class Data(NamedTuple):
    """A batch or a set as networks take it."""

    u: Float[Array, "event unbounded"]
    kind: Int[Array, "event"]
    x: Any
    score: Float[Array, "event unbounded"] | None = None  # gradient in u that a posterior's is to match
    weight: Float[Array, "event"] | None = None  # in the loss

    def mean(self, loss: Float[Array, "event"]) -> Float[Array, ""]:
        """Over the events, weighted."""
        return jnp.mean(loss if self.weight is None else self.weight * loss)


class State(NamedTuple):
    """All that a training goes on from."""

    weights: Float[Array, "weight"]
    averaged: Float[Array, "weight"]
    optimiser: optax.OptState
    step: Int[Array, ""]
    key: PRNGKeyArray
    best: Float[Array, "weight"]  # averaged ones at the lowest validation loss


class Schedule(NamedTuple):
    """Numbers that an epoch takes as arguments, so that a change compiles nothing."""

    peak_rate: Array
    n_warmup: Array
    n_steps: Array
    averaging: Array
    score_weight: Array | None = None  # none: the term is not compiled
    score_scale: Array | None = None

    def rate(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """Linear rise, then half a cosine to 0."""
        rise = (step + 1) / self.n_warmup
        fall = (step - self.n_warmup) / jnp.maximum(self.n_steps - self.n_warmup, 1)
        return self.peak_rate * jnp.where(rise < 1, rise, 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(fall, 0, 1))))


@dataclass
class History:
    """What a training saw, an entry an epoch; losses in nats an event."""

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


def weights_of(network: AbstractNetwork) -> tuple[Float[Array, "weight"], Callable[[Array], AbstractNetwork]]:
    """All float arrays as one vector, and the way back."""
    trained, rest = eqx.partition(network, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(trained)
    return flat, lambda vector: eqx.combine(unravel(vector), rest)


def _optimiser(clip: float) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(clip), optax.scale_by_adam())


def start(key: PRNGKeyArray, network: AbstractNetwork, budget: Budget) -> State:
    """The state before the first step."""
    flat, _ = weights_of(network)
    return State(flat, flat, _optimiser(budget.clip).init(flat), jnp.zeros((), jnp.int32), key, flat)


def _step(state: State, batch: Data, build: Callable, schedule: Schedule, clip: float) -> tuple[State, Array]:
    key = jax.random.fold_in(state.key, state.step)

    def mean_loss(flat):
        if schedule.score_weight is None or schedule.score_scale is None:
            return batch.mean(build(flat).loss(key, batch.u, batch.kind, batch.x))
        loss, misfit = joint_score.losses(build(flat), key, batch, schedule.score_scale)
        return batch.mean(loss + schedule.score_weight * misfit)

    loss, gradient = jax.value_and_grad(mean_loss)(state.weights)
    direction: Any
    direction, optimiser = _optimiser(clip).update(gradient, state.optimiser)
    weights = state.weights - schedule.rate(state.step) * direction
    # early averages would keep the untrained weights: the decay grows with the steps done
    decay = jnp.minimum(schedule.averaging, (1.0 + state.step) / (10.0 + state.step))
    averaged = state.averaged + (1 - decay) * (weights - state.averaged)
    return State(weights, averaged, optimiser, state.step + 1, state.key, state.best), loss


@eqx.filter_jit
def epoch_of_set(
    state: State, network: AbstractNetwork, schedule: Schedule, data: Data, batch_size: int, clip: float
) -> tuple[State, Float[Array, "step"]]:
    """One pass over a fixed set in random order; what does not fill a batch waits for another pass."""
    _, build = weights_of(network)
    n = data.u.shape[0]
    order = jax.random.permutation(jax.random.fold_in(state.key, -1 - state.step), n)
    batches = order[: n // batch_size * batch_size].reshape(-1, batch_size)

    def body(state, chosen):
        return _step(state, jax.tree.map(lambda part: part[chosen], data), build, schedule, clip)

    return jax.lax.scan(body, state, batches)


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
    """Steps that each simulate their own batch."""
    _, build = weights_of(network)

    def body(state, _):
        key = jax.random.fold_in(state.key, -1 - state.step)
        return _step(state, prepare(prior, *simulate(key, batch_size)), build, schedule, clip)

    return jax.lax.scan(body, state, None, length=n_steps)


@eqx.filter_jit
def validation_loss(
    averaged: Float[Array, "weight"], network: AbstractNetwork, key: PRNGKeyArray, data: Data
) -> Float[Array, ""]:
    """Mean loss of the averaged weights on events that training never sees."""
    _, build = weights_of(network)
    return data.mean(build(averaged).loss(key, data.u, data.kind, data.x))


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
        numbers = (budget.peak_rate, max(1.0, budget.warmup * n_steps), n_steps, budget.averaging)
        self.schedule = Schedule(*(jnp.asarray(float(number)) for number in numbers))
        if budget.joint_score:
            weight, scale = jnp.asarray(float(budget.joint_score)), joint_score.width(validation.score)
            self.schedule = self.schedule._replace(score_weight=weight, score_scale=scale)

    def epoch(self, state: State) -> tuple[State, Float[np.ndarray, "step"]]:
        """One epoch, and the losses of its steps.

        Raises:
            ValueError: if a loss is not finite.
        """
        budget = self.budget
        if isinstance(self.source, Data):
            state, losses = epoch_of_set(
                state, self.network, self.schedule, self.source, budget.batch_size, budget.clip
            )
        else:
            state, losses = epoch_of_simulations(
                state,
                self.network,
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

    def run(
        self,
        state: State,
        history: History,
        *,
        after_epoch: Callable[[State, History], None],
    ) -> State:
        """Train to the end.

        Args:
            state: from `start`, or from a file.
            history: is appended to.
            after_epoch: called with the state and the history, to show progress and to keep both.
        """
        offset = float(
            jnp.mean(self.network.offset(self.validation.u) + self.prior.log_jacobian(self.validation.u))
        )
        if not jnp.any(self.network.offset(self.validation.u)):
            offset = 0.0
        key = jax.random.key(0)  # the same noise each time, so that epochs compare
        begin = time.perf_counter()
        while len(history.steps) < self.n_epochs and not self._stalled(history):
            state, losses = self.epoch(state)
            value = float(validation_loss(state.averaged, self.network, key, self.validation))
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
        return weights_of(self.network)[1](state.best if self.budget.patience else state.averaged)
