"""Runs of continuous records: the same bytes however they are cut, killed, or shared out."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import synthetic_run

import dmsim
from dmsim.charge import prepare
from dmsim.cli import reconstruct_run
from dmsim.cli.main import main
from dmsim.io import files
from dmsim.io.provenance import read_provenance
from dmsim.io.reconstruction import read_reconstruction
from dmsim.reconstruction import compat

N_CHUNKS = 9


@pytest.fixture(autouse=True)
def _no_figure(monkeypatch):
    """Drawing takes longer than these runs, and is tested elsewhere."""
    monkeypatch.setattr("dmsim.cli.reconstruct_summary.figure_of", lambda out, detector, *, anew: out)


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("xenonnt")


@pytest.fixture(scope="module")
def raw():
    return synthetic_run.synthetic_run(1, seconds=0.08, event_hz=80.0, s2_pe=800)


@pytest.fixture(scope="module")
def cut(raw, detector, tmp_path_factory):
    """Cut at any records, also in the middle of pulses."""
    cuts = np.sort(np.random.default_rng(2).choice(len(raw), N_CHUNKS - 1, replace=False))
    return synthetic_run.write_tables(tmp_path_factory.mktemp("cut"), raw, cuts.tolist(), detector)


@pytest.fixture(scope="module")
def whole(raw, detector, tmp_path_factory):
    return synthetic_run.write_tables(tmp_path_factory.mktemp("whole"), raw, [], detector)


def content(out):
    """Bytes of every column of peaks and events."""
    return {
        (type(rows).__name__, name): (values.shape, values.dtype.str, values.tobytes())
        for rows in read_reconstruction(out)
        for name, values in ((name, getattr(rows, name)) for name in type(rows).__dataclass_fields__)
    }


def table_files(out):
    paths = [path for kind in ("peaks", "events") for path in (out / kind).iterdir()]
    return {path.relative_to(out): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def expected(whole, tmp_path_factory):
    out = tmp_path_factory.mktemp("expected") / "out"
    with pytest.MonkeyPatch.context() as patch:  # what the command sets of JAX, as in dmsim_command
        for name in ("COMPILATION_CACHE_DIR", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
                     "PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"):  # fmt: skip
            patch.setenv(f"JAX_{name}", "1")
        patch.setattr("dmsim.cli.reconstruct_summary.figure_of", lambda out, detector, *, anew: out)
        assert main(["reconstruct", str(whole), "-o", str(out)]) == 0
    found = content(out)
    assert found["Peaks", "area_pe"][0][0] > 20
    assert found["Events", "event"][0][0] > 1
    return found


def test_chunks_count_for_nothing(raw, cut, expected, dmsim_command, tmp_path):
    status, output, error = dmsim_command("reconstruct", cut, "-o", tmp_path / "cut")
    assert (status, error) == (0, "")
    assert re.search(r"chunk 3: [\d,]+ records, [\d,]+ peaks", output)
    assert content(tmp_path / "cut") == expected
    places = synthetic_run.pauses(raw)
    places = np.sort(np.random.default_rng(3).choice(places, 5, replace=False)).tolist()
    (tmp_path / "strax").mkdir()
    for compressor in ("zstd", "lz4"):
        folder = synthetic_run.write_strax(tmp_path / "strax", raw, places, compressor)
        out = tmp_path / compressor
        assert dmsim_command("reconstruct", folder, "-d", "xenonnt", "-o", out)[0] == 0
        assert content(out) == expected
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_chunks_count_for_nothing_in_double_precision(cut, whole, expected, dmsim_command, tmp_path, x64):
    for name, folder in (("cut", cut), ("whole", whole)):
        assert dmsim_command("reconstruct", folder, "-o", tmp_path / name)[0] == 0
    found = content(tmp_path / "cut")
    assert found == content(tmp_path / "whole") != expected
    assert found["Peaks", "area_pe"][1] == "<f8"


def test_another_seed_gives_other_bytes(detector, expected, dmsim_command, tmp_path):
    """The comparison can fail."""
    raw = synthetic_run.synthetic_run(4, seconds=0.08, event_hz=80.0, s2_pe=800)
    synthetic_run.write_tables(tmp_path / "in", raw, [], detector)
    assert dmsim_command("reconstruct", tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    assert content(tmp_path / "out") != expected


def test_compat_mode_in_chunks(raw, cut, whole, detector, expected, dmsim_command, tmp_path):
    for name, folder in (("cut", cut), ("whole", whole)):
        out = tmp_path / f"{name} compat"
        assert dmsim_command("reconstruct", folder, "-o", out, "--mode", "compat")[0] == 0
        assert read_provenance(out)["settings"]["mode"] == "compat"
    found = content(tmp_path / "cut compat")
    assert found == content(tmp_path / "whole compat") != expected
    peaks, _ = read_reconstruction(tmp_path / "cut compat")
    at_once = compat.peaks_of(prepare(detector), raw)
    for column in ("time_ns", "length_ns", "n_hits", "area_pe"):
        np.testing.assert_array_equal(getattr(peaks, column), getattr(at_once, column))
    status, _, error = dmsim_command("reconstruct", cut, "-o", tmp_path / "cut compat")
    assert status == 1
    assert "another provenance (settings differ)" in error


def test_order_of_arrival_counts_for_nothing(cut, expected, dmsim_command, tmp_path):
    for first in (6, 0, 3):  # as array jobs do them
        chunks = f"{first}:{first + 3}"
        status, output, _ = dmsim_command("reconstruct", cut, "-o", tmp_path / "out", "--chunks", chunks)
        assert status == 0
        assert "give the command without --chunks" in output
    with pytest.raises(ValueError, match="has 0 of 19 chunks|it has no manifest.json"):
        read_reconstruction(tmp_path / "out")
    status, output, _ = dmsim_command("reconstruct", cut, "-o", tmp_path / "out")
    assert status == 0
    assert content(tmp_path / "out") == expected
    assert "Nothing to do" in dmsim_command("reconstruct", cut, "-o", tmp_path / "out")[1]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("part", range(3))
def test_a_kill_at_any_write_loses_nothing(part, cut, expected, dmsim_command, tmp_path, monkeypatch):
    """The process ends before the n-th rename of a file, for every third n; the next run goes on."""
    out, done, true_write = tmp_path / "out", 0, files.write_whole
    for n in range(part, 200, 3):
        left = [n]

        def write(path, content, left=left):
            if left[0] == 0:
                path.with_name(path.name + ".other-1.tmp").write_bytes(b"half")
                raise Killed
            left[0] -= 1
            true_write(path, content)

        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("dmsim") and hasattr(module, "write_whole"):
                monkeypatch.setattr(module, "write_whole", write)
        try:
            assert dmsim_command("reconstruct", cut, "-o", out)[0] == 0
            done += 1
            break
        except Killed:
            pass
    assert done
    assert content(out) == expected
    assert not list(out.rglob("*.tmp"))


def start(cut, out, *options):
    # in a group of its own, so that it can be killed with its workers
    return subprocess.Popen(
        [sys.executable, "-m", "dmsim.cli.main", "reconstruct", str(cut), "-o", str(out), *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def kill_at_random(random, cut, out, *options):
    """Start, wait for something to be written and then for a while, kill -9. Gives whether it had ended."""
    process = start(cut, out, *options)
    before = len(list(out.rglob("*"))) if out.exists() else 0
    while process.poll() is None and (not out.exists() or len(list(out.rglob("*"))) <= before):
        time.sleep(0.01)
    time.sleep(random.exponential(0.1))
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return ended


def test_killed_and_continued(cut, expected, dmsim_command, tmp_path):
    random = np.random.default_rng(7)
    kill_at_random(random, cut, tmp_path / "out", "--workers", "2")
    assert dmsim_command("reconstruct", cut, "-o", tmp_path / "out")[0] == 0
    assert content(tmp_path / "out") == expected


@pytest.mark.slow
def test_killed_many_times(cut, expected, dmsim_command, tmp_path):
    """DMSIM_KILL_RUNS runs, or four: each is killed some 30 times until it ends, which takes minutes."""
    random = np.random.default_rng(8)
    for run in range(int(os.environ.get("DMSIM_KILL_RUNS", "4"))):
        out = tmp_path / f"out{run}"
        for _ in range(40):
            if kill_at_random(random, cut, out, *(["--workers", "2"] if run % 2 else [])):
                break
        status, _, error = dmsim_command("reconstruct", cut, "-o", out)
        assert status == 0, f"run {run}: {error}"
        assert content(out) == expected


def test_a_damaged_chunk_is_set_aside_and_mended(cut, expected, dmsim_command, tmp_path):
    import shutil

    shutil.copytree(cut, tmp_path / "in")
    bad, gone = (tmp_path / "in" / "records" / f"00000{i}.parquet" for i in (2, 6))
    kept, removed = bad.read_bytes(), gone.read_bytes()
    bad.write_bytes(kept[:-8] + b"garbage")
    gone.unlink()
    out = tmp_path / "out"
    status, output, error = dmsim_command("reconstruct", tmp_path / "in", "-o", out, "--retries", "1")
    assert status == 1
    lines = error.splitlines()
    assert len(lines) == 2
    assert re.search(r"chunk 2 set aside: .*000002.parquet has .* truncated.*2 times tried", lines[0])
    assert re.search(r"chunk 6 set aside: .*000006.parquet is missing", lines[1])
    assert "2 of 9 chunks set aside (set_aside.json says why)" in output
    assert set(json.loads((out / "set_aside.json").read_text())) == {"2", "6"}
    with pytest.raises(ValueError, match="has 17 of 19 chunks"):
        read_reconstruction(out)
    assert len(read_reconstruction(out, partly=True)[0])
    bad.write_bytes(kept)
    assert dmsim_command("reconstruct", tmp_path / "in", "-o", out)[0] == 1
    gone.write_bytes(removed)
    status, output, error = dmsim_command("reconstruct", tmp_path / "in", "-o", out)
    assert (status, error) == (0, "")
    assert "Continued: 8 of 9 chunks" in output
    assert not (out / "set_aside.json").exists()
    assert content(out) == expected


def test_what_was_lost_later_is_made_again(cut, expected, dmsim_command, tmp_path):
    out = tmp_path / "out"
    assert dmsim_command("reconstruct", cut, "-o", out)[0] == 0
    before = table_files(out)
    for name in ("peaks/000003", "peaks/000004", "events/000002", "chunks/000001"):
        name += ".json" if name.startswith("chunks") else ".parquet"  # noqa: PLW2901
        (out / name).unlink()
        assert dmsim_command("reconstruct", cut, "-o", out)[0] == 0
        assert table_files(out) == before
    assert content(out) == expected


def test_two_at_once_are_refused(cut, dmsim_command, tmp_path):
    (tmp_path / "out").mkdir()
    with reconstruct_run.lock(tmp_path / "out", shared=False):
        status, _, error = dmsim_command("reconstruct", cut, "-o", tmp_path / "out")
    assert status == 1
    assert "another dmsim reconstruct is writing into" in error


def test_on_a_cluster(cut, expected, dmsim_command, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
    ) as cluster:
        address = cluster.scheduler_address
        assert dmsim_command("reconstruct", cut, "-o", tmp_path / "out", "--scheduler", address)[0] == 0
    assert content(tmp_path / "out") == expected


def test_a_rate_without_silence_is_cut_and_said(raw, detector, dmsim_command, tmp_path, monkeypatch):
    """Islands of at most 50 us: what is cut depends on the records, not on the chunks."""
    from dmsim.reconstruction import islands

    monkeypatch.setattr(islands.split_islands, "__kwdefaults__", {"max_ns": 50_000, "reach_ns": None})
    found = []
    for n in (1, 25):
        cuts = np.sort(np.random.default_rng(n).choice(len(raw), n - 1, replace=False)).tolist()
        folder = synthetic_run.write_tables(tmp_path / f"in{n}", raw, cuts, detector)
        status, output, _ = dmsim_command("reconstruct", folder, "-o", tmp_path / f"out{n}")
        assert status == 0
        assert "times no silence came" in output
        found.append(content(tmp_path / f"out{n}"))
    assert found[0] == found[1]


def edit(raw, **changes):
    raw = raw.copy()
    for name, (row, value) in changes.items():
        raw[name][row] = value(raw[name][row]) if callable(value) else value
    return raw


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel": (5, 700)}, "channel is 700 in record 5: .*from a detector with more sensors"),
        ({"channel": (5, -1)}, "channel is -1 in record 5"),
        ({"length": (9, 111)}, "length is 111 in record 9: allowed are 1 to 110"),
        ({"length": (9, 0)}, "length is 0 in record 9"),
        ({"data": ((7, 3), -1)}, "sample 3 of record 7 is -1 ADC counts: .* 14 bits gives 0 to 16383"),
        ({"data": ((7, 3), 16384)}, "sample 3 of record 7 is 16384 ADC counts"),
        ({"dt": (slice(None), 2)}, "samples are 2 ns wide and those of detector xenonnt 10 ns"),
        ({"dt": (3, 2)}, r"sample widths of \[2, 10\] ns"),
        ({"time": (20, 10)}, "record 20 starts .* ns before the one in front of it"),
        (
            {"time": (slice(150, None), lambda time: time + 3)},
            "record 150 starts 3 ns off the others. grid of 10 ns",
        ),
    ],
)
def test_bad_records_are_named(change, message, raw, dmsim_command, tmp_path):
    writer_raw = edit(raw[:300], **change)
    folder = write_unchecked(tmp_path, writer_raw)
    status, _, error = dmsim_command("reconstruct", folder, "-d", "xenonnt", "-o", tmp_path / "out")
    assert status == 1
    assert len(error.splitlines()) == 1
    assert re.search(message, error)
    assert not (tmp_path / "out").exists()


def test_overlapping_records_are_named(raw, dmsim_command, tmp_path):
    twice = np.sort(np.concatenate([raw[:300], raw[40:41]]), order=("time", "channel"))
    folder = write_unchecked(tmp_path, twice)
    status, _, error = dmsim_command("reconstruct", folder, "-d", "xenonnt", "-o", tmp_path / "out")
    assert status == 1
    assert re.search("records 40 and 41 of channel .* overlap in time", error)


def test_chunks_of_another_record_length_are_named(raw, detector, dmsim_command, tmp_path):
    first, second = synthetic_run.as_records(raw[:300]), synthetic_run.as_records(raw[300:600])
    second = replace(second, data=np.pad(second.data, ((0, 0), (0, 10))))
    folder = synthetic_run.write_parts(tmp_path / "in", [first, second], detector)
    status, _, error = dmsim_command("reconstruct", folder, "-o", tmp_path / "out")
    assert status == 1
    message = (
        "chunk 1: records are 120 samples long and those in front of them 110: a run must be of one layout"
    )
    assert error.splitlines()[-1].endswith(message)


def write_unchecked(folder, raw):
    """A strax folder of one chunk, whatever the records are."""
    from dmsim.io.strax_folders import CODECS

    run = folder / "run-raw_records-abc"
    run.mkdir()
    info = {"n": len(raw), "chunk_i": 0, "filename": "raw_records-abc-000000", "start": 0, "end": 2**60}
    (run / info["filename"]).write_bytes(CODECS["lz4"].compress(raw.tobytes()))
    metadata = {"run_id": "run", "data_type": "raw_records", "dtype": repr(raw.dtype.descr),
                "compressor": "lz4", "chunks": [info]}  # fmt: skip
    (run / "raw_records-abc-metadata.json").write_text(json.dumps(metadata))
    return run


def test_stuck_and_silent_channels_are_said(raw, dmsim_command, tmp_path):
    quiet = raw[:300].copy()
    channel = quiet["channel"][10]
    quiet["data"][quiet["channel"] != channel] = 16_000
    quiet["data"][quiet["channel"] == channel] = 0
    folder = write_unchecked(tmp_path, quiet)
    status, output, error = dmsim_command("reconstruct", folder, "-d", "xenonnt", "-o", tmp_path / "out")
    assert (status, error) == (0, "")
    assert f"channels that never leave the digitiser's floor: {channel} (" in output
    assert "no peak was found" in output
    peaks, events = read_reconstruction(tmp_path / "out")
    assert len(peaks) == len(events) == 0


def test_saturated_peaks_are_said(raw, dmsim_command, tmp_path):
    def summary(name, records):
        (tmp_path / name).mkdir()
        folder = write_unchecked(tmp_path / name, records)
        return dmsim_command("reconstruct", folder, "-d", "xenonnt", "-o", tmp_path / name / "out")[1]

    clipped = raw[:300].copy()
    clipped["data"][clipped["data"] < 15_900] = 0
    assert re.search(r"[1-9]\d* of \d+ peaks have samples at the digitiser's floor", summary("some", clipped))
    assert "digitiser's floor" not in summary("none", raw[:300])


def test_a_run_without_records(raw, dmsim_command, tmp_path):
    folder = write_unchecked(tmp_path, raw[:0])
    status, output, _ = dmsim_command("reconstruct", folder, "-d", "xenonnt", "-o", tmp_path / "out")
    assert status == 0
    assert "no peak was found" in output
