"""The event-posterior study: its pieces, and the whole in miniature."""

import json

import jax
import numpy as np
import pytest

import dmsim
import inference


@pytest.fixture(scope="module")
def study(loaded):
    with loaded("event_posterior") as module:
        yield module


def test_leakage_is_the_share_above_the_median_of_each_bin(study):
    is_nr = np.array([True] * 3 + [False] * 4 + [True] + [False] * 2)
    score = np.array([1.0, 2.0, 3.0, 2.5, 0.0, 0.0, 0.0, 7.0, 8.0, 6.0])
    place = np.array([0] * 7 + [1] * 3)
    whole, each = study.rows._leakage(score, is_nr, place, 2)
    assert whole == pytest.approx(2 / 6)
    np.testing.assert_allclose(each, [0.25, 0.5])


def test_coverage_is_that_of_central_intervals(study):
    """3,000 events: 68 % to 5 standard errors, false-positive rate below 1e-5 for five parameters."""
    random = np.random.default_rng(0)
    truth, draws = random.normal(size=(3000, 4)), random.normal(size=(3000, 99, 4))
    truth[:, 1:3] += 50.0  # so that the radius is one of them, not all of them
    draws[..., 1:3] += 50.0
    found, place = study.checks.central_coverage(jax.random.key(0), truth, draws)
    assert place.shape == (3000, 5)
    assert all(abs(each["0.68"] - 0.68) < 0.043 for each in found.values())
    wide, _ = study.checks.central_coverage(jax.random.key(0), truth, draws * [1.3, 1, 1, 1.3])
    assert abs(wide["energy"]["0.68"] - 0.68) > 0.043  # must fail


def test_stages_go_on_where_they_ended(study, tmp_path):
    made = []

    def make():
        made.append(1)
        return {"value": 1.5}, {"rows": np.arange(3)}

    first = study.Stages(tmp_path)("one", make)
    again = study.Stages(tmp_path)("one", make)
    assert len(made) == 1
    assert again[0] == first[0]
    np.testing.assert_array_equal(again[1]["rows"], first[1]["rows"])


@pytest.mark.slow  # compiles the training, the flow and NUTS: some 200 CPU-s
def test_the_whole_study_runs_in_miniature(study, tmp_path):
    arguments = ["--scale", "0.001", "--out", str(tmp_path), "--figures", str(tmp_path / "figures")]
    assert study.main(arguments) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["exact"]["median_efficiency"] > 0.2
    assert results["exact"]["n_invalid"] == 0
    assert len(results["energy"]["lines"]) == 3
    assert all(abs(line["posterior"]["bias_percent"]) < 20 for line in results["energy"]["lines"])
    assert all(0 <= row["cut"]["leakage"] < 0.2 for row in results["discrimination"]["seeds"])
    for name in ("event", "coverage", "efficiency", "rows"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 10_000
    kept = inference.load_posterior(tmp_path / "posterior_1.npz", detector=dmsim.load_detector("xenonnt"))
    assert kept.diagnostics["checks"]
