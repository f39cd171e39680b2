"""`dmsim tune` of thresholds of the reconstruction: what it writes and refuses, and what its page says."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from clustering_truth import batch

import dmsim
from dmsim.cli.main import main
from dmsim.reconstruction import load_settings
from dmsim.reconstruction.settings import Settings, replaced
from inference.tuning import clustering_samples, clustering_study
from inference.tuning.clustering_judge import judge
from inference.tuning.clustering_result import Options, TunedSettings, write_settings
from inference.tuning.clustering_samples import hard_errors

pytestmark = pytest.mark.quick_compile
PAGE = Path(__file__).parents[3] / "docs" / "howto" / "tune-clustering.md"
# pieces of small S2s stay apart; those of two S2s are joined
APART = {"gap_ns": (300.0, 250.0, 200.0, 150.0, 100.0)}
JOINED = {"gap_ns": (1800.0, 1500.0, 1200.0, 900.0, 600.0)}


def blocks(language):
    """Text of the page's blocks in this language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def smaller(text, changes):
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the page's study lies, with fewer steps and bad settings to start from; records are by hand."""

    def by_hand(study, detector, seed, *, held_out=False):
        for number, (name, sample) in enumerate(study.samples.items()):
            n = sample.held_out if held_out else sample.batches
            # with the settings to start from, the first two join S2s that are well apart
            yield name, [batch(detector, seed + number + i + 1) for i in range(n)]

    monkeypatch.setattr(clustering_study, "simulate_samples", by_hand)
    (study,) = blocks("toml")
    study = study[: study.index("[samples.scatter]")]
    changes = {
        '# settings = "given.toml"': 'settings = "given.toml"',
        '# tune = ["merging", "clustering.gap_ns"]': 'tune = ["merging.gap_ns"]',
        "n_steps = 20": "n_steps = 4\nlearning_rate = 1.5",
        "steps_per_plan = 4": "steps_per_plan = 2",
        "temperature = [1.0, 0.02]": "temperature = [1.0, 0.5]",
        "batches = 4": "batches = 2",
        "held_out = 4": "held_out = 1",
    }
    (tmp_path / "study.toml").write_text(smaller(study, changes))
    given = replaced(Settings(), merging=replaced(Settings().merging, **JOINED))
    write_settings(given, tmp_path / "given.toml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_of_the_page(folder, capsys):
    (command,) = blocks("bash")
    program, *arguments = shlex.split(command)
    assert program == "dmsim"
    assert main(arguments) == 0
    # every file that the table names is there
    table = PAGE.read_text().split("writes into")[1].split("and `dmsim")[0]
    names = re.findall(r"`([a-z_]+\.(?:toml|json|html|png))`", table)
    assert len(names) == 5
    assert all((folder / "tuned" / name).exists() for name in names)
    result = json.loads((folder / "tuned" / "result.json").read_text())
    held_out = result["held_out"]
    assert result["improved"]
    assert held_out["tuned"]["merged"] < held_out["given"]["merged"]
    assert held_out["per_signal"]["value"] < held_out["per_signal_given"]["value"]
    assert held_out["change"]["value"] < 0
    settings = load_settings(folder / "tuned" / "settings.toml")
    tuned = [result["parameters"][f"merging.gap_ns[{i}]"]["tuned"] for i in range(5)]
    np.testing.assert_allclose(settings.merging.gap_ns, tuned, rtol=1e-5)
    shown = capsys.readouterr().out
    assert "held-out signals" in shown
    assert "merging.gap_ns[" in shown
    page = (folder / "tuned" / "report.html").read_text()
    assert page.count("data:image/png") == 2
    assert "nan" not in page.lower().split("base64")[0]


def test_the_given_settings_come_back_where_the_tuned_ones_are_worse():
    detector = dmsim.load_detector("xenonnt")
    given, joined = (
        replaced(Settings(), merging=replaced(Settings().merging, **gaps)) for gaps in (APART, JOINED)
    )
    seen = hard_errors(detector, [batch(detector, 1)], given)[0]
    numbers = np.array(given.merging.gap_ns), np.array(JOINED["gap_ns"])

    def tuned_to(settings, start):
        return TunedSettings(
            settings=settings, given=start, names=("merging.gap_ns[0]",), values=numbers[1][:1],
            values_given=numbers[0][:1], validation=seen, validation_given=seen, soft_hard_gap=0.0,
            improved=True, message="better", trajectory=(), n_gradients=0, n_hard=0, cpu_s=0.0,
            options=Options(),
        )  # fmt: skip

    worse, verdict = judge(detector, tuned_to(joined, given), [batch(detector, 1)], n_bootstrap=20)
    assert not worse.improved
    assert "worse on held-out events" in worse.message
    assert worse.settings is given
    assert worse.values[0] == numbers[0][0]
    assert verdict.errors == verdict.errors_given
    # twin: the other way round they stay
    better, verdict = judge(detector, tuned_to(given, joined), [batch(detector, 1)], n_bootstrap=20)
    assert better.improved
    assert better.settings is given
    assert verdict.errors.merged < verdict.errors_given.merged
    assert verdict.per_signal.low <= verdict.per_signal.value <= verdict.per_signal.high


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('detector = "xenonnt"', 'detector = "xenonn"', "xenonn"),
        ('detector = "xenonnt"', 'detector = "xenonnt"\ncuts = "c.toml"', "cuts"),
        ('settings = "given.toml"', 'settings = "none.toml"', "none.toml"),
        ('tune = ["merging.gap_ns"]', 'tune = ["merging.gap"]', "'merging.gap' cannot be tuned"),
        ('tune = ["merging.gap_ns"]', 'tune = ["merging", "merging.gap_ns"]', "twice"),
        ("n_steps = 4", "n_cats = 4", "tuning.n_cats is not known"),
        ("n_steps = 4", "n_steps = 4.5", "tuning.n_steps is 4.5"),
        ("learning_rate = 1.5", "learning_rate = -1.5", "learning_rate is -1.5"),
        ("temperature = [1.0, 0.5]", "temperature = [0.1, 1.0]", "must fall"),
        ("temperature = [1.0, 0.5]", "temperature = 0.1", "tuning.temperature"),
        ("batches = 2", "batches = 1", "samples.nr.batches"),
        ("range = [2.0, 50.0]", "range = [50.0, 2.0]", "must ascend"),
        ("range = [2.0, 50.0]", "", "range is given for"),
        ('source = "nr"', 'source = "unicorn"', "range is given for"),
        ('source = "nr"', "", "give either source or rates_hz"),
        ('source = "nr"', 'options = { mass = 1 }\nsource = "nr"', "samples.nr.options.mass is not known"),
    ],
)
def test_bad_studies_end_with_one_line(folder, capsys, old, new, words):
    path = folder / "study.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert main(["tune", "--config", str(path), "--out", "out"]) != 0
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (folder / "out").exists()


def test_the_whole_study_of_the_page_is_a_study(folder):
    (study,) = blocks("toml")
    (folder / "page.toml").write_text(study)
    from inference.tuning.study import table_of

    read = clustering_study.read_clustering_study(folder / "page.toml", table_of(folder / "page.toml"))
    assert set(read.samples) == {"nr", "scatter", "pile_up"}
    assert len(read.leaves()) == len(clustering_study.LEAVES)


def test_the_python_of_the_page(folder, monkeypatch, capsys):
    (text,) = blocks("python")
    batches = [batch(dmsim.load_detector("xenonnt"), seed) for seed in range(4)]
    monkeypatch.setattr(clustering_samples, "batches_of", lambda simulated: batches)
    exec(smaller(text, {"n_steps=20": "n_steps=1", "n_events=160": "n_events=2"}), {})
    assert "batches that no step has seen" in capsys.readouterr().out
    load_settings("settings.toml")


@pytest.mark.slow
def test_simulated_samples_of_the_page(tmp_path):
    (study,) = blocks("toml")
    changes = {
        "events_per_batch = 40": "events_per_batch = 6\nheld_out = 1\nbatches = 2",
        "batches = 4                      #": "#",
        "held_out = 4                     #": "#",
        "chunk_s = 0.15": "batches = 2\nheld_out = 1\nchunk_s = 0.05",
        "n_steps = 20": "n_steps = 2",
    }
    (tmp_path / "study.toml").write_text(smaller(study, changes))
    assert main(["tune", "--config", str(tmp_path / "study.toml"), "--out", str(tmp_path / "tuned")]) == 0
    result = json.loads((tmp_path / "tuned" / "result.json").read_text())
    assert result["held_out"]["tuned"]["n_signals"] > 20
    tuned, given = (result["held_out"][name]["per_signal"] for name in ("tuned", "given"))
    assert tuned <= given
