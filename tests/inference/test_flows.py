"""Flows: density and draws are two sides of one law; splines against FlowJAX's."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
import pytest
from flowjax.bijections import RationalQuadraticSpline

from inference import flows
from inference.flows import spline

pytestmark = pytest.mark.quick_compile

EXACT = {
    "coupling": flows.Coupling(n_layers=2, width=8, n_blocks=1, n_bins=5),
    "autoregressive": flows.Autoregressive(n_layers=2, width=8, depth=1),
    "autoregressive splines": flows.Autoregressive(n_layers=1, width=8, depth=1, n_bins=4),
}


def perturbed(flow, size=0.06):
    """A flow away from the identity that it starts at."""
    trained, rest = eqx.partition(flow, eqx.is_inexact_array)
    moved = jax.tree.map(lambda a: a + size * jax.random.normal(jax.random.key(1), a.shape), trained)
    return eqx.combine(moved, rest)


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("name", EXACT)
def test_density_of_a_draw_is_that_of_its_noise(x64, name, size):
    flow = perturbed(EXACT[name].build(jax.random.key(0), size, 4))
    noise = jax.random.normal(jax.random.key(2), (2, 5, size))
    condition = jax.random.normal(jax.random.key(3), (2, 4))
    value = flow.push(noise, condition)
    jacobian = jax.vmap(
        jax.vmap(jax.jacfwd(lambda z, c: flow.push(z[None, None], c[None])[0, 0]), (0, None))
    )(noise, condition)
    log_normal = -0.5 * jnp.sum(noise**2, axis=-1) - 0.5 * size * jnp.log(2 * jnp.pi)
    expected = log_normal - jnp.linalg.slogdet(jacobian)[1]
    each = jnp.repeat(condition, 5, axis=0)
    np.testing.assert_allclose(flow.log_prob(value.reshape(-1, size), each), expected.ravel(), atol=1e-8)


def test_spline_is_flowjax_s(x64):
    raw = jax.random.normal(jax.random.key(0), (spline.n_raw(7),))
    ours = eqx.filter_vmap(lambda v: spline.forward(v, raw, n_bins=7, bound=3.0))
    place = jnp.linspace(-4.0, 4.0, 101)
    left, size = spline._knots(raw[:7], 3.0)
    heights_left, heights = spline._knots(raw[7:14], 3.0)
    theirs = RationalQuadraticSpline(knots=6, interval=3.0)
    ends = jnp.array([3.0])
    theirs = eqx.tree_at(
        lambda s: (s.x_pos, s.y_pos, s.derivatives),
        paramax.unwrap(theirs),
        (jnp.concatenate([left, ends]), jnp.concatenate([heights_left, ends]), spline._slopes(raw[14:])),
    )
    value, log_slope = ours(place)
    expected, expected_slope = jax.vmap(theirs.transform_and_log_det)(place)
    np.testing.assert_allclose(value, expected, atol=1e-9)
    np.testing.assert_allclose(log_slope, expected_slope, atol=1e-9)
    back, slope_back = spline.inverse(value, raw[:, None] * jnp.ones(101), n_bins=7, bound=3.0)
    np.testing.assert_allclose(back, place, atol=1e-7)
    np.testing.assert_allclose(slope_back, -log_slope, atol=1e-6)


def test_spline_of_zeros_is_the_identity():
    place = jnp.linspace(-6.0, 6.0, 25)
    value, log_slope = spline.forward(place, jnp.zeros((spline.n_raw(10), 25)), n_bins=10, bound=5.0)
    np.testing.assert_allclose(value, place, atol=1e-5)
    np.testing.assert_allclose(log_slope, 0.0, atol=1e-5)


def test_the_condition_matters():
    for name, description in EXACT.items():
        flow = perturbed(description.build(jax.random.key(0), 2, 3))
        value = jnp.ones((2, 2))
        one, other = flow.log_prob(value, jnp.array([[0.0, 0.0, 0.0], [1.0, -1.0, 1.0]]))
        assert abs(float(one - other)) > 1e-3, name


def test_coupling_has_finite_gradients_far_out():
    flow = perturbed(EXACT["coupling"].build(jax.random.key(0), 3, 1), 0.5)
    value = jnp.array([[0.0, 0.0, 0.0], [5.0, -5.0, 5.0], [1e4, -1e4, 1e4]])
    gradient = jax.grad(lambda v: flow.log_prob(v, jnp.zeros((3, 1))).sum())(value)
    assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_flow_matching_solves_its_field():
    flow = perturbed(flows.FlowMatching(width=8, n_blocks=1, tolerance=1e-5).build(jax.random.key(0), 2, 1))
    noise = jax.random.normal(jax.random.key(2), (1, 4, 2))
    value = flow.push(noise, jnp.ones((1, 1)))
    # by hand, in many small steps
    here, n = noise[0], 2000
    field = eqx.filter_jit(flow._velocities)
    for i in range(n):
        here = here + field(jnp.full(4, (i + 0.5) / n), here, jnp.ones((4, 1))) / n
    np.testing.assert_allclose(value[0], here, atol=2e-3)
    # the law's total weight on a grid is 1
    axis = jnp.linspace(-6.0, 6.0, 49)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = jnp.exp(eqx.filter_jit(flow.log_prob)(grid, jnp.ones((len(grid), 1))))
    assert abs(float(density.sum()) * 0.25**2 - 1) < 0.01
