"""The field of a cage: Maxwell's equations, its boundary, and an independent solver."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cages import cage, with_cage
from scipy import sparse
from scipy.sparse.linalg import spsolve

from dmsim.detector import consistency
from dmsim.detector.maps import GridMap

pytestmark = pytest.mark.quick_compile

table = eqx.filter_jit(lambda field, *place: field.table(*place))


def test_straight_rings_make_a_uniform_field():
    detector = with_cage(distort=0.0)
    r, z = jnp.linspace(0, 660, 12), jnp.linspace(-1480, -5, 12)
    upward, outward = table(detector.drift_field, detector.geometry, r, z)
    np.testing.assert_allclose(upward, -23.0, rtol=1e-4)
    assert np.abs(outward * r).max() < 1e-3


def test_the_field_has_no_divergence_and_no_curl(x64):
    del x64
    detector = with_cage(jnp.float64)
    geometry, field = detector.geometry, detector.drift_field

    @jax.jit
    @jax.vmap
    def of(r, z):
        by_r, by_z = jax.jacfwd(lambda *place: jnp.stack(field.at(geometry, *place)), (0, 1))(r, z)
        outward, _ = field.at(geometry, r, z)
        return outward / r + by_r[0] + by_z[1], by_z[0] - by_r[1], by_r[0]

    r, z = (x.ravel() for x in jnp.meshgrid(jnp.linspace(50, 600, 7), jnp.linspace(-1400, -60, 9)))
    divergence, curl, scale = of(r, z)
    assert np.abs(scale).max() > 1e-3  # V/cm/mm: the field is distorted
    assert np.abs(divergence).max() < 1e-12
    assert np.abs(curl).max() < 1e-12


def test_the_field_is_that_of_a_finite_difference_solver(x64):
    """Rings on the surface, no charge; 3 % of a 3 V/cm distortion is what a 10 mm grid resolves."""
    del x64
    detector = with_cage(jnp.float64, wall_mm=jnp.zeros(()), wall_charge_uc_per_m2=jnp.zeros(2))
    field = detector.drift_field
    radius, length = (float(x) for x in (detector.geometry.radius_mm, detector.geometry.drift_length_mm))
    n_r, n_z = 67, 150
    r, dr = np.linspace(0, radius, n_r, retstep=True)
    s, ds = np.linspace(0, length, n_z, retstep=True)
    knots = np.concatenate([[0], np.asarray(field.ring_z_mm) + length, [length]])
    wall = np.interp(s, knots, np.concatenate([[field.cathode_v], np.asarray(field.ring_v), [field.gate_v]]))

    number = np.arange(n_r * n_z).reshape(n_z, n_r)
    matrix, right = sparse.lil_matrix((n_r * n_z, n_r * n_z)), np.zeros(n_r * n_z)
    for j in range(n_z):
        for i in range(n_r):
            row = number[j, i]
            if i == n_r - 1 or j in (0, n_z - 1):
                matrix[row, row], right[row] = 1, wall[j]
                continue
            matrix[row, number[j + 1, i]] = matrix[row, number[j - 1, i]] = ds**-2
            if i == 0:  # the axis: twice the second derivative
                matrix[row, number[j, 1]] = 4 * dr**-2
                matrix[row, row] = -2 * ds**-2 - 4 * dr**-2
            else:
                matrix[row, number[j, i + 1]] = dr**-2 * (1 + dr / (2 * r[i]))
                matrix[row, number[j, i - 1]] = dr**-2 * (1 - dr / (2 * r[i]))
                matrix[row, row] = -2 * ds**-2 - 2 * dr**-2
    potential = spsolve(matrix.tocsr(), right).reshape(n_z, n_r)
    upward = -np.gradient(potential, s, axis=0) * 10
    outward = -np.gradient(potential, r, axis=1) * 10
    found_up, found_out = table(field, detector.geometry, jnp.asarray(r), jnp.asarray(s - length))
    inside = (slice(5, -5), slice(1, -8))
    scale = np.abs(upward + 23)[inside].max()
    assert scale > 1
    assert np.abs(found_up - upward)[inside].max() < 0.03 * scale
    assert np.abs(found_out * r - outward)[inside].max() < 0.03 * scale
    assert np.abs(found_up + 23)[inside].max() > 0.5 * scale  # the twin: a uniform field is no solution


def test_charge_on_a_thin_wall_lifts_its_potential():
    """As a plane capacitor of PTFE: 269 V for 1 uC/m2 on 5 mm, far from both ends."""
    detector = with_cage(distort=0.0, wall_charge_uc_per_m2=jnp.ones(2), n_terms=400)
    length, radius = detector.geometry.drift_length_mm, detector.geometry.radius_mm
    z = jnp.linspace(-length, -length / 2, 20_000)
    upward, _ = table(detector.drift_field, detector.geometry, radius[None], z)
    volts = float(jnp.trapezoid(-(upward[:, 0] + 23.0) / 10, z))
    assert volts == pytest.approx(1e-6 * 5e-3 / (8.854e-12 * 2.1), rel=0.02)


def test_a_map_of_the_field_stands_for_the_cage():
    detector = with_cage()
    geometry, field = detector.geometry, detector.drift_field
    r, z = jnp.linspace(0, 664, 100), jnp.linspace(-1486.5, 0, 300)
    upward, outward = table(field, geometry, r, z)
    box = {"axes": ("r", "z"), "low": (0.0, -1486.5), "high": (664.0, 0.0)}
    nothing = cage(
        detector,
        distort=0.0,
        cathode_v=jnp.zeros(()),
        ring_v=jnp.zeros(16),
        radial_map=GridMap((outward * r).T, **box),
        vertical_map=GridMap(upward.T, **box),
    )
    places = jnp.array([10.0, 300.0, 600.0]), jnp.array([-1400.0, -200.0])
    for found, right in zip(table(nothing, geometry, *places), table(field, geometry, *places), strict=True):
        np.testing.assert_allclose(found, right, atol=2e-2 * float(jnp.abs(right).max()))


def test_single_precision_survives_many_terms():
    with jax.enable_x64(True):
        double = with_cage(jnp.float64, n_terms=1500)
        places = jnp.linspace(0, 664, 20), jnp.linspace(-1486, 0, 20)
        right = table(double.drift_field, double.geometry, *places)
        right = [np.asarray(x) for x in right]
    single = with_cage(n_terms=1500)
    found = table(single.drift_field, single.geometry, *(jnp.asarray(x, jnp.float32) for x in places))
    for one, other in zip(found, right, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4 * np.abs(other).max())


def test_rings_out_of_place_are_refused():
    detector = with_cage()
    consistency.check(detector)
    wrong = dataclasses.replace(detector.drift_field, ring_z_mm=detector.drift_field.ring_z_mm[::-1])
    with pytest.raises(ValueError, match="must ascend between the cathode"):
        consistency.check(dataclasses.replace(detector, drift_field=wrong))
    wrong = dataclasses.replace(detector.drift_field, ring_v=jnp.zeros(3))
    with pytest.raises(ValueError, match="must have one a ring"):
        consistency.check(dataclasses.replace(detector, drift_field=wrong))
