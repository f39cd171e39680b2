"""Thresholds of the reconstruction, tuned together by gradient on simulated truth.

`clustering_loss.py` says what an error is, `clustering_parameters.py` what moves, `clustering_samples.py`
holds records with truth, `clustering_result.py` what comes back.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, PRNGKeyArray

from dmsim.detector import Detector
from dmsim.reconstruction import soft
from dmsim.reconstruction.settings import Settings
from inference.tuning.clustering_events import Groups, apart, near, together
from inference.tuning.clustering_loss import Errors, Scope
from inference.tuning.clustering_parameters import LEAVES, Leaf, Parameters, parameters_of
from inference.tuning.clustering_result import Look, Options, TunedSettings
from inference.tuning.clustering_samples import Batch, Planned, Planner, added, hard_errors, soft_errors

Samples = Mapping[str, Sequence[Batch]]
OPTIONS = Options()
_LEAST_SLOPE = 1e-3  # errors a signal for a step: a parameter with less moves less than the others


def tune_clustering(
    key: PRNGKeyArray,
    detector: Detector,
    settings: Settings,
    samples: Samples,
    *,
    leaves: Sequence[Leaf] = LEAVES,
    options: Options = OPTIONS,
    on_look: Callable[[Look], None] | None = None,
) -> TunedSettings:
    """Tune thresholds of the reconstruction against wrong splits, merges and classes.

    Adam descends the soft reading's expected loss, from the given settings. Every few steps the reading is
    planned anew and the hard one looked at. The settings with the least hard loss on batches that no step has
    seen are handed back, of looks less than one error apart the last; the given ones if none is better.

    Args:
        key: divides each sample's batches into those to tune and those to choose on.
        detector: that took the records.
        settings: where to start.
        samples: name -> batches, two or more each.
        leaves: what is tuned.
        options: how.
        on_look: is given every look.

    Raises:
        ValueError: if a sample has fewer than two batches, if no signal counts in either part, and as
            `parameters_of`.

    Gradient: none (host); it follows that of the soft reading.
    """
    begin = time.process_time()
    parameters = parameters_of(settings, leaves)
    tuning, validation = divided(key, samples, options.validation)
    for what, part in (("tune", tuning), ("choose", validation)):
        if not sum(batch.truth.counts.sum() for batch in part):
            raise ValueError(f"no true signal counts in the batches to {what} on: see Options.scope")
    run = _Run(detector, parameters, options, tuning, validation, begin)
    schedule = optax.cosine_decay_schedule(options.learning_rate, options.n_steps, alpha=0.05)
    adam = optax.adam(schedule, eps=_LEAST_SLOPE)
    vector = np.zeros(len(parameters))
    state = adam.init(jnp.asarray(vector, float))
    for first in range(0, options.n_steps, options.steps_per_plan):
        run.look(first, vector)
        if on_look is not None:
            on_look(run.looks[-1])
        for _ in range(first, min(first + options.steps_per_plan, options.n_steps)):
            slope = run.slope(vector) + 2 * options.to_given * vector
            # where nothing is near a threshold, there is no slope
            update, state = adam.update(jnp.asarray(np.nan_to_num(slope), float), state)
            vector = parameters.project(vector + np.asarray(update, float))
    run.look(options.n_steps, vector)
    if on_look is not None:
        on_look(run.looks[-1])
    return run.chosen()


class _Run:
    """Plans, looks and counts of one tuning."""

    def __init__(self, detector, parameters: Parameters, options: Options, tuning, validation, begin: float):
        self.detector, self.parameters, self.options = detector, parameters, options
        self.validation, self.begin = validation, begin
        self.descent = Descent(detector, parameters, options.scope)
        self.planner = Planner(detector, options.scope)
        self.looks: list[Look] = []
        self.errors: list[tuple[Errors, Errors]] = []  # hard, on both parts
        self.parts: list[Planned] = []
        self.tuning, self.n_hard, self.near = list(tuning), 0, np.zeros(0, bool)
        self.soft: list[Batch] = self.tuning
        if options.near > 0:
            scope = options.scope
            self.events = [event for batch in tuning for event in apart(batch, scope)]
            self.groups = Groups(self.events, scope)
            self.near, self.n_hard = near(detector, parameters, self.groups, reach=options.near)
            self._gather()

    def _gather(self) -> None:
        """Events that are read softly, in batches."""
        events = [event for event, is_near in zip(self.events, self.near, strict=True) if is_near]
        n, scope = self.options.events_per_plan, self.options.scope
        self.soft = [together(events[k : k + n], scope) for k in range(0, len(events), n)]

    def _count(self, frozen: Settings) -> Errors:
        """Hard errors of the batches tuned on, and what of them is not read softly."""
        scope = self.options.scope
        if self.options.near == 0:
            self.rest = added([])
            return added(hard_errors(self.detector, self.tuning, frozen, scope=scope))
        every, wrong = self.groups.count(self.detector, frozen)
        if (self.near < (wrong > 0)).any():  # what has an error now is read softly from here on
            self.near |= wrong > 0
            self._gather()
        of_soft = added(hard_errors(self.detector, self.soft, frozen, scope=scope))
        self.rest = Errors(*(a - b for a, b in zip(every, of_soft, strict=True)))
        return every

    def look(self, step: int, vector: Float[np.ndarray, "parameter"]) -> None:
        """Plan anew, and read hard."""
        frozen, scope = self.parameters.frozen(vector), self.options.scope
        first, last = self.options.temperature
        factor = first * (last / first) ** (step / self.options.n_steps)
        tuning = self._count(frozen)
        warm = soft.Temperature().scaled(factor)
        self.parts = self.planner(self.soft, frozen, warm) if self.soft else []
        validation = added(hard_errors(self.detector, self.validation, frozen, scope=scope))
        self.n_hard += 2
        self.errors.append((tuning, validation))
        self.beside = tuning
        self.first_slope = self._descend(vector)
        self.first_vector = vector
        self.looks.append(
            Look(
                step=step,
                temperature=factor,
                soft=float(self.beside.loss(scope)),
                hard=float(tuning.loss(scope)),
                validation=float(validation.loss(scope)),
                values=self.parameters.values(vector),
                cpu_s=time.process_time() - self.begin,
            )
        )

    def _descend(self, vector: Float[np.ndarray, "parameter"]) -> Float[np.ndarray, "parameter"]:
        expected, slope = self.descent(self.parts, vector, self.beside)
        self.beside = added([expected, self.rest])
        return slope

    def slope(self, vector: Float[np.ndarray, "parameter"]) -> Float[np.ndarray, "parameter"]:
        """Of the expected loss."""
        if vector is not self.first_vector:  # that one is known
            return self._descend(vector)
        return self.first_slope

    def chosen(self) -> TunedSettings:
        """The best look on the batches to choose on."""
        looks, scope = self.looks, self.options.scope
        found = np.array([look.validation for look in looks])
        # a difference of less than one error is none: the last of such looks has come furthest
        alike = found < found.min() + 1 / max(self.errors[0][1].n_signals, 1)
        best = int(np.flatnonzero(alike & (found < found[0])).max(initial=0))
        improved = best > 0
        figures = f"{looks[best].validation:.4g} against {looks[0].validation:.4g} errors a signal"
        vector = self.parameters.of_values(looks[best].values)
        return TunedSettings(
            settings=self.parameters.frozen(vector) if improved else self.parameters.given,
            given=self.parameters.given,
            names=self.parameters.names,
            values=looks[best].values,
            values_given=looks[0].values,
            validation=self.errors[best][1],
            validation_given=self.errors[0][1],
            soft_hard_gap=looks[-1].soft / max(float(self.errors[-1][0].loss(scope)), 1e-9) - 1,
            improved=improved,
            message=(
                f"tuned settings are better on batches that no step has seen: {figures}"
                if improved
                else "no tuned settings were better on batches that no step has seen: the given ones are "
                "handed back"
            ),
            trajectory=tuple(looks),
            n_gradients=self.descent.n,
            n_hard=self.n_hard,
            cpu_s=time.process_time() - self.begin,
            options=self.options,
        )


def divided(key: PRNGKeyArray, samples: Samples, share: float) -> tuple[list[Batch], list[Batch]]:
    """Batches to tune on, and those to choose on, sample by sample.

    Raises:
        ValueError: if a sample has fewer than two.
    """
    tuning, validation = [], []
    for number, (name, batches) in enumerate(samples.items()):
        if len(batches) < 2:
            raise ValueError(f"sample {name!r} has {len(batches)} batches: two or more are needed")
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, number), len(batches)))
        n = int(np.clip(round(share * len(batches)), 1, len(batches) - 1))
        validation += [batches[i] for i in sorted(order[:n])]
        tuning += [batches[i] for i in sorted(order[n:])]
    return tuning, validation


@partial(jax.jit, static_argnames="static")
def _errors_and_slope(settings, slopes, layout, labels, data, temperature, static):
    """Expected errors, and the derivative of their weighed sum in every number of the resolved settings."""
    plan = soft.Plan(layout, None, None, None, 0, static)  # type: ignore[arg-type]  # the rest is the host's

    def weighed(settings):
        errors = soft_errors(Planned(plan, labels, data, temperature), settings)
        products = [jnp.sum(s * e) for s, e in zip(slopes, errors, strict=True)]
        return sum(products, jnp.zeros(())), errors

    (_, errors), slope = jax.value_and_grad(weighed, has_aux=True)(settings)
    return errors, slope


class Descent:
    """Expected loss over planned batches and its slope, compiled once for plans of one size."""

    def __init__(self, detector: Detector, parameters: Parameters, scope: Scope):
        self.detector, self.parameters, self.scope, self.n = detector, parameters, scope, 0

    def __call__(
        self, parts: Sequence[Planned], vector: Float[np.ndarray, "parameter"], near: Errors
    ) -> tuple[Errors, Float[np.ndarray, "parameter"]]:
        """Expected errors of all batches together, and the slope of their loss.

        Args:
            parts: planned batches.
            vector: of the parameters.
            near: errors close by: the sign of the area bias is taken from there, and the number of signals.
        """
        settings = self.parameters.settings(vector).resolved(self.detector)
        settings = jax.tree.map(lambda x: jnp.asarray(x, float), settings)
        slopes = slopes_at(near, self.scope)
        found, slope = [], np.zeros(len(vector))
        for part in parts:
            errors, of_settings = _errors_and_slope(
                settings, slopes, part.plan.layout, part.labels, part.data, part.temperature, part.plan.static
            )
            found.append(jax.tree.map(np.asarray, errors))
            slope += self.parameters.slope(vector, of_settings)
        self.n += 1
        return added(found), slope


def slopes_at(errors: Errors, scope: Scope) -> Errors:
    """Derivative of the loss in each number."""
    numbers = jax.tree.map(lambda x: jnp.asarray(x, float), errors)
    return jax.grad(lambda e: e.loss(scope))(numbers)
