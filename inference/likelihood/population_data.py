"""What a population is fitted to: events in (cS1, cS2) inside a window with bins."""

import math
from pathlib import Path
from typing import NamedTuple, Self

import equinox as eqx
import numpy as np
from jaxtyping import Float

from dmsim.io.files import sha256_of_file
from dmsim.io.parquet import MANIFEST, TableReader
from dmsim.io.tables import unpack
from dmsim.selection import columns_of

SELECTED = "selected.parquet"  # of `dmsim select`
_KINDS = ("events", "areas")
_SEED = 20  # of the choice of simulated S1s that miss the coincidence


class Window(eqx.Module):
    """A rectangle in corrected S1 [PE] and log10 of corrected S2 [PE], cut into bins."""

    cs1_edges: tuple[float, ...] = eqx.field(static=True)
    log_cs2_edges: tuple[float, ...] = eqx.field(static=True)

    def __post_init__(self):
        for name, edges, low in (("cs1", self.cs1_edges, 0.0), ("log_cs2", self.log_cs2_edges, -np.inf)):
            values = np.asarray(edges, float)
            if len(values) < 2 or not np.all(np.isfinite(values)) or np.any(np.diff(values) <= 0):
                raise ValueError(f"edges of {name} must be two or more ascending numbers, not {edges}")
            if values[0] < low:
                raise ValueError(f"edges of {name} begin at {values[0]:g} PE: they must be 0 or more")

    @classmethod
    def of(cls, cs1_pe: tuple[float, float], cs2_pe: tuple[float, float], n_bins: tuple[int, int]) -> Self:
        """Equal bins of cS1 and of log10 cS2.

        Args:
            cs1_pe: lower and upper limit, >= 0.
            cs2_pe: lower and upper limit, > 0.
            n_bins: of cS1 and of log10 cS2, > 0.

        Raises:
            ValueError: if a range is empty.
        """
        if not 0 < cs2_pe[0] < cs2_pe[1] or not 0 <= cs1_pe[0] < cs1_pe[1] or min(n_bins) < 1:
            raise ValueError(
                f"window cs1 {cs1_pe} PE, cs2 {cs2_pe} PE in {n_bins} bins is empty: "
                "give 0 <= cs1 low < high, 0 < cs2 low < high, and a bin or more"
            )
        return cls(
            tuple(np.linspace(*cs1_pe, n_bins[0] + 1).tolist()),
            tuple(np.linspace(math.log10(cs2_pe[0]), math.log10(cs2_pe[1]), n_bins[1] + 1).tolist()),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of bins in cS1 and in log10 cS2."""
        return len(self.cs1_edges) - 1, len(self.log_cs2_edges) - 1


class EventSet(eqx.Module):
    """Corrected areas of measured events. Host arrays."""

    cs1_pe: Float[np.ndarray, "event"]
    cs2_pe: Float[np.ndarray, "event"]
    n_without: int = 0  # events of the file without an S1 or without an S2, which are left out

    def __len__(self) -> int:
        """Number of events."""
        return len(self.cs1_pe)

    @property
    def log_cs2(self) -> Float[np.ndarray, "event"]:
        """log10 of cS2 / PE."""
        return np.log10(self.cs2_pe)

    def inside(self, window: Window) -> Self:
        """The events inside of a window; its upper limits are outside."""
        s1, s2 = window.cs1_edges, window.log_cs2_edges
        y = self.log_cs2
        keep = (self.cs1_pe >= s1[0]) & (self.cs1_pe < s1[-1]) & (y >= s2[0]) & (y < s2[-1])
        return type(self)(self.cs1_pe[keep], self.cs2_pe[keep], self.n_without)

    def histogram(self, window: Window) -> Float[np.ndarray, "s1_bin s2_bin"]:
        """Events in each bin."""
        inside = self.inside(window)
        edges = (np.asarray(window.cs1_edges), np.asarray(window.log_cs2_edges))
        return np.histogram2d(inside.cs1_pe, inside.log_cs2, bins=edges)[0]


def event_set(cs1_pe: np.ndarray, cs2_pe: np.ndarray, *, origin: object = "events") -> EventSet:
    """Events from two columns; those without an S1 or an S2 (0 or NaN in the area) are left out and counted.

    Args:
        cs1_pe: corrected S1, >= 0, NaN or 0 where there is none.
        cs2_pe: corrected S2, the same.
        origin: named in errors.

    Raises:
        ValueError: for columns of different or no length, or values that are negative or infinite.
    """
    s1, s2 = np.asarray(cs1_pe, float), np.asarray(cs2_pe, float)
    if s1.ndim != 1 or s1.shape != s2.shape or not s1.size:
        raise ValueError(
            f"{origin}: cs1_pe has shape {s1.shape} and cs2_pe {s2.shape}: give one number an event in both"
        )
    for name, values in (("cs1_pe", s1), ("cs2_pe", s2)):
        wrong = np.flatnonzero(np.isinf(values) | (values < 0))
        if wrong.size:
            raise ValueError(
                f"{origin}: {name} is {values[wrong[0]]:g} PE in row {wrong[0]} ({wrong.size} of {s1.size} "
                "rows): must be finite and 0 PE or more"
            )
    seen = (s1 > 0) & (s2 > 0)  # NaN is not
    if not seen.any():
        raise ValueError(f"{origin}: none of {s1.size} events has both an S1 and an S2")
    return EventSet(s1[seen], s2[seen], int(s1.size - seen.sum()))


class Table(NamedTuple):
    """Events as columns."""

    kind: str  # events, areas, or selected: rows of any table, one file
    columns: dict[str, np.ndarray]
    origin: Path
    sha256: str  # of its manifest or of the file


def read_table(path: str | Path) -> Table:
    """Columns of an output folder of dmsim, of `dmsim select`, or of a Parquet file of events.

    Args:
        path: a folder with a table `events` or `areas`, the table's own folder, a folder with
            `selected.parquet`, or a Parquet file with the column names of our events.

    Raises:
        ValueError: if there is no such table, or it is damaged.
    """
    path = Path(path)
    file = path / SELECTED if (path / SELECTED).is_file() else path
    if file.is_file():
        return Table("selected", columns_of(file), file, sha256_of_file(file))
    if not path.is_dir():
        raise ValueError(f"events {path}: there is no such file or folder")
    folder = next((path / kind for kind in _KINDS if (path / kind).is_dir()), path)
    reader = TableReader(folder)
    if reader.kind not in _KINDS:
        raise ValueError(f"{folder} is a table of {reader.kind}: expected one of {', '.join(_KINDS)}")
    chunks = [unpack(table, reader.kind, origin=folder).columns for table in reader]
    if not chunks:
        raise ValueError(f"{folder} holds no events")
    columns = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return Table(reader.kind, columns, folder, sha256_of_file(folder / MANIFEST))


def events_of(table: Table) -> EventSet:
    """The corrected areas of a table's events.

    Of simulated areas, also selected ones, those whose S1 misses the coincidence are left out as if they had
    no S1.

    Raises:
        ValueError: if columns are missing, or values are none of areas in PE.
    """
    columns = table.columns
    missing = [name for name in ("cs1_pe", "cs2_pe") if name not in columns]
    if missing:
        raise ValueError(f"{table.origin} has no {', '.join(missing)}: its columns are {', '.join(columns)}")
    cs1 = columns["cs1_pe"]
    accepted = columns.get("s1_acceptance")
    if accepted is not None and len(accepted):
        # in areas the coincidence is a probability yet: those that miss it are chosen here, always the same,
        # by their row before the selection
        rows = columns.get("row", np.arange(len(cs1)))
        cs1 = np.where(np.random.default_rng(_SEED).random(rows.max() + 1)[rows] < accepted, cs1, 0.0)
    return event_set(cs1, columns["cs2_pe"], origin=table.origin)


def read_events(path: str | Path) -> EventSet:
    """Events from files: `events_of` what `read_table` gives.

    Raises:
        ValueError: as those.
    """
    return events_of(read_table(path))
