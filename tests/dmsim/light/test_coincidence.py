"""How many sensors an S1 hits, and the gradient of passing a coincidence.

Statistical limits: 4.9 standard errors, 1e-6 a comparison, about 10 of them, fixed seeds.
"""

import itertools
import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import relax
from dmsim.light.coincidence import _phase, _table, at_least, s1_acceptance
from dmsim.light.detection import detection_probability
from dmsim.records import Quanta

pytestmark = pytest.mark.quick_compile

SIGMAS = 4.9
PATTERN = np.array([[0.5, 0.2, 0.15, 0.1, 0.05], [0.2, 0.2, 0.2, 0.2, 0.2]])


def enumerated(pattern, coincidence, n):
    """Over all ways that n photons can pick their sensors."""
    total = 0.0
    for sensors in itertools.product(range(pattern.size), repeat=n):
        if len(set(sensors)) >= coincidence:
            total += math.prod(pattern[list(sensors)])
    return total


@pytest.mark.parametrize("coincidence", [1, 2, 3, 4])
def test_probability_is_that_of_all_ways_to_place_the_photons(x64, coincidence):
    found = at_least(jnp.asarray(PATTERN), coincidence, 6)
    expected = [[enumerated(p, coincidence, n) for n in range(7)] for p in PATTERN]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["xams", "xenonnt"])
def test_single_precision_and_the_table_hold_it(name):
    detector = dmsim.load_detector(name)
    geometry, coincidence = detector.geometry, detector.resolution.coincidence
    random = np.random.default_rng(1)
    n = 100
    r, angle, depth = np.sqrt(random.random(n)), 2 * np.pi * random.random(n), random.random(n)
    place = (r * np.cos(angle) * geometry.radius_mm, r * np.sin(angle) * geometry.radius_mm)

    @eqx.filter_jit
    def tables(detector):
        table = _table(detector)
        shares = detector.light.s1_pattern(geometry, *place, jnp.asarray(-depth * geometry.drift_length_mm))
        return table, at_least(shares, coincidence, table.values.shape[2] - 1)

    table, found = tables(detector)
    found = np.asarray(found)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found, axis=1) > -1e-4).all()
    assert found[:, -1].min() > 0.999
    for photons in range(coincidence, coincidence + 4):
        looked_up = table(_phase(jnp.asarray(depth)), jnp.asarray(r**2), jnp.full(n, float(photons)))[:, 0]
        assert float(looked_up.mean()) == pytest.approx(found[:, photons].mean(), abs=2e-3)
        np.testing.assert_allclose(looked_up, found[:, photons], atol=0.02)


def test_pattern_gradient_against_differences(x64):
    def total(pattern):
        return jnp.sum(at_least(pattern, 3, 6) * jnp.arange(7.0))

    pattern = jnp.asarray(PATTERN)
    direction = jnp.asarray(np.random.default_rng(2).normal(size=pattern.shape))
    step = 1e-5
    slope = (total(pattern + step * direction) - total(pattern - step * direction)) / (2 * step)
    gradient = jnp.sum(jax.grad(total)(pattern) * direction)
    assert float(gradient) == pytest.approx(float(slope), rel=1e-7)


def test_removal_is_unbiased_at_a_threshold():
    n, trials, p = 200_000, 12.0, 0.2
    u = jnp.asarray((np.arange(n) + 0.5) / n, jnp.float32)

    def passed(p):
        count = relax.binomial(u, jnp.full(n, trials), p)
        last = relax.stop(count) == 3  # at least three: the third one decides
        return relax.removal(last.astype(u.dtype), count, trials * p)

    value, slope = jax.jvp(passed, (jnp.float32(p),), (jnp.float32(1),))
    assert not np.asarray(value).any()
    exact = trials * stats.binom.pmf(2, trials - 1, p)
    assert float(slope.mean()) == pytest.approx(exact, rel=2e-3)


@pytest.fixture(scope="module")
def low_energy():
    """Nuclear recoils of 2 keV in XENONnT: an S1 of 1.3 photons."""
    detector, key, n = dmsim.load_detector("xenonnt"), jax.random.key(5), 20_000
    return detector, key, dmsim.sources.mono(key, detector, n_events=n, energy_kev=2.0, interaction="nr")


@pytest.mark.slow
def test_acceptance_is_the_share_of_events_with_enough_sensors(low_energy):
    detector, key, deposits = low_energy
    n = deposits.n_events
    hits = dmsim.simulate_hits(key, detector, deposits)
    of_s1 = np.asarray(hits.valid) & (np.asarray(hits.signal) == 1)
    pairs = np.unique(np.stack([np.asarray(hits.event)[of_s1], np.asarray(hits.sensor)[of_s1]]), axis=1)
    found = np.bincount(pairs[0], minlength=n) >= detector.resolution.coincidence
    expected = np.asarray(dmsim.simulate_areas(key, detector, deposits).s1_acceptance, np.float64)
    difference = found - expected  # same photons: only the sensors are drawn
    error = difference.std() / np.sqrt(n)
    assert abs(difference.mean()) < SIGMAS * error + 2e-4  # the table, at most 0.1 % of 0.15
    assert abs((found - 0.98 * expected).mean()) > SIGMAS * error + 2e-4  # two per cent off is refused


def test_gradient_of_the_acceptance_at_three_sensors(low_energy):
    """Against the exact sum over photons."""
    detector, key, deposits = low_energy
    n = deposits.n_events

    def acceptance(g1):
        ours = replace(detector, light=replace(detector.light, g1_phd_per_photon=g1))
        return dmsim.simulate_areas(key, ours, deposits).s1_acceptance

    g1 = detector.light.g1_phd_per_photon
    value, slope = (np.asarray(x, np.float64) for x in jax.jvp(acceptance, (g1,), (g1,)))
    photons = np.asarray(dmsim.simulate_quanta(key, detector, deposits).n_photons, np.float64)[:, None]
    p = np.asarray(detection_probability(detector, deposits), np.float64)[:, None]
    geometry = detector.geometry
    place = (
        _phase(-deposits.z_mm / geometry.drift_length_mm)[:, None],
        ((deposits.x_mm**2 + deposits.y_mm**2) / geometry.radius_mm**2)[:, None],
    )
    count = np.arange(13)
    reached = np.asarray(_table(detector)(*place, jnp.asarray(count, jnp.float32)))[..., 0]
    exact = {
        scale: (stats.binom.pmf(count, photons, p * scale) * reached).sum(axis=1)
        for scale in (0.999, 1, 1.001)
    }
    error = value.std() / np.sqrt(n)
    assert abs(value.mean() - exact[1].mean()) < SIGMAS * error
    reference = (exact[1.001] - exact[0.999]).mean() / 0.002
    error = slope.std() / np.sqrt(n)
    assert error < 0.025 * reference
    assert abs(slope.mean() - reference) < SIGMAS * error
    assert abs(1.25 * slope.mean() - reference) > SIGMAS * error  # a quarter off is refused


def test_deposits_of_an_event_count_together():
    detector = dmsim.load_detector("xenonnt")
    place = {"x_mm": 100.0, "y_mm": 50.0, "z_mm": -300.0, "energy_kev": 2.0, "interaction": "nr"}
    deposits = dmsim.sources.deposits(detector, event=[0, 0, 1, 2, 3], n_events=5, **place)
    many = jnp.full(5, 100.0)
    counted = jnp.asarray([2.0, 1.0, 3.0, 2.0, 0.0])
    found = s1_acceptance(detector, deposits, Quanta(many, many, many), counted)
    assert float(found[0]) == pytest.approx(float(found[1]), rel=1e-6)
    assert float(found[1]) > 0.9
    np.testing.assert_array_equal(found[2:], 0)
