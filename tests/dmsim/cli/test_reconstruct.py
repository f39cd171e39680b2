import shutil

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import dmsim
from dmsim.cli.main import main
from dmsim.detector.presets_io import preset_path
from dmsim.io import Provenance, TableReader, TableWriter, tables
from dmsim.io.provenance import read_provenance, tree_sha256, write_provenance
from dmsim.io.reconstruction import read_reconstruction
from dmsim.plot.summary import reconstructed_events

pytestmark = pytest.mark.quick_compile

EVENTS, CHUNK = 6, 4
SIMULATE = ("simulate", "-d", "xenonnt", "-s", "kr83m", "-n", str(EVENTS), "--seed", "3")
SIMULATE += ("--without", "all")  # each event is then one S1 and one S2


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """One simulation in both formats."""
    folder = tmp_path_factory.mktemp("simulated")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("COMPILATION_CACHE_DIR", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
                     "PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"):  # fmt: skip
            patch.setenv(f"JAX_{name}", "1")
        for kind, chunk in (("parquet", CHUNK), ("strax", 2)):
            out = str(folder / kind)
            assert main([*SIMULATE, "--format", kind, "-o", out, "--chunk-events", str(chunk)]) == 0
    return folder


def rows(folder, kind):
    parts = [tables.unpack(table, kind).columns for table in TableReader(folder / kind)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_both_formats_and_all_chunks_give_the_same(simulated, dmsim_command, tmp_path):
    for kind in ("parquet", "strax"):
        status, output, error = dmsim_command("reconstruct", simulated / kind, "-o", tmp_path / kind)
        assert (status, error) == (0, "")
        assert (tmp_path / kind / "events.png").read_bytes().startswith(b"\x89PNG")
    events = rows(tmp_path / "parquet", "events")
    np.testing.assert_array_equal(events["event"], np.arange(EVENTS))
    for kind in ("peaks", "events"):
        one, other = rows(tmp_path / "parquet", kind), rows(tmp_path / "strax", kind)
        for name in one:
            if not name.endswith("_peak"):  # rows in the chunk's peaks
                np.testing.assert_array_equal(one[name], other[name], err_msg=f"{kind}.{name}")


def test_command_and_library_agree(simulated, dmsim_command, tmp_path):
    dmsim_command("reconstruct", simulated / "parquet", "-o", tmp_path)
    detector = dmsim.load_detector("xenonnt").without("all")
    key = jax.random.key(3)
    deposits = dmsim.sources.named("kr83m")(key, detector, n_events=EVENTS)
    peaks, events = dmsim.reconstruct(detector, dmsim.simulate_records(key, detector, deposits))
    found = rows(tmp_path, "events")
    for name in ("s1_pe", "s2_pe", "cs1_pe", "z_mm", "time_ns"):
        np.testing.assert_array_equal(found[name], getattr(events, name))
    np.testing.assert_array_equal(rows(tmp_path, "peaks")["area_pe"], peaks.area_pe)


def test_equal_provenance_does_nothing(simulated, dmsim_command, tmp_path):
    arguments = ("reconstruct", simulated / "parquet", "-o", tmp_path / "out")
    dmsim_command(*arguments)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    status, output, _ = dmsim_command(*arguments)
    assert status == 0
    assert "Nothing to do" in output
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    (tmp_path / "out" / "peaks" / "000001.parquet").unlink()
    status, output, _ = dmsim_command(*arguments)
    assert status == 0
    assert "Continued: 1 of 2 chunks" in output


def test_settings_count(simulated, dmsim_command, tmp_path):
    (tmp_path / "s.toml").write_text("hits.threshold_adc = 60.0\n")
    arguments = ("reconstruct", simulated / "parquet", "-o", tmp_path / "out")
    dmsim_command(*arguments)
    area = rows(tmp_path / "out", "events")["s2_pe"]
    status, _, error = dmsim_command(*arguments, "--settings", tmp_path / "s.toml")
    assert status == 1
    assert "another provenance (settings differ): give --overwrite" in error
    assert dmsim_command(*arguments, "--settings", tmp_path / "s.toml", "--overwrite")[0] == 0
    assert np.nanmedian(rows(tmp_path / "out", "events")["s2_pe"]) < np.nanmedian(area)


def test_strax_data_without_event_numbers(simulated, dmsim_command, tmp_path):
    """As from a real detector: raw_records alone, which do not say which detector they are from."""
    shutil.copytree(next((simulated / "strax").glob("*-raw_records-*")), tmp_path / "run-raw_records-abc")
    folder = tmp_path / "run-raw_records-abc"
    (metadata,) = folder.glob("*metadata.json")
    import json

    content = json.loads(metadata.read_text())
    prefix = metadata.name.removesuffix("-metadata.json")
    del content["dmsim"]
    (folder / "raw_records-abc-metadata.json").write_text(json.dumps(content))
    metadata.unlink()
    assert prefix != "raw_records-abc"
    status, _, error = dmsim_command("reconstruct", folder, "-o", tmp_path / "out")
    assert status == 1
    assert "does not say which detector it is from: give --detector" in error
    status, _, _ = dmsim_command("reconstruct", folder, "-o", tmp_path / "out", "-d", "xenonnt")
    assert status == 0
    found = rows(tmp_path / "out", "events")
    dmsim_command("reconstruct", simulated / "strax", "-o", tmp_path / "numbered")
    expected = rows(tmp_path / "numbered", "events")
    np.testing.assert_array_equal(found["event"], expected["event"])
    np.testing.assert_allclose(found["s2_pe"], expected["s2_pe"], rtol=1e-6)


def test_empty_events(simulated, dmsim_command, tmp_path):
    """Chunks with no record at all, as after a deposit too small to see."""
    source = tmp_path / "in"
    shutil.copytree(simulated / "parquet", source)
    reader = TableReader(source / "records")
    records = [tables.unpack_records(table) for table in reader]
    content = read_provenance(source)
    provenance = Provenance(
        "simulate", {}, "xenonnt", tree_sha256(dmsim.load_detector("xenonnt")), 0, content["chunks"]
    )
    shutil.rmtree(source)
    write_provenance(source, provenance)
    writer = TableWriter(source, "records", provenance, n_chunks=len(records))
    for chunk, record in enumerate(records):
        none = eqx.tree_at(lambda r: r.valid, record, np.zeros_like(record.valid))
        writer.write(chunk, tables.pack_records(none))
    status, output, _ = dmsim_command("reconstruct", source, "-o", tmp_path / "out")
    assert status == 0
    assert f"{EVENTS} events of xenonnt" in output
    events = rows(tmp_path / "out", "events")
    assert np.all(np.isnan(events["s1_pe"]))
    assert np.all(events["s2_peak"] == -1)
    assert rows(tmp_path / "out", "peaks")["event"].size == 0
    figure = reconstructed_events(dmsim.load_detector("xenonnt"), read_reconstruction(tmp_path / "out")[1])
    for ax in figure.axes:
        assert "no event has an S1 and an S2" in [text.get_text() for text in ax.texts]
    plt.close(figure)


def test_figure_shows_every_width(simulated, dmsim_command, tmp_path):
    dmsim_command("reconstruct", simulated / "parquet", "-o", tmp_path)
    events = read_reconstruction(tmp_path)[1]
    figure = reconstructed_events(dmsim.load_detector("xenonnt"), events)
    assert figure.axes[3].get_ylim()[1] > np.nanmax(events.s2_width_50_ns) / 1e3
    assert not figure.axes[3].texts
    plt.close(figure)


def test_another_detector_is_warned_of(simulated, dmsim_command, tmp_path):
    for kind in ("parquet", "strax"):
        status, output, error = dmsim_command(
            "reconstruct", simulated / kind, "-o", tmp_path / kind, "-d", "lz"
        )
        assert status == 0
        line = f"warning: {simulated / kind} was simulated in xenonnt and is reconstructed as lz\n"
        assert error == f"dmsim: {line}"
        assert line in output
    changed = tmp_path / "xenonnt.toml"
    changed.write_text(preset_path("xenonnt").read_text().replace("value = 23.97,", "value = 24.97,"))
    _, _, error = dmsim_command("reconstruct", simulated / "parquet", "-o", tmp_path / "o", "-d", changed)
    assert "was simulated in xenonnt of other parameters" in error


def test_detector_of_fewer_sensors_is_refused_and_leaves_nothing(simulated, dmsim_command, tmp_path):
    out = tmp_path / "out"
    status, _, error = dmsim_command("reconstruct", simulated / "parquet", "-o", out, "-d", "lux")
    assert status == 1
    assert "the records are from a detector with more sensors" in error
    assert not out.exists()


def test_detector_file_that_was_simulated_is_asked_for(copy, dmsim_command, tmp_path):
    provenance = Provenance("simulate", {}, "my", "0" * 64, 0, {"n_events": EVENTS})
    write_provenance(copy, provenance)
    status, _, error = dmsim_command("reconstruct", copy, "-o", tmp_path / "out")
    assert status == 1
    assert "was simulated with a detector file my.toml: give that file with --detector" in error
    assert not (tmp_path / "out").exists()


@pytest.fixture
def copy(simulated, tmp_path):
    shutil.copytree(simulated / "parquet", tmp_path / "in")
    return tmp_path / "in"


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: cut(f / "records" / "000001.parquet"), "000001.parquet has .* truncated or foreign"),
        (lambda f: shutil.copy(f / "truth" / "000000.parquet", f / "records"), "truncated or foreign"),
        (lambda f: (f / "records" / "000000.parquet").unlink(), "000000.parquet is missing"),
        (lambda f: shutil.rmtree(f / "records"), "holds no records: neither a table of dmsim"),
        (lambda f: cut(f / "provenance.json"), "provenance.json is damaged"),
        (lambda f: shutil.copy(f / "truth" / "manifest.json", f / "records"), "is a table of truth"),
    ],
)
def test_damaged_input_is_named(damage, message, copy, dmsim_command, tmp_path):
    import re

    damage(copy)
    status, _, error = dmsim_command("reconstruct", copy, "-o", tmp_path / "out")
    assert status == 1
    assert len(error.splitlines()) == 1
    assert re.search(message, error)
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_other_bad_input(simulated, dmsim_command, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "bad.toml").write_text("hits.treshold_adc = 3\n")
    good = simulated / "parquet"
    for arguments, message in (
        ([tmp_path / "nowhere"], "nowhere does not exist"),
        ([tmp_path / "photo.jpg"], "photo.jpg is a file: give the folder"),
        ([tmp_path], "holds no records"),
        ([good / "truth"], "is a table of truth: reconstruction needs records"),
        ([good, "-d", "xenonnnt"], "detector 'xenonnnt' is not known"),
        ([good, "--settings", tmp_path / "bad.toml"], "unknown key hits.treshold_adc"),
        ([good, "--settings", tmp_path / "none.toml"], "No such file"),
        ([good, "--retries", "-1"], "--retries is -1: must be 0 to 100"),
        ([good, "--workers", "0"], "--workers is 0: must be 1 to 1024"),
        ([good, "--workers", "2", "--scheduler", "tcp://nowhere:1"], "give one of both"),
        ([good, "--chunks", "3:1"], "--chunks is '3:1': give A:B"),
        ([good, "--chunks", "7:9"], "--chunks is 7:9: the run has chunks 0 to 1"),
    ):
        status, _, error = dmsim_command("reconstruct", *arguments, "-o", tmp_path / "out")
        assert status == 1
        assert message in error
        assert not (tmp_path / "out").exists()
    status, _, error = dmsim_command("reconstruct", good, "-o", good)
    assert status == 1
    assert "is the input folder" in error
