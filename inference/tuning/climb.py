"""Adam's steps on the soft figure from every start, with a look at hard cuts now and then.

Constraints enter by an augmented Lagrangian for inequalities. Four things keep them from doing harm.
How far one is broken is a logarithm, and the push stops to grow at a factor e: a background a hundred times
too high does not push a hundred times as hard. It is read nearly hard, at the last softness, while the
direction is that of the present one: what leaks through soft thresholds is not the cuts' fault. The push
is in units of the present figure, so that it does not outgrow a figure that falls. And multipliers move with
every step, wait while a limit is far away, and fall to 0 once it is obeyed.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim.selection.weighted import weighted_quantiles
from inference.tuning import constraints as limits
from inference.tuning.problem import Part, Problem
from inference.tuning.result import Trajectory
from inference.tuning.samples import Samples
from inference.tuning.vector import NO_MARGIN, side_margins

_STIFFNESS = 2.0  # assumed: push of a limit broken by a factor e, over the figure's relative slope
_GAIN = 0.2  # assumed: of a multiplier in a step; a tenth of the stiffness, Adam's memory of the slope
_MEMORY = 0.95  # assumed: of Adam's squares beside limits, 20 steps
_FAR = 1.0  # in logarithms, where the push stops to grow
_LEAST_FIGURE = 1e-3  # of the first: below it limits push as if it were this, else nothing would push at all
_FIRST_SHARE = 0.03  # of the signal, that each threshold of the first start takes; 0.01 and 0.1 do as well
LATE = 0.75  # share of the steps after which the softness no longer shifts thresholds by much

OnStep = Callable[[int, int, float], None]
Resample = Callable[[PRNGKeyArray], Samples]


def starts(problem: Problem, random: np.random.Generator) -> Float[Array, "start parameter"]:
    """The given cuts, each threshold moved to where it alone takes a small share of the signal.

    A threshold where no events lie has no slope, and would stay where it is. Knots move together. The share
    is one for all in the first start, and random for each threshold in the others.
    """
    settings, vector = problem.settings, problem.vector
    shares = np.full((settings.n_starts, len(vector.groups)), _FIRST_SHARE)
    low, high = np.log(settings.start_shares)
    shares[1:] = np.exp(random.uniform(low, high, shares[1:].shape))
    table = problem.tuning.table
    signal = {c: v[table.is_signal] for c, v in table.columns.items()}
    margins = side_margins(vector.rebuild(vector.origin), signal)
    outwards = [-1.0 if side == "low" else 1.0 for cut in problem.cuts for side in cut.sides]
    out = np.zeros((settings.n_starts, len(vector)))
    for margin, sign, share, (first, size) in zip(margins, outwards, shares.T, vector.groups, strict=True):
        known = np.isfinite(margin) & (np.abs(margin) < NO_MARGIN) & (table.weight[table.is_signal] > 0)
        if known.any():
            spare = weighted_quantiles(margin[known], table.weight[table.is_signal][known], share)
            knots = slice(first, first + size)
            out[:, knots] = -sign * spare[:, None] / vector.scale[knots]
    return jax.vmap(vector.project)(jnp.asarray(out, jnp.float32))


def climb(
    key: PRNGKeyArray,
    problem: Problem,
    vectors: Float[Array, "start parameter"],
    begin: float,
    *,
    limited: bool,
    part: Part | None = None,
    resample: Resample | None = None,
    on_step: OnStep | None = None,
) -> Trajectory:
    """Every look on the way up, from one start after the other.

    Args:
        key: of what is resampled.
        problem: what is tuned.
        vectors: starts.
        begin: CPU time when tuning began [s].
        limited: whether the constraints push; bounds always hold.
        part: events that steps are taken on; those to tune on if not given.
        resample: makes new events for the steps at every look.
        on_step: called with step, steps in all and the best hard figure.
    """
    n = problem.settings.n_steps
    rate = optax.cosine_decay_schedule(problem.settings.learning_rate, n, alpha=0.01)
    # beside limits Adam forgets sooner how steep the way was: a push of the past would keep later steps small
    adam = optax.adam(rate, b2=_MEMORY) if limited else optax.adam(rate)
    part = problem.tuning if part is None else part
    block = _make_block(problem, part, adam, limited=limited)

    def from_one(number: int, vector: Array) -> list[dict]:
        def told(step: int, best: float) -> None:
            if on_step is not None:
                on_step(number * n + step, len(vectors) * n, best)

        states = adam.init(vector)
        return _looks(
            key, problem, part, vector, states, block, begin, limited=limited, resample=resample, told=told
        )

    return _stacked([from_one(number, vector) for number, vector in enumerate(vectors)])


def _looks(key, problem, part, vector, state, block, begin, *, limited, resample, told) -> list[dict]:
    """Of one start: a look, some steps, and so on."""
    settings, n = problem.settings, problem.settings.n_steps
    n_limits = len(limits.limits_of(problem.constraints)) if limited else 0
    carry = (vector, state, jnp.zeros(n_limits))
    looks: list[dict] = []
    soft: list[float] = []  # of every step
    step, best, best_step = 0, -np.inf, 0
    while True:
        looks.append(_look(problem, part, carry[0], step, begin))
        recent = float(np.mean([look["validation"] for look in looks[-3:]]))
        if (limited and not looks[-1]["obeyed"]) or np.isnan(recent):
            recent = -np.inf
        if recent > best or step < LATE * n:
            best, best_step = (max(recent, best) if step >= LATE * n else recent), step
        told(step, best)
        if step >= n or step - best_step >= settings.patience:
            break
        if resample is not None and step > 0:
            problem.renew(resample(jax.random.fold_in(key, step)))
        steps = jnp.arange(step, min(step + settings.steps_per_check, n), dtype=jnp.float32)
        carry, figures = block(carry, steps, part.arrays)
        soft += np.asarray(figures).tolist()
        step += len(steps)
    for look in looks:
        look["soft"] = np.asarray(soft[min(int(look["step"]), step - 1)])
    return looks


def _stacked(runs: list[list[dict]]) -> Trajectory:
    """Of all starts; one that ended early stays where it was."""
    longest = max(runs, key=len)
    padded = [looks + [looks[-1]] * (len(longest) - len(looks)) for looks in runs]
    track = {name: np.stack([[look[name] for look in looks] for looks in padded], 1) for name in longest[0]}
    track["step"] = np.array([look["step"] for look in longest])
    track["softness"] = np.stack([look["softness"] for look in longest])
    return Trajectory(**track, n_steps=np.array([int(looks[-1]["step"]) for looks in runs]))


def _make_block(
    problem: Problem, part: Part, adam: optax.GradientTransformation, *, limited: bool
) -> Callable:
    """Some Adam steps, compiled; multipliers of the constraints move with them."""
    settings, vector = problem.settings, problem.vector
    penalised, scale = problem.evaluator.objective.penalise, _scale(problem)
    asked = limits.limits_of(problem.constraints) if limited else []
    equal = np.array([isinstance(c, limits.Efficiency) for c in asked], bool)
    last = problem.last_softness

    def log_excesses(kept):
        return jnp.asarray(limits.log_excesses(asked, problem.ratios(kept, part)))

    def pushes(multiplier, excesses):
        push = multiplier + _STIFFNESS * jnp.clip(excesses, jnp.where(equal, -_FAR, -jnp.inf), _FAR)
        return jnp.where(equal, push, jnp.maximum(push, 0.0))

    def moved(multiplier, excesses):
        # far outside it waits: what piles up on the way would push far beyond the limit
        change = jnp.where(jnp.where(equal, jnp.abs(excesses), excesses) > _FAR, 0.0, _GAIN * excesses)
        return jnp.where(equal, multiplier + change, jnp.maximum(multiplier + change, 0.0))

    def loss(v, softness, multiplier, arrays):
        figure = problem.soft(v, part, arrays, softness, penalised=penalised)
        value = -figure.value / scale + settings.smoothness * vector.cuts(v).roughness(problem.scales)
        excesses = jnp.zeros(0)
        if asked:
            nearly_hard = problem.soft(v, part, arrays, last, penalised=penalised)
            excesses = log_excesses(nearly_hard.kept)
            unit = jnp.maximum(jnp.abs(figure.value) / scale, _LEAST_FIGURE)
            push = jax.lax.stop_gradient(unit * pushes(multiplier, excesses))
            value = value + push @ log_excesses(figure.kept)
        return value, (figure.value, excesses)

    def block(carry, steps, arrays):
        def step(carry, number):
            v, state, multiplier = carry
            gradient, (figure, excesses) = jax.grad(loss, has_aux=True)(
                v, problem.softness(number), multiplier, arrays
            )
            # a start far outside may have no signal, and then no slope: it stays where it is
            update, state = adam.update(jnp.where(jnp.isfinite(gradient), gradient, 0.0), state)
            v = vector.project(jnp.asarray(optax.apply_updates(v, update)))
            return (v, state, moved(multiplier, excesses)), figure

        return jax.lax.scan(step, carry, steps)

    return jax.jit(block)


def _scale(problem: Problem) -> float:
    """Size of the figure, to measure penalties with: that of the given cuts, where it is not 0."""
    given = abs(float(problem.hard(jnp.zeros(len(problem.vector)), problem.tuning).value))
    return given if np.isfinite(given) and given > 1e-3 else 1.0


def _look(problem: Problem, part: Part, vector: Array, step: int, begin: float) -> dict:
    tuning, chosen = (problem.hard(vector, where) for where in (part, problem.validation))
    return {
        "step": np.asarray(step),
        "softness": np.asarray(problem.softness(min(step, problem.settings.n_steps - 1))),
        "hard": np.asarray(tuning.value),
        "validation": np.asarray(chosen.value),
        "efficiency": np.asarray(problem.efficiency(chosen.kept, problem.validation)),
        "obeyed": np.asarray(problem.obeyed(chosen.kept, problem.validation)),
        "values": np.asarray(problem.vector.values(vector)),
        "cpu_s": np.asarray(time.process_time() - begin),
    }
