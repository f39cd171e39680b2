"""Tune cuts by the gradient of a soft figure of merit, and judge them as hard cuts.

Every margin is measured in spreads of the signal; a log-sigmoid a side makes it a probability. The softness
falls geometrically while Adam's steps decay, so that the figure that is climbed turns into that of hard cuts.
Several starts run. The best is chosen by the hard figure on events that no step has seen, and climbed from
once more on these events as well. Bisection on hard cuts brings them to what the constraints ask for. They
are judged on events that no step and no choice has seen.
"""

import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from inference.tuning.climb import LATE, climb, starts
from inference.tuning.constraints import Constraint, Efficiency, limits_of
from inference.tuning.figures import bootstrap, interval
from inference.tuning.objective import Objective
from inference.tuning.problem import Problem
from inference.tuning.restore import restore
from inference.tuning.result import HeldOut, Settings, Trajectory, TunedCuts
from inference.tuning.samples import Samples
from inference.tuning.vector import Cuts
from inference.tuning.verdicts import in_words, verdicts

_N_RESTORED = 5  # candidates that are brought to obey the constraints before the last choice
_FAR_MOVED = 0.5  # spreads of the signal, assumed: more than the noise of a sample's counts


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
    first = starts(problem, random)
    climbs, best, moved = [], jnp.zeros(len(problem.vector)), 0.0
    start = first[0]  # of the best
    on_all = settings.again_on_all and resample is None
    at_once = on_all and len(first) == 1  # there is nothing to choose
    ways = {"begin": begin, "on_step": on_step, "resample": resample}
    ways |= {"part": problem.both} if at_once else {}
    if not any(isinstance(c, Efficiency) for c in problem.constraints):
        climbs.append(climb(key, problem, first, limited=False, **ways))
        if at_once:
            best = problem.vector.of_values(climbs[0].values[-1, 0])
        else:
            ranked, of_start = _by_figure(problem, climbs[0])
            best, start = ranked[0], first[of_start[0]]
    limited = not (climbs and problem.obeys(best))
    if limited:
        # limits that the free optimum obeys anyway never get here: they change nothing
        first = first.at[0].set(best) if climbs else first
        climbs.append(climb(key, problem, first, limited=True, **ways))
        best, moved = _obeying(problem, climbs[-1], best)
        start = best
    again = None
    if on_all and not at_once:
        again = climb(key, problem, start[None], limited=limited, **ways, part=problem.both)
        best, moved = _better(problem, again, best, moved, limited=limited)
    return _judge(random, problem, best, climbs, again, moved, begin)


def _better(
    problem: Problem, looks: Trajectory, best: Array, moved: float, *, limited: bool
) -> tuple[Array, float]:
    """The end of the climb on all events, if it obeys and has the better hard figure there; else the best."""
    end = problem.vector.of_values(looks.values[-1, 0])
    restored = restore(problem, end) if limited else end
    figure, before = (float(problem.hard(v, problem.both).value) for v in (restored, best))
    if not (figure > before and problem.obeys(restored)):
        return best, moved
    return restored, float(jnp.max(jnp.abs(restored - end)))


def _by_figure(problem: Problem, looks: Trajectory) -> tuple[Array, np.ndarray]:
    """Vectors of all looks, the best hard figure on the events to choose on first; and the start of each."""
    vectors = problem.vector.of_values(looks.values.reshape(-1, len(problem.vector)))  # by look, then start
    figures = _smoothed(np.nan_to_num(looks.validation, nan=-np.inf, posinf=-np.inf))
    figures[looks.step < LATE * problem.settings.n_steps] = -np.inf
    order = np.argsort(-figures.reshape(-1), kind="stable")
    return vectors[order], order % figures.shape[1]


def _obeying(problem: Problem, looks: Trajectory, free: Array) -> tuple[Array, float]:
    """The best hard figure on the events to choose on, of those brought to obey; and by how far it was moved.

    Raises:
        ValueError: if none can be.
    """
    ends = problem.vector.of_values(looks.values[-1])
    tried = [jnp.zeros_like(free), free, *ends, *_by_figure(problem, looks)[0][:_N_RESTORED]]
    tried = list({tuple(v.tolist()): v for v in tried}.values())
    restored = [restore(problem, v) for v in tried]
    obeys = np.array([problem.obeys(v) for v in restored])
    if not obeys.any():
        found = problem.hard(restored[0], problem.both).kept
        kept = dict(zip(problem.evaluator.names, found.tolist(), strict=True))
        counts = ", ".join(f"{name} {events:.4g}" for name, events in kept.items())
        asked = ", ".join(in_words(c) for c in limits_of(problem.constraints))
        raise ValueError(
            "constraints contradict each other on these events: no cuts were found that obey "
            f"{asked}; the given cuts, moved towards it, keep {counts} events"
        )
    chosen = np.array([problem.hard(v, problem.validation).value for v in restored])
    number = int(np.argmax(np.where(obeys, chosen, -np.inf)))
    return restored[number], float(jnp.max(jnp.abs(restored[number] - tried[number])))


def _smoothed(figures: np.ndarray) -> np.ndarray:
    """Mean of three looks of each start: the best of many noisy figures is the luckiest one."""
    padded = np.concatenate([figures[:1], figures, figures[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def _judge(random, problem: Problem, best: Array, climbs, again, moved: float, begin) -> TunedCuts:
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
        if problem.obeys(given):
            improved, best, now = False, given, old
            message = (
                f"tuned cuts were no better on held-out events ({figures}): the given cuts are handed back"
            )
        else:
            message = (
                "given cuts do not obey the constraints; the tuned ones do where they were chosen, at a "
                f"lower figure ({figures})"
            )
    judged = verdicts(problem, best)
    broken = [v.text for v in judged if not v.met]
    if moved > _FAR_MOVED and improved:
        message += (
            f"; steps ended away from the constraints: bisection alone moved thresholds by up to {moved:.2g} "
            "spreads of the signal to obey them, so they may not be the best"
        )
    if broken:
        message += f"; but {'; '.join(broken)}"
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
        verdicts=judged,
        trajectory=climbs[-1],
        trajectory_without_limits=climbs[0] if len(climbs) > 1 else None,
        trajectory_on_all=again,
        n_gradients=sum(int(c.n_steps.sum()) for c in [*climbs, *([] if again is None else [again])]),
        n_hard=problem.n_hard,
        cpu_s=time.process_time() - begin,
        settings=settings,
    )
