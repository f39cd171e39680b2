"""The output of `dmsim reconstruct`, read back whole."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from dmsim.io.parquet import TableReader
from dmsim.io.tables import peak_rows, unpack_events, unpack_peaks
from dmsim.records import Events, Peaks

_PEAK_ROWS = ("s1_peak", "s2_peak", "alt_s1_peak", "alt_s2_peak")
Rows = TypeVar("Rows", Peaks, Events)


def read_reconstruction(out: Path | str, *, partly: bool = False) -> tuple[Peaks, Events]:
    """Peaks and events of all chunks, as `dmsim.reconstruct` gives them for one.

    Args:
        out: output folder of `dmsim reconstruct`.
        partly: also of a run in which chunks are missing.

    Returns:
        Peaks, and events whose s1_peak, s2_peak and alternates are rows of all these peaks.

    Raises:
        ValueError: if a table is missing, unfinished, damaged or foreign.
    """
    reader = TableReader(Path(out) / "peaks", partly=partly)
    peaks = {chunk: unpack_peaks(reader.read(chunk), origin=reader.path_of(chunk)) for chunk in reader.chunks}
    ends = np.cumsum([len(part) for part in peaks.values()])
    first_row = {chunk: int(end) - len(peaks[chunk]) for chunk, end in zip(peaks, ends, strict=True)}
    return _join(list(peaks.values())), _events(Path(out), first_row, partly=partly)


def read_events(out: Path | str, *, partly: bool = False) -> Events:
    """Events alone, of all chunks; their rows of peaks count as in the files.

    Raises:
        ValueError: if a table is missing, unfinished, damaged or foreign.
    """
    return _events(Path(out), None, partly=partly)


def _events(out: Path, first_row: dict[int, int] | None, *, partly: bool) -> Events:
    """Events, with rows counted from the first of all peaks if it is known where the chunks' begin."""
    reader = TableReader(out / "events", partly=partly)
    parts = []
    for chunk in reader.chunks:
        table = reader.read(chunk)
        part = unpack_events(table, origin=reader.path_of(chunk))
        if first_row is not None and peak_rows(table) == "chunk":
            if chunk not in first_row:
                raise ValueError(f"{out} has events of chunk {chunk} and no peaks: they must be of one run")
            rows = {name: getattr(part, name) for name in _PEAK_ROWS}
            offset = first_row[chunk]
            part = replace(part, **{n: np.where(row >= 0, row + offset, -1) for n, row in rows.items()})
        parts.append(part)
    return _join(parts)


def _join(parts: list[Rows]) -> Rows:
    if not parts:
        raise ValueError("no chunk is there: give the command that makes them")
    names = [field.name for field in fields(parts[0])]
    return type(parts[0])(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
