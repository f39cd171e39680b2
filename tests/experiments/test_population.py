"""The study of populations says where a coverage is not as claimed."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest


def results(at_none=0.882, asymptotic=0.9, twin=0.79):
    return {
        "confidence": 0.9,
        "n_toys": 500,
        "n_level_toys": 5000,
        "n_scans": 250,
        "coverage": [
            {"signal": 0.0, "nominal": {"asymptotic": 0.94, "toys": at_none}},
            {"signal": 10.0, "nominal": {"asymptotic": asymptotic, "toys": 0.9}},
        ],
        "intervals": {"coverage_of_twin": twin},
    }


def test_two_standard_deviations_of_the_experiments_are_the_bound(loaded):
    with loaded("population") as study:
        assert not study.judged(results())
        # 0.0268 for 90 % of 500; what Neyman's levels scatter is no excuse
        assert study.judged(results(at_none=0.872)) == [
            "toys at 0: 0.872, of which the level explains +- 0.004"
        ]
        assert study.judged(results(asymptotic=0.93)) == ["asymptotic at 10: 0.930"]
        assert study.judged(results(twin=0.89)) == ["the twin passes: 0.890"]


def test_a_levels_error_is_that_of_its_quantile(loaded):
    """0.9 of an exponential: the error is sqrt(0.09 / n) over the density 0.1, here 0.03, within a tenth."""
    with loaded("population") as study:
        t = np.quantile(
            np.random.default_rng(1).exponential(size=400_000), (np.arange(10_000) + 0.5) / 10_000
        )
        assert 0.027 < study.level_error(t, 0.9) < 0.033


def test_a_posterior_of_sets_refuses_other_features(loaded):
    with loaded("population") as study:
        compare, made = study.set_posterior.compare_features, SimpleNamespace(sha256="ab")
        compare("kept.npz", {"features_sha256": "ab"}, made)
        for kept in ({"features_sha256": "cd"}, {}):
            with pytest.raises(
                SystemExit, match=r"kept.npz: trained on features with SHA-256 (cd|None), .* ab"
            ):
                compare("kept.npz", kept, made)


@pytest.mark.slow
def test_tiny_study_of_sets(loaded, tmp_path, monkeypatch):
    with loaded("population") as study:
        for stage in ("sets", "sets-model"):
            monkeypatch.setattr(sys, "argv", ["run.py", "--tiny", "--stage", stage, "--out", str(tmp_path)])
            assert study.main() == 0
    found = json.loads((tmp_path / "sets.json").read_text())
    assert set(found["compared"]) == {"means"}
    assert (tmp_path / "sets.png").stat().st_size > 10_000
    again = json.loads((tmp_path / "sets_model.json").read_text())
    # from the file: the same posterior, sets and draws
    assert again[0]["efficiency"] == pytest.approx(found["model"][0]["efficiency"], rel=1e-3)
    assert 0 < again[0]["efficiency"] <= 1
