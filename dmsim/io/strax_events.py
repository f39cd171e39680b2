"""`Events` in strax's layout, without strax: one row an event, with the starts of its signals.

Numbers within a run mean nothing in strax, which orders by time: an event is its window, `time` to `endtime`,
and a signal is known by its start.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dmsim.io.columns import TABLES
from dmsim.io.provenance import Provenance
from dmsim.io.strax_folders import FolderReader, FolderWriter
from dmsim.records import Events, Peaks

_SIGNALS = ("s1", "s2", "alt_s1", "alt_s2")
_LEFT_OUT = ("event", "start_ns", "end_ns", *(f"{name}_peak" for name in _SIGNALS))
_COLUMNS = tuple(column for column in TABLES["events"] if column.name not in _LEFT_OUT)

# behind strax's time and endtime: our columns, and the starts of the signals, -1 if there is none
EVENT_FIELDS: list[Any] = [
    *(
        (
            (f"{column.name}: {column.meaning} [{column.unit}]", column.name),
            "<f4" if column.kind == "float" else np.dtype(column.kind).str,
        )
        for column in _COLUMNS
    ),
    *(((f"start of the {name.replace('_', ' ')} [ns]", f"{name}_time"), "<i8") for name in _SIGNALS),
]
EVENT_DTYPE = np.dtype([("time", "<i8"), ("endtime", "<i8"), *EVENT_FIELDS])


def events_to_strax(events: Events, peaks: Peaks) -> np.ndarray:
    """Events in strax's layout.

    Args:
        events: of a span of time, or of records with a clock.
        peaks: that they are of: their rows are `s1_peak` and so on.
    """
    out = np.zeros(len(events), EVENT_DTYPE)
    out["time"], out["endtime"] = events.start_ns, events.end_ns
    for column in _COLUMNS:
        out[column.name] = getattr(events, column.name)
    for name in _SIGNALS:
        row = getattr(events, f"{name}_peak")
        out[f"{name}_time"] = np.where(row >= 0, peaks.time_ns[row], -1) if len(peaks) else -1
    return out


def events_from_strax(array: np.ndarray) -> Events:
    """Events from strax's layout, numbered from 0; which rows of peaks they are of is not known (-1)."""
    columns = {column.name: array[column.name].copy() for column in _COLUMNS}
    unknown = np.full(array.size, -1, np.int64)
    return Events(
        event=np.arange(array.size),
        start_ns=array["time"].copy(),
        end_ns=array["endtime"].copy(),
        **columns,
        **{f"{name}_peak": unknown.copy() for name in _SIGNALS},
    )


def write_events(out: Path, run_id: str, events: Events, peaks: Peaks, *, provenance: Provenance) -> Path:
    """Write events as one strax folder of one chunk.

    Args:
        out: the folder that holds the runs' folders.
        run_id: name of the run.
        events: sorted by the start of their windows.
        peaks: that they are of.
        provenance: of the run.

    Returns:
        The folder.

    Raises:
        ValueError: if events have no place in time or are not sorted, or the folder is there already.
    """
    array = events_to_strax(events, peaks)
    nowhere = np.flatnonzero(array["time"] < 0)
    if nowhere.size:
        raise ValueError(
            f"event {events.event[nowhere[0]]} has no peaks: strax's events need a place in time"
        )
    writer = FolderWriter(
        out,
        run_id,
        "events",
        array.dtype,
        lineage={"events": ["DmsimEvents", f"{provenance.version}+{provenance.digest[:12]}", {}]},
        provenance=provenance.as_dict(),
    )
    if writer.n_chunks:
        raise ValueError(f"{writer.folder} has events already: give another folder")
    start, end = (int(array["time"].min()), int(array["endtime"].max())) if array.size else (0, 0)
    writer.write(array, start_ns=start, end_ns=end)
    writer.close()
    return writer.folder


def read_events(folder: Path) -> Events:
    """All events of a strax folder that dmsim wrote, or its plugin.

    Raises:
        ValueError: if it is not a whole strax folder of dmsim's events.
    """
    reader = FolderReader(folder)
    missing = sorted(set(EVENT_DTYPE.names or ()) - set(reader.dtype.names or ()))
    if missing:
        raise ValueError(f"{folder} does not hold dmsim's events: it has no fields {', '.join(missing)}")
    return events_from_strax(np.concatenate(list(reader)) if reader.n_chunks else np.empty(0, reader.dtype))
