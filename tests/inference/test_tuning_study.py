"""The study of tuned cuts runs from its command, in miniature."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "experiments" / "cut_optimization"
MODULES = ("run", "rivals", "samples", "cut_sets", "report")


@pytest.fixture
def study(monkeypatch):
    """The script as a module; its neighbours are forgotten again, whose names others may use."""
    pytest.importorskip("optuna", reason="needs the extra studies")
    pytest.importorskip("cma", reason="needs the extra studies")
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("cut_optimization_run", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


def test_tiny_study(study, tmp_path, capsys):
    figure = tmp_path / "comparison.png"
    arguments = ["--tiny", "--sets", "eight", "--out", str(tmp_path), "--figure", str(figure)]
    assert study.main(arguments) == 0
    assert figure.stat().st_size > 10_000
    found = json.loads((tmp_path / "seed_1.json").read_text())["eight"]
    assert set(found) == {"none", "defaults", "gradient", "scan once", "scan converged", "TPE", "CMA-ES"}
    assert found["defaults"]["figure"] > 2 * found["none"]["figure"]
    for method, row in found.items():
        assert row["low"] <= row["figure"] <= row["high"]
        if method != "none":  # the shifted detectors are others
            assert row["lifetime"] != row["figure"]
            assert row["g1"] != row["figure"]
    # a search remembers the best, and begins with the defaults
    for method in ("scan once", "TPE", "CMA-ES"):
        assert found[method]["tuning_figure"] >= 0.9 * found["defaults"]["tuning_figure"]
    table = (tmp_path / "table.md").read_text()
    assert "| gradient |" in table
    # what is there is not done again
    capsys.readouterr()
    assert study.main(arguments) == 0
    assert "CPU-s\n" not in capsys.readouterr().out.split("**")[0]
