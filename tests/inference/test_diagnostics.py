"""Diagnostics on a linear normal model, whose posterior is known, and on the same scaled by 1.3.

Seeds are fixed. Each test of a right posterior states how often another seed would turn it red.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from inference.diagnostics import (
    c2st,
    coverage,
    efficiency,
    figures,
    misspecification,
    predictive,
    pulls,
    ranks,
    training,
    uniformity,
)
from inference.diagnostics.check import Check
from inference.diagnostics.draws import draw
from inference.diagnostics.report import Report, calibrate

N, DRAWS, D = 1000, 300, 3
MIX = jnp.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.5], [0.3, 0.0, 1.0], [0.2, 0.2, 0.2]])
NOISE = 0.5
COVARIANCE = jnp.linalg.inv(MIX.T @ MIX / NOISE**2 + jnp.eye(D))
ROOT = jnp.linalg.cholesky(COVARIANCE)
NAMES = ("energy", "radius", "depth")


class Exact:
    """Posterior of theta ~ N(0, 1), x ~ N(MIX theta, NOISE); widened, moved or uncorrelated on purpose."""

    names = NAMES

    def __init__(self, scale=1.0, shift=0.0, *, blind=False):
        self.scale, self.shift, self.blind = scale, shift, blind

    def mean(self, x):
        return (0.0 if self.blind else 1.0) * x @ MIX @ COVARIANCE / NOISE**2 + self.shift

    @property
    def root(self):
        return jnp.eye(D) if self.blind else ROOT

    def sample(self, key, x, n):
        normal = jax.random.normal(key, (len(x), n, D))
        return self.mean(x)[:, None] + self.scale * normal @ self.root.T

    def log_prob(self, theta, x):
        inverse = jnp.linalg.inv(self.root) / self.scale
        return -0.5 * jnp.sum(((theta - self.mean(x)[:, None]) @ inverse.T) ** 2, axis=-1)


def observe(key, theta):
    return theta @ MIX.T + NOISE * jax.random.normal(key, (len(theta), len(MIX)))


def simulate(key, n):
    key_theta, key_x = jax.random.split(key)
    theta = jax.random.normal(key_theta, (n, D))
    return theta, observe(key_x, theta)


def trial(posterior, *, seed=0, n=N, n_draws=DRAWS):
    theta, x = simulate(jax.random.key(seed), n)
    return (
        np.asarray(theta, float),
        np.asarray(posterior.sample(jax.random.key(seed + 1), x, DRAWS), float),
        x,
    )


@pytest.fixture(scope="module")
def right():
    return calibrate(jax.random.key(3), Exact(), simulate, n_draws=DRAWS)


@pytest.fixture(scope="module")
def wide():
    return calibrate(jax.random.key(3), Exact(scale=1.3), simulate, n_draws=DRAWS)


def test_right_posterior_passes(right, tmp_path):
    """False-positive rate 16 %, as the report says: two checks of coverage at 5 %, the others at 1 %."""
    assert right.passed, str(right)
    assert right.names == NAMES
    assert right.false_positive_rate == pytest.approx(0.16)
    assert {check.name for check in right.checks} >= {"sbc depth", "tarp", "coverage in radius", "classifier"}
    right.figure(tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 20_000


def test_posterior_scaled_by_1_3_fails_each_kind_of_check(wide):
    """Must fail: all that can see a width do, and the pulls' mean, which cannot, does not."""
    failed = {check.name for check in wide.failed}
    seen = ("sbc", "sbc band", "pull width", "coverage in", "tarp in")
    assert failed >= {f"{kind} {name}" for kind in seen for name in NAMES} | {
        "tarp",
        "coverage",
        "classifier",
    }
    assert not any(name.startswith("pull mean") for name in failed)
    assert not wide.passed


@pytest.mark.parametrize("scale", [1.3, 1 / 1.3])
def test_tarp_sees_the_width_from_draws_alone(scale):
    theta, draws, _ = trial(Exact(scale=scale))
    check = coverage.check_levels("tarp", coverage.tarp_levels(jax.random.key(4), theta, draws))
    assert not check.passed
    assert check.value > 2 * check.high


def test_shifted_posterior_fails():
    theta, draws, _ = trial(Exact(shift=0.3 * float(jnp.sqrt(COVARIANCE[0, 0]))))
    assert not pulls.check_pulls(pulls.pulls(theta, draws), NAMES)[0].passed
    assert not ranks.check_ranks(ranks.ranks(jax.random.key(5), theta, draws), NAMES)[0].passed


def test_the_prior_covers_and_is_refused_by_the_classifier_alone():
    report = calibrate(
        jax.random.key(6), Exact(blind=True), simulate, n_draws=DRAWS, columns=lambda x, means: {}
    )
    assert [check.name for check in report.failed] == ["classifier"]


def test_posterior_without_its_correlations_is_refused_by_the_classifier():
    class Factorised(Exact):
        root = jnp.diag(jnp.sqrt(jnp.diag(COVARIANCE)))

    theta, draws, x = trial(Factorised())
    levels = ranks.ranks(jax.random.key(7), theta, draws)
    assert all(check.passed for check in ranks.check_ranks(levels, NAMES))  # false-positive rate 2 %
    assert not c2st.check_pairs(jax.random.key(8), theta, draws, np.asarray(x)).passed


def test_report_is_written_and_read(wide, tmp_path):
    wide.write(tmp_path / "report.json")
    again = Report.from_dict(json.loads((tmp_path / "report.json").read_text()))
    assert again.failed == wide.failed
    assert "FAILED  tarp" in str(again)
    with pytest.raises(ValueError, match="without the arrays of a figure"):
        again.figure(tmp_path / "figure.png")


def test_levels_are_exactly_uniform_with_few_draws():
    """4 draws: without the spread of ranks KS would refuse. False-positive rate 1e-6 each."""
    theta, draws, _ = trial(Exact(), n=10_000, n_draws=10)
    for levels in (
        ranks.ranks(jax.random.key(9), theta, draws[:, :4])[:, 0],
        coverage.tarp_levels(jax.random.key(10), theta, draws[:, :5]),
    ):
        assert uniformity.deviation(levels).p_value > 1e-6


def test_ties_of_counts_are_spread():
    """A parameter that is a count, equal to many of its draws. False-positive rate 1e-6."""
    counts = np.random.default_rng(0).poisson(2.0, (5000, 51, 1)).astype(float)
    levels = ranks.ranks(jax.random.key(12), counts[:, 0], counts[:, 1:])
    assert uniformity.deviation(levels[:, 0]).p_value > 1e-6
    assert stats.kstest((counts[:, 1:] < counts[:, :1]).mean(axis=1)[:, 0], "uniform").pvalue < 1e-6


def test_pull_width_is_corrected_for_few_draws():
    """10 draws widen by 14 %. False-positive rate 1e-4."""
    theta, draws, _ = trial(Exact(), n=10_000, n_draws=10)
    found = pulls.pulls(theta, draws)
    assert np.all(np.abs(found.width - 1) < 4.5 * found.width_error)
    assert np.all(found.width * np.sqrt(1.1 * 9 / 7) > 1 + 8 * found.width_error)  # without it


@pytest.mark.parametrize(("n", "rate"), [(50, 0.05), (400, 0.01)])
def test_band_is_left_at_its_rate(n, rate):
    """Binomial limits at 1e-4 on both sides; a grid of 20 points makes the rate a little less than stated."""
    band = uniformity.ecdf_band(n, rate, n_cells=20)
    samples = np.random.default_rng(1).uniform(size=(20_000, n))
    outside = sum(not band.holds(sample) for sample in samples)
    low, high = stats.binom.ppf([5e-5, 1 - 5e-5], len(samples), [0.6 * rate, rate])
    assert low <= outside <= high
    assert not band.holds(samples[0] ** 1.7)


def test_bins_see_one_bad_region():
    """Posterior too narrow only in the last quarter of the first column."""
    theta, draws, _ = trial(Exact(), n=2000)
    means = draws.mean(axis=1)
    far = means[:, 0] > np.quantile(means[:, 0], 0.75)
    draws[far] = means[far, None] + (draws[far] - means[far, None]) / 1.3
    levels = coverage.tarp_levels(jax.random.key(13), theta, draws)
    bins = coverage.binned(levels, {"energy": means[:, 0], "depth": means[:, 2]})
    worst = min((each for each in bins if each.column == "energy"), key=lambda each: each.found.p_value)
    assert worst.high == means[:, 0].max()
    assert not coverage.check_bins("tarp", bins)[0].passed


def test_c2st_of_equal_and_scaled_samples():
    """False-positive rate 1e-3 by its own p-value."""
    normal = np.random.default_rng(2).normal(size=(2, 1500, 2))
    same = c2st.c2st(jax.random.key(14), *normal, n_steps=200)
    other = c2st.c2st(jax.random.key(14), normal[0], 1.3 * normal[1], n_steps=200)
    assert same.p_value > 1e-3
    # accuracy of the best classifier: (1 + total variation) / 2, of two round normals in two dimensions
    radius = 2 * np.log(1.3**2) / (1 - 1 / 1.3**2)
    best = 0.5 + 0.5 * (np.exp(-radius / 2 / 1.3**2) - np.exp(-radius / 2))
    assert other.p_value < 1e-6
    assert best - 0.04 < other.value < best + 0.03


def test_local_c2st_finds_the_event_that_is_wrong():
    """False-positive rate 10 %: the right posterior's two p-values above 1/20."""
    theta, draws, x = trial(Exact(), n=4000, n_draws=100)
    x = np.asarray(x)
    at = [int(np.argmin(np.abs(x[:, 0] - place))) for place in (-1.2, 1.2)]

    def test(draws):
        return c2st.local_c2st(
            jax.random.key(15), theta, draws, x, at_draws=draws[at], at_data=x[at], n_trials=19, n_steps=60
        )

    assert np.all(test(draws).p_value > 0.05)
    means, wrong = draws.mean(axis=1), x[:, 0] > 0
    draws[wrong] = means[wrong, None] + 1.8 * (draws[wrong] - means[wrong, None])
    found = test(draws)
    assert found.p_value[1] == pytest.approx(1 / 20)
    assert found.statistic[1] > 2 * found.statistic[0]


def test_predictive_accepts_its_own_data_and_refuses_other():
    """False-positive rate 1 %."""
    names = ("first", "second", "third", "fourth")
    _, draws, x = trial(Exact())
    some = draws[:, :60]
    levels = predictive.predictive_levels(jax.random.key(16), some, np.asarray(x), observe)
    assert all(check.passed for check in predictive.check_predictive(levels, names))
    noisy = np.asarray(x) + np.random.default_rng(3).normal(
        size=x.shape
    )  # noise of another size than assumed
    draws = Exact().sample(jax.random.key(17), jnp.asarray(noisy), 60)
    levels = predictive.predictive_levels(jax.random.key(18), np.asarray(draws), noisy, observe)
    assert not all(check.passed for check in predictive.check_predictive(levels, names))


def test_training_curves_are_judged():
    steps = np.arange(1000)
    good = {"training": np.exp(-steps / 50), "validation": np.exp(-steps / 50) + 0.02}
    assert all(check.passed for check in training.check_training(good))
    by_name = {
        "training finite": {"training": np.where(steps == 500, np.nan, 1.0)},
        "training settled": {"training": -steps / 100},
        "training gap": {"training": -0.2 + 0 * steps, "validation": 0.3 + 0 * steps},
    }
    for name, history in by_name.items():
        assert name in [check.name for check in training.check_training(history) if not check.passed]


def test_a_number_that_is_none_never_passes():
    assert not Check.within("x", float("nan"), low=-1, rate=0, detail="").passed


def test_bad_input_is_refused():
    theta, draws, x = trial(Exact(), n=200)
    with pytest.raises(ValueError, match=r"draws has shape \(200, 300, 2\): must be \(200, any, 3\)"):
        ranks.ranks(jax.random.key(0), theta, draws[..., :2])
    with pytest.raises(ValueError, match="theta has 3 values that are not finite, of 600"):
        pulls.pulls(np.where(np.arange(200)[:, None] == 7, np.nan, theta), draws)
    with pytest.raises(ValueError, match="n_events is 50: must be 100 at least"):
        calibrate(jax.random.key(0), Exact(), simulate, n_events=50)
    with pytest.raises(ValueError, match="2 names for 3 parameters"):
        calibrate(jax.random.key(0), Exact(), simulate, n_events=100, n_draws=100, names=("a", "b"))
    with pytest.raises(ValueError, match="simulate gives weights: calibration needs theta from the prior"):
        calibrate(jax.random.key(0), Exact(), lambda key, n: (*simulate(key, n), None, jnp.ones(n)))
    with pytest.raises(ValueError, match=r"what sample returns has shape \(200, 3\)"):
        draw(jax.random.key(0), lambda key, x, n: jnp.zeros((len(x), 3)), x, n_draws=100)
    with pytest.raises(ValueError, match="history has loss: must have 'training'"):
        training.check_training({"loss": np.zeros(30)})


def test_every_figure_is_drawn(right, tmp_path):
    rng = np.random.default_rng(4)
    null = rng.normal(size=(40, 12)) ** 2
    some = misspecification.Mismatch(4.0, 3.0, 0.01, null.ravel(), 0.01)
    efficiencies = efficiency.Efficiencies(rng.uniform(size=30), rng.normal(0.3, 0.2, 30))
    figures.page(
        tmp_path / "all.png",
        [
            lambda axes: figures.accuracies(axes, {"a": c2st.Accuracy(0.51, 0.3, 1000)}),
            lambda axes: figures.local(axes, c2st.LocalTest(null[0], null, null[0])),
            lambda axes: figures.efficiencies(axes, efficiencies),
            lambda axes: figures.predictive(axes, rng.uniform(size=(100, 2)), ("a", "b")),
            lambda axes: figures.mismatches(axes, {"gain": some}),
            lambda axes: figures.training(axes, {"training": rng.uniform(size=20)}),
            lambda axes: figures.bins(axes, right.arrays["bins"]["tarp"]),
        ],
    )
    assert (tmp_path / "all.png").stat().st_size > 20_000


def test_efficiencies_are_judged():
    good = efficiency.Efficiencies(np.full(20, 0.5), np.full(20, 0.3))
    bad = efficiency.Efficiencies(np.full(20, 0.1), np.linspace(0.3, 1.2, 20))
    assert all(check.passed for check in efficiency.check_efficiencies(good))
    assert not any(check.passed for check in efficiency.check_efficiencies(bad))
