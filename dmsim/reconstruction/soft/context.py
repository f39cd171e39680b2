"""What decides about each boundary in the context of the hard reading: gaps, splits, merges. Host code."""

from collections.abc import Callable

import numpy as np

from dmsim.reconstruction import margins
from dmsim.reconstruction.soft import atoms
from dmsim.reconstruction.soft.atoms import LEAST
from dmsim.reconstruction.soft.edges import Atoms, Edges
from dmsim.reconstruction.soft.pieces import Pieces, pieces_of
from dmsim.reconstruction.tables import Waveforms, Windows


def decide(
    detector, settings, t, found, gaps, splits, parts: Atoms, edges: Edges, windows: Windows,
    waveforms: Waveforms,
) -> Edges:  # fmt: skip
    """Hard merging, the context of every boundary, and rough probabilities."""
    n = len(parts.event)
    if n < 2:
        return edges
    pieces = pieces_of(detector, settings, t, found, parts, edges, windows)
    edges = edges._replace(cut=_cut_chance(settings, t, gaps, splits, edges))
    if float(settings.merging.max_duration_ns) <= 0:
        return edges
    piece_of = np.repeat(np.arange(len(pieces.first)), pieces.last - pieces.first + 1)
    row = _Row(parts, pieces)
    furthest = max(map(float, settings.merging.gap_ns)) + atoms.REACH * float(t.merge_gap_ns)
    area_until = _running_area(windows, waveforms, found.table.dt)
    for k in range(n - 1):
        a, b = piece_of[k], piece_of[k + 1]
        inside = a == b and pieces.kept[a]
        if not inside:
            a, b = row.kept_around(a, b)
        if a < 0 or b < 0:
            continue
        left, right = (k, k + 1) if inside else (pieces.last[a], pieces.first[b])
        gap = parts.start_ns[right] - parts.end_ns[left]
        if parts.event[left] != parts.event[right] or gap > furthest:
            continue
        if right == left + 1 and edges.cut[k] == 0:
            continue
        edges.joined[k] = not inside and pieces.group[a] == pieces.group[b]
        possible = (1 - pieces.s1[a]) * (1 - pieces.s1[b]) * (1 - (1 - pieces.s2[a]) * (1 - pieces.s2[b]))
        if possible < LEAST and not edges.joined[k]:
            continue
        ga, gb = row.groups_around(a, b, gap)
        edges.mergeable[k], edges.merge_gap_ns[k] = True, gap
        edges.left[k], edges.right[k] = left, right
        edges.before[k] = pieces.first[a], pieces.first[ga]
        edges.after[k] = pieces.last[b], pieces.last[gb]
        one, other = pieces.sum_pe(ga, a), pieces.sum_pe(b, gb)
        if inside:  # both have all of the piece: less what is beyond the boundary
            middle = (parts.end_ns[k] + parts.start_ns[k + 1]) / 2
            one -= area_until(float(parts.end_ns[pieces.last[a]])) - area_until(middle)
            other -= area_until(middle) - area_until(float(parts.start_ns[pieces.first[a]]))
        duration = parts.end_ns[pieces.last[gb]] - parts.start_ns[pieces.first[ga]]
        m = margins.merge(settings.merging, gap, min(one, other), duration)
        scales = t.merge_gap_ns, t.merge_log10_area, t.duration_ns
        edges.merged[k] = possible * np.prod(
            [atoms.chance(x, s, at_zero=True) for x, s in zip(m, scales, strict=True)]
        )
    return edges._replace(merged=np.clip(edges.merged, 0, 1))


class _Row:
    """Pieces that are kept, one after the other, as the hard merging sees them."""

    def __init__(self, parts: Atoms, pieces: Pieces):
        kept, each = np.flatnonzero(pieces.kept), np.arange(len(pieces.first))
        before, after = kept[:-1], kept[1:]
        self._kept = pieces.kept
        self._gap_after = np.full(len(each), np.iinfo(np.int64).max)
        self._gap_after[before] = parts.start_ns[pieces.first[after]] - parts.end_ns[pieces.last[before]]
        self._joins_next = np.zeros(len(each), bool)
        self._joins_next[before] = pieces.group[before] == pieces.group[after]
        self._following = np.append(kept, -1)[np.searchsorted(kept, each, side="right")]
        self._preceding = np.append(kept, -1)[np.searchsorted(kept, each, side="left") - 1]

    def kept_around(self, a: int, b: int) -> tuple[int, int]:
        """The pieces themselves, or the next ones of those that are kept; -1: none."""
        return (
            a if self._kept[a] else self._preceding[a],
            b if self._kept[b] else self._following[b],
        )

    def groups_around(self, a: int, b: int, gap_ns: int) -> tuple[int, int]:
        """First and last pieces of what smaller gaps have joined to the pieces on both sides of a gap."""
        while (before := self._preceding[a]) >= 0 and self._is_joined(before, gap_ns):
            a = before
        while self._following[b] >= 0 and self._is_joined(b, gap_ns):
            b = self._following[b]
        return a, b

    def _is_joined(self, piece: int, gap_ns: int) -> bool:
        """To the next one, before a gap of this length is looked at."""
        return bool(self._joins_next[piece] and self._gap_after[piece] < gap_ns)


def _running_area(windows: Windows, waveforms: Waveforms, dt: int) -> Callable[[float], float]:
    """Area of all windows up to a time [PE]."""
    length = np.diff(waveforms.offset)
    late = np.arange(len(waveforms.total)) - np.repeat(waveforms.offset[:-1], length)
    end_ns = np.repeat(windows.start_ns, length) + (late + 1) * dt
    running = np.append(0, np.cumsum(waveforms.total)) * waveforms.scale
    return lambda time_ns: float(running[np.searchsorted(end_ns, time_ns, side="right")])


def _cut_chance(settings, t, gaps: atoms.Gaps, splits: atoms.Splits, edges: Edges) -> np.ndarray:
    c = settings.clustering
    scale = float(t.gap)
    stay = np.ones(len(edges.gap))
    for k, (gap, node) in enumerate(zip(edges.gap, edges.node, strict=True)):
        if gap >= 0:
            stay[k] *= 1 - atoms.chance(gaps.gap_ns[gap] - float(c.gap_ns), scale * gaps.tau_ns[gap])
            stay[k] *= 1 - atoms.chance(gaps.duration_ns[gap] - float(c.max_duration_ns), t.duration_ns)
        if node >= 0:
            stay[k] *= 0.0 if splits.hard[node] else 0.5  # the soft reading says it exactly
    return np.where(edges.certain, 1.0, 1 - stay)
