"""Atoms in time order and the boundaries between them: blocks of hits cut at plausible splits. Host code."""

from typing import NamedTuple

import numpy as np

from dmsim.reconstruction.settings import Settings
from dmsim.reconstruction.soft import atoms
from dmsim.reconstruction.soft.found import Found
from dmsim.reconstruction.soft.trees import depths


class Atoms(NamedTuple):
    """In time order. Hits are numbers in `Found.hits`."""

    event: np.ndarray
    start_ns: np.ndarray  # if the atom begins a peak
    end_ns: np.ndarray  # if it ends one
    first_hit: np.ndarray  # of its block
    last_hit: np.ndarray  # that reaches furthest up to the block's end
    left_soft: np.ndarray  # it begins at a hit, not at a split
    right_soft: np.ndarray


class Edges(NamedTuple):
    """Boundary k lies between atoms k and k + 1."""

    gap: np.ndarray  # number in `Gaps`; -1: no gap of hits
    node: np.ndarray  # number in `Splits`; -1: no split
    certain: np.ndarray
    hard: np.ndarray  # cut before merging
    joined: np.ndarray  # cut, and joined again by the hard merging
    mergeable: np.ndarray
    merge_gap_ns: np.ndarray
    # one merge decides about all boundaries from `left` to `right`: several where pieces between are dropped
    left: np.ndarray  # atom that ends the piece before
    right: np.ndarray  # atom that begins the piece after
    before: np.ndarray  # (2,): first atoms of the piece and of the group that end with `left`
    after: np.ndarray  # (2,): last atoms of the piece and of the group that begin with `right`
    cut: np.ndarray  # rough probability, before merging
    merged: np.ndarray  # rough probability that the merge joins


def edges_of(settings: Settings, found: Found, gaps: atoms.Gaps, splits: atoms.Splits) -> tuple[Atoms, Edges]:
    """Blocks of hits between plausible gaps, cut at plausible splits."""
    hits, dt, c = found.hits, found.table.dt, settings.clustering
    left, right = (int(np.ceil(float(ns) / dt)) * dt for ns in (c.left_extension_ns, c.right_extension_ns))
    cuts = np.flatnonzero(gaps.open | gaps.certain)
    begin, end = np.append(0, cuts + 1), np.append(cuts, len(hits.time_ns) - 1)
    reach_hit = np.append(gaps.reach_hit, np.argmax(hits.end_ns))
    segment = np.append(0, np.cumsum(gaps.certain[cuts]))
    enough = np.array(
        [
            len(np.unique(hits.channel[begin[s[0]] : end[s[-1]] + 1])) >= c.min_sensors
            for s in np.split(np.arange(len(begin)), np.flatnonzero(np.diff(segment)) + 1)
        ]
    )[segment]
    depth = depths(splits.mother)
    rows, edges = [], []
    previous = -1
    for block in np.flatnonzero(enough):
        first, last = begin[block], end[block]
        start_ns, end_ns = hits.time_ns[first] - left, hits.end_ns[reach_hit[last]] + right
        if rows:
            adjacent = previous == block - 1
            gap = cuts[block - 1] if adjacent else -1
            certain = not adjacent or gaps.certain[gap]
            node, hard = -1, certain or gaps.hard[gap]
            if not hard:
                low, high = hits.end_ns[reach_hit[gap]], hits.time_ns[gap + 1]
                inside = np.flatnonzero((splits.cut_ns >= low) & (splits.cut_ns <= high))
                if len(inside):
                    node = inside[np.lexsort((depth[inside], ~splits.hard[inside]))[0]]
                    hard = hard or splits.hard[node]
            edges.append((gap, node, certain, hard))
            if node >= 0 and splits.hard[node]:
                cut = splits.cut_ns[node]
                rows[-1] = (*rows[-1][:2], cut, *rows[-1][3:6], False)
                start_ns, left_soft = cut, False
            else:
                left_soft = True
        else:
            left_soft = True
        low = hits.time_ns[first] if block else start_ns
        inner = np.flatnonzero(
            (splits.cut_ns > max(start_ns, low if left_soft else start_ns)) & (splits.cut_ns < end_ns)
        )
        inner = [
            n for n in inner if not _in_open_gap(splits.cut_ns[n], block, begin, end, hits, reach_hit, enough)
        ]
        base = (found.event[first], first, reach_hit[last])
        at, soft = start_ns, left_soft
        for n in inner:
            if splits.cut_ns[n] == at:
                continue
            rows.append((base[0], at, splits.cut_ns[n], base[1], base[2], soft, False))
            edges.append((-1, n, False, splits.hard[n]))
            at, soft = splits.cut_ns[n], False
        rows.append((base[0], at, end_ns, base[1], base[2], soft, True))
        previous = block
    kinds = (np.int64, np.int64, np.int64, np.int64, np.int64, bool, bool)
    columns = [np.array([r[i] for r in rows], kind) for i, kind in enumerate(kinds)]
    n = max(len(rows) - 1, 0)
    gap, node, certain, hard = (
        np.array([e[i] for e in edges], kind) for i, kind in enumerate((np.int64, np.int64, bool, bool))
    )
    return Atoms(*columns), Edges(
        gap, node, certain, hard, joined=np.zeros(n, bool), mergeable=np.zeros(n, bool),
        merge_gap_ns=np.zeros(n, np.int64), left=np.arange(n), right=np.arange(n) + 1,
        before=np.zeros((n, 2), np.int64), after=np.zeros((n, 2), np.int64), cut=np.zeros(n),
        merged=np.zeros(n),
    )  # fmt: skip


def _in_open_gap(cut_ns, block, begin, end, hits, reach_hit, enough) -> bool:
    """Whether a split lies between this block's last hit and the next block's first."""
    after = block + 1 < len(begin) and enough[block + 1]
    return bool(after and hits.end_ns[reach_hit[end[block]]] <= cut_ns)
