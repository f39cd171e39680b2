"""Tune cuts by the gradient of a soft figure of merit, and judge them as hard cuts.

Every margin is measured in spreads of the signal; a log-sigmoid a side makes it a probability. The softness
falls geometrically while Adam's steps decay, so that the figure that is climbed turns into that of hard cuts.
Several starts run. What is handed back is chosen by the hard figure on events that no step has seen, brought
to what the constraints ask for by bisection on hard cuts, and judged on events that no choice has seen.
"""

import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from inference.tuning.constraints import Bounds, Constraint
from inference.tuning.figures import bootstrap, interval
from inference.tuning.objective import Objective
from inference.tuning.problem import Problem
from inference.tuning.restore import restore
from inference.tuning.result import HeldOut, Settings, Trajectory, TunedCuts
from inference.tuning.samples import Samples
from inference.tuning.vector import Cuts

_STIFFNESS = (
    10.0  # of the augmented Lagrangian, for a figure of 1 and relative excesses; multipliers do the rest
)
_LATE = 0.75  # share of the steps after which the softness no longer shifts thresholds by much
_N_RESTORED = 5  # candidates that are brought to obey the constraints before the last choice


def tune(
    key: PRNGKeyArray,
    cuts: Cuts,
    samples: Samples,
    objective: Objective,
    constraints: Sequence[Constraint] = (),
    *,
    held_out: Samples | None = None,
    settings: Settings | None = None,
    resample: Callable[[PRNGKeyArray], Samples] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> TunedCuts:
    """Tune every number in the cuts.

    Args:
        key: of starts, division of the events and bootstrap.
        cuts: start; of `dmsim.selection`.
        samples: events of each class; with nuisance parameters where they carry tangents.
        objective: what is to be large.
        constraints: what must be obeyed, by augmented Lagrangian, projection (bounds) and bisection.
        held_out: events to judge on; a part of `samples` if not given.
        settings: of the tuning.
        resample: makes new events for the steps at every look, from a key; the first ones if not given.
        on_step: called with step, steps in all and the best hard figure, for progress.

    Returns:
        The tuned cuts; the given ones if the tuned are no better on the held-out events.

    Raises:
        ValueError: for samples without signal or background, weights that are all zero, a missing column,
            NaN, cuts that leave no signal, constraints that contradict each other or that no cuts obey.
    """
    begin = time.process_time()
    settings = Settings() if settings is None else settings
    random = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(key, 0))))
    problem = Problem(random, cuts, samples, objective, constraints, settings, held_out)
    looks, n_gradients = _climb(key, problem, random, begin, resample, on_step)
    best = _choose(problem, looks)
    return _judge(random, problem, best, looks, n_gradients, begin)


def _starts(problem: Problem, random: np.random.Generator) -> Array:
    """The given cuts, and others: each parameter shifted, knots together and a little one by one."""
    settings, vector = problem.settings, problem.vector
    starts = np.zeros((settings.n_starts, len(vector)))
    for start in starts[1:]:
        for first, size in vector.groups:
            start[first : first + size] = settings.start_spread * (
                random.normal() + (0.2 * random.normal(size=size) if size > 1 else 0.0)
            )
    return jax.vmap(vector.project)(jnp.asarray(starts, jnp.float32))


def _make_block(problem: Problem, adam: optax.GradientTransformation) -> Callable:
    """Some Adam steps from each start, compiled; multipliers of the constraints move at their end."""
    settings, part, vector = problem.settings, problem.tuning, problem.vector
    penalised, scale = problem.evaluator.objective.penalise, _scale(problem)
    equalities = np.array([equal for _, equal in problem.broken(np.ones(len(part.sizes)), part)], bool)

    def loss(v, softness, multiplier, arrays):
        figure = problem.soft(v, part, arrays, softness, penalised=penalised)
        value = -figure.value / scale + settings.smoothness * vector.cuts(v).roughness(problem.scales)
        broken = problem.broken(figure.kept, part)
        for (excess, equal), weight in zip(broken, multiplier, strict=True):
            push = weight + _STIFFNESS * excess
            push = push if equal else jnp.maximum(push, 0.0)
            value = value + (push**2 - weight**2) / (2 * _STIFFNESS)
        return value, (figure.value, jnp.asarray([excess for excess, _ in broken]))

    def from_one_start(carry, steps, arrays):
        v, state, multiplier = carry

        def step(carry, number):
            v, state = carry
            gradient, seen = jax.grad(loss, has_aux=True)(v, problem.softness(number), multiplier, arrays)
            # a start far outside may have no signal, and then no slope: it stays where it is
            update, state = adam.update(jnp.where(jnp.isfinite(gradient), gradient, 0.0), state)
            return (vector.project(jnp.asarray(optax.apply_updates(v, update))), state), seen

        (v, state), (figures, excesses) = jax.lax.scan(step, (v, state), steps)
        pushed = multiplier + _STIFFNESS * excesses[-1]
        return v, state, jnp.where(equalities, pushed, jnp.maximum(pushed, 0.0)), figures

    # one start after the other: side by side they would only need more memory
    return jax.jit(
        lambda carry, steps, arrays: jax.lax.map(lambda one: from_one_start(one, steps, arrays), carry)
    )


def _climb(key, problem: Problem, random, begin, resample, on_step) -> tuple[Trajectory, int]:
    """Adam from every start, with a look at hard cuts now and then."""
    settings, n = problem.settings, problem.settings.n_steps
    adam = optax.adam(optax.cosine_decay_schedule(settings.learning_rate, n, alpha=0.01))
    block = _make_block(problem, adam)
    vectors = _starts(problem, random)
    states = jax.vmap(adam.init)(vectors)
    n_limits = sum(not isinstance(c, Bounds) for c in problem.constraints)
    multipliers = jnp.zeros((settings.n_starts, n_limits))
    looks: list[dict] = []
    soft: list[np.ndarray] = []  # of every step
    step, best, best_step = 0, -np.inf, 0
    while True:
        looks.append(_look(problem, vectors, step, begin))
        recent = np.mean([look["validation"] for look in looks[-3:]], axis=0)
        now = float(np.nanmax(np.where(looks[-1]["obeyed"], recent, -np.inf)))
        if now > best or step < _LATE * n:
            best, best_step = max(now, best) if step >= _LATE * n else now, step
        if on_step is not None:
            on_step(step, n, best)
        if step >= n or step - best_step >= settings.patience:
            break
        if resample is not None and step > 0:
            problem.renew(resample(jax.random.fold_in(key, step)))
        steps = jnp.arange(step, min(step + settings.steps_per_check, n), dtype=jnp.float32)
        carry = (vectors, states, multipliers)
        vectors, states, multipliers, figures = block(carry, steps, problem.tuning.arrays)
        soft += list(np.asarray(figures).T)
        step += len(steps)
    track = {name: np.stack([look[name] for look in looks]) for name in looks[0]}
    track["soft"] = np.stack([soft[min(look["step"], step - 1)] for look in looks])
    trajectory = Trajectory(**track)
    return trajectory, step * settings.n_starts


def _scale(problem: Problem) -> float:
    """Size of the figure, to measure penalties with: that of the given cuts, where it is not 0."""
    given = abs(float(problem.hard(jnp.zeros(len(problem.vector)), problem.tuning).value))
    return given if np.isfinite(given) and given > 1e-3 else 1.0


def _look(problem: Problem, vectors, step: int, begin: float) -> dict:
    tuning = [problem.hard(v, problem.tuning) for v in vectors]
    chosen = [problem.hard(v, problem.validation) for v in vectors]
    return {
        "step": np.asarray(step),
        "softness": np.asarray(problem.softness(min(step, problem.settings.n_steps - 1))),
        "hard": np.array([figure.value for figure in tuning]),
        "validation": np.array([figure.value for figure in chosen]),
        "efficiency": np.array([problem.efficiency(figure.kept, problem.validation) for figure in chosen]),
        "obeyed": np.array([problem.obeyed(figure.kept, problem.validation) for figure in chosen]),
        "values": np.asarray(problem.vector.values(vectors)),
        "cpu_s": np.asarray(time.process_time() - begin),
    }


def _choose(problem: Problem, looks: Trajectory) -> Array:
    """The vector with the best hard figure on the events to choose on, among those that obey.

    Raises:
        ValueError: if none obeys the constraints.
    """
    vector = problem.vector
    flat = looks.values.reshape(-1, len(vector))  # by look, then start
    vectors = vector.of_values(flat)
    figures = _smoothed(np.nan_to_num(looks.validation, nan=-np.inf, posinf=-np.inf))
    figures[looks.step < _LATE * problem.settings.n_steps] = -np.inf
    order = np.argsort(-figures.reshape(-1), kind="stable")
    if all(isinstance(c, Bounds) for c in problem.constraints):
        return vectors[order[0]]
    last = np.arange(len(flat))[-problem.settings.n_starts :]
    tried = list(dict.fromkeys([0, *last.tolist(), *order[:_N_RESTORED].tolist()]))
    restored = jnp.stack([restore(problem, vectors[i]) for i in tried])
    found = [problem.hard(v, problem.both).kept for v in restored]
    obeys = np.array([problem.obeyed(kept, problem.both) for kept in found])
    if not obeys.any():
        kept = dict(zip(problem.evaluator.names, found[0].tolist(), strict=True))
        counts = ", ".join(f"{name} {events:.4g}" for name, events in kept.items())
        raise ValueError(
            "constraints contradict each other on these events: no cuts were found that obey "
            f"{', '.join(str(c) for c in problem.constraints)}; the nearest keep {counts} events"
        )
    chosen = np.array([problem.hard(v, problem.validation).value for v in restored])
    return restored[int(np.argmax(np.where(obeys, chosen, -np.inf)))]


def _smoothed(figures: np.ndarray) -> np.ndarray:
    """Mean of three looks of each start: the best of many noisy figures is the luckiest one."""
    padded = np.concatenate([figures[:1], figures, figures[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def _judge(random, problem: Problem, best: Array, looks: Trajectory, n_gradients: int, begin) -> TunedCuts:
    """Figures on the held-out events, and the choice between tuned and given cuts."""
    part, settings = problem.held_out, problem.settings
    given = jnp.zeros_like(best)
    names, now, old = (
        problem.evaluator.names,
        *(problem.hard(v, part, penalised=False) for v in (best, given)),
    )
    improved, message = True, "tuned cuts are better on held-out events"
    if not now.value > old.value:
        figures = f"{now.value:.4g} against {old.value:.4g}"
        if problem.obeyed(problem.hard(given, problem.both).kept, problem.both):
            improved, best, now = False, given, old
            message = (
                f"tuned cuts were no better on held-out events ({figures}): the given cuts are handed back"
            )
        else:
            message = (
                f"given cuts do not obey the constraints; the tuned ones do, at a lower figure ({figures})"
            )
    both = (best, given)
    passed = [problem.passed(v, part) for v in both]
    shifts = [problem.shifts(v, part) for v in both]
    draws = bootstrap(random, problem.evaluator, part.table, passed, shifts, n_draws=settings.n_bootstrap)
    soft = problem.soft(best, part, part.arrays, problem.last_softness, penalised=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = interval(np.divide(now.value, old.value) - 1, draws[0] / draws[1] - 1)
        gap = float(np.divide(float(soft.value), now.value) - 1)
    values = [np.asarray(problem.vector.values(v), float) for v in both]
    return TunedCuts(
        cuts=problem.numbers(values[0]),
        given=problem.cuts,
        names=problem.vector.names,
        values=values[0],
        values_given=values[1],
        scale=problem.vector.scale,
        held_out=HeldOut(
            figure=interval(now.value, draws[0]),
            given=interval(old.value, draws[1]),
            gain=gain,
            kept=dict(zip(names, map(float, now.kept), strict=True)),
            kept_given=dict(zip(names, map(float, old.kept), strict=True)),
            efficiency=float(problem.efficiency(now.kept, part)),
            efficiency_given=float(problem.efficiency(old.kept, part)),
            soft_hard_gap=gap,
        ),
        improved=improved,
        message=message,
        trajectory=looks,
        n_gradients=n_gradients,
        n_hard=problem.n_hard,
        cpu_s=time.process_time() - begin,
        settings=settings,
    )
