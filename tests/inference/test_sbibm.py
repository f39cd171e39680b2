"""The tasks of the sbi benchmark against their likelihoods by hand, the classifier test, and a small run."""

import bz2
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2]))  # the benchmarks lie beside the packages, not in them
from benchmarks import sbibm
from benchmarks.c2st import c2st
from benchmarks.sbibm_tasks import TASKS

N = 4000


def drawn(name):
    task = TASKS[name]
    theta = task.prior.sample(jax.random.key(0), N)
    return np.asarray(theta, float), np.asarray(task.observe(jax.random.key(1), theta), float)


WIDTH = np.sqrt(0.1)


def level_uniform(theta, x, *, width=WIDTH):
    """Level of theta in its exact posterior: a normal around x, cut at the prior's ends."""
    low, high = stats.norm.cdf(-1, x, width), stats.norm.cdf(1, x, width)
    return (stats.norm.cdf(theta, x, width) - low) / (high - low)


def level_moons(theta, x, *, width=0.01):
    """Levels of radius and angle, which the parameters and the data fix together."""
    first = x[:, 0] - 0.25 + np.abs(theta[:, 0] + theta[:, 1]) / np.sqrt(2)
    second = x[:, 1] - (theta[:, 1] - theta[:, 0]) / np.sqrt(2)
    radius, angle = np.hypot(first, second), np.arctan2(second, first)
    return np.stack([stats.norm.cdf(radius, 0.1, width), angle / np.pi + 0.5], axis=-1)


def level_slcp(theta, x):
    """Levels of the whitened data, by the covariance matrix of the paper."""
    points, rho = x.reshape(N, 4, 2) - theta[:, None, :2], np.tanh(theta[:, 4])[:, None]
    first, second = theta[:, 2, None] ** 2, theta[:, 3, None] ** 2
    one = points[..., 0] / first
    two = (points[..., 1] / second - rho * one) / np.sqrt(1 - rho**2)
    return stats.norm.cdf(np.stack([one[:, 0], two[:, 0]], axis=-1))


def level_mixture(theta, x):
    """Levels of the data: half of a width 1, half of 0.1."""
    return 0.5 * stats.norm.cdf(x - theta) + 0.5 * stats.norm.cdf((x - theta) / 0.1)


def least_p(levels):
    return min(stats.kstest(column, "uniform").pvalue for column in levels.T)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("gaussian_linear_uniform", level_uniform),
        ("two_moons", level_moons),
        ("slcp", level_slcp),
        ("gaussian_mixture", level_mixture),
    ],
)
def test_data_follow_the_published_likelihood(name, level):
    # 16 KS tests at 1e-4 in all: false positives in 0.2 % of seeds
    assert least_p(level(*drawn(name))) > 1e-4


@pytest.mark.parametrize(
    ("name", "level"), [("gaussian_linear_uniform", level_uniform), ("two_moons", level_moons)]
)
def test_a_width_off_by_a_third_is_seen(name, level):
    width = {"two_moons": 0.013, "gaussian_linear_uniform": 1.3 * WIDTH}[name]
    assert least_p(level(*drawn(name), width=width)) < 1e-4


def test_references_are_read_and_lie_where_the_likelihood_says(tmp_path):
    task, folder = TASKS["two_moons"], tmp_path / "two_moons" / "files" / "num_observation_3"
    folder.mkdir(parents=True)
    # the exact posterior by rejection on a fine grid, for data of theta = (0.3, -0.2)
    x = np.array([0.25 + 0.1 - 0.1 / np.sqrt(2), -0.5 / np.sqrt(2)])
    rng = np.random.default_rng(0)
    theta = rng.uniform(-1, 1, (400_000, 2))
    levels = level_moons(theta, x[None])
    weight = np.exp(-0.5 * stats.norm.ppf(np.clip(levels[:, 0], 1e-12, 1 - 1e-12)) ** 2)
    inside = (levels[:, 1] > 0.0) & (levels[:, 1] < 1.0) & (rng.uniform(size=len(theta)) < weight)
    kept = theta[inside]
    with bz2.open(folder / "reference_posterior_samples.csv.bz2", "wt") as file:
        np.savetxt(file, kept, delimiter=",", header="parameter_1,parameter_2", comments="")
    np.savetxt(folder / "observation.csv", x[None], delimiter=",", header="data_1,data_2", comments="")
    read_x, read = task.references(tmp_path, 3)
    np.testing.assert_allclose(read_x, x, rtol=1e-6)
    np.testing.assert_allclose(read, kept, rtol=1e-6)
    # two crescents, mirrored about theta_1 = -theta_2
    assert 0.4 < np.mean(read.sum(axis=1) > 0) < 0.6


@pytest.mark.quick_compile
def test_c2st_tells_what_differs():
    draws = np.asarray(jax.random.normal(jax.random.key(0), (2, 1000, 2)))
    # accuracy on 2,000 points has a width of 0.011; folds share them, so 5 of these is generous
    assert abs(c2st(draws[0], draws[1], n_passes=10) - 0.5) < 0.056
    assert c2st(draws[0], 1.5 + draws[1], n_passes=10) > 0.75
    with pytest.raises(ValueError, match="differ in shape"):
        c2st(draws[0], draws[1][:500])


@pytest.mark.quick_compile
def test_a_small_run_gives_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(sbibm, "N_DRAWS", 200)
    monkeypatch.setattr(sbibm, "N_MANY", 20)
    task = TASKS["gaussian_mixture"]
    training, test = sbibm.pairs(task, 0, 1000)

    def small():
        sizes = {"n_passes": 2, "n_layers": 1, "width": 8, "n_blocks": 1, "n_bins": 4}
        figures, draws = sbibm.ours(task, training, test, jnp.zeros((2, 2)), 0, **sizes)
        assert draws.shape == (2, sbibm.N_DRAWS, 2)
        assert np.abs(draws).max() <= task.bound
        return {**figures, "c2st": [0.6, 0.7]}

    made = sbibm.kept(tmp_path / "row.json", small)
    assert np.isfinite(made["test_nll"])
    assert sbibm.kept(tmp_path / "row.json", lambda: {}) == made
    lines = sbibm.table([{"task": task.name, "seed": 0, "ours": made}])
    assert "| C2ST | gaussian_mixture | 0.65 |" in lines
