"""The study of clustering runs from its command, in miniature."""

import json

import pytest
from clustering_truth import batch

pytestmark = pytest.mark.quick_compile


@pytest.fixture
def study(loaded):
    pytest.importorskip("optuna", reason="needs the extra studies")
    pytest.importorskip("cma", reason="needs the extra studies")
    with loaded("clustering") as module:
        yield module


def check(study, folder):
    """Every method has its numbers, table and figure; a second call finds all done."""
    arguments = ["--out", str(folder), "--figure", str(folder / "comparison.png"), "--tiny"]
    assert study.main(arguments) == 0
    done = json.loads((folder / "seed_1.json").read_text())
    assert set(done) == set(study.METHODS)
    for row in done.values():
        for test in ("nominal", "shifted"):
            low, high = row[test]["interval"]
            assert 0 <= low <= high
    table = (folder / "table.md").read_text()
    assert all(f"| {method} |" in table for method in study.METHODS)
    assert (folder / "comparison.png").stat().st_size > 10_000
    before = (folder / "seed_1.json").stat().st_mtime_ns
    assert study.main(arguments) == 0
    assert (folder / "seed_1.json").stat().st_mtime_ns == before


def test_study_runs_on_records_by_hand(study, tmp_path, monkeypatch):
    def by_hand(config, detector, seed, which):
        n = next(iter(config["samples"].values()))[which]
        return {"by hand": [batch(detector, seed % 100 + i + 1) for i in range(n)]}

    monkeypatch.setattr(study.data, "make", by_hand)
    check(study, tmp_path)


@pytest.mark.slow  # the same with simulated records
def test_study_runs(study, tmp_path):
    check(study, tmp_path)
