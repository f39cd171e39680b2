"""The arrival map against the solver, the straight drift, a random walk and finite differences.

Statistical limits are those of one estimate at a false-positive rate of 1e-6 (4.9 sigma); five of them.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cages import with_cage
from jax.flatten_util import ravel_pytree
from scipy import stats
from scipy.interpolate import RegularGridInterpolator

import dmsim
from dmsim import charge, rng
from dmsim.charge.drift_map import build, local
from dmsim.detector.maps import GridMap
from dmsim.records import Deposits, Quanta

pytestmark = pytest.mark.quick_compile

SIGMA = stats.norm.isf(0.5e-6)
CLEAR_MM = 12.0  # of the wall, half a ring's pitch and less
read = eqx.filter_jit(lambda arrivals, *place: arrivals(*place))
follow = eqx.filter_jit(lambda detector, *place: charge.follow(detector, *place, rtol=1e-7, atol=1e-8))


def places(n, dtype, seed=1, *, beyond=0.0):
    random = np.random.default_rng(seed)
    r, angle = np.sqrt(random.uniform(beyond**2, 662**2, n)), random.uniform(0, 2 * np.pi, n)
    z = -random.uniform(1, 1480, n)
    return tuple(jnp.asarray(x, dtype) for x in (r * np.cos(angle), r * np.sin(angle), z))


def deposits_at(x, y, z):
    n, same = x.size, jnp.ones_like(x)
    return Deposits(
        event=jnp.arange(n),
        interaction=jnp.zeros(n, jnp.int32),
        energy_kev=5 * same,
        x_mm=x,
        y_mm=y,
        z_mm=z,
        time_ns=0 * same,
        first_event=jnp.int32(0),
        event_time_ns=None,
        n_events=n,
    )


@pytest.fixture(scope="module")
def solved():
    """Arrivals by the solver, in double precision, with the places and the detector."""
    return solve()


def solve(**options):
    with jax.enable_x64(True):
        where = places(150, jnp.float64, **options)
        return jax.tree.map(np.asarray, (where, follow(with_cage(jnp.float64), *where)))


def misses(arrival, solved, clear_mm):
    """Largest error in time [ns], radius [mm], attachment and relative variances, away from the wall."""
    (x, y, _), right = solved
    r = np.hypot(x, y)
    ok = (np.asarray(arrival.margin_mm) > clear_mm) & (right.margin_mm > 0)
    assert ok.sum() > 120
    found = jax.tree.map(lambda x: np.asarray(x, np.float64), arrival)
    return [
        np.abs(error)[ok].max()
        for error in (
            found.time_ns - right.time_ns,
            (found.stretch - right.stretch) * r,
            found.attachment - right.attachment,
            found.time_variance_ns2 / right.time_variance_ns2 - 1,
            found.variance_mm2 / right.variance_mm2 - 1,
            found.field_v_per_cm / right.field_v_per_cm - 1,
        )
    ]


def test_the_map_is_the_solver_to_10_ns_and_a_tenth_of_a_mm(solved):
    arrivals = charge.prepare(with_cage()).drift_field
    arrival = read(arrivals, *(jnp.asarray(x, jnp.float32) for x in solved[0]))
    time, radius, attachment, along, across, field = misses(arrival, solved, CLEAR_MM)
    assert time < 10
    assert radius < 0.1
    assert attachment < 1e-4
    assert max(along, across, field) < 1e-2


def test_a_coarse_map_is_not(solved):
    arrivals = charge.prepare(with_cage(n_radii=12, n_heights=12)).drift_field
    arrival = read(arrivals, *(jnp.asarray(x, jnp.float32) for x in solved[0]))
    time, radius, *_ = misses(arrival, solved, CLEAR_MM)
    assert time > 10
    assert radius > 0.01


def test_map_and_solver_lose_the_same_electrons_to_the_wall():
    where, right = solve(beyond=640.0)
    arrival = read(charge.prepare(with_cage()).drift_field, *(jnp.asarray(x, jnp.float32) for x in where))
    lost, near = right.margin_mm <= 0, np.abs(np.asarray(arrival.margin_mm)) < 2
    assert 10 < lost.sum() < 100
    assert near.sum() < 50
    assert not (lost ^ (np.asarray(arrival.margin_mm) <= 0))[~near].any()


def test_a_uniform_field_leaves_the_drift_straight():
    straight = dmsim.load_detector("xenonnt")
    detector = with_cage(distort=0.0, diffusion_curve=0)
    deposits = deposits_at(*places(200, jnp.float32))
    drift = eqx.filter_jit(charge.drift)
    found, right = drift(detector, deposits), drift(straight, deposits)
    far = np.hypot(deposits.x_mm, deposits.y_mm) < 600  # diffusion reaches the wall from 25 mm on
    assert (np.asarray(found.clear_of_wall)[far] == 1).all()
    for name in ("time_ns", "survival", "time_spread_ns", "spread_mm", "x_mm", "y_mm"):
        one, other = (np.asarray(getattr(x, name))[far] for x in (found, right))
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-3, err_msg=name)


def test_the_measured_speed_holds_at_the_nominal_field():
    detector = with_cage(distort=0.0)
    table = detector.drift_field
    speed = table.speed_mm_per_us(
        jnp.array([23.0, 46.0]),
        measured_mm_per_us=detector.electrons.drift_speed_mm_per_us,
        nominal_v_per_cm=jnp.float32(23.0),
        temperature_k=detector.xenon.temperature_k,
    )
    assert speed[0] == pytest.approx(0.677, rel=1e-6)
    assert speed[1] > 1.4 * speed[0]


def test_the_wall_takes_what_diffuses_into_it():
    detector = charge.prepare(with_cage(distort=0.0, diffusion_curve=0))
    n = 4
    z = jnp.full(n, -1000.0)
    x = 664.0 - jnp.array([0.0, 5.0, 10.0, 40.0])
    drift = charge.drift(detector, deposits_at(x, 0 * x, z))
    sigma = np.sqrt(2 * 48.4e-7 * 1000 / 0.677e-3)
    expected = 1 - 2 * stats.norm.sf((664 - np.asarray(x)) / sigma)
    np.testing.assert_allclose(drift.clear_of_wall, expected, atol=2e-3)


def test_the_spreads_are_those_of_a_random_walk():
    """1000 electrons walk up from one place: mean and spread of arrival time, place and spread across."""
    detector = with_cage()
    start_r, start_z, n, step_ns = 400.0, -1300.0, 1000, 4000.0
    r, z = np.linspace(0, 664, 200), np.linspace(-1486.5, 0, 400)
    upward, outward = detector.drift_field.table(detector.geometry, jnp.asarray(r), jnp.asarray(z))
    outward = outward * r
    strength = jnp.hypot(upward, outward)
    here = local(detector, detector.drift_field, strength, jnp.asarray(r), jnp.asarray(z)[:, None])
    columns = (
        upward / strength,
        outward / strength,
        here.speed_mm_per_ns * step_ns,
        jnp.sqrt(2 * here.longitudinal_mm2_per_ns * step_ns),
        jnp.sqrt(2 * here.transverse_mm2_per_ns * step_ns),
    )
    motion = RegularGridInterpolator((z, r), np.stack(columns, axis=-1), bounds_error=False, fill_value=None)

    random = np.random.default_rng(3)
    place = np.tile([start_r, 0.0, start_z], (n, 1))
    arrived, end, walking = np.full(n, np.nan), np.empty((n, 2)), np.arange(n)
    for i in range(1000):
        now = place[walking]
        radius = np.hypot(now[:, 0], now[:, 1])
        up, out, way, along, across = motion((now[:, 2], radius)).T
        line = np.column_stack([-out[:, None] * now[:, :2] / radius[:, None], -up])
        kick = random.normal(size=now.shape) * across[:, None]
        kick += line * (random.normal(size=way.size) * along - np.sum(kick * line, axis=1))[:, None]
        move = line * way[:, None] + kick
        share = -now[:, 2] / move[:, 2]
        there = now[:, 2] + move[:, 2] >= 0
        arrived[walking[there]] = (i + share[there]) * step_ns
        end[walking[there]] = (now + share[:, None] * move)[there, :2]
        place[walking] = now + move
        walking = walking[~there]
        if not walking.size:
            break
    right = charge.prepare(detector).drift_field(*(jnp.float32(x) for x in (start_r, 0, start_z)))
    spread, across = float(right.time_variance_ns2) ** 0.5, float(right.variance_mm2) ** 0.5
    limit = SIGMA * spread / np.sqrt(n) + step_ns / 10  # the walk sees the field at a step's begin
    assert abs(arrived.mean() - float(right.time_ns)) < limit
    assert abs(arrived.std() / spread - 1) < SIGMA / np.sqrt(2 * n)
    # radial and azimuthal widths differ a little; the map holds their geometric mean
    width = np.sqrt(end[:, 0].std() * end[:, 1].std())
    assert abs(width / across - 1) < SIGMA / np.sqrt(4 * n)
    assert abs(end[:, 0].mean() - start_r * float(right.stretch)) < SIGMA * across / np.sqrt(n) + 0.1
    assert abs(arrived.mean() * 1.01 - float(right.time_ns)) > limit  # the twin: a speed 1 % lower


def summed(detector, where):
    """A smooth number of everything that a map says, each term of order one."""
    arrivals = build(detector, detector.drift_field)
    drift = charge.drift(dataclasses.replace(detector, drift_field=arrivals), deposits_at(*where))
    terms = (
        drift.time_ns / 1e6,
        drift.survival,
        drift.time_spread_ns / 1e3,
        drift.spread_mm,
        drift.x_mm / 100,
    )
    return sum(jnp.sum(term) for term in terms)


def test_every_leaf_has_the_gradient_of_differences(x64):
    """Reverse mode through the map's building, against differences along each leaf's direction."""
    del x64
    detector = with_cage(jnp.float64, n_terms=8, n_radii=16, n_heights=16, rings=3)
    where = (
        jnp.array([100.0, 500.0, 630.0]),
        jnp.array([0.0, 200.0, 0.0]),
        jnp.array([-1400.0, -700.0, -300.0]),
    )
    parts = (detector.drift_field, detector.electrons, detector.xenon, detector.geometry.radius_mm, where)
    flat, rebuild = ravel_pytree(eqx.filter(parts, eqx.is_array))
    static = eqx.filter(parts, eqx.is_array, inverse=True)

    @jax.jit
    @jax.value_and_grad  # one compilation serves the gradient and the differences
    def of(x):
        field, electrons, xenon, radius, where = eqx.combine(rebuild(x), static)
        geometry = dataclasses.replace(detector.geometry, radius_mm=radius)
        changed = dataclasses.replace(
            detector, drift_field=field, electrons=electrons, xenon=xenon, geometry=geometry
        )
        return summed(changed, where)

    _, gradient = of(flat)
    for i, x in enumerate(flat):
        step = 1e-6 * max(abs(float(x)), 1.0)
        (above, _), (below, _) = of(flat.at[i].add(step)), of(flat.at[i].add(-step))
        difference = float(above - below) / (2 * step)
        assert gradient[i] == pytest.approx(difference, rel=1e-4, abs=1e-8), i


@pytest.mark.slow
def test_gradients_through_the_solver_are_those_of_the_map(x64):
    """In the voltages, by reverse mode through the event at the gate."""
    del x64
    detector = with_cage(jnp.float64, rings=5, n_terms=12)
    where = (jnp.array([100.0, 500.0]), jnp.zeros(2), jnp.array([-1300.0, -700.0]))

    def by(arrivals_of, field):
        arrival = arrivals_of(dataclasses.replace(detector, drift_field=field))
        radius = where[0] * arrival.stretch
        return jnp.sum(arrival.time_ns / 1e6 + radius / 100 + arrival.attachment + arrival.variance_mm2 / 20)

    solver = eqx.filter_grad(lambda f: by(lambda d: charge.follow(d, *where, rtol=1e-7, atol=1e-8), f))
    table = eqx.filter_grad(lambda f: by(lambda d: build(d, d.drift_field)(*where), f))
    found, right = (eqx.filter_jit(grad)(detector.drift_field) for grad in (solver, table))
    for name in ("cathode_v", "gate_v", "ring_v", "wall_charge_uc_per_m2"):
        one, other = np.asarray(getattr(found, name)), np.asarray(getattr(right, name))
        np.testing.assert_allclose(one, other, rtol=5e-3, atol=5e-3 * np.abs(other).max(), err_msg=name)


def test_expected_clouds_are_the_mean_of_transport():
    n = 20_000
    detector = charge.prepare(with_cage())
    x = jnp.full(n, 500.0)
    deposits = deposits_at(x, 0 * x, jnp.full(n, -1200.0))
    quanta = Quanta(n_photons=0 * x, n_electrons=0 * x + 100, n_excitons=0 * x)
    keys = rng.fold(rng.words_of(jax.random.key(7)), jnp.arange(n))
    drawn = eqx.filter_jit(charge.transport)(keys, detector, deposits, quanta)
    mean = eqx.filter_jit(charge.expected_clouds)(detector, deposits, quanta)
    for name in ("n_electrons", "time_ns", "x_mm", "y_mm", "photons_per_electron"):
        values, expected = np.asarray(getattr(drawn, name), np.float64), float(getattr(mean, name)[0])
        limit = SIGMA * values.std() / np.sqrt(n) + 1e-5 * abs(expected)
        assert abs(values.mean() - expected) < limit, name
    spread = float(mean.spread_mm[0]) ** 2
    seen = np.asarray(drawn.spread_mm, np.float64) ** 2 + np.asarray(drawn.y_mm, np.float64) ** 2
    assert seen.mean() == pytest.approx(spread, rel=1e-2)


def test_lifetime_and_extraction_maps():
    detector = dmsim.load_detector("xenonnt")
    box = {"axes": ("r", "z"), "low": (0.0, -1486.5), "high": (664.0, 0.0)}
    x = jnp.array([0.0, 300.0])
    deposits = deposits_at(x, 0 * x, jnp.array([-1000.0, -500.0]))
    drift = eqx.filter_jit(charge.drift)
    plain = drift(detector, deposits)

    def survival(values, **changes):
        electrons = dataclasses.replace(
            detector.electrons, lifetime_map=GridMap(jnp.asarray(values, jnp.float32), **box), **changes
        )
        return np.asarray(drift(dataclasses.replace(detector, electrons=electrons), deposits).survival)

    np.testing.assert_allclose(survival([[15e3, 15e3], [15e3, 15e3]]), plain.survival, rtol=1e-5)
    # 1 ms at the cathode and 2 ms at the gate: the integral of dz / (v tau) is a logarithm
    depth = np.array([1000.0, 500.0])
    at_start = 2000 - 1000 * depth / 1486.5
    integral = 1486.5 / 1000 * np.log(2000 / at_start) / 0.677
    expected = np.exp(-integral) * float(detector.electrons.extraction_efficiency)
    np.testing.assert_allclose(survival([[1e3, 2e3], [1e3, 2e3]]), expected, rtol=1e-3)
    # the same along field lines
    field = with_cage(distort=0.0).drift_field
    electrons = dataclasses.replace(
        detector.electrons, lifetime_map=GridMap(jnp.asarray([[1e3, 2e3], [1e3, 2e3]], jnp.float32), **box)
    )
    along = drift(dataclasses.replace(detector, electrons=electrons, drift_field=field), deposits).survival
    np.testing.assert_allclose(along, expected, rtol=1e-3)

    halves = GridMap(jnp.array([[1.0, 1.0], [0.5, 0.5]], jnp.float32), ("x", "y"), (-1.0, -1.0), (301.0, 1.0))
    electrons = dataclasses.replace(detector.electrons, extraction_map=halves)
    mapped = drift(dataclasses.replace(detector, electrons=electrons), deposits).survival
    np.testing.assert_allclose(mapped / plain.survival, [1 - 0.5 / 302, 0.5 + 0.5 / 302], rtol=1e-5)


def test_the_solver_needs_a_field():
    one = jnp.ones(1)
    with pytest.raises(ValueError, match="drift_field is None"):
        charge.follow(dmsim.load_detector("xenonnt"), one, one, -one)
