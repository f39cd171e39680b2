"""The optimiser finds minima, keeps its trajectory, and says where it broke down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from inference.fitting import maximize, minimize
from inference.parameters import FreeParameters

pytestmark = pytest.mark.quick_compile


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("xenonnt")


def loss(detector):
    g1 = detector.light.g1_phd_per_photon / 0.11 - 1
    lifetime = detector.electrons.lifetime_us / 12000 - 1
    return 100 * (g1**2 + lifetime**2)


def test_finds_a_minimum_and_records_the_way(detector):
    free = FreeParameters.of(detector, ["g1", "lifetime"])
    seen = []
    result = minimize(loss, free, detector, on_step=lambda step, value: seen.append((step, value)))
    assert result.values["g1"] == pytest.approx(0.11, rel=2e-3)
    assert result.values["lifetime"] == pytest.approx(12000, rel=2e-3)
    assert float(result.detector.electrons.lifetime_us) == pytest.approx(result.values["lifetime"])
    assert result.value_trajectory.shape == (101, 2)
    assert result.value_trajectory[0] == pytest.approx(
        [float(detector.light.g1_phd_per_photon), 15000], rel=1e-4
    )
    assert [value for _, value in seen] == result.loss_trajectory.tolist()
    assert result.loss == result.loss_trajectory.min()


def test_maximize_is_the_mirror(detector):
    free = FreeParameters.of(detector, ["g1"])
    best = maximize(lambda d: -loss(d), free, detector, n_steps=30)
    mirror = minimize(loss, free, detector, n_steps=30)
    assert best.values == mirror.values
    np.testing.assert_array_equal(best.loss_trajectory, -mirror.loss_trajectory)


def test_prior_pulls(detector):
    free = FreeParameters.of(detector, ["lifetime"])
    pulled = minimize(loss, free, detector, prior_weight=100.0)
    alone = minimize(loss, free, detector)
    assert 12100 < pulled.values["lifetime"] < 15000
    assert alone.values["lifetime"] == pytest.approx(12000, rel=2e-3)


def test_directions_straighten_a_valley(detector):
    """Two parameters of which the loss sees little more than the product."""
    free = FreeParameters.of(detector, ["se_gain", "extraction"])
    hessian = jnp.array([[1e4, 1e4 - 1], [1e4 - 1, 1e4]])
    goal = jnp.array([2.0, -1.0])

    def valley(detector):
        off = free.pack(detector) - goal
        return 0.5 * off @ hessian @ off

    directions = jnp.linalg.cholesky(jnp.linalg.inv(hessian))
    straight = minimize(valley, free, detector, directions=directions, learning_rate=5.0, n_steps=150)
    crawling = minimize(valley, free, detector, n_steps=150)
    assert straight.loss < 0.02
    assert crawling.loss > 0.1


def test_recovers_parameters_from_simulated_areas(detector):
    """A loss on simulated areas with the random numbers held fixed has its minimum at the truth."""
    key, key_events = jax.random.key(3), jax.random.key(4)
    deposits = dmsim.sources.mono(key_events, detector, n_events=2000, energy_kev=20.0, interaction="er_beta")
    free = FreeParameters.of(detector, ["g1", "se_gain"])
    truth = free.unpack(jnp.array([0.7, -0.5]), detector)

    def summary(model):
        areas = dmsim.simulate_areas(key, model, deposits, calibration=detector)
        return jnp.stack([jnp.mean(areas.cs1_pe), jnp.mean(areas.cs2_pe)])

    target = summary(truth)
    result = minimize(lambda d: 1e3 * jnp.sum(jnp.log(summary(d) / target) ** 2), free, detector, n_steps=60)
    expected = free.values(free.pack(truth))
    np.testing.assert_allclose(list(result.values.values()), expected, rtol=3e-3)


def test_breakdown_names_the_place(detector):
    free = FreeParameters.of(detector, ["g1"])
    with pytest.raises(ValueError, match=r"step 0: loss nan .* at g1 = 0\.1"):
        minimize(lambda d: jnp.log(-d.light.g1_phd_per_photon), free, detector)
    with pytest.raises(ValueError, match="must be positive"):
        minimize(loss, free, detector, n_steps=0)
