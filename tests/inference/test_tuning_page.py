"""What the page on tuning says to type runs as it stands, in miniature."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dmsim.cli.main import main
from inference.tuning import Sample, study
from inference.tuning.study import load_samples, read_study

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "tune-cuts.md"
SMALLER = {
    "n_events = 20000": "n_events = 1500",
    "n_starts = 2": "n_starts = 1\nn_steps = 60\nn_bootstrap = 10",
}


def blocks(language):
    """Text of the page's blocks in this language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the page's cuts and study lie, of fewer events and steps."""
    cuts, text, _ = blocks("toml")
    for old, new in SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "cuts.toml").write_text(cuts)
    (tmp_path / "study.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made_up(name, given, detector, seed, number):
    """In place of a simulation, which takes ten seconds to compile."""
    random = np.random.default_rng([seed, number])
    s1 = random.uniform(2, 60 if given.signal else 120, 1000)
    s2 = s1 * 10 ** random.normal(1.6 if given.signal else 2.2, 0.12, 1000)
    kept, columns = 0.72 * given.expected, {"cs1_pe": s1, "cs2_pe": s2}
    note = f"worth {kept:g} of the {given.expected:g} expected events"
    return Sample(columns, kept, given.signal, lost=given.expected - kept, note=note)


@pytest.mark.parametrize("simulate", [made_up, pytest.param(study._simulated, marks=pytest.mark.slow)])
def test_commands_of_the_page(folder, capsys, monkeypatch, simulate):
    monkeypatch.setattr(study, "_simulated", simulate)
    (command,) = blocks("bash")
    program, *arguments = shlex.split(command)
    assert program == "dmsim"
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    # every file that the table names is there
    for name in re.findall(
        r"`([a-z_]+\.(?:toml|txt|json|html|png))`", PAGE.read_text().split("writes into")[1]
    ):
        assert (folder / "tuned" / name).exists() or name == "cuts.toml"
    result = json.loads((folder / "tuned" / "result.json").read_text())
    assert len(result["constraints"]) == 3
    # what is lost before the cuts, and of what an efficiency is
    assert "of the 20 expected events" in shown
    assert "events that the cuts see" in shown
    assert "NaN" not in shown


def test_a_file_in_place_of_a_source(folder, monkeypatch):
    monkeypatch.setattr(study, "_simulated", made_up)
    text = (folder / "study.toml").read_text()
    simulated = text[text.index("[samples.er]") :]
    (folder / "study.toml").write_text(text.replace(simulated, blocks("toml")[2]))
    (folder / "er_events").mkdir()
    columns = {c: np.full(9, 10.0) for c in ("s1_pe", "cs1_pe", "cs2_pe")}
    pq.write_table(pa.table(columns | {"w": np.arange(9.0)}), folder / "er_events" / "part.parquet")
    samples = load_samples(read_study(folder / "study.toml"), folder, 0)
    assert samples["er"].lost == 0
    assert len(samples["er"]) == 9
    wimp = samples["wimp"]
    assert wimp.lost > 0
    assert wimp.expected + wimp.lost == pytest.approx(20.0)


def test_the_page_in_python(capsys):
    tuning = blocks("python")[0]
    assert "size=8000" in tuning
    exec(tuning.replace("size=8000", "size=1000"), {})
    assert "Range" in capsys.readouterr().out
