"""Limits on cuts: one that the optimum obeys anyway changes nothing, one that binds is met."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim.selection import CutSet, Range
from inference.tuning import MaxBackground, MinEfficiency, Objective, Sample, Settings, tune
from inference.tuning import climb as climbing
from inference.tuning import constraints as limits
from inference.tuning.problem import Problem

QUICK = Settings(n_starts=1, steps_per_check=50, n_bootstrap=20)
KEY = jax.random.key(1)


def figure(signal, background, background_error):
    """s / sqrt(b + error^2 + 30)."""
    return jnp.sum(signal) / jnp.sqrt(jnp.sum(background + background_error**2) + 30.0)


OBJECTIVE = Objective(figure, background_error=0.05)
SHAPES = {"signal": (0.0, 1.0), "background": (1.5, 1.0)}


def samples(n=6000, seed=0):
    """A background beside the signal: the wide cuts keep over ten times as much of it as the best."""
    random = np.random.default_rng(seed)
    return {
        name: Sample({c: random.normal(*shape, size=n) for c in "xy"}, 20.0 if name == "signal" else 400.0,
                     name == "signal")
        for name, shape in SHAPES.items()
    }  # fmt: skip


def wide_cuts():
    return CutSet((Range(name="x", column="x", low=-4.0, high=4.0), Range(name="y", column="y", high=4.0)))


def problem_of(constraints):
    """As `tune` divides the events."""
    random = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(KEY, 0))))
    return Problem(random, wide_cuts(), samples(), OBJECTIVE, constraints, QUICK, None)


@pytest.fixture(scope="module")
def free():
    return tune(KEY, wide_cuts(), samples(), OBJECTIVE, settings=QUICK)


def test_limits_that_the_optimum_obeys_change_nothing(free):
    kept = free.held_out.kept["background"]
    assert free.held_out.kept_given["background"] > 10 * kept
    slack = [MaxBackground(2 * kept), MinEfficiency(0.7 * free.held_out.efficiency)]
    tuned = tune(KEY, wide_cuts(), samples(), OBJECTIVE, slack, settings=QUICK)
    np.testing.assert_array_equal(tuned.values, free.values)
    assert tuned.trajectory_without_limits is None  # one climb was enough


def climbed(constraints):
    """Where steps that are pushed by the constraints end: hard figure and share of the signal."""
    problem = problem_of(constraints)
    start = jnp.zeros((1, len(problem.vector)))
    looks = climbing.climb(KEY, problem, start, 0.0, limited=True)
    return float(looks.validation[-1, 0]), float(looks.efficiency[-1, 0])


def test_a_limit_lets_go_once_it_is_obeyed(free, monkeypatch):
    limit = [MaxBackground(1.5 * free.held_out.kept["background"])]
    best = free.trajectory.validation[-1, 0]
    assert climbed(limit)[0] > 0.97 * best
    # the twin: a push that grows with the excess itself, read as soft as the steps are, ends in a corner
    monkeypatch.setattr(climbing.limits, "log_excesses", limits.excesses)
    monkeypatch.setattr(climbing, "_FAR", np.inf)
    monkeypatch.setattr(climbing, "_STIFFNESS", 10.0)
    monkeypatch.setattr(Problem, "last_softness", property(lambda self: self.softness(0)))
    assert not climbed(limit)[0] > 0.97 * best


@pytest.mark.parametrize(
    "limit", [MaxBackground(10.0), pytest.param(MinEfficiency(0.9), marks=pytest.mark.slow)]
)
def test_a_limit_that_binds_is_met_on_the_events_to_choose_on(free, limit):
    tuned = tune(KEY, wide_cuts(), samples(), OBJECTIVE, [limit], settings=QUICK)
    assert tuned.trajectory_without_limits is not None
    (verdict,) = tuned.verdicts
    found = tuned.held_out.efficiency if verdict.asked < 1 else tuned.held_out.kept["background"]
    assert verdict.held_out == pytest.approx(found, rel=1e-5)
    assert verdict.met == ((found >= limit.value) if verdict.asked < 1 else (found <= limit.value))
    assert ("NOT met" in tuned.message) != verdict.met
    problem = problem_of([limit])
    at, was = (problem.vector.of_values(found.values) for found in (tuned, free))
    assert problem.obeys(at)
    assert problem.obeyed(problem.hard(at, problem.validation).kept, problem.validation)
    assert not problem.obeys(was)  # the twin: the free optimum breaks it

    # and little more is given away than must be: an event to choose on is worth 0.27, fixed by the seed
    test = {name: s.columns for name, s in samples(100_000, seed=9).items()}

    def on_test(x_low, x_high, y_high):
        s, b = (
            scale * np.mean((c["x"] > x_low) & (c["x"] < x_high) & (c["y"] < y_high))
            for scale, c in zip((20.0, 400.0), test.values(), strict=True)
        )
        fits = s / 20 >= limit.value if isinstance(limit, MinEfficiency) else b <= limit.value
        return fits, s / np.sqrt(b + (0.05 * b) ** 2 + 30)

    grid = [on_test(-4.0, x, y) for x in np.linspace(0, 4, 21) for y in np.linspace(0, 4, 21)]
    best = max(value for fits, value in grid if fits)
    assert on_test(*tuned.values)[1] > 0.95 * best
