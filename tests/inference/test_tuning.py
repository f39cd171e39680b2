"""Tuning of cuts on toys whose optimum is known, its constraints, and what it refuses."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim.selection import Curve, CutSet, Range
from dmsim.selection.merit import binned_significance
from inference.tuning import (
    Bounds,
    Efficiency,
    MaxBackground,
    MinEfficiency,
    Objective,
    Sample,
    Settings,
    tune,
)
from inference.tuning.acceptance import hard, log_acceptance, soft
from inference.tuning.figures import Evaluator
from inference.tuning.samples import join

QUICK = Settings(n_steps=80, n_starts=1, steps_per_check=20, n_bootstrap=50)
KEY = jax.random.key(1)
NO_NUMBER = np.full(9, np.nan)


def figure(signal, background, background_error):
    """s / sqrt(b + error^2): enough for tests of the tuner, and free of the figures' own laws."""
    return jnp.sum(signal) / jnp.sqrt(jnp.sum(background + background_error**2) + 1.0)


OBJECTIVE = Objective(figure, background_error=0.05)


def normal_samples(n=4000, seed=0):
    """Signal N(0, 1), background N(1.5, 2), both in x and y."""
    random = np.random.default_rng(seed)
    return {
        "signal": Sample({c: random.normal(size=n) for c in "xy"}, 20.0, signal=True),
        "background": Sample({c: random.normal(1.5, 2.0, size=2 * n) for c in "xy"}, 400.0),
    }


@pytest.fixture(scope="module")
def free():
    """Tuned without constraints."""
    return tune(KEY, wide_cuts(), normal_samples(), OBJECTIVE, settings=QUICK)


def wide_cuts():
    return CutSet((Range(name="x", column="x", low=-4.0, high=4.0), Range(name="y", column="y", high=4.0)))


def test_soft_acceptance_becomes_hard_and_its_gradient_is_exact(x64):
    random = np.random.default_rng(0)
    margins = [jnp.asarray(random.normal(size=50)) for _ in range(3)]
    truth = np.exp(sum(-np.log1p(np.exp(-np.asarray(m) / 0.3)) for m in margins))
    np.testing.assert_allclose(soft(margins, [0.3] * 3), truth, rtol=1e-12)
    np.testing.assert_array_equal(soft(margins, [1e-9] * 3) > 0.5, hard(margins))

    def total(shift):
        return jnp.sum(soft([m + shift for m in margins], [0.3] * 3))

    finite = (total(1e-5) - total(-1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(total)(0.0), finite, rtol=1e-8)
    # far outside of many cuts nothing overflows, and the slope is that of the logarithm
    far = [jnp.full(1, -1e4)] * 5
    assert float(log_acceptance(far)[0]) == pytest.approx(-5e4)
    assert float(jax.grad(lambda s: log_acceptance([m + s for m in far])[0])(0.0)) == pytest.approx(5.0)
    many = [jnp.zeros(1)] * 203  # more than one product holds
    assert float(log_acceptance(many)[0]) == pytest.approx(-203 * np.log(2))


def test_finds_the_optimum_that_a_grid_finds(free):
    tuned = free
    test = normal_samples(100_000, seed=9)

    def on_test(x_low, x_high, y_high):
        kept = {
            name: s.expected
            * np.mean((s.columns["x"] > x_low) & (s.columns["x"] < x_high) & (s.columns["y"] < y_high))
            for name, s in test.items()
        }
        b = kept["background"]
        return kept["signal"] / np.sqrt(b + (0.05 * b) ** 2 + 1)

    grid = np.linspace(-3, 3, 13)
    best = max(on_test(a, b, c) for a in grid for b in grid if b > a for c in grid)
    assert on_test(*tuned.values) > 0.98 * best
    assert not on_test(*tuned.values_given) > 0.8 * best  # the twin: wide cuts would not pass for tuned
    assert tuned.improved
    assert tuned.held_out.gain.low > 0.2
    assert abs(tuned.held_out.soft_hard_gap) < 0.02
    assert tuned.held_out.figure.low < on_test(*tuned.values) * 1.1
    assert isinstance(tuned.cuts, CutSet)
    assert tuned.trajectory.values.shape[1:] == (1, 3)


@pytest.mark.quick_compile
def test_a_threshold_far_from_all_events_is_found(monkeypatch):
    far = CutSet((Range(name="x", column="x", low=-900.0, high=900.0), Range(name="y", column="y", high=4.0)))
    settings = dataclasses.replace(QUICK, n_bootstrap=2)
    tuned = tune(KEY, far, normal_samples(2000), OBJECTIVE, settings=settings)
    assert (np.abs(tuned.values) < 4).all()
    # with one start there is nothing to choose: it is climbed from on all events but the held-out ones
    assert tuned.n_gradients == settings.n_steps
    assert tuned.trajectory_on_all is None

    # the twin: from where they are given, the slope of the first two is zero
    module = sys.modules["inference.tuning.tune"]  # the package's name is that of the function
    monkeypatch.setattr(module, "starts", lambda problem, random: jnp.zeros((1, 3)))
    stuck = tune(KEY, far, normal_samples(2000), OBJECTIVE, settings=settings)
    assert (np.abs(stuck.values[:2]) > 800).all()


@pytest.mark.quick_compile
def test_the_start_that_is_chosen_is_climbed_from_again_on_all_events():
    settings = dataclasses.replace(QUICK, n_starts=2, n_bootstrap=2)
    tuned = tune(KEY, wide_cuts(), normal_samples(2000), OBJECTIVE, settings=settings)
    again = tuned.trajectory_on_all
    assert again is not None
    assert tuned.n_gradients == tuned.trajectory.n_steps.sum() + again.n_steps[0]
    assert tuned.trajectory.hard.shape[1:] == (2,)
    np.testing.assert_allclose(tuned.values, again.values[-1, 0], rtol=1e-5)
    parts = dataclasses.replace(settings, again_on_all=False)
    assert tune(KEY, wide_cuts(), normal_samples(2000), OBJECTIVE, settings=parts).trajectory_on_all is None


@pytest.mark.parametrize(
    ("constraints", "obeys"),
    [
        ([Efficiency(0.7)], lambda eff, kept: abs(eff - 0.7) < 0.03),
        ([MinEfficiency(0.9)], lambda eff, kept: eff > 0.88),
        ([MaxBackground(20.0)], lambda eff, kept: kept < 23),
        ([Bounds("x.high", 2.0, 5.0)], lambda eff, kept: True),
    ],
    ids=["efficiency", "at least", "background", "bounds"],
)
def test_constraints_are_obeyed(constraints, obeys, free):
    tuned = tune(KEY, wide_cuts(), normal_samples(), OBJECTIVE, constraints, settings=QUICK)
    # binomial errors on 1,000 held-out signal events are 0.015, on 100 background events of 0.2: two of them
    assert obeys(tuned.held_out.efficiency, tuned.held_out.kept["background"])
    assert tuned.values[tuned.names.index("x.high")] >= (2.0 if isinstance(constraints[0], Bounds) else -4.0)
    eff, kept = free.held_out.efficiency, free.held_out.kept["background"]
    violated = not obeys(eff, kept) or free.values[free.names.index("x.high")] < 2.0
    assert violated  # the twin: without the constraint it would not hold
    if isinstance(constraints[0], Efficiency):
        on_both = [
            np.mean(tuned.cuts.passes({c: v for c, v in s.columns.items()}))
            for s in normal_samples().values()
            if s.signal
        ]
        assert abs(on_both[0] - 0.7) < 0.01


def test_curves_follow_where_the_signal_goes_and_stay_smooth():
    random = np.random.default_rng(3)
    e = random.uniform(0, 1, 8000)
    signal = Sample({"e": e, "x": random.normal(2 * e, 0.3)}, 20.0, signal=True)
    e = random.uniform(0, 1, 16000)
    background = Sample({"e": e, "x": random.normal(2 * e + 1.0, 0.5)}, 400.0)
    samples = {"signal": signal, "background": background}
    flat = CutSet((Range(name="x", column="x", high=2.0),))
    bent = CutSet((Range(name="x", column="x", high=Curve("e", (0.0, 0.5, 1.0), [2.0, 2.0, 2.0])),))
    flat_figure, bent_figure = (
        tune(KEY, cuts, samples, OBJECTIVE, settings=QUICK).held_out.figure for cuts in (flat, bent)
    )
    assert bent_figure.low > 1.1 * flat_figure.high
    stiff = dataclasses.replace(QUICK, smoothness=1.0)
    values = tune(KEY, bent, samples, OBJECTIVE, settings=stiff).values
    assert abs(values[0] - 2 * values[1] + values[2]) < 0.05


def test_counts_in_bins_and_of_weighted_events_agree_hard_and_soft():
    random = np.random.default_rng(4)
    samples = normal_samples(500)
    background = samples["background"]
    weighted = dataclasses.replace(background, weight=random.uniform(0, 2, len(background)))
    samples["background"] = weighted
    edges = (-3.0, 0.0, 1.0, 3.0)
    objective = Objective(binned_significance, background_error=0.1, bins=("y", edges), penalise=False)
    cuts = wide_cuts().replaced(Range(name="x", column="x", low=-1.0, high=1.0))
    table = join(samples, cuts, objective.columns)
    evaluator = Evaluator(objective, table.names, table.signal)
    found = evaluator.hard(cuts, table, objective.bin_of(table), penalised=False)

    def histogram(name):
        s = samples[name]
        x, y, n = s.columns["x"], s.columns["y"], len(s)
        weight = s.expected * (np.ones(n) / n if s.weight is None else s.weight / s.weight.sum())
        return np.histogram(y[abs(x) < 1], edges, weights=weight[abs(x) < 1])[0]

    b = histogram("background")
    expected = binned_significance(histogram("signal"), b, 0.1 * b)
    assert float(found.value) == pytest.approx(float(expected), rel=1e-5)
    arrays, sizes, floor = evaluator.arrays(table)
    soft_one = evaluator.soft(cuts, arrays, sizes, floor, [1e-6] * 3, penalised=False)
    assert float(soft_one.value) == pytest.approx(float(expected), rel=1e-4)
    np.testing.assert_allclose(soft_one.kept, found.kept, rtol=1e-4)
    # the penalty is one event of the background and its squared weights, which only lower the figure
    assert evaluator.hard(cuts, table, objective.bin_of(table), penalised=True).value < found.value


def test_given_cuts_come_back_if_tuning_makes_nothing_better(free):
    best = free.cuts
    poor = Settings(n_steps=1, n_starts=1, learning_rate=1e-9, n_bootstrap=10)
    again = tune(KEY, best, normal_samples(seed=5), OBJECTIVE, settings=poor)
    assert not again.improved
    assert again.held_out.gain.value == 0
    assert "handed back" in again.message
    np.testing.assert_array_equal(again.values, again.values_given)


def _replaced(name, **fields):
    samples = normal_samples(200)
    return samples | {name: dataclasses.replace(samples[name], **fields)}


@pytest.mark.parametrize(
    ("change", "constraints", "words"),
    [
        ({"samples": _replaced("signal", columns={"x": np.zeros(5)})}, (), "'signal': cut y needs column y"),
        ({"samples": _replaced("signal", weight=np.zeros(200))}, (), "'signal': all weights are zero"),
        ({"samples": _replaced("background", weight=np.full(400, -1.0))}, (), "weight of event 0 is -1.0"),
        (
            {"samples": _replaced("signal", columns={"x": np.full(9, np.nan), "y": np.zeros(9)})},
            (),
            "x is NaN in row 0",
        ),
        ({"samples": _replaced("signal", expected=-1.0)}, (), "expected is -1.0 events"),
        ({"samples": _replaced("signal", signal=False)}, (), "hold no signal"),
        ({"cuts": CutSet((Range(name="x", column="x", low=99.0),))}, (), "no signal is left: cut 'x'"),
        ({}, [Bounds("x.high", 3.0), Bounds("x.high", -9.0, 2.0)], "x.high contradict"),
        ({}, [Bounds("z.high", 3.0)], "'z.high', which is no parameter"),
        ({}, [Efficiency(0.5), MinEfficiency(0.6)], "efficiency is 0.5 and at least 0.6"),
        ({}, [MinEfficiency(0.9), MaxBackground(0.5)], "no cuts were found that obey"),
        ({}, [MaxBackground(0.5, sample="dust")], "samples are signal, background"),
    ],
)
def test_bad_input_is_named(change, constraints, words):
    given = {"cuts": wide_cuts(), "samples": normal_samples(200)} | change
    settings = Settings(n_steps=2, n_starts=1, n_bootstrap=2)
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        tune(KEY, given["cuts"], given["samples"], OBJECTIVE, constraints, settings=settings)
