"""Flows: density and draws are two sides of one law; splines against FlowJAX's."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.test_util
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


def raw_of(vector, n_bins=7):
    return spline.Raw(*jnp.split(vector, (n_bins, 2 * n_bins)))


def test_spline_is_flowjax_s(x64):
    place, ends = jnp.linspace(-4.0, 4.0, 101), jnp.array([3.0])

    def theirs(vector):
        raw = raw_of(vector)
        x, y = (spline._right_ends(spline._exponentials(part)[1], 3.0)[:-1] for part in raw[:2])
        slopes = jnp.concatenate([ends / 3.0, spline._slope(raw.slopes), ends / 3.0])
        made = eqx.tree_at(
            lambda s: (s.x_pos, s.y_pos, s.derivatives),
            paramax.unwrap(RationalQuadraticSpline(knots=6, interval=3.0)),
            (jnp.concatenate([-ends, x, ends]), jnp.concatenate([-ends, y, ends]), slopes),
        )
        return jax.vmap(made.transform_and_log_det)(place)

    def ours(vector):
        raw = jax.tree.map(lambda part: part[:, None] * jnp.ones(101), raw_of(vector))
        return spline.forward(place, raw, bound=3.0)

    vector = jax.random.normal(jax.random.key(0), (spline.n_raw(7),))
    (value, log_slope), expected = ours(vector), theirs(vector)
    np.testing.assert_allclose((value, log_slope), expected, atol=1e-9)
    # the derivative in the raw numbers, which ours states by hand and theirs leaves to JAX
    for one, other in zip(jax.jacrev(ours)(vector), jax.jacrev(theirs)(vector), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)
    raw = jax.tree.map(lambda part: part[:, None] * jnp.ones(101), raw_of(vector))
    back, slope_back = spline.inverse(value, raw, bound=3.0)
    np.testing.assert_allclose(back, place, atol=1e-7)
    np.testing.assert_allclose(slope_back, -log_slope, atol=1e-6)


@pytest.mark.parametrize("transform", [spline.forward, spline.inverse])
def test_derivatives_of_a_spline_are_its_differences(x64, transform):
    """First ones in both modes, and second ones, which a joint score takes."""
    place = jnp.linspace(-3.3, 3.3, 12)

    def total(place, vector):
        raw = jax.tree.map(lambda part: part[:, None] * jnp.ones(12), raw_of(vector, 4))
        return sum(jnp.sum(jnp.sin(part)) for part in transform(place, raw, bound=3.0))

    vector = jax.random.normal(jax.random.key(0), (spline.n_raw(4),)).at[-3:].set([100.0, 0.3, -100.0])
    jax.test_util.check_grads(
        jax.jit(total), (place, vector), 2, modes=("fwd", "rev"), eps=1e-6, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("transform", [spline.forward, spline.inverse])
def test_second_derivatives_at_extreme_slopes_are_finite(transform):
    """In single precision, where exp(100) is infinite."""
    place = jnp.linspace(-3.3, 3.3, 12)

    def total(slopes):
        raw = spline.Raw(jnp.zeros((4, 12)), jnp.zeros((4, 12)), slopes[:, None] * jnp.ones(12))
        return sum(jnp.sum(jnp.sin(part)) for part in transform(place, raw, bound=3.0))

    slopes = jnp.array([100.0, 0.3, -100.0])
    assert np.isfinite(jax.jit(jax.hessian(total))(slopes)).all()


def test_spline_of_zeros_is_the_identity():
    place, raw = jnp.linspace(-6.0, 6.0, 25), spline.Raw(*(jnp.zeros((n, 25)) for n in (10, 10, 9)))
    value, log_slope = spline.forward(place, raw, bound=5.0)
    np.testing.assert_allclose(value, place, atol=1e-5)
    np.testing.assert_allclose(log_slope, 0.0, atol=1e-5)


def test_the_condition_matters():
    for name, description in EXACT.items():
        flow = perturbed(description.build(jax.random.key(0), 2, 3))
        value = jnp.ones((2, 2))
        one, other = flow.log_prob(value, jnp.array([[0.0, 0.0, 0.0], [1.0, -1.0, 1.0]]))
        assert abs(float(one - other)) > 1e-3, name


def test_one_parameter():
    """Nothing is kept: the splines are chosen by the condition alone."""
    flow = perturbed(EXACT["coupling"].build(jax.random.key(0), 1, 2), 0.5)
    assert flow.push(jnp.zeros((2, 3, 1)), jnp.ones((2, 2))).shape == (2, 3, 1)
    value = jnp.array([[0.3], [-4.9], [40.0]])  # inside and outside of the bound of 5
    gradient = jax.jit(jax.grad(lambda v: flow.log_prob(v, jnp.ones((3, 2))).sum()))(value)
    assert np.isfinite(gradient).all()
    assert (gradient != 0).all()


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
