"""What NPE, NLE, NRE and FMPE share: from a prior, a simulator and a budget to a trained posterior."""

import dataclasses
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from inference.estimators import checkpoints, joint_score
from inference.estimators.data import Cached, Layout, Simulate, check_finite
from inference.estimators.networks import AbstractNetwork, Scaling, scaled
from inference.estimators.posterior import AbstractPosterior
from inference.estimators.progress import Progress
from inference.estimators.training import Budget, Data, History, Trainer, prepare, start
from inference.priors import Prior

_PILOT = 4096  # events that set the scalings where every step simulates its own
_SECONDS_BETWEEN_FILES = 30.0


@dataclass(frozen=True)
class Fit:
    """A trained posterior and how its training went."""

    estimator: "AbstractEstimator"
    posterior: Any
    history: History
    budget: Budget


@dataclass(frozen=True)
class AbstractEstimator:
    """A prior and a description of networks. A new estimator states `untrained` and `posterior`."""

    prior: Prior

    @property
    def fits_density(self) -> bool:
        """Whether the loss is a negative log density of theta, whose gradient a score can teach."""
        return False

    @abstractmethod
    def untrained(self, key: PRNGKeyArray, layout: Layout) -> AbstractNetwork:
        """A network before training, scalings not set."""

    @abstractmethod
    def posterior(self, network: Any, layout: Layout) -> AbstractPosterior:
        """What a trained network gives."""

    def describe(self) -> dict[str, Any]:
        """The architecture, as files hold it."""
        shown: dict[str, Any] = {"estimator": type(self).__name__}
        for entry in dataclasses.fields(self):
            value: Any = getattr(self, entry.name)
            if entry.name == "prior":
                continue
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                shown[entry.name] = {"kind": getattr(value, "kind", None), **dataclasses.asdict(value)}
            else:
                shown[entry.name] = value
        return shown

    def fit(
        self,
        key: PRNGKeyArray,
        simulate: Simulate | Cached,
        budget: Budget,
        *,
        validation: Cached | None = None,
        checkpoint: Path | str | None = None,
        after_epoch: Callable[[History], None] | None = None,
    ) -> Fit:
        """Train on simulations.

        Args:
            key: of simulations, weights and batches: the same key gives the same posterior.
            simulate: a function that jax can compile, (key, n) -> (theta[n, parameter], x[n, ...]), x an
                array or a dictionary of arrays; or a set drawn before. A third array, the joint score,
                is used where the budget says so; a fourth is each event's weight, see `Cached`.
            budget: how much to simulate and to train.
            validation: events for the reported loss instead of some of the simulated ones.
            checkpoint: a file from which an interrupted training goes on, bit for bit, and which is written
                every half minute.
            after_epoch: called with the history.

        Raises:
            ValueError: for theta outside the prior, data that are not finite, a set that does not fit the
                budget, training that diverges, or a checkpoint of another training.
        """
        roles = ("set", "pilot", "validation", "weights", "steps")
        keys = {role: jax.random.fold_in(key, i) for i, role in enumerate(roles)}
        training, validation = self._data(keys, simulate, budget, validation)
        layout = Layout.of(validation.x)
        pilot = training if isinstance(training, Cached) else Cached.draw(keys["pilot"], training, _PILOT)
        if budget.joint_score and not self.fits_density:
            raise ValueError("joint_score needs an estimator that is trained by the density of theta: NPE")
        for part in (pilot, validation):
            self._check(part)
            if budget.joint_score:
                joint_score.check(self.prior, part.theta, part.score)
        seen, held = self._prepared(pilot, validation)
        network = self._scaled(self.untrained(keys["weights"], layout), seen.u, pilot)
        trainer = Trainer(
            network, budget, self.prior, seen if isinstance(training, Cached) else training, held
        )
        state, history = start(keys["steps"], network, budget), History()
        file = None
        if checkpoint is not None:
            file = checkpoints.Checkpoint(Path(checkpoint), self._identity(network, budget, validation, key))
            state, history = file.read(state, history)
        written = time.monotonic()
        with Progress(trainer.n_epochs, len(history.steps)) as progress:

            def report(state, history):
                nonlocal written
                progress.show(history)
                if file is not None and time.monotonic() - written > _SECONDS_BETWEEN_FILES:
                    file.write(state, history)
                    written = time.monotonic()
                if after_epoch is not None:
                    after_epoch(history)

            try:
                state = trainer.run(state, history, after_epoch=report)
            finally:
                if file is not None and trainer.finished is not None:
                    file.write(trainer.finished, history)
        return Fit(self, self.posterior(trainer.trained(state), layout), history, budget)

    def _data(
        self, keys: dict[str, PRNGKeyArray], simulate: Any, budget: Budget, given: Cached | None
    ) -> tuple[Any, Cached]:
        """A training set or the simulator, and the validation set."""
        if isinstance(simulate, Cached):
            if len(simulate) != budget.n_simulations:
                raise ValueError(
                    f"the set holds {len(simulate)} events, the budget says {budget.n_simulations}"
                )
            whole = simulate
        else:
            self._check_simulator(simulate)
            if budget.n_passes == 1:
                return simulate, given or Cached.draw(keys["validation"], simulate, budget.n_validation)
            whole = Cached.draw(keys["set"], simulate, budget.n_simulations)
        if given is not None:
            return whole, given
        return whole.split(min(budget.n_validation, max(1, budget.n_simulations // 10)))

    def _check_simulator(self, simulate: Simulate) -> None:
        """Shapes, before anything is computed."""
        try:
            theta, x, *_ = jax.eval_shape(lambda key: simulate(key, 4), jax.random.key(0))
        except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
            raise ValueError(
                "simulate cannot be compiled by jax; draw a set with it first and give that: Cached(theta, x)"
            ) from error
        if theta.shape != (4, self.prior.n_parameters):
            names = ", ".join(self.prior.names)
            raise ValueError(f"simulate(key, 4) gives theta of shape {theta.shape}, the prior has {names}")
        wrong = [part.shape for part in jax.tree.leaves(x) if part.shape[:1] != (4,)]
        if wrong:
            raise ValueError(
                f"simulate(key, 4) gives x of shape {wrong[0]}: its first axis must be the 4 events"
            )

    def _check(self, part: Cached) -> None:
        if part.theta.ndim != 2 or part.theta.shape[1] != self.prior.n_parameters:
            names = ", ".join(self.prior.names)
            raise ValueError(f"theta has shape {part.theta.shape}: the prior's parameters are {names}")
        if not np.isfinite(part.theta).all():
            raise ValueError("theta is not finite")
        self.prior.check_inside(part.theta)
        check_finite(part.x)
        if part.weight is not None:
            self._check_weight(np.asarray(part.weight), len(part))

    def _check_weight(self, weight: np.ndarray, n: int) -> None:
        if not self.fits_density:
            raise ValueError("weights need an estimator that is trained by the density of theta: NPE")
        if weight.shape != (n,) or not (np.isfinite(weight) & (weight > 0)).all():
            raise ValueError(f"weight has shape {weight.shape}: must be ({n},), with finite values above 0")

    def _prepared(self, *parts: Cached) -> list[Data]:
        """Sets as networks take them, in one compilation: of small sets that costs more than all else."""
        scores = [part.score for part in parts if part.score is not None]
        score = np.concatenate(scores) if len(scores) == len(parts) else None
        whole = jax.jit(prepare)(self.prior, np.concatenate([part.theta for part in parts]), None, score)
        arrays, structure = jax.tree.flatten(whole)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        cut = zip(*(np.split(np.asarray(array), ends) for array in arrays), strict=True)
        out = []
        for part, own in zip(parts, cut, strict=True):
            x, weight = jax.tree.map(jnp.asarray, (part.x, part.weight))
            out.append(jax.tree.unflatten(structure, map(jnp.asarray, own))._replace(x=x, weight=weight))
        return out

    def _scaled(self, network: Any, u: Float[Array, "event unbounded"], pilot: Cached) -> Any:
        """The network with scalings of the pilot events."""
        raw = bool(getattr(getattr(self, "embedding", None), "scales_itself", False))
        x_scaling = jax.tree.map(lambda part: Scaling.of(part, identity=raw), pilot.x)
        own = bool(getattr(getattr(self, "flow", None), "scales_itself", False))
        u_scaling = Scaling.of(np.asarray(u), identity=own)
        network = eqx.tree_at(lambda net: (net.u_scaling, net.x_scaling), network, (u_scaling, x_scaling))
        started = getattr(getattr(network, "embedding", None), "started", None)
        if started is None:
            return network
        # it sees the data as it will in training
        given = scaled(x_scaling, jax.tree.map(jnp.asarray, pilot.x))
        return eqx.tree_at(lambda net: net.embedding, network, started(given))

    def _identity(
        self, network: Any, budget: Budget, validation: Cached, key: PRNGKeyArray
    ) -> dict[str, Any]:
        """What must be equal for a checkpoint to go on."""
        return {
            **self.describe(),
            "prior": self.prior.to_json(),
            "budget": dataclasses.asdict(budget),
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            "data": checkpoints.digest(
                (network, validation.theta, validation.x, validation.score, validation.weight)
            ),
        }
