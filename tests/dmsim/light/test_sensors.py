"""Dead sensors are never hit, and photons take the charge of their sensor's spectrum.

Statistical limits: 4.9 standard errors, 1e-6 a comparison, 4 comparisons, fixed seeds.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim.detector import load_detector
from dmsim.detector.sensors import SPE_SCORES, SensorArray
from dmsim.light.detection import choose_sensor, cumulative
from dmsim.light.expected import mean_charge_pe
from dmsim.light.photoelectrons import area, photon_charge

pytestmark = pytest.mark.quick_compile

SIGMAS = 4.9
N = 200_000
ELECTRONICS = load_detector("xenon1t").electronics
QUANTILES = jnp.asarray(np.stack([1 + 0.2 * SPE_SCORES, np.maximum(1 + 0.5 * SPE_SCORES, 0)]), jnp.float32)
SENSORS = SensorArray(jnp.zeros(2), jnp.zeros(2), jnp.ones(2), 1, QUANTILES)


def test_running_sums_are_flat_at_dead_sensors():
    """In single precision, where sums in another order would differ by rounding."""
    random = np.random.default_rng(1)
    shares = random.random((200, 494)) ** 3
    dead = random.random(494) < 0.2
    dead[[0, 22, 23, 493]] = True  # the ends of the blocks too
    shares[:, dead] = 0
    shares /= shares.sum(axis=1, keepdims=True)
    running = np.asarray(cumulative(jnp.asarray(shares, jnp.float32)))
    assert (np.diff(running, axis=1, prepend=0)[:, dead] == 0).all()
    assert (running[:, -1] == 1).all()
    np.testing.assert_allclose(running, np.cumsum(shares, axis=1), atol=494 * 2.0**-23)
    # the uniforms that lie closest to a step: on either side of every one of the first deposit's
    u = jnp.asarray(np.concatenate([running[0], np.nextafter(running[0], np.float32(0)), [2.0**-24]]))
    u = jnp.clip(u, 2.0**-24, 1 - 2.0**-24)[None]
    sensor, _ = choose_sensor(u, jnp.zeros(u.shape, jnp.int32), jnp.asarray(running), jnp.asarray(shares))
    assert not dead[np.asarray(sensor)].any()


def _draws(seed=2):
    random = np.random.default_rng(seed)
    u = (jnp.asarray(random.random(N), jnp.float32) for _ in range(2))
    return (*u, jnp.asarray(random.normal(size=N), jnp.float32), jnp.arange(N) % 2)


def test_charge_has_the_moments_of_one_or_two_draws_of_the_sensors_spectrum():
    charge = np.asarray(photon_charge(*_draws(), ELECTRONICS, SENSORS), np.float64)
    p = float(ELECTRONICS.double_pe_probability)
    for sensor in range(2):
        only = replace(SENSORS, efficiency=jnp.arange(2.0) == sensor)
        mean, variance = map(float, only.spe_moments())
        ours = charge[sensor::2]
        expected = (1 + p) * variance + p * (1 - p) * mean**2
        assert abs(ours.mean() - (1 + p) * mean) < SIGMAS * np.sqrt(expected / ours.size)
        assert ours.var() == pytest.approx(expected, rel=0.04)
        assert ours.var() != pytest.approx((1 + 3 * p) * variance + p * (1 - p), rel=0.04)  # two equal draws
    both = (1 + p) * float(SENSORS.spe_moments()[0])
    assert float(mean_charge_pe(ELECTRONICS, SENSORS)) == pytest.approx(both, rel=1e-6)


def test_area_has_the_moments_of_its_photons():
    u, _, z, _ = _draws(3)
    n, p = 100.0, float(ELECTRONICS.double_pe_probability)
    total = np.asarray(area(u, z, jnp.full(N, n), ELECTRONICS, SENSORS), np.float64)
    mean, variance = map(float, SENSORS.spe_moments())
    expected = n * ((1 + p) * variance + p * (1 - p) * mean**2)
    assert abs(total.mean() - n * (1 + p) * mean) < SIGMAS * np.sqrt(expected / N)
    assert total.var() == pytest.approx(expected, rel=0.02)


def test_gradient_in_the_spectrum_against_differences(x64):
    draws = [x[:500].astype(jnp.float64) if x.dtype == jnp.float32 else x[:500] for x in _draws()]
    random = np.random.default_rng(4)
    quantiles = QUANTILES.astype(jnp.float64)
    direction = jnp.asarray(random.normal(size=quantiles.shape))

    def total(quantiles):
        sensors = replace(SENSORS, spe_quantiles=quantiles)
        charge = photon_charge(*draws, ELECTRONICS, sensors)
        return jnp.sum(charge**2) + sum(sensors.spe_moments())

    step = 1e-6
    slope = (total(quantiles + step * direction) - total(quantiles - step * direction)) / (2 * step)
    assert float(jnp.sum(jax.grad(total)(quantiles) * direction)) == pytest.approx(float(slope), rel=1e-6)
