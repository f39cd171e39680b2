"""`dmsim select`: a cut flow, its figure, and the selected events."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dmsim.io.strax_folders import FolderWriter
from dmsim.selection import read_cuts

CUTS = """version = 1
[[cut]]
kind = "range"
name = "energy"
column = "cs1_pe"
low = 3
[[cut]]
kind = "radius"
name = "wall"
[cut.high]
of = "z_mm"
knots = [-1000, -500, 0]
values = [300, 450, 400]
"""


@pytest.fixture
def cuts(tmp_path):
    (tmp_path / "tuned.toml").write_text(CUTS)
    return tmp_path / "tuned.toml"


def _events(n=500):
    random = np.random.default_rng(2)
    names = ("cs1_pe", "x_mm", "y_mm", "z_mm", "w")
    scales = np.array([[0, 10], [-400, 400], [-400, 400], [-1000, 0], [0, 2]])
    return {name: random.uniform(*scale, n) for name, scale in zip(names, scales, strict=True)}


def test_events_of_a_parquet_file(cuts, tmp_path, dmsim_command):
    events = _events()
    pq.write_table(pa.table(events), tmp_path / "events.parquet")
    out = tmp_path / "out"
    arguments = ("select", tmp_path / "events.parquet", "--cuts", cuts, "--out", out, "--weights", "w")
    status, output, error = dmsim_command(*arguments)
    assert (status, error) == (0, "")
    assert "effective numbers" in output
    assert "no event is left" not in output
    passed = read_cuts(out / "cuts.toml").passes(events)
    kept = pq.read_table(out / "selected.parquet")
    np.testing.assert_array_equal(kept["row"].to_numpy(), np.flatnonzero(passed))
    np.testing.assert_array_equal(kept["cs1_pe"].to_numpy(), events["cs1_pe"][passed])
    flow = json.loads((out / "cut_flow.json").read_text())
    assert flow["n_passed"] == passed.sum()
    assert flow["cuts"][1]["cumulative"]["passed"] == pytest.approx(events["w"][passed].sum())
    assert (out / "cut_flow.png").read_bytes().startswith(b"\x89PNG")


def test_csv_and_strax_folder_give_the_same(cuts, tmp_path, dmsim_command):
    events = _events(40)
    header = "cs1,x_mm,y_mm,z_mm"
    np.savetxt(tmp_path / "events.csv", np.stack(list(events.values())[:4], 1), delimiter=",", header=header,
               comments="")  # fmt: skip
    names = [("time", "<i8"), ("endtime", "<i8"), ("cs1", "<f8"), ("x", "<f8"), ("y", "<f8"), ("z", "<f8")]
    rows = np.zeros(40, names)
    rows["time"] = 1000 * np.arange(40)
    rows["endtime"] = rows["time"] + 10
    rows["cs1"], rows["x"], rows["y"], rows["z"] = (
        events[name] for name in ("cs1_pe", "x_mm", "y_mm", "z_mm")
    )
    for name in "xyz":
        rows[name] /= 10  # cm
    writer = FolderWriter(tmp_path, "1", "event_info", rows.dtype, lineage={}, provenance={})
    writer.write(rows[:25], start_ns=0, end_ns=25_000)
    writer.write(rows[25:], start_ns=25_000, end_ns=40_000)
    writer.close()
    kept = []
    for source, more in ((tmp_path / "events.csv", ("--name", "cs1_pe=cs1")), (writer.folder, ())):
        out = tmp_path / f"out-{source.name}"
        assert dmsim_command("select", source, "--cuts", cuts, "--out", out, *more)[0] == 0
        kept.append(pq.read_table(out / "selected.parquet")["row"].to_pylist())
    assert kept[0] == kept[1] == np.flatnonzero(read_cuts(cuts).passes(events)).tolist()


def test_nothing_left_is_said(cuts, tmp_path, dmsim_command):
    pq.write_table(pa.table(_events(5) | {"cs1_pe": np.ones(5)}), tmp_path / "events.parquet")
    out = tmp_path / "out"
    status, output, _ = dmsim_command("select", tmp_path / "events.parquet", "--cuts", cuts, "--out", out)
    assert status == 0
    assert "warning: no event is left" in output
    assert pq.read_table(out / "selected.parquet").num_rows == 0
    assert not (out / "provenance.json").exists()  # the events have none


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--name", "cs1_pe"), "--name cs1_pe: must be OURS=THEIRS"),
        (("--name", "cs1_pe=s1"), "events have no column s1 to be cs1_pe"),
        (("--weights", "weight"), "--weights weight: the events have cs1_pe"),
        (("--confidence", "2"), "confidence is 2.0: must be between 0 and 1"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(cuts, tmp_path, dmsim_command, more, message):
    pq.write_table(pa.table(_events(5)), tmp_path / "events.parquet")
    out = tmp_path / "out"
    status, output, error = dmsim_command(
        "select", tmp_path / "events.parquet", "--cuts", cuts, "--out", out, *more
    )
    assert (status, output) == (1, "")
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()
