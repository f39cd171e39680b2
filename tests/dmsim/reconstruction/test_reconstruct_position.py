import jax.numpy as jnp
import numpy as np
import pytest

from dmsim.reconstruction.position import positions


def patterns(detector, random, x, y, n_pe, spread=0.41):
    share = np.asarray(
        detector.light.s2_pattern(detector.geometry, jnp.asarray(x), jnp.asarray(y)), np.float64
    )
    count = random.poisson(n_pe * share)
    return count + spread * np.sqrt(count) * random.normal(size=count.shape)


def places(random, n, r_max):
    r, phi = r_max * np.sqrt(random.uniform(size=n)), random.uniform(0, 2 * np.pi, n)
    return (r * np.cos(phi)).astype(np.float32), (r * np.sin(phi)).astype(np.float32)


def test_unbiased_inside(detector, random):
    """Mean error of 200 S2s: 1e-5 two-sided at 4.42 standard errors; an outward shift of 1 mm must fail."""
    x, y = places(random, 200, 550)
    found = positions(detector, patterns(detector, random, x, y, 6000), max_steps=8)
    outward = ((found[:, 0] - x) * x + (found[:, 1] - y) * y) / np.hypot(x, y)
    error = outward.std() / np.sqrt(len(x))
    assert abs(outward.mean()) < 4.42 * error
    assert abs(outward.mean() + 1.0) > 4.42 * error
    assert np.quantile(np.hypot(found[:, 0] - x, found[:, 1] - y), 0.68) < 5


def test_reaches_the_maximum_of_the_likelihood(detector, random):
    """No place near the one found, inside the wall, is more likely."""
    x, y = places(random, 20, 650)
    area = patterns(detector, random, x, y, 500)
    found = positions(detector, area, max_steps=12)
    top = np.maximum(area[:, :253], 0)

    def value(px, py):
        share = np.asarray(detector.light.s2_pattern(detector.geometry, jnp.asarray(px), jnp.asarray(py)))[
            :, :253
        ]
        share = share.astype(np.float64)
        share /= share.sum(axis=1, keepdims=True)
        return np.sum(np.where(share > 0, top * np.log(np.where(share > 0, share, 1)), 0), axis=1)

    best = value(found[:, 0], found[:, 1])
    radius = float(detector.geometry.radius_mm)
    for dx, dy in ((4, 0), (-4, 0), (0, 4), (0, -4), (30, 0), (-30, 0), (0, 30), (0, -30)):
        px, py = found[:, 0] + np.float32(dx), found[:, 1] + np.float32(dy)
        inside = np.hypot(px, py) < radius
        assert (value(px, py)[inside] <= best[inside] + 0.02).all()


def test_stays_inside_at_the_wall(detector, random):
    radius = float(detector.geometry.radius_mm)
    phi = random.uniform(0, 2 * np.pi, 60)
    x, y = ((radius * f(phi)).astype(np.float32) for f in (np.cos, np.sin))
    found = positions(detector, patterns(detector, random, x, y, 3000), max_steps=8)
    assert np.isfinite(found).all()
    r = np.hypot(found[:, 0], found[:, 1])
    assert r.max() <= radius * (1 + 1e-5)
    assert np.hypot(found[:, 0] - x, found[:, 1] - y).max() < 60


def test_dead_sensors_are_masked(detector, random):
    import equinox as eqx

    dead = np.flatnonzero(np.hypot(*(np.asarray(c)[:253] for c in (
        detector.light.sensors.x_mm, detector.light.sensors.y_mm))) < 90)  # fmt: skip
    holed = eqx.tree_at(
        lambda d: d.light.sensors.efficiency, detector, detector.light.sensors.efficiency.at[dead].set(0.0)
    )
    x, y = places(random, 40, 80)
    area = patterns(holed, random, x, y, 8000)
    area[:, dead] = 500.0  # a dead sensor's readings mean nothing
    found = positions(holed, area, max_steps=12)
    assert np.median(np.hypot(found[:, 0] - x, found[:, 1] - y)) < 15


def test_no_light_on_top_has_no_position(detector):
    area = np.zeros((1, 494))
    area[0, 300] = 50.0
    assert np.isnan(positions(detector, area, max_steps=8)).all()


def test_block_and_order_do_not_matter(detector, random):
    x, y = places(random, 40, 600)
    area = patterns(detector, random, x, y, 1000)
    together = positions(detector, area, max_steps=8)
    np.testing.assert_array_equal(together[35:], positions(detector, area[35:], max_steps=8))
    assert together.shape == (40, 2)
    assert pytest.approx(together[3]) == positions(detector, area[3:4], max_steps=8)[0]
