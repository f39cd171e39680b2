"""Hard cuts behind a normal last stage: their gradient is that of the expected figure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim.selection import Range
from dmsim.selection.last_stage import hard_with_gradient, interval_probability, pass_probability

_N = 40_000


def _noise():
    random = np.random.default_rng(11)
    return jnp.asarray(random.normal(size=_N), jnp.float32), jnp.asarray(random.normal(size=_N), jnp.float32)


def _kept(cut, gain, *, biased=False):
    """Share of events that pass, hard; the gain scales the mean of the last stage and its width."""
    before, last = _noise()
    mean, sigma = gain * (10 + before), 0.5 * gain
    probability = pass_probability(cut, {"x_pe": mean}, sigma * (0.5 if biased else 1.0))
    return hard_with_gradient(cut.passes({"x_pe": mean + sigma * last}), probability).mean()


def _exact(low, high, gain):
    """Their mean: both stages together are normal with mean 10 gain and variance 1.25 gain^2."""
    spread = gain * np.sqrt(1.25)
    return interval_probability([(10 * gain - low) / spread, (high - 10 * gain) / spread])


def test_gradient_of_a_hard_cut():
    cut, step = Range("x", column="x_pe", low=9.0, high=10.5), 1e-4
    value, (of_cut, of_gain) = jax.jit(jax.value_and_grad(_kept, argnums=(0, 1)))(cut, 1.0)
    truth = _exact(9.0, 10.5, 1.0)
    # standard deviations with 40,000 events: 0.0025 of the value, 0.0015 of the gradients in the thresholds,
    # 0.026 of that in the gain; five of any of the four happen by chance 2e-6 of the time
    assert float(value) == pytest.approx(truth, abs=0.0125)
    for ours, up, down, tolerance in (
        (of_cut.low, (9.0 + step, 10.5, 1.0), (9.0 - step, 10.5, 1.0), 0.0075),
        (of_cut.high, (9.0, 10.5 + step, 1.0), (9.0, 10.5 - step, 1.0), 0.0075),
        (of_gain, (9.0, 10.5, 1.0 + step), (9.0, 10.5, 1.0 - step), 0.13),
    ):
        assert float(ours) == pytest.approx((_exact(*up) - _exact(*down)) / (2 * step), abs=tolerance)


def test_a_wrong_width_of_the_last_stage_is_noticed():
    cut, step = Range("x", column="x_pe", low=10.0), 1e-4
    truth = (_exact(10.0 + step, np.inf, 1.0) - _exact(10.0 - step, np.inf, 1.0)) / (2 * step)
    both = jax.jit(jax.jacobian(lambda cut: [_kept(cut, 1.0), _kept(cut, 1.0, biased=True)]))
    right, wrong = (gradient.low for gradient in both(cut))
    assert float(right) == pytest.approx(truth, abs=0.0075)
    assert abs(float(wrong) - truth) > 0.0075


def test_probability_far_out_keeps_its_digits():
    """Both thresholds 8 and 9 standard deviations up: the tail's difference is 6.22e-16 - 1.13e-19."""
    for distances in ([-8.0, 9.0], [9.0, -8.0]):
        assert interval_probability(distances) == pytest.approx(6.2198e-16, rel=1e-4)
    assert interval_probability([np.float64(1.0)]) == pytest.approx(0.8413447)
    assert interval_probability([-1.0, -1.0]) == 0
