"""Laws of the optical model, on every preset."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from dmsim.detector import load_detector

PRESETS = dmsim.list_detectors()


@pytest.fixture(params=PRESETS)
def detector(request, x64):
    return load_detector(request.param)


@eqx.filter_jit
def _patterns(detector, x, y, z, spread):
    geometry, light = detector.geometry, detector.light
    return light.s1_pattern(geometry, x, y, z), light.s2_pattern(geometry, x, y, spread)


def _grid(detector, n=40):
    """Points of equal volume in the cylinder."""
    u = (np.arange(n) + 0.5) / n
    r, depth, angle = np.meshgrid(np.sqrt(u), u, 2 * np.pi * u[::8])
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)
    x, y, z = radius * r * np.cos(angle), radius * r * np.sin(angle), -length * depth
    return tuple(jnp.asarray(v.ravel()) for v in (x, y, z))


def test_relative_yields_are_one_where_the_gains_are_stated_and_stay_positive(detector):
    x, y, z = _grid(detector)
    s1 = detector.light.s1_relative_yield(detector.geometry, x, y, z)
    s2 = detector.light.s2_relative_yield(detector.geometry, x, y)
    # the grid's midpoint rule is good to n^-2 of the curvature
    assert float(s1.mean()) == pytest.approx(1, abs=1e-3)
    light = detector.light
    away = light.s2_slope_r2 * (0.5 - light.s2_reference_r2)  # (r / R)^2 averages to a half
    assert float(s2.mean()) == pytest.approx(1 + float(away), abs=1e-3)
    edge = detector.geometry.radius_mm * jnp.sqrt(light.s2_reference_r2)
    assert float(light.s2_relative_yield(detector.geometry, edge, 0 * edge)) == pytest.approx(1, abs=1e-6)
    assert float(s1.min()) > 0
    assert float(s2.min()) > 0


def test_patterns_sum_to_one(detector):
    x, y, z = (v[::97] for v in _grid(detector))
    s1, s2 = _patterns(detector, x, y, z, jnp.full_like(x, 5.0))
    for pattern in (s1, s2):
        np.testing.assert_allclose(pattern.sum(axis=-1), 1, rtol=1e-12)
        assert float(pattern.min()) >= 0
    n_top = detector.light.sensors.n_top
    top = s2[:, :n_top].sum(axis=-1)
    np.testing.assert_allclose(top, detector.light.s2_top_fraction, rtol=1e-12)


def test_brightest_top_sensor_is_the_nearest(detector):
    sensors = detector.light.sensors
    n_top = sensors.n_top
    x, y = sensors.x_mm[:n_top], sensors.y_mm[:n_top]
    _, pattern = _patterns(detector, 0.9 * x, 0.9 * y, 0 * x, 0 * x)
    x, y, pattern = map(np.asarray, (x, y, pattern))
    distance = np.hypot(0.9 * x[:, None] - x, 0.9 * y[:, None] - y)
    brightest = pattern[:, :n_top].argmax(axis=-1)
    assert np.all(distance[np.arange(n_top), brightest] <= distance.min(axis=-1) + 1e-6)


def test_dead_sensor_sees_nothing(detector):
    efficiency = detector.light.sensors.efficiency.at[0].set(0.0)
    dead = eqx.tree_at(lambda tree: tree.light.sensors.efficiency, detector, efficiency)
    for pattern in _patterns(dead, *jnp.zeros((4, 1))):
        assert float(pattern[0, 0]) == 0
        assert float(pattern.sum()) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("detector", ["lux", "xams"], indirect=True)  # a full array, and one sensor
def test_gradients_are_finite(detector):
    def total(detector):
        x, y, z = jnp.asarray([0.0, 10.0]), jnp.asarray([0.0, -5.0]), jnp.asarray([0.0, -20.0])
        weights = jnp.arange(detector.light.sensors.n_sensors)
        s1 = detector.light.s1_pattern(detector.geometry, x, y, z) @ weights
        s2 = detector.light.s2_pattern(detector.geometry, x, y, jnp.asarray([0.0, 1.0])) @ weights
        return jnp.sum(s1 + s2 + detector.light.s1_relative_yield(detector.geometry, x, y, z))

    gradient = eqx.filter_jit(eqx.filter_grad(total))(detector)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradient))
    assert float(abs(gradient.light.s1_diffuse)) > 0 or detector.name == "xams"
