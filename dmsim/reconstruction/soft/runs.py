"""Runs of atoms that are plausible peaks. Host code."""

import numpy as np

from dmsim.reconstruction.soft.atoms import LEAST
from dmsim.reconstruction.soft.edges import Atoms, Edges

MOST = 10_000  # possible peaks


def plausible_runs(parts: Atoms, edges: Edges) -> set[tuple[int, int]]:
    """Runs that are not too unlikely."""
    out, n = set(), len(parts.event)
    free, given = np.append(edges.cut, 1.0), np.append(_given(edges), 1.0)
    for first in range(n):
        chance = free[first - 1] * (1 - edges.merged[first - 1]) if first else 1.0
        merge = edges.left[first - 1] if first else -1
        last = first
        while chance >= LEAST:
            # where one boundary of a merge is cut, it joined none of the others
            same = last < n - 1 and edges.left[last] == merge
            cut = free[last] if same else given[last]
            if chance * cut >= LEAST:
                out.add((first, last))
                if len(out) > MOST:
                    raise ValueError(
                        f"more than {MOST} peaks are possible at this temperature: gaps within a peak are "
                        "split too easily; lower temperature.gap or read fewer events at a time"
                    )
            chance *= 1 - cut
            last += 1
            if last == n:
                break
    return out


def _given(edges: Edges) -> np.ndarray:
    """Rough probability that each boundary is cut if none before it of the same merge is."""
    out, stay = np.zeros(len(edges.cut)), 1.0
    for k, (cut, merged) in enumerate(zip(edges.cut, edges.merged, strict=True)):
        stay = stay if k and edges.left[k] == edges.left[k - 1] else 1.0
        some = merged + (1 - merged) * stay
        out[k] = (1 - merged) * stay * cut / some if some > 0 else cut
        stay *= 1 - cut
    return out


def hard_runs(parts: Atoms, cut: np.ndarray) -> set[tuple[int, int]]:
    """Runs between the boundaries that are cut."""
    first = np.append(0, np.flatnonzero(cut) + 1)
    last = np.append(first[1:], len(parts.event)) - 1
    return {(int(a), int(b)) for a, b in zip(first, last, strict=True)}
