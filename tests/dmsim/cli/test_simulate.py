import json
import os
import re

import numpy as np
import pytest

from dmsim import pipeline
from dmsim.io import TableReader, tables
from dmsim.io.files import TEMPORARY_SUFFIX

pytestmark = pytest.mark.quick_compile

MONO = ("simulate", "-d", "xenonnt", "-s", "mono", "--energy", 5.0, "--interaction", "er_beta")
AREAS = (*MONO, "-n", 7, "--level", "areas", "--seed", 3)


def rows(folder, kind):
    parts = [tables.unpack(table, kind).columns for table in TableReader(folder / kind)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_same_rows(one, other):
    for name, values in one.items():
        if values.dtype.kind == "f":  # vector and remainder loops of one program may round differently
            np.testing.assert_allclose(values, other[name], rtol=2e-5, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_areas_and_truth_whatever_the_chunks(dmsim_command, tmp_path):
    status, output, _ = dmsim_command(*AREAS, "-o", tmp_path / "one", "--chunk-events", 7)
    assert status == 0
    assert "overflow            0 rows" in output
    status, _, _ = dmsim_command(*AREAS, "-o", tmp_path / "many", "--chunk-events", 3)
    assert status == 0
    assert len(list((tmp_path / "many" / "areas").glob("*.parquet"))) == 3
    for kind in ("truth", "areas"):
        one = rows(tmp_path / "one", kind)
        np.testing.assert_array_equal(one["event"], np.arange(7))
        assert_same_rows(one, rows(tmp_path / "many", kind))
    truth = rows(tmp_path / "one", "truth")
    assert np.all(truth["energy_kev"] == 5.0)
    assert np.all(truth["n_photons"] > 0)


def test_another_seed_gives_other_events(dmsim_command, tmp_path):
    for seed in (1, 2):
        dmsim_command(*MONO, "-n", 3, "--level", "quanta", "--seed", seed, "-o", tmp_path / str(seed))
    one, other = (rows(tmp_path / seed, "truth")["x_mm"] for seed in "12")
    assert not np.any(one == other)


def test_equal_provenance_does_nothing(dmsim_command, tmp_path):
    dmsim_command(*AREAS, "-o", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    status, output, _ = dmsim_command(*AREAS, "-o", tmp_path / "out")
    assert status == 0
    assert "Nothing to do" in output
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


def test_provenance_says_everything(dmsim_command, tmp_path):
    import jax

    import dmsim

    dmsim_command(*AREAS, "-o", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert found["version"] == dmsim.__version__
    assert found["seed"] == 3
    assert found["detector"] == "xenonnt"
    assert found["settings"]["options"] == {"energy_kev": 5.0, "interaction": "er_beta"}
    assert found["chunks"] == {"n_events": 7, "events_per_chunk": 7}
    assert found["jax_version"] == jax.__version__
    assert found["jax_backend"] == jax.default_backend()
    assert found["precision"] == "float32"
    for name in ("source_sha256", "detector_sha256", "settings_sha256", "digest"):
        assert len(found[name]) == 64


@pytest.mark.parametrize("level", ["hits", "quanta"])
def test_other_levels(level, dmsim_command, tmp_path):
    status, output, _ = dmsim_command(
        "simulate", "-d", "xenonnt", "-s", "mono", "--energy", 0.5, "--interaction", "nr", "-n", 3,
        "--level", level, "-o", tmp_path / "out",
    )  # fmt: skip
    assert status == 0
    assert rows(tmp_path / "out", "truth")["event"].size == 3
    if level == "hits":
        hits = rows(tmp_path / "out", "hits")
        assert {1, 2} <= set(hits["signal"]) <= {1, 2, 3, 4, 5}


class Killed(BaseException):
    """As sudden as a signal: nothing in the program expects it."""


@pytest.mark.parametrize("moment", range(1, 13, 2))
def test_killed_while_writing_goes_on(moment, dmsim_command, tmp_path, monkeypatch):
    """A kill after any of the first files was written, before it was renamed."""
    arguments = (*AREAS, "-o", tmp_path / "out", "--chunk-events", 3)
    fsync, calls = os.fsync, []

    def dying(descriptor):
        calls.append(descriptor)
        if len(calls) == moment:
            raise Killed
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("dmsim.io.files.os.fsync", dying)
        with pytest.raises(Killed):
            dmsim_command(*arguments)
    status, _, _ = dmsim_command(*arguments)
    assert status == 0
    assert not list(tmp_path.rglob("*" + TEMPORARY_SUFFIX))
    dmsim_command(*AREAS, "-o", tmp_path / "whole", "--chunk-events", 3)
    for kind in ("truth", "areas"):
        assert_same_rows(rows(tmp_path / "out", kind), rows(tmp_path / "whole", kind))


def test_interrupted_run_does_only_what_is_missing(dmsim_command, tmp_path, monkeypatch):
    arguments = (*AREAS, "-o", tmp_path / "out", "--chunk-events", 3)
    simulate, done = pipeline.simulate_areas, []

    def interrupted(key, detector, deposits):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(int(deposits.first_event))
        return simulate(key, detector, deposits)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "simulate_areas", interrupted)
        assert dmsim_command(*arguments)[0] == 130
        done.clear()
        done.append(-1)  # the second run is interrupted at once: it must not lose the first chunk
        assert dmsim_command(*arguments)[0] == 130

    def counted(key, detector, deposits):
        done.append(int(deposits.first_event))
        return simulate(key, detector, deposits)

    done.clear()
    monkeypatch.setattr(pipeline, "simulate_areas", counted)
    status, output, _ = dmsim_command(*arguments)
    assert status == 0
    assert done == [3, 6]
    assert "Continued: 1 of 3 chunks were there already." in output


def test_another_run_is_overwritten_only_if_asked(dmsim_command, tmp_path):
    dmsim_command(*AREAS, "-o", tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    other = (*MONO, "-n", 2, "--level", "quanta", "-o", tmp_path / "out")
    status, _, error = dmsim_command(*other)
    assert status == 1
    assert "another provenance (chunks, seed, settings differ): give --overwrite" in error
    assert rows(tmp_path / "out", "areas")["event"].size == 7
    assert dmsim_command(*other, "--overwrite")[0] == 0
    assert rows(tmp_path / "out", "truth")["event"].size == 2
    assert not list((tmp_path / "out" / "areas").glob("*"))
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


XENONNT = ("-d", "xenonnt", "-s")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "xenonmt", "-s", "kr83m"], "detector 'xenonmt' is not known: choose one of .*xenonnt"),
        (["-d", "nothing.toml", "-s", "kr83m"], "detector file nothing.toml does not exist"),
        ([*XENONNT, "kripton"], "source 'kripton' is not known: choose one of .*kr83m"),
        ([*XENONNT, "mono", "--interaction", "nr", "--energy", "-1"], "energy_kev.* -1"),
        ([*XENONNT, "mono", "--interaction", "nr", "--energy", "nan"], "energy_kev.* nan"),
        ([*XENONNT, "mono", "--interaction", "beta", "--energy", "1"], "interaction 'beta' is not"),
        ([*XENONNT, "mono"], "source mono needs energy_kev: give --energy KEV"),
        ([*XENONNT, "kr83m", "--energy", "1"], "source kr83m takes no option energy_kev: it takes"),
        ([*XENONNT, "kr83m", "--option", "x"], "--option x: give NAME=VALUE"),
        ([*XENONNT, "kr83m", "--option", "x=1"], "source kr83m takes no option x"),
        ([*XENONNT, "kr83m", "--option", "r_max_mm=abc"], "r_max_mm=abc: r_max_mm must be a number"),
        ([*XENONNT, "kr83m", "--option", "merged=maybe"], "merged=maybe: merged must be true or false"),
        ([*XENONNT, "kr83m", "--option", "merged=1"], "merged=1: merged must be true or false"),
        ([*XENONNT, "kr83m", "--option", "z_min_mm=true"], "z_min_mm=true: z_min_mm must be a number"),
        ([*XENONNT, "er_flat", "--option", "interaction=5"], "interaction '5' is not known"),
        (
            [*XENONNT, "mono", "--interaction", "kr83m", "--energy", "20"],
            "energy_kev is 20 keV: for kr83m must",
        ),
        ([*XENONNT, "kr83m", "--level", "areas", "--format", "strax"], "--format strax holds records"),
        ([*XENONNT, "kr83m", "--format", "strax", "--run-id", "a-b"], "run id 'a-b'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, dmsim_command, tmp_path):
    status, _, error = dmsim_command("simulate", *arguments, "-n", 2, "-o", tmp_path / "out")
    assert status == 1
    assert len(error.splitlines()) == 1
    assert re.search(message, error)
    assert not (tmp_path / "out").exists()


def test_options_become_what_the_source_takes(dmsim_command, tmp_path):
    options = ("--option", "merged=True", "--option", "r_max_mm=300", "--option", "rate_hz=5")
    status, _, _ = dmsim_command(
        "simulate", *XENONNT, "kr83m", "-n", 2, "--level", "areas", *options, "-o", tmp_path / "out"
    )
    assert status == 0
    found = json.loads((tmp_path / "out" / "provenance.json").read_text())["settings"]["options"]
    assert found == {"merged": True, "r_max_mm": 300.0, "rate_hz": 5.0}
    assert {name: type(value) for name, value in found.items()} == {
        "merged": bool, "r_max_mm": float, "rate_hz": float,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-s", "kr83m"], "give either --events N, or --duration SECONDS"),
        (["-s", "kr83m", "-n", 2, "--duration", 1], "give either --events N, or --duration SECONDS"),
        (["-s", "kr83m", "--duration", 1], "--source kr83m with --duration: give NAME=RATE, in Hz"),
        (["-s", "kr83m=10", "--duration", 1, "--level", "areas"], "--duration makes records"),
        (["-s", "kr83m=10", "--duration", 1, "--option", "merged=true"], "give SOURCE.NAME=VALUE"),
        (["-s", "kr83m=10", "--duration", 1, "--option", "kr83m.x=1"], "takes no option x"),
        (["-s", "kripton=10", "--duration", 1], "source 'kripton' is not known"),
        (["-s", "kr83m=10", "--duration", -1], "duration_s is -1"),
        (["-s", "kr83m=10", "--duration", 1, "--chunk-seconds", 0], "--chunk-seconds is 0.0 s"),
    ],
)
def test_bad_streams_are_one_line(arguments, message, dmsim_command, tmp_path):
    status, _, error = dmsim_command("simulate", "-d", "xams", *arguments, "-o", tmp_path / "out")
    assert status == 1
    assert len(error.splitlines()) == 1
    assert message in error
    assert not (tmp_path / "out").exists()


def test_stream_and_salt(dmsim_command, tmp_path):
    """A stream in both formats; its strax chunks do not overlap; salt goes into it."""
    stream = ("simulate", "-d", "xams", "-s", "kr83m=2000", "--duration", 0.02, "--chunk-seconds", 0.005)
    for name in ("parquet", "strax"):
        status, output, error = dmsim_command(*stream, "--format", name, "-o", tmp_path / name)
        assert status == 0, error
        assert "piled up" in output
    n_chunks = TableReader(tmp_path / "parquet" / "records").n_chunks
    assert n_chunks > 2
    events = rows(tmp_path / "parquet", "stream_events")
    truth = rows(tmp_path / "parquet", "truth")
    np.testing.assert_array_equal(np.unique(truth["event"]), events["event"])
    records = rows(tmp_path / "parquet", "records")
    assert set(records["event"]) <= set(events["window"])
    assert rows(tmp_path / "parquet", "true_peaks")["n_photons"].sum() > 0
    assert (tmp_path / "parquet" / "simulation.png").is_file()
    assert "Nothing to do" in dmsim_command(*stream, "-o", tmp_path / "parquet")[1]

    salt = ("-d", "xams", "-s", "mono", "--energy", 5, "--interaction", "er_beta", "--rate", 200)
    for name in ("parquet", "strax"):
        arguments = ("salt", tmp_path / name, *salt, "-o", tmp_path / f"{name}-salted")
        status, output, error = dmsim_command(*arguments)
        assert status == 0, error
    status, _, error = dmsim_command(
        "salt", tmp_path / "parquet", "-d", "xenonnt", *salt[2:], "-o", tmp_path / "no"
    )
    assert (status, "was simulated in xams, --detector is xenonnt" in error) == (1, True)
    one, other = (rows(tmp_path / f"{name}-salted", "salted_events") for name in ("parquet", "strax"))
    assert one["event"].size > 1
    assert_same_rows(one, other)
    salted = rows(tmp_path / "parquet-salted", "records")
    assert salted["event"].size > records["event"].size
    assert rows(tmp_path / "parquet-salted", "salted_records")["n_new"].sum() > 0
    status, output, error = dmsim_command(
        "reconstruct", tmp_path / "parquet-salted", "-d", "xams", "-o", tmp_path / "events"
    )
    assert status == 0, error


@pytest.mark.parametrize("events", ["0", "-3", "1.5", "many"])
def test_wrong_numbers_of_events(events, dmsim_command, tmp_path):
    with pytest.raises(SystemExit) as caught:
        dmsim_command("simulate", "-d", "xenonnt", "-s", "kr83m", "-n", events, "-o", tmp_path / "out")
    assert caught.value.code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_foreign_output_folder_is_left_alone(overwrite, dmsim_command, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    status, _, error = dmsim_command(*AREAS, "-o", tmp_path, *overwrite)
    assert status == 1
    assert "holds files but no provenance.json" in error
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_output_that_is_a_file(dmsim_command, tmp_path):
    (tmp_path / "out").write_text("x")
    status, _, error = dmsim_command(*AREAS, "-o", tmp_path / "out")
    assert status == 1
    assert "is a file: give a folder" in error
