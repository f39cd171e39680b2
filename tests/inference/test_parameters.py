"""Free leaves: names, bounds, and the map to an unconstrained vector."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import dmsim
from inference.parameters import FreeParameters, default_prior, get_leaf, leaf_names, resolve, set_leaf

NAMES = ["g1", "lifetime", "extraction", "light.s1_slope_z", "xenon.field_v_per_cm[0]"]


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("lux")


@pytest.fixture(scope="module")
def free(detector):
    return FreeParameters.of(detector, NAMES)


def test_preset_is_the_origin(free, detector):
    assert np.allclose(free.pack(detector), 0, atol=1e-5)
    back = free.unpack(free.pack(detector), detector)
    for name in NAMES:
        path = resolve(detector, name)
        np.testing.assert_allclose(get_leaf(back, path), get_leaf(detector, path), rtol=1e-5)


def test_round_trip_away_from_the_preset(free, detector):
    vector = jnp.array([1.0, -2.0, 0.5, 1.5, -1.0])
    moved = free.unpack(vector, detector)
    np.testing.assert_allclose(free.pack(moved), vector, atol=2e-4)


def test_other_leaves_stay(free, detector):
    moved = free.unpack(jnp.ones(5), detector)
    freed = {resolve(detector, name).partition("[")[0] for name in NAMES}
    for name, leaf in leaf_names(detector).items():
        same = np.array_equal(leaf, leaf_names(moved)[name])
        assert same == (name not in freed), name


def test_one_element_of_an_array(detector):
    moved = set_leaf(detector, "xenon.field_v_per_cm[1]", 3.0)
    assert float(moved.xenon.field_v_per_cm[1]) == 3.0
    assert np.array_equal(moved.xenon.field_v_per_cm[2:], detector.xenon.field_v_per_cm[2:])
    assert moved.xenon.field_v_per_cm[0] == detector.xenon.field_v_per_cm[0]


def test_bounds_hold_far_out(free, detector):
    for sign in (-1, 1):
        extraction = free.unpack(jnp.full(5, sign * 30.0), detector).electrons.extraction_efficiency
        assert 0 <= float(extraction) <= 1


def test_log_jacobian_is_the_slope(free):
    vector = jnp.array([0.3, -0.2, 0.5, 0.1, -0.4])
    slope = jnp.diag(jax.jacfwd(free.values)(vector))
    np.testing.assert_allclose(free.log_jacobian(vector), jnp.sum(jnp.log(slope)), rtol=1e-4)


def test_prior_is_as_given(detector):
    free = FreeParameters.of(detector, ["g1"], priors={"light.g1_phd_per_photon": dist.Normal(0.117, 0.003)})
    step = free.log_prior(jnp.zeros(1)) - free.log_prior(jnp.ones(1))
    np.testing.assert_allclose(step, 0.5, rtol=1e-3)  # 1 in the vector is one standard deviation


def test_default_prior_width(detector):
    prior = default_prior(detector, "electrons.lifetime_us", relative_width=0.05)
    np.testing.assert_allclose(float(prior.variance) ** 0.5, 40.0, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("g3", "did you mean g1"),
        ("electrons.lifetime", "electrons.lifetime_us"),
        ("singlet_lifetime_ns", "ambiguous"),
        ("xenon.field_v_per_cm", "name one element"),
        ("xenon.field_v_per_cm[9]", "shape"),
    ],
)
def test_unknown_names_are_refused(detector, name, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        resolve(detector, name)


def test_bad_sets_are_refused(detector):
    with pytest.raises(ValueError, match="no parameter"):
        FreeParameters.of(detector, [])
    with pytest.raises(ValueError, match="twice"):
        FreeParameters.of(detector, ["g1", "light.g1_phd_per_photon"])
    with pytest.raises(ValueError, match="not free"):
        FreeParameters.of(detector, ["g1"], priors={"lifetime": dist.Normal(800, 10)})
    with pytest.raises(ValueError, match="outside its prior"):
        FreeParameters.of(detector, ["g1"], priors={"g1": dist.Uniform(0.2, 0.3)})
    with pytest.raises(ValueError, match="edge of its range"):
        FreeParameters.of(set_leaf(detector, "electrons.extraction_efficiency", 1.0), ["extraction"])
