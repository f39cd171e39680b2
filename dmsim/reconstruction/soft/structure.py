"""The hard reading at the present thresholds, and the other readings that are plausible beside it. Host code.

Between neighbouring atoms lies a boundary that is cut or not. Each is decided in the context of the hard
reading: a split by the waveform that the hard recursion has there, a merge by the groups that the hard
merging has formed by then. A possible peak is a run of atoms, and its probability that of its boundaries.
"""

from typing import NamedTuple

import numpy as np

from dmsim.detector import Detector
from dmsim.reconstruction.clustering import cluster
from dmsim.reconstruction.integrate import integrate
from dmsim.reconstruction.settings import Settings
from dmsim.reconstruction.soft import atoms
from dmsim.reconstruction.soft.context import decide
from dmsim.reconstruction.soft.edges import Atoms, Edges, edges_of
from dmsim.reconstruction.soft.found import Found, find
from dmsim.reconstruction.soft.pieces import Restored, hard_pieces, restored_of
from dmsim.reconstruction.soft.runs import hard_runs, plausible_runs
from dmsim.reconstruction.soft.temperature import Temperature
from dmsim.records import RawRecords


class Structure(NamedTuple):
    """What `layout` is made from."""

    found: Found
    gaps: atoms.Gaps
    splits: atoms.Splits
    atoms: Atoms
    edges: Edges
    runs: list[tuple[int, int]]  # first and last atom; hard peaks among them
    node_runs: list[tuple[int, int]]  # atoms of each split's waveform
    restored: Restored | None  # None: nothing was saturated
    dropped: np.ndarray  # atoms of groups with too few sensors


def structure_of(detector: Detector, records: RawRecords, settings: Settings, t: Temperature) -> Structure:
    """Atoms, boundaries and the runs that are plausible."""
    found = find(detector, records, settings, t)
    hits, dt = found.hits, found.table.dt
    n_sensors = len(found.gains.units_per_count)
    windows = cluster(settings.clustering, hits, dt=dt, n_sensors=n_sensors)
    if not len(hits.time_ns):
        nothing = np.zeros(0, np.int64)
        gaps = atoms.Gaps(*([nothing] * 7))
        return Structure(found, gaps, atoms.Splits.none(), Atoms(*([nothing] * 7)),
                         Edges(*([nothing] * 13)), [], [], None, nothing > 0)  # fmt: skip
    gaps = atoms.gaps_of(settings, t, hits, found.event)
    waveforms = integrate(found.table, found.pulses, found.gains, windows)
    splits = atoms.splits_of(settings.splitting, t, windows, waveforms, dt)
    parts, edges = edges_of(settings, found, gaps, splits)
    edges = decide(detector, settings, t, found, gaps, splits, parts, edges, windows, waveforms)
    hard_cut = (edges.hard | edges.certain) & ~edges.joined
    runs = plausible_runs(parts, edges)
    runs |= hard_runs(parts, hard_cut)
    node_runs = [
        (
            int(np.searchsorted(parts.start_ns, start, side="right") - 1),
            int(np.searchsorted(parts.end_ns, end)),
        )
        for start, end in zip(splits.start_ns, splits.end_ns, strict=True)
    ]
    used = {int(n) for n in edges.node if n >= 0}
    runs |= {run for n, run in enumerate(node_runs) if n in used}
    for k in np.flatnonzero(edges.mergeable):
        runs |= {(int(first), int(edges.left[k])) for first in edges.before[k]}
        runs |= {(int(edges.right[k]), int(last)) for last in edges.after[k]}
    (first, last), kept, ranges = hard_pieces(found, parts, edges, windows)
    dropped = ~np.repeat(kept, last - first + 1)
    restored = restored_of(settings, found, ranges)
    return Structure(found, gaps, splits, parts, edges, sorted(runs), node_runs, restored, dropped)
