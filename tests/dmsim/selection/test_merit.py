"""Figures of merit: known values, gradients, and what a finite sample costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import gammainc, gammaincc

from dmsim.selection import merit

POINTS = [(10.0, 5.0, 0.0), (10.0, 5.0, 2.0), (1.0, 100.0, 30.0), (3.0, 0.1, 0.1), (0.01, 50.0, 3.0)]


def _cowan(s, b, error):
    """Equations 97 and 20 as they are printed."""
    if error == 0:
        return np.sqrt(2 * ((s + b) * np.log(1 + s / b) - s))
    v = error**2
    first = (s + b) * np.log((s + b) * (b + v) / (b * b + (s + b) * v))
    return np.sqrt(2 * (first - b * b / v * np.log(1 + v * s / (b * (b + v)))))


@pytest.mark.parametrize(("s", "b", "error"), POINTS)
def test_asimov_significance_is_cowans(s, b, error):
    # the printed form subtracts numbers of first order in s: at s = 0.01 it has lost 7 digits
    assert merit.asimov_significance(s, b, error) == pytest.approx(_cowan(s, b, error), rel=1e-7)
    single = merit.asimov_significance(*map(jnp.float32, (s, b, error)))
    assert float(single) == pytest.approx(_cowan(s, b, error), rel=2e-6)


def test_significance_of_a_weak_signal_is_s_over_root_of_variance():
    assert merit.asimov_significance(1e-4, 7.0, 2.0) == pytest.approx(1e-4 / np.sqrt(7.0 + 4.0), rel=1e-4)


def test_binned_significance_adds_squares():
    s, b, error = np.array(POINTS).T
    assert merit.binned_significance(s, b, error) == pytest.approx(
        np.sqrt(sum(_cowan(*point) ** 2 for point in POINTS)), rel=1e-7
    )
    assert merit.binned_significance(0 * s, b, error) == 0


@pytest.mark.parametrize(("b", "error"), [(1.0, 0.0), (100.0, 0.0), (1.0, 0.5), (100.0, 20.0), (1e-6, 1.0)])
def test_expected_limit_solves_its_profile_likelihood(b, error):
    sigmas = 1.6448536  # 95 % quantile of a normal distribution

    def profiled(s):  # minimum over the background, by the root of its derivative
        if error == 0:
            return s + b - b * np.log(s + b)
        tau = b / error**2
        of_log = lambda log_b: np.exp(log_b) * (1 - b / (s + np.exp(log_b)) + tau) - tau * b  # noqa: E731
        at = np.exp(brentq(of_log, np.log(b) - 60, np.log(b) + 5, xtol=1e-14))
        return s + at - b * np.log(s + at) + tau * at - tau * b * np.log(at)

    limit = brentq(lambda s: np.sqrt(2 * max(profiled(s) - profiled(0.0), 0)) - sigmas, 1e-9, 100 * (1 + b))
    assert merit.expected_upper_limit(b, error) == pytest.approx(limit, rel=1e-6)
    assert float(merit.expected_upper_limit(jnp.float32(b), jnp.float32(error))) == pytest.approx(limit, 3e-6)


def test_expected_limit_is_near_the_exact_one():
    """CLs of a Poisson count at its mean, real-valued: 40.4 events over 400."""
    b = 400.0
    exact = brentq(lambda s: gammaincc(b + 1, s + b) / gammaincc(b + 1, b) - 0.1, 1, 200)
    assert merit.expected_upper_limit(b) == pytest.approx(exact, rel=0.02)
    none = 1 - gammainc(1.0, 2.302585)  # and where it is not: the docstring's 1.35 in place of 2.30
    assert none == pytest.approx(0.1)
    assert merit.expected_upper_limit(0.0) == pytest.approx(1.3528, rel=1e-3)


def test_limit_reach_is_one_at_the_limit():
    limit = merit.expected_upper_limit(30.0, 4.0, confidence=0.95)
    assert merit.limit_reach(limit, 30.0, 4.0, confidence=0.95) == pytest.approx(1.0)


def test_punzi():
    assert merit.punzi(0.5, 16.0, n_sigma=4.0) == pytest.approx(0.5 / 6)
    assert merit.punzi(0.5, 16.0, 3.0, n_sigma=4.0) == pytest.approx(0.5 / 7)


def test_purity_at_efficiency_of_two_normal_distributions():
    """Threshold at the signal's 30 % quantile 1 - 0.5244, where the background's tail is 0.3172."""
    random = np.random.default_rng(3)
    signal, background = random.normal(1, 1, 40_000), random.normal(0, 1, 40_000)
    ones = np.ones(40_000)
    got = merit.purity_at_efficiency(signal, ones, background, 2 * ones, efficiency=0.7, softness=1e-3)
    # 40,000 events: 0.0016 standard deviation, six of which happen by chance 2e-9 of the time
    assert got == pytest.approx(0.7 / (0.7 + 2 * 0.3172), abs=0.01)
    assert abs(got - 0.7 / (0.7 + 0.3172)) > 0.01


FIGURES = {
    "asimov": merit.asimov_significance,
    "binned": lambda *x: merit.binned_significance(*(jnp.stack([v, 2 * v]) for v in x)),
    "upper limit": lambda s, b, error: merit.expected_upper_limit(b, error) + 0 * s,
    "limit reach": merit.limit_reach,
    "punzi": merit.punzi,
    "purity": merit.purity,
    "error": lambda s, b, error: merit.background_error(b, error**2, one_event=0.3, relative_error=0.1 * s),
}


@pytest.fixture(scope="module")
def gradients():
    """Of all figures at all points, and at nothing left: one program."""

    def all_figures(point):
        return {name: figure(*point) for name, figure in FIGURES.items()}

    with jax.enable_x64(True):
        points = np.array([*POINTS, (0.0, 0.0, 0.0)])
        value, gradient = jax.vmap(all_figures), jax.vmap(jax.jacfwd(all_figures))
        steps = 1e-5 * np.maximum(points, 0.01)
        moves = [np.where(np.arange(3) == i, steps, 0) for i in range(3)]
        moved = np.stack([points + sign * move for move in moves for sign in (1, -1)])
        ours, values = jax.device_get(jax.jit(lambda: (gradient(points), jax.vmap(value)(moved)))())
    slopes = {name: np.stack([(v[2 * i] - v[2 * i + 1]) / (2 * steps[:, i]) for i in range(3)], 1)
              for name, v in values.items()}  # fmt: skip
    return ours, slopes


@pytest.mark.parametrize("name", FIGURES)
def test_gradients_against_finite_differences(name, gradients):
    ours, slopes = (of[name] for of in gradients)
    np.testing.assert_allclose(ours[:-1], slopes[:-1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", FIGURES)
def test_gradients_where_nothing_is_left_are_finite(name, gradients):
    assert np.isfinite(gradients[0][name][-1]).all()


def test_gradient_of_purity_at_efficiency(x64):
    random = np.random.default_rng(3)
    scores, weights = jnp.asarray(random.normal(size=(2, 60))), jnp.asarray(random.uniform(size=(2, 60)))

    @jax.jit
    def purity(shift):
        moved = scores[0] + shift * weights[1]
        return merit.purity_at_efficiency(
            moved, weights[0] * (1 + shift), scores[1], weights[1], efficiency=0.6, softness=0.2
        )

    slope = (purity(1e-5) - purity(-1e-5)) / 2e-5
    assert float(jax.grad(purity)(0.0)) == pytest.approx(float(slope), rel=1e-6)


def test_an_empty_place_is_no_discovery():
    """Unpenalised, the cut that a sample's gap invites looks ten times better than it can be."""
    signal, one_event = 3.0, 0.5
    gap = merit.background_error(0.0, 0.0, one_event=one_event)
    assert gap == one_event
    assert merit.asimov_significance(signal, 0.0, 0.0) > 9
    assert merit.asimov_significance(signal, 0.0, gap) < 2.6 < merit.asimov_significance(signal, 0.5, 0.0)
