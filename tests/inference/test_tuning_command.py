"""`dmsim tune`: from a study to tuned cuts and a report, and what it refuses."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dmsim.cli.main import main
from dmsim.selection import evaluate, read_cuts

CUTS = """
version = 1
[[cut]]
kind = "range"
name = "x"
column = "x"
high = 4.0
[[cut]]
kind = "range"
name = "y"
column = "y"
[cut.high]
of = "x"
knots = [-1.0, 1.0]
values = [4.0, 4.0]
"""
STUDY = """
cuts = "cuts.toml"
[objective]
figure = "asimov_significance"
background_error = 0.1
[constraints]
min_efficiency = 0.5
bounds = { "x.high" = [-1.0, 5.0] }
[tuning]
n_steps = 40
n_starts = 1
n_bootstrap = 20
[samples.signal]
file = "signal.parquet"
signal = true
expected = 20.0
[samples.background]
file = "background.parquet"
weight = "w"
expected = 400.0
"""


@pytest.fixture
def study(tmp_path):
    random = np.random.default_rng(0)
    for name, mean, width in (("signal", 0.0, 1.0), ("background", 1.5, 2.0)):
        columns = {c: random.normal(mean, width, 2000) for c in "xy"}
        columns["w"] = random.uniform(0.5, 1.5, 2000)
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    (tmp_path / "cuts.toml").write_text(CUTS)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def test_writes_cuts_that_are_better(study, capsys):
    out = study / "out"
    arguments = ["tune", "--config", str(study / "study.toml"), "--out", str(out), "--seed", "3"]
    assert main(arguments) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["improved"]
    assert result["held_out"]["gain"]["low"] > 0.2
    shown = capsys.readouterr().out
    assert "gain +" in shown
    assert "tuned: asimov_significance " in shown
    verdict = result["constraints"][0]
    row = next(line for line in shown.splitlines() if verdict["constraint"] in line)
    assert f"{verdict['held_out']:.3g} +-" in row
    assert ("yes" in row) == verdict["met"] == (verdict["held_out"] >= 0.5)
    # the file holds the cuts that were judged
    tuned = read_cuts(out / "cuts.toml")
    flow = evaluate(study / "signal.parquet", tuned)
    assert flow.efficiency.value == pytest.approx(
        result["held_out"]["efficiency"], abs=0.06
    )  # 4 sigma of 500
    assert flow.efficiency.value >= 0.5
    assert tuned["x"].high == pytest.approx(result["parameters"]["x.high"]["tuned"])
    # and the record leads to them
    assert result["trajectory"]["values"][-1][0][0] == pytest.approx(tuned["x"].high, abs=1.0)
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 3
    assert "nan" not in page.lower().split("base64")[0]
    assert (out / "cut_flow.txt").read_text().startswith("signal")
    first = (out / "cuts.toml").read_text()
    main(arguments)
    assert (out / "cuts.toml").read_text() == first  # the same seed, the same cuts


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('file = "signal.parquet"', 'file = "none.parquet"', "none.parquet does not exist"),
        ('figure = "asimov_significance"', 'figure = "f1"', "objective.figure"),
        ("n_starts = 1", "n_cats = 1", "tuning.n_cats is not known"),
        ("n_starts = 1", "n_starts = 1.5", "tuning.n_starts is 1.5"),
        ("n_starts = 1", 'n_starts = "one"', "tuning.n_starts is 'one'"),
        ("n_starts = 1", "softness = 0.3", "tuning.softness is 0.3"),
        ("n_starts = 1", "fractions = [0.5, 0.5, 0.5]", "fractions (0.5, 0.5, 0.5)"),
        ('cuts = "cuts.toml"', 'kind = "cats"\ncuts = "cuts.toml"', "kind is 'cats'"),
        ('weight = "w"', 'weight = "v"', "no column 'v' to weigh with"),
        ("min_efficiency = 0.5", "min_efficiency = 1.5", "minimum efficiency is 1.5"),
        ('file = "signal.parquet"', 'source = "wimp"', "name a detector"),
        ("[tuning]", "[tuning", "is no TOML"),
        ('cuts = "cuts.toml"', 'cuts = "other.toml"', "other.toml cannot be read"),
        ('"x.high" = [-1.0, 5.0]', '"z.high" = [-1.0, 5.0]', "'z.high', which is no parameter"),
    ],
)
def test_bad_studies_end_with_one_line(study, capsys, old, new, words):
    path = study / "study.toml"
    assert old in STUDY
    path.write_text(STUDY.replace(old, new))
    assert main(["tune", "--config", str(path), "--out", str(study / "out")]) != 0
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (study / "out").exists()


@pytest.mark.slow
def test_simulated_samples(study):
    text = STUDY.replace('file = "signal.parquet"', 'source = "nr_flat"\nn_events = 2000')
    text = text.replace('file = "background.parquet"\nweight = "w"', 'source = "er_flat"\nn_events = 2000')
    (study / "study.toml").write_text('detector = "xenonnt"\n' + text.replace('"x.high"', '"ratio.high"'))
    cuts = 'version = 1\n[[cut]]\nkind = "range"\nname = "ratio"\ncolumn = "log10_cs2_over_cs1"\nhigh = 2.3\n'
    (study / "cuts.toml").write_text(cuts)
    assert main(["tune", "--config", str(study / "study.toml"), "--out", str(study / "out")]) == 0
    assert json.loads((study / "out" / "result.json").read_text())["improved"]
