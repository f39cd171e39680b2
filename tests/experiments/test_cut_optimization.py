"""The study of tuned cuts runs from its command, in miniature."""

import json

import numpy as np
import pytest


@pytest.fixture
def study(loaded):
    pytest.importorskip("optuna", reason="needs the extra studies")
    pytest.importorskip("cma", reason="needs the extra studies")
    with loaded("cut_optimization") as module:
        yield module


def _made_up(seed, n, expected, detector, truth):
    """Every column at random, in place of a simulation: enough to see the study run."""
    from inference.tuning import Sample

    random = np.random.default_rng([seed, round(1e3 * float(truth.light.g1_phd_per_photon))])
    out = {}
    for name, total in expected.items():
        signal = name == "wimp"
        s1, r = random.uniform(4, 60 if signal else 110, n), 660 * np.sqrt(random.uniform(0, 1, n))
        s2 = s1 * 10 ** random.normal(1.6 if signal else 2.0, 0.15, n)
        lifetime = float(truth.electrons.lifetime_us) / float(detector.electrons.lifetime_us)
        columns = {
            **dict.fromkeys(("s1_pe", "cs1_pe"), s1),
            **dict.fromkeys(("s2_pe", "cs2_pe"), s2 * lifetime),
            **dict.fromkeys(("x_mm", "y_mm"), r / 2**0.5),
            "z_mm": -random.uniform(0, 1480, n),
            "drift_time_ns": random.uniform(2e3, 2e6, n),
        }
        out[name] = Sample(columns, total, signal)
    return out


def test_study_runs_on_made_up_events(study, tmp_path, monkeypatch):
    reference = _made_up(0, 4000, {"wimp": 1.0}, *[study.dmsim.load_detector("xenonnt")] * 2)["wimp"].columns
    monkeypatch.setattr(study.samples, "make", _made_up)
    monkeypatch.setattr(study.samples, "nuclear_recoils", lambda seed, detector: reference)
    monkeypatch.setattr(study.cut_sets, "BAND_KNOTS", (8.0, 20.0, 40.0))
    check(study, tmp_path)


@pytest.mark.slow
def test_tiny_study(study, tmp_path, capsys):
    found, arguments = check(study, tmp_path)
    for method, row in found.items():
        if method != "none":  # the shifted detectors are others
            assert row["lifetime"] != row["figure"]
            assert row["g1"] != row["figure"]
    # what is there is not done again
    capsys.readouterr()
    assert study.main(arguments) == 0
    assert "CPU-s\n" not in capsys.readouterr().out.split("**")[0]


def check(study, tmp_path):
    figure = tmp_path / "comparison.png"
    arguments = ["--tiny", "--sets", "eight", "--out", str(tmp_path), "--figure", str(figure)]
    assert study.main(arguments) == 0
    assert figure.stat().st_size > 10_000
    found = json.loads((tmp_path / "seed_1.json").read_text())["eight"]
    assert set(found) == {"none", "defaults", "gradient", "scan once", "scan converged", "TPE", "CMA-ES"}
    assert found["defaults"]["figure"] > 2 * found["none"]["figure"]
    for row in found.values():
        assert row["low"] <= row["figure"] <= row["high"]
    # a search remembers the best, and scans begin with the defaults
    assert found["scan once"]["tuning_figure"] >= found["defaults"]["tuning_figure"]
    for method in ("scan once", "TPE", "CMA-ES"):
        assert found[method]["tuning_figure"] == pytest.approx(found[method]["history"][-1][2], rel=1e-3)
    table = (tmp_path / "table.md").read_text()
    assert "| gradient |" in table
    return found, arguments
