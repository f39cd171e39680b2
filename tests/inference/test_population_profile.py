"""Profile likelihoods: counting experiments whose answers are known, and coverage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference.population.intervals import (
    asymptotic_level,
    crossings,
    discovery,
    signal_intervals,
    t_of_toys,
    toy_levels,
    upper_limit,
)
from inference.population.profile import Model, draw, fit_many, scan_many
from inference.sampling.surrogate import Quadratic


def model_of(tables, rates, widths, *, slopes=None):
    """Templates [component, bin], with one shape parameter if slopes are given."""
    n_shapes = 0 if slopes is None else 1
    n = np.size(tables)
    jacobian = jnp.zeros((n, 0)) if slopes is None else jnp.asarray(slopes, jnp.float32).reshape(n, 1)
    logs = jnp.log(jnp.asarray(tables, jnp.float32)).reshape(-1)
    quadratic = Quadratic(jnp.zeros(n_shapes), logs, jacobian, jnp.zeros((n, n_shapes, n_shapes)))
    return Model.of(quadratic, jnp.asarray(rates), jnp.asarray(widths), shape_widths=jnp.ones(n_shapes))


def test_one_bin_with_known_background():
    """s = n - b or 0; t(s) = 2 (s + b - n + n log(n / (s + b))) against the best."""
    model = model_of([[1.0], [1.0]], [1.0, 4.0], [np.inf, 1e-4])
    counts = jnp.asarray([[9.0], [2.0], [0.0], [4.0]])
    aux = jnp.tile(jnp.asarray([0.0, 4.0]), (4, 1))
    best = fit_many(model, counts, aux)
    np.testing.assert_allclose(best.parameters[:, 0], [5.0, 0.0, 0.0, 0.0], atol=2e-3)
    signals = np.asarray([0.0, 2.0, 5.0, 10.0])
    t = np.asarray(scan_many(model, counts, aux, best, jnp.asarray(signals, jnp.float32)))

    def loss(n, m):
        return m - n + (n * np.log(n / m) if n else 0.0)

    for row, n in zip(t, [9.0, 2.0, 0.0, 4.0], strict=True):
        expected = [2 * (loss(n, 4 + s) - loss(n, max(n, 4.0))) for s in signals]
        np.testing.assert_allclose(row, expected, atol=3e-3)
    # Z of 9 events over 4 known: arXiv:1007.1727 eq. 97, sqrt(2 ((s + b) log(1 + s/b) - s))
    z = np.sqrt(2 * (9 * np.log(1 + 5 / 4) - 5))
    assert discovery(float(t[0, 0])).z == pytest.approx(z, abs=1e-3)


def test_on_off_problem_with_a_measured_background():
    """n on top of a background known to 30 %: profile against a brute-force scan of the background."""
    model = model_of([[1.0], [1.0]], [1.0, 10.0], [np.inf, 3.0])
    counts, aux = jnp.asarray([[20.0]]), jnp.asarray([[0.0, 11.0]])
    best = fit_many(model, counts, aux)
    signals = jnp.asarray([0.0, 4.0, 20.0])
    t = np.asarray(scan_many(model, counts, aux, best, signals))[0]
    b = np.linspace(0.01, 40, 8_000)

    def profiled(s):
        m = s + b
        return np.min(m - 20 + 20 * np.log(20 / m) + 0.5 * ((b - 11) / 3) ** 2)

    free = min(profiled(s) for s in np.linspace(0, 30, 301))
    np.testing.assert_allclose(t, [2 * (profiled(float(s)) - free) for s in signals], atol=5e-3)


def search():
    """Signal in the lower of 6 bins, a background that can tilt, a small second one."""
    signal = [0.4, 0.3, 0.15, 0.1, 0.04, 0.01]
    background = [0.1, 0.15, 0.2, 0.2, 0.2, 0.15]
    slopes = [[0.0] * 6, [-0.1, -0.06, -0.02, 0.02, 0.06, 0.1], [0.0] * 6]
    return model_of(
        [signal, background, [1 / 6] * 6], [20.0, 100.0, 5.0], [np.inf, np.inf, 2.0], slopes=slopes
    )


def test_coverage_of_asymptotic_intervals():
    model = search()
    n_toys = 1000
    t = t_of_toys(jax.random.key(3), model, model.nominal, n_toys=n_toys)
    covered = float(jnp.mean(t <= asymptotic_level(0.9)))
    # 0.9 +- 0.0095 by chance; Wilks' theorem is good to a few parts in a thousand here. 4.4 standard
    # deviations: 1e-5
    assert abs(covered - 0.9) < 0.042
    # must fail: intervals a quarter too narrow, t / 0.75^2 against the same level
    assert abs(float(jnp.mean(t / 0.75**2 <= asymptotic_level(0.9))) - 0.9) > 0.042


def test_toy_levels_cover_at_the_boundary():
    """Near no signal, t of a rate that cannot be negative is not chi-squared: its level is lower."""
    model = search()
    truth = model.nominal.at[0].set(0.0)
    level = toy_levels(jax.random.key(5), model, truth[None], confidence=0.9, n_toys=1000)[0]
    assert level < 2.2  # half of the toys have t = 0: 1.64 by arXiv:1007.1727, eq. 44
    t = np.asarray(t_of_toys(jax.random.key(6), model, truth, n_toys=1000))
    # both have 1000 toys: 0.9 +- 0.0134; 4.4 standard deviations
    assert abs(np.mean(t <= level) - 0.9) < 0.059
    assert np.mean(t <= asymptotic_level(0.9)) > 0.92  # over-covers


def test_intervals_of_one_experiment():
    model = search()
    counts, aux = draw(jax.random.key(9), model, model.nominal, 1)
    signals = np.linspace(0, 100, 11)
    result = signal_intervals(jax.random.key(1), model, counts[0], aux[0], signals, n_toys=200)
    assert result.toys is not None
    best = float(result.best.parameters[0])
    assert result.asymptotic.low < best < result.asymptotic.high
    assert result.toys.low < best < result.toys.high
    assert best < result.upper < result.asymptotic.high  # one-sided
    assert result.discovery.p_value < 0.5
    assert result.toy_upper is not None
    assert best < result.toy_upper < result.toys.high


def test_an_asymptotic_limit_on_nothing_seen_is_too_low():
    """Without background t of s events is 2 s; of s = 2.3 a tenth of toys see none (Poisson)."""
    model = model_of([[1.0]], [5.0], [np.inf])
    signals = np.linspace(0, 6, 13)
    nothing = jnp.zeros(1), jnp.zeros(1)
    result = signal_intervals(jax.random.key(1), model, *nothing, signals, n_toys=400)
    assert result.upper == pytest.approx(1.2816**2 / 2, abs=0.01)
    assert result.events_per_unit == pytest.approx(1.0)
    assert result.toy_upper is not None
    # 2.3 by the exact formula; the scan's step and 400 toys leave about 0.3
    assert abs(result.toy_upper - 2.3) < 0.6


def test_crossings_at_the_ends_of_a_scan():
    signals = np.asarray([0.0, 1.0, 2.0, 3.0])
    inside = crossings(signals, np.asarray([4.0, 0.0, 0.0, 4.0]), 2.0, 0.9)
    assert (inside.low, inside.high) == (0.5, 2.5)
    assert crossings(signals, np.asarray([0.0, 1.0, 3.0, 4.0]), 2.0, 0.9).low == 0.0
    assert np.isnan(crossings(signals, np.asarray([4.0, 1.0, 0.0, 1.0]), 2.0, 0.9).high)
    assert np.isnan(upper_limit(signals, np.zeros(4), 0.0, 0.9))
