"""Events of any kind give the same columns."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dmsim import selection
from dmsim.io.tables import pack_areas
from dmsim.records import Areas

_N = 6
CUTS = """
version = 1
[[cut]]
kind = "range"
name = "energy"
column = "cs1_pe"
low = 2.5
[[cut]]
kind = "radius"
name = "wall"
high = 450.0
"""


def _ours():
    return {
        "cs1_pe": np.arange(_N) + 0.5,
        "x_mm": 100.0 * np.arange(_N, dtype=np.float32),
        "y_mm": np.zeros(_N),
        "time_ns": 1_700_000_000_000_000_001 + np.arange(_N),
    }


def _straxen():
    ours = _ours()
    names = [("time", "<i8"), ("endtime", "<i8"), ("s1_time", "<i8"), ("s2_time", "<i8"), ("cs1", "<f4")]
    rows = np.zeros(_N, [*names, ("x", "<f4"), ("y", "<f4"), ("widths", "<f4", 3)])
    rows["time"], rows["endtime"] = ours["time_ns"] - 500, ours["time_ns"] + 10**6
    rows["s1_time"], rows["s2_time"] = ours["time_ns"], ours["time_ns"] + 7
    rows["s1_time"][2] = -1  # no S1: the S2's time stands for it
    rows["cs1"], rows["x"] = ours["cs1_pe"], ours["x_mm"] / 10
    return rows


def _areas():
    ours = _ours()
    zero = np.zeros(_N, np.float32)
    names = ("s1_pe", "s2_pe", "cs2_pe", "drift_time_ns", "z_mm", "s1_acceptance")
    return Areas(cs1_pe=ours["cs1_pe"], x_mm=ours["x_mm"], y_mm=ours["y_mm"], **dict.fromkeys(names, zero))


def _parquet(tmp_path):
    pq.write_table(pa.table(_ours()), tmp_path / "ours.parquet")
    return tmp_path / "ours.parquet"


def _folder(tmp_path):
    (tmp_path / "events").mkdir()
    table = pa.table(_ours() | {"many": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * _N)), 2)})
    for i in range(2):
        pq.write_table(table.slice(3 * i, 3), tmp_path / "events" / f"{i:05d}.parquet")
    (tmp_path / "events" / "manifest.json").write_text('{"n_chunks": 2}')
    return tmp_path


SOURCES = {
    "mapping": lambda _: _ours(),
    "areas": lambda _: _areas(),
    "packed table": lambda _: pack_areas(_areas(), first_event=0),
    "arrow": lambda _: pa.table(_ours()),
    "pandas": lambda _: pytest.importorskip("pandas").DataFrame(_ours()),
    "strax": lambda _: _straxen(),
    "strax in pandas": lambda _: pytest.importorskip("pandas").DataFrame(
        {name: _straxen()[name] for name in _straxen().dtype.names if name != "widths"}
    ),
    "parquet file": _parquet,
    "folder": _folder,
    "folder as text": lambda tmp_path: str(_folder(tmp_path)),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_source_gives_the_same(source, tmp_path):
    events, ours = source(tmp_path), _ours()
    columns = selection.columns_of(events)
    for name in ("cs1_pe", "x_mm", "y_mm"):
        np.testing.assert_allclose(columns[name], ours[name], rtol=1e-6)
    assert all(values.ndim == 1 for values in columns.values())
    passed = selection.evaluate(events, selection.from_toml(CUTS)).passed
    np.testing.assert_array_equal(passed, [False, False, False, True, True, False])


def test_times_of_strax_keep_every_nanosecond():
    time_ns = selection.columns_of(_straxen())["time_ns"]
    wanted = _ours()["time_ns"].copy()
    wanted[2] += 7
    np.testing.assert_array_equal(time_ns, wanted)


def test_events_record_of_a_reconstruction():
    from dataclasses import fields

    from dmsim.records import Events

    events = Events(**{field.name: np.arange(4.0) for field in fields(Events)})
    assert set(selection.columns_of(events)) == {field.name for field in fields(Events)}


def test_names_of_another_origin():
    table = {"S1c": np.ones(3), "r": np.zeros(3)}
    assert selection.columns_of(table, names={"cs1_pe": "S1c"})["cs1_pe"].sum() == 3
    with pytest.raises(ValueError, match="no column s1c to be cs1_pe: they have S1c, r"):
        selection.columns_of(table, names={"cs1_pe": "s1c"})


def test_what_is_no_events_is_refused(tmp_path):
    with pytest.raises(ValueError, match="events are a int: must be"):
        selection.columns_of(3)
    with pytest.raises(ValueError, match="column b has 2 events and a has 3"):
        selection.columns_of({"a": np.zeros(3), "b": np.zeros(2)})
    with pytest.raises(ValueError, match="is no Parquet file, and no folder with such files"):
        selection.columns_of(tmp_path)
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        selection.columns_of(tmp_path / "x.parquet")
    (_folder(tmp_path) / "events" / "00001.parquet").unlink()
    with pytest.raises(ValueError, match="has 1 of 2 files: its run did not finish"):
        selection.columns_of(tmp_path)


def test_numpy_is_enough(tmp_path):
    """A tuned set of cuts runs where JAX is not loaded, nor could be."""
    (tmp_path / "cuts.toml").write_text(CUTS)
    program = f"""
import sys
sys.modules["jax"] = None  # an import of it fails
import numpy as np
from dmsim import selection
import dmsim.selection.merit
import dmsim.selection.last_stage
cuts = selection.read_cuts({str(tmp_path / "cuts.toml")!r})
flow = selection.evaluate({str(_parquet(tmp_path))!r}, cuts)
print(flow.passed.sum())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == "2"
