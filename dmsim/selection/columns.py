"""Events of any kind as columns with the names of `dmsim.records.Events`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmsim.selection.arrays import namespace

# of straxen 4.1 (plugins events): its name, and its unit in ours
STRAXEN: dict[str, tuple[str, float]] = {
    "event": ("event_number", 1),
    "start_ns": ("time", 1),
    "end_ns": ("endtime", 1),
    "s1_pe": ("s1_area", 1),
    "s2_pe": ("s2_area", 1),
    "cs1_pe": ("cs1", 1),
    "cs2_pe": ("cs2", 1),
    "cs2_bottom_pe": ("cs2_bottom", 1),
    "drift_time_ns": ("drift_time", 1),
    "x_mm": ("x", 10),
    "y_mm": ("y", 10),
    "z_mm": ("z", 10),
    "r_mm": ("r", 10),
    "x_observed_mm": ("s2_x", 10),
    "y_observed_mm": ("s2_y", 10),
    "s2_width_50_ns": ("s2_range_50p_area", 1),
    "energy_kev": ("e_ces", 1),
    "energy_light_kev": ("e_light", 1),
    "energy_charge_kev": ("e_charge", 1),
    "alt_s1_pe": ("alt_s1_area", 1),
    "alt_s2_pe": ("alt_s2_area", 1),
    "alt_cs1_pe": ("alt_cs1", 1),
    "alt_cs2_pe": ("alt_cs2", 1),
    "alt_s1_drift_time_ns": ("alt_s1_interaction_drift_time", 1),
    "alt_s2_drift_time_ns": ("alt_s2_interaction_drift_time", 1),
    "alt_s2_x_observed_mm": ("alt_s2_x", 10),
    "alt_s2_y_observed_mm": ("alt_s2_y", 10),
    "largest_s2_before_pe": ("large_s2_before_main_s2_area", 1),
    "largest_s2_after_pe": ("large_s2_after_main_s2_area", 1),
}


def columns_of(events: Any, *, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Columns of events by the names of `dmsim.records.Events`.

    Tables of strax, known by their columns `time` and `endtime`, get these names and units; what has no
    counterpart keeps its own name. Columns with several values an event, and texts, are not taken.

    Args:
        events: `Events` or `Areas`, mapping of arrays, structured array, pandas or Arrow table, a Parquet
            file, or a folder with such files (or with a folder `events` or `areas` of them).
        names: our name -> name in `events`, for tables of other origin; units must be those of our names.

    Returns:
        Name -> array [event]; arrays of JAX stay what they are.

    Raises:
        ValueError: if `events` is no such thing, a name in `names` is not there, or lengths differ.
    """
    found = _raw_columns(events)
    if {"time", "endtime"} <= set(found):
        _add_straxen(found)
    for ours, theirs in (names or {}).items():
        if theirs not in found:
            raise ValueError(f"events have no column {theirs} to be {ours}: they have {', '.join(found)}")
        found[ours] = found[theirs]
    lengths = {name: values.shape[0] for name, values in found.items()}
    if len(set(lengths.values())) > 1:
        (first, n), *rest = lengths.items()
        other = next(name for name, length in rest if length != n)
        raise ValueError(f"column {other} has {lengths[other]} events and {first} has {n}: must be as many")
    return found


def _raw_columns(events: Any) -> dict[str, Any]:
    names, get = _access(_read(Path(events)) if isinstance(events, str | Path) else events)
    found = {}
    for name in names:
        values = get(name)
        if namespace(values) is np:
            values = np.asarray(values)
        if values.ndim == 1 and values.dtype.kind in "biuf":
            found[str(name)] = values
    return found


def _access(events: Any) -> tuple[list[str], Callable[[str], Any]]:
    """Names of the columns, and how to get one."""
    if isinstance(events, Mapping):
        return list(events), lambda name: events[name]
    if getattr(getattr(events, "dtype", None), "names", None):
        return list(events.dtype.names), lambda name: events[name]
    if hasattr(events, "column_names"):  # Arrow
        flat = [
            name for name in events.column_names if not hasattr(events.schema.field(name).type, "value_type")
        ]
        return flat, lambda name: events.column(name).to_numpy()
    if hasattr(events, "columns") and hasattr(events, "to_numpy"):  # pandas
        return list(events.columns), lambda name: events[name].to_numpy()
    if is_dataclass(events) and not isinstance(events, type):
        return [field.name for field in fields(events)], lambda name: getattr(events, name)
    raise ValueError(
        f"events are a {type(events).__name__}: must be Events, a mapping, a structured array, a pandas or "
        "Arrow table, or the path of a Parquet file or folder"
    )


def _read(path: Path) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - only files need it
    import pyarrow.parquet as pq  # noqa: PLC0415

    folder = next((path / kind for kind in ("events", "areas") if (path / kind).is_dir()), path)
    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ValueError(f"{path} is no Parquet file, and no folder with such files")
    manifest = folder / "manifest.json"
    if folder.is_dir() and manifest.is_file():
        n_chunks = json.loads(manifest.read_text()).get("n_chunks")
        if n_chunks != len(files):
            raise ValueError(
                f"{folder} has {len(files)} of {n_chunks} files: its run did not finish; give the command "
                "that wrote it again"
            )
    try:
        return pa.concat_tables([pq.ParquetFile(file).read() for file in files])
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from None


def _add_straxen(found: dict[str, Any]) -> None:
    for ours, (theirs, factor) in STRAXEN.items():
        if theirs in found and ours not in found:
            found[ours] = found[theirs] * factor if factor != 1 else found[theirs]
    if "time_ns" not in found:
        # as in our events: of the main S1, else of the S2; -1 is straxen's for none
        time_ns = found["time"]
        for name in ("s2_time", "s1_time"):
            if name in found:
                time_ns = np.where(found[name] > 0, found[name], time_ns)
        found["time_ns"] = time_ns
