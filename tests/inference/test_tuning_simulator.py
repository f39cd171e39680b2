"""Events that move with the detector: nuisance parameters in the figure, gradients through the simulator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from dmsim.selection import CutSet, Range
from dmsim.selection.merit import asimov_significance
from inference.tuning import Objective, Sample, Settings, tune
from inference.tuning.problem import Problem
from inference.tuning.simulator import (
    areas_simulator,
    figure_and_gradient,
    soft_figure,
    values_of,
    with_nuisances,
)

OBJECTIVE = Objective(asimov_significance, background_error=0.0)
KEY = jax.random.key(2)


def resimulate(key, parameters, n=20_000):
    """Signal N(0, 1) in x and y; background N(2 + shift, 1) in x and N(2, 1) in y."""
    draws = jax.random.normal(key, (4, n))
    return {
        "signal": Sample({"x": draws[0], "y": draws[1]}, 20.0, signal=True),
        "background": Sample({"x": draws[2] + 2 + parameters["shift"], "y": draws[3] + 2}, 400.0),
    }


CUTS = CutSet((Range(name="x", column="x", high=1.5), Range(name="y", column="y", high=1.5)))


def test_gradient_through_a_simulator_against_finite_differences(x64):
    value, thresholds, parameters = figure_and_gradient(KEY, CUTS, resimulate, {"shift": 0.0}, OBJECTIVE)
    vector, figure = soft_figure(KEY, CUTS, resimulate, {"shift": 0.0}, OBJECTIVE)
    assert vector.names == ("x.high", "y.high")

    def at(shift, high=1.5):
        return float(figure(jnp.array([high, 1.5]), {"shift": shift}))

    assert value == pytest.approx(at(0.0))
    assert parameters["shift"] == pytest.approx((at(0.01) - at(-0.01)) / 0.02, rel=1e-3)
    finite = (at(0.0, 1.51) - at(0.0, 1.49)) / 0.02
    assert thresholds["x.high"] == pytest.approx(finite, rel=2e-3)
    assert parameters["shift"] > 0 > thresholds["x.high"] - 10  # more distance, more significance


def test_a_nuisance_parameter_enters_the_error_of_the_background():
    moving = with_nuisances(KEY, resimulate, {"shift": 0.0}, {"shift": 0.5})
    np.testing.assert_allclose(moving["background"].tangents["shift"]["x"], 0.5)
    np.testing.assert_allclose(moving["background"].tangents["shift"]["y"], 0.0)
    np.testing.assert_allclose(moving["signal"].tangents["shift"]["x"], 0.0)
    problem = Problem(np.random.default_rng(0), CUTS, moving, OBJECTIVE, (), Settings(), moving)
    found = problem.hard(jnp.zeros(2), problem.held_out, penalised=False)

    def background(shift):
        columns = resimulate(KEY, {"shift": shift})["background"].columns
        return 400.0 * np.mean(CUTS.passes({c: np.asarray(v) for c, v in columns.items()}))

    signal, kept = found.kept
    assert kept == pytest.approx(background(0.0), rel=1e-5)
    error = 5 * (background(-0.1) - background(0.1)) / 2  # a tenth of the width, where it is linear
    # the slope is that of soft cuts, the difference that of 600 events that move over a threshold: 5 %
    (slope,) = problem.shifts(jnp.zeros(2), problem.held_out)
    assert -slope[0] == pytest.approx(error, rel=0.1)
    assert float(found.value) == pytest.approx(float(asimov_significance(signal, kept, -slope[0])), rel=1e-5)
    assert found.value < 0.5 * asimov_significance(signal, kept)  # the twin: without the nuisance parameter


@pytest.mark.slow
def test_events_can_be_made_anew_for_the_steps():
    settings = Settings(n_steps=40, n_starts=1, steps_per_check=10, n_bootstrap=20)
    samples = resimulate(KEY, {"shift": 0.0}, n=2000)

    def fresh(key):
        return resimulate(key, {"shift": 0.0}, n=2000)

    again = tune(KEY, CUTS, samples, OBJECTIVE, settings=settings, resample=fresh)
    assert again.held_out.gain.value > -0.05

    def moving(key, n=2000):
        return with_nuisances(key, lambda key, at: resimulate(key, at, n), {"shift": 0.0}, {"shift": 0.5})

    # made anew, and the shift profiled at once
    ways = {"settings": settings, "resample": moving, "held_out": moving(jax.random.key(9), 20_000)}
    tuned = tune(KEY, CUTS, moving(KEY), OBJECTIVE, **ways)
    assert tuned.held_out.figure.low > 2 * tuned.held_out.given.high
    few = resimulate(KEY, {"shift": 0.0}, n=10)
    with pytest.raises(ValueError, match="resample gave 10 events"):
        tune(KEY, CUTS, samples, OBJECTIVE, settings=settings, resample=lambda key: few)


def before_the_last(key, parameters, n=400_000):
    """x is the mean of what is measured; its last stage has the standard deviation `width`."""
    draws = 0.5 * jax.random.normal(key, (2, n))
    sigma = jnp.full(n, parameters["width"])
    return {
        "signal": Sample({"x": draws[0] + parameters["shift"], "sigma": sigma}, 1.0, signal=True),
        "background": Sample({"x": draws[1] + 2, "sigma": sigma}, 1.0),
    }


def test_gradient_of_hard_cuts_behind_a_normal_last_stage(x64):
    """Against differences of hard counts, all random numbers the same."""
    at, key, n = {"shift": 0.0, "width": 1.0}, jax.random.key(5), 400_000
    last = np.asarray(jax.random.normal(jax.random.key(6), n))

    def kept(high=0.5, **moved):
        columns = before_the_last(key, at | moved)["signal"].columns
        return np.mean(np.asarray(columns["x"]) + np.asarray(columns["sigma"]) * last < high)

    cuts = CutSet((Range(name="x", column="x", high=0.5),))
    share = Objective(lambda signal, background, error: jnp.sum(signal))
    vector, figure = soft_figure(key, cuts, before_the_last, at, share, last_stage={"x": "sigma"})
    of_both = jax.jit(jax.value_and_grad(figure, argnums=(0, 1)))

    def slopes(**moved):
        here = {name: jnp.asarray(number) for name, number in (at | moved).items()}
        value, (thresholds, parameters) = of_both(jnp.array(vector.origin), here)
        return value, {"high": thresholds[0], **parameters}

    value, ours = slopes()
    # standard deviation of the share with 400,000 events: 0.0008; five of them happen 6e-7 of the time
    assert value == pytest.approx(kept(), abs=0.004)
    step = 0.05
    differences = {
        "high": kept(0.5 + step) - kept(0.5 - step),
        "shift": kept(shift=step) - kept(shift=-step),
        "width": kept(width=1 + step) - kept(width=1 - step),
    }
    # some 13,000 events cross: 0.9 % of the first two, 2 % of the third; 5 or more of these 2e-6 of the time
    for name, tolerance in {"high": 0.05, "shift": 0.05, "width": 0.1}.items():
        assert ours[name] == pytest.approx(differences[name] / (2 * step), rel=tolerance)

    # the twins: a last stage that is a fifth too narrow or too wide (13 and 10 % of the slope), and soft cuts
    truth = differences["high"] / (2 * step)
    assert slopes(width=0.8)[1]["high"] != pytest.approx(truth, rel=0.05)
    assert slopes(width=1.2)[1]["high"] != pytest.approx(truth, rel=0.05)
    _, soft, _ = figure_and_gradient(key, cuts, before_the_last, at, share)
    assert soft["x.high"] != pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize(
    ("last_stage", "words"),
    [({"z": "sigma"}, "last_stage names 'z': cuts are x, y"), ({"x": "sigma"}, "cut 'y' reads x as well")],
)
def test_last_stages_that_are_not_known_are_refused(last_stage, words):
    cuts = CutSet((Range(name="x", column="x", high=0.5), Range(name="y", column="x", low=-9.0)))
    with pytest.raises(ValueError, match=words):
        soft_figure(
            KEY, cuts, before_the_last, {"shift": 0.0, "width": 1.0}, OBJECTIVE, last_stage=last_stage
        )


def test_bad_widths_are_named():
    with pytest.raises(ValueError, match="width of 'g1'"):
        with_nuisances(KEY, resimulate, {"shift": 0.0}, {"g1": 1.0})
    with pytest.raises(ValueError, match="softness is 0"):
        figure_and_gradient(KEY, CUTS, resimulate, {"shift": 0.0}, OBJECTIVE, softness=0.0)


@pytest.mark.slow
def test_gradient_in_g1_through_areas():
    detector = dmsim.load_detector("xenonnt")
    n = 16_384
    deposits = {
        "er": dmsim.sources.er_flat(KEY, detector, energy_max_kev=8.0, n_events=n),
        "nr": dmsim.sources.nr_flat(KEY, detector, energy_max_kev=30.0, n_events=n),
    }
    simulator = areas_simulator(
        detector, deposits, {"er": 400.0, "nr": 20.0}, signal="nr", min_s1_pe=2.0, min_s2_pe=100.0
    )
    cuts = CutSet(
        (
            Range(name="ratio", column="log10_cs2_over_cs1", high=1.8, missing="fail"),
            Range(name="s1", column="cs1_pe", low=5.0, high=80.0),
        )
    )
    at = {name: float(v) for name, v in values_of(detector, {"g1": 0.0}).items()}
    vector, figure = soft_figure(KEY, cuts, simulator, at, OBJECTIVE, softness=0.3)
    start = jnp.asarray(vector.origin, jnp.float32)
    slopes = jax.grad(figure, argnums=1)(start, {"g1": jnp.asarray(at["g1"])})
    step = 0.03 * at["g1"]
    high, low = (float(figure(start, {"g1": jnp.asarray(at["g1"] + s)})) for s in (step, -step))
    # common random numbers leave a few percent of noise on the difference of counts
    assert float(slopes["g1"]) == pytest.approx((high - low) / (2 * step), rel=0.15)
    moved = with_nuisances(KEY, simulator, at, {"g1": step})
    assert np.isfinite(moved["er"].tangents["g1"]["cs1_pe"]).all()
    assert moved["er"].tangents["g1"]["cs1_pe"].mean() == pytest.approx(
        0.03 * moved["er"].columns["cs1_pe"].mean(), rel=0.05
    )


@pytest.mark.slow
def test_s1_charge_is_a_last_stage_of_areas():
    """Hard cuts on S1: their share, and its slope in the thresholds and in the charges' spread."""
    detector, n, cuts = (
        dmsim.load_detector("xenonnt"),
        65_536,
        CutSet((Range(name="s1", column="cs1_pe", low=6.0),)),
    )
    deposits = {
        "er": dmsim.sources.er_flat(KEY, detector, energy_max_kev=4.0, n_events=n),
        "nr": dmsim.sources.nr_flat(KEY, detector, energy_max_kev=20.0, n_events=n),
    }
    ways = {"deposits": deposits, "expected": {"er": 1.0, "nr": 1.0}, "signal": "nr"}
    seen, before = (areas_simulator(detector, **ways, before_s1_charge=b) for b in (False, True))
    share = Objective(lambda signal, background, error: jnp.sum(signal))
    spread = "electronics.spe_width"
    at = {spread: float(values_of(detector, {spread: 0.0})[spread])}
    value, thresholds, _ = figure_and_gradient(
        KEY, cuts, before, at, share, last_stage={"s1": "cs1_sigma_pe"}
    )
    sample = seen(KEY, at)["nr"]
    cs1, weight = np.asarray(sample.columns["cs1_pe"]), np.asarray(sample.weight)

    def kept(low):
        return np.sum(weight * (cs1 > low)) / np.sum(weight)

    assert value == pytest.approx(kept(6.0), abs=0.01)  # 5 standard deviations
    # the slope of a share of 65,536 events over 1 PE: 4 % from the events between
    assert thresholds["s1.low"] == pytest.approx(kept(6.5) - kept(5.5), rel=0.15)
    with pytest.raises(ValueError, match="min_s1_pe is 2"):
        areas_simulator(detector, **ways, before_s1_charge=True, min_s1_pe=2.0)
