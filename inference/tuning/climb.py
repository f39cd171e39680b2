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

from inference.tuning import constraints as limits
from inference.tuning.problem import Problem
from inference.tuning.result import Trajectory

_STIFFNESS = 2.0  # assumed: push of a limit broken by a factor e, over the figure's relative slope
_GAIN = 0.2  # assumed: of a multiplier in a step; a tenth of the stiffness, Adam's memory of the slope
_MEMORY = 0.95  # assumed: of Adam's squares beside limits, 20 steps
_FAR = 1.0  # in logarithms, where the push stops to grow
_LEAST_FIGURE = 1e-3  # of the first: below it limits push as if it were this, else nothing would push at all
LATE = 0.75  # share of the steps after which the softness no longer shifts thresholds by much

OnStep = Callable[[int, int, float], None]
Resample = Callable[[PRNGKeyArray], dict]


def starts(problem: Problem, random: np.random.Generator) -> Float[Array, "start parameter"]:
    """The given cuts, and others: each parameter shifted, knots together and a little one by one."""
    settings, vector = problem.settings, problem.vector
    out = np.zeros((settings.n_starts, len(vector)))
    for start in out[1:]:
        for first, size in vector.groups:
            start[first : first + size] = settings.start_spread * (
                random.normal() + (0.2 * random.normal(size=size) if size > 1 else 0.0)
            )
    return jax.vmap(vector.project)(jnp.asarray(out, jnp.float32))


def climb(
    key: PRNGKeyArray,
    problem: Problem,
    vectors: Float[Array, "start parameter"],
    begin: float,
    *,
    limited: bool,
    resample: Resample | None = None,
    on_step: OnStep | None = None,
) -> Trajectory:
    """Every look on the way up.

    Args:
        key: of what is resampled.
        problem: what is tuned.
        vectors: starts.
        begin: CPU time when tuning began [s].
        limited: whether the constraints push; bounds always hold.
        resample: makes new events for the steps at every look.
        on_step: called with step, steps in all and the best hard figure.
    """
    settings, n = problem.settings, problem.settings.n_steps
    rate = optax.cosine_decay_schedule(settings.learning_rate, n, alpha=0.01)
    # beside limits Adam forgets sooner how steep the way was: a push of the past would keep later steps small
    adam = optax.adam(rate, b2=_MEMORY) if limited else optax.adam(rate)
    block = _make_block(problem, adam, limited=limited)
    states = jax.vmap(adam.init)(vectors)
    n_limits = len(limits.limits_of(problem.constraints)) if limited else 0
    multipliers = jnp.zeros((len(vectors), n_limits))
    looks: list[dict] = []
    soft: list[np.ndarray] = []  # of every step
    step, best, best_step = 0, -np.inf, 0
    while True:
        looks.append(_look(problem, vectors, step, begin))
        recent = np.mean([look["validation"] for look in looks[-3:]], axis=0)
        if limited:
            recent = np.where(looks[-1]["obeyed"], recent, -np.inf)
        now = float(np.nanmax(recent))
        if now > best or step < LATE * n:
            best, best_step = max(now, best) if step >= LATE * n else now, step
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
    return Trajectory(**track)


def _make_block(problem: Problem, adam: optax.GradientTransformation, *, limited: bool) -> Callable:
    """Some Adam steps from each start, compiled; multipliers of the constraints move with them."""
    settings, part, vector = problem.settings, problem.tuning, problem.vector
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

    def from_one_start(carry, steps, arrays):
        def step(carry, number):
            v, state, multiplier = carry
            gradient, (figure, excesses) = jax.grad(loss, has_aux=True)(
                v, problem.softness(number), multiplier, arrays
            )
            # a start far outside may have no signal, and then no slope: it stays where it is
            update, state = adam.update(jnp.where(jnp.isfinite(gradient), gradient, 0.0), state)
            v = vector.project(jnp.asarray(optax.apply_updates(v, update)))
            return (v, state, moved(multiplier, excesses)), figure

        (v, state, multiplier), figures = jax.lax.scan(step, carry, steps)
        return v, state, multiplier, figures

    # one start after the other: side by side they would only need more memory
    return jax.jit(
        lambda carry, steps, arrays: jax.lax.map(lambda one: from_one_start(one, steps, arrays), carry)
    )


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
