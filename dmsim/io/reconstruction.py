"""The output of `dmsim reconstruct`, read back whole."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from dmsim.io.parquet import TableReader
from dmsim.io.tables import unpack_events, unpack_peaks
from dmsim.records import Events, Peaks

_PEAK_ROWS = ("s1_peak", "s2_peak", "alt_s1_peak", "alt_s2_peak")
Rows = TypeVar("Rows", Peaks, Events)


def read_reconstruction(out: Path | str) -> tuple[Peaks, Events]:
    """Peaks and events of all chunks, as `dmsim.reconstruct` gives them for one.

    Args:
        out: output folder of `dmsim reconstruct`.

    Returns:
        Peaks, and events whose s1_peak, s2_peak and alternates are rows of all these peaks.

    Raises:
        ValueError: if a table is missing, unfinished, damaged or foreign.
    """
    peak_table, event_table = (TableReader(Path(out) / kind) for kind in ("peaks", "events"))
    if peak_table.n_chunks != event_table.n_chunks:
        raise ValueError(
            f"{out} has {peak_table.n_chunks} chunks of peaks and {event_table.n_chunks} of events: "
            "they must be of one run"
        )
    peaks = [unpack_peaks(table, origin=peak_table.folder) for table in peak_table]
    offsets = np.cumsum([0, *(len(part) for part in peaks)])
    events = []
    for table, offset in zip(event_table, offsets, strict=False):
        part = unpack_events(table, origin=event_table.folder)
        rows = {name: getattr(part, name) for name in _PEAK_ROWS}
        moved = {name: np.where(row >= 0, row + offset, -1) for name, row in rows.items()}
        events.append(replace(part, **moved))
    return _join(peaks), _join(events)


def _join(parts: list[Rows]) -> Rows:
    names = [field.name for field in fields(parts[0])]
    return type(parts[0])(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
