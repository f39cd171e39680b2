"""The position posterior: its summary, its places, and the exported program."""

import json
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
import inference
from dmsim.io.exported import load_exported, write_exported
from dmsim.reconstruction.position import positions
from inference import position
from inference.position.outputs import LEVELS, _points
from inference.position.study import light_patterns

N = 2048


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("xenonnt")


@pytest.fixture(scope="module")
def summary(detector):
    return position.position_summary(detector)


@pytest.fixture(scope="module")
def fit(detector, summary):
    simulate = position.position_simulator(detector, summary)
    given = inference.Cached.draw(jax.random.key(1), simulate, 30_000, chunk=N)
    budget = inference.Budget(30_000, n_passes=3, batch_size=256, peak_rate=3e-3)
    return position.position_estimator(detector).fit(jax.random.key(2), given, budget)


@pytest.fixture(scope="module")
def sample(detector):
    """Places and patterns of the prior, but with 100 PE at least: fits of less have outliers."""

    @jax.jit
    def draw(key):
        keys = jax.random.split(key, 3)
        xy = position.position_prior(detector).sample(keys[0], N)
        light = jnp.exp(jax.random.uniform(keys[1], (N,), xy.dtype, jnp.log(100.0), jnp.log(1e5)))
        return xy, light_patterns(keys[2], detector, xy, light)

    return tuple(np.asarray(part) for part in draw(jax.random.key(3)))


def test_the_anchor_is_near_the_fit(detector, summary, sample):
    _, area = sample
    found = np.asarray(eqx.filter_jit(summary)(area))
    fit = positions(detector, area)
    anchor = position.position_prior(detector).to_physical(found[:, :2])
    inner = np.hypot(fit.x_mm, fit.y_mm) < 0.9 * float(detector.geometry.radius_mm)
    off = np.hypot(anchor[:, 0] - fit.x_mm, anchor[:, 1] - fit.y_mm)[inner]
    error = np.hypot(fit.x_error_mm, fit.y_error_mm)[inner]
    assert np.median(off / error) < 0.25


def test_patterns_without_light_or_sensors(detector, summary, sample):
    _, area = sample
    area = area[:8].copy()
    dead = np.flatnonzero(np.asarray(detector.light.sensors.efficiency) == 0)
    changed = area.copy()
    changed[:, dead] = 1e4
    changed[:, detector.light.sensors.n_top :] = 1e4  # nor does the bottom array count
    compiled = eqx.filter_jit(summary)
    np.testing.assert_array_equal(compiled(changed), compiled(area))
    none = np.asarray(compiled(np.zeros_like(area)))
    assert np.isfinite(none).all()
    assert none.shape == (8, summary.n_features)


def inside(polygon, point):
    """Whether each point is in its polygon: crossings of a ray."""
    x, y = np.moveaxis(polygon, -1, 0)
    x_next, y_next = np.roll(x, -1, axis=-1), np.roll(y, -1, axis=-1)
    px, py = point[:, :1], point[:, 1:]
    across = (y > py) != (y_next > py)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = across & (px < (x_next - x) * (py - y) / (y_next - y) + x)
    return crossing.sum(axis=-1) % 2 == 1


def test_places_cover_and_are_as_good_as_the_fit(detector, summary, fit, sample):
    """A training of seconds: coverage to 4 %, of which 3.3 standard deviations of the counts are 3.4 %
    (false-positive rate 1e-3); the full study is experiments/position_posterior."""
    xy, area = sample
    found = jax.tree.map(np.asarray, jax.jit(lambda a: position.places(fit.posterior, summary, a))(area))
    fitted = positions(detector, area)
    ours = np.sqrt(np.mean(np.sum((found.mean_mm - xy) ** 2, axis=1)))
    theirs = np.sqrt(np.mean((fitted.x_mm - xy[:, 0]) ** 2 + (fitted.y_mm - xy[:, 1]) ** 2))
    assert ours < 1.1 * theirs
    for i, level in enumerate(LEVELS):
        contour = found.contour_mm[:, i]
        assert abs(np.mean(inside(contour, xy)) - level) < 0.04
    # twin: contours 1.3 times too wide
    wide = found.mean_mm[:, None] + 1.3 * (found.contour_mm[:, 0] - found.mean_mm[:, None])
    assert np.mean(inside(wide, xy)) - LEVELS[0] > 0.04
    # covariance is that of the contours, to what tails allow
    spread = np.sqrt(np.trace(found.covariance_mm2, axis1=1, axis2=2))
    reach = np.sqrt(np.mean(np.sum((found.contour_mm[:, 0] - found.mean_mm[:, None]) ** 2, -1), axis=1))
    np.testing.assert_allclose(np.median(reach / spread), np.sqrt(-np.log1p(-0.68)), rtol=0.1)


def test_fixed_points_are_a_unit_normal():
    points = _points(16, 16)
    np.testing.assert_allclose(points[:16].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cov(points[:16].T, bias=True), np.eye(2), atol=1e-12)
    # area of the polygon: that of the circle that holds 68 %
    polygon = points[16:32]
    x, y = polygon.T
    area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    np.testing.assert_allclose(area, -2 * np.pi * np.log1p(-0.68))
    with pytest.raises(ValueError, match="n_points is 12: must be a power of two"):
        _points(12, 16)


READ = """
import json, sys
import numpy as np
from dmsim.io.exported import load_exported
program = load_exported(sys.argv[1])
area = np.load(sys.argv[2])
found = program.call(area)
assert not any(name.split(".")[0] in ("inference", "flax", "flowjax", "optax") for name in sys.modules)
np.savez(sys.argv[3], **{name: np.asarray(value) for name, value in found.items()})
print(json.dumps([program.stated["detector"]["name"], program.stated["outputs"]["mean_mm"]]))
"""


def test_exported_program_gives_the_same_without_the_training_code(detector, summary, fit, sample, tmp_path):
    _, area = sample
    position.export_places(tmp_path / "places.npz", fit.posterior, detector)
    np.save(tmp_path / "area.npy", area[:5])
    command = [sys.executable, "-c", READ, *(tmp_path / n for n in ("places.npz", "area.npy", "found.npz"))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == ["xenonnt", ["event", "x, y"]]
    ours = jax.jit(lambda a: position.places(fit.posterior, summary, a))(area)
    with np.load(tmp_path / "found.npz") as read:
        for name, value in ours._asdict().items():
            # as well as single precision lets a place be had from another batch
            np.testing.assert_allclose(read[name], value[:5], rtol=2e-3, atol=5e-3, err_msg=name)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "places.npz"
    with pytest.raises(FileNotFoundError):
        load_exported(path)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"places.npz is no exported program"):
        load_exported(path)
    np.savez(path, program=np.zeros(3, np.uint8), stated=np.frombuffer(b'{"format": "other"}', np.uint8))
    with pytest.raises(ValueError, match="no exported program of format dmsim-exported-1"):
        load_exported(path)
    write_exported(path, bytearray(b"no program"), {})
    with pytest.raises(ValueError, match="is damaged: its program cannot be read"):
        load_exported(path)


def test_a_range_of_light_that_is_none(detector, summary):
    with pytest.raises(ValueError, match="needs two rising positive numbers of PE"):
        position.position_simulator(detector, summary, top_pe=(100.0, 10.0))
