"""Pieces of one S2 joined again."""

import numpy as np
from jaxtyping import Float, Int

from dmsim.reconstruction import margins
from dmsim.reconstruction.settings import Merging
from dmsim.reconstruction.tables import Windows
from dmsim.records import Signal


def merge_pieces(
    settings: Merging,
    windows: Windows,
    area_pe: Float[np.ndarray, "peak"],
    signal: Int[np.ndarray, "peak"],
) -> Int[np.ndarray, "peak+1"]:
    """Join the pieces of S2s, smallest gap first (the earlier of equals), while the margins allow.

    An unclassified piece joins an S2, never another unclassified one; an S1 joins nothing and stands
    between its neighbours. A gap is looked at once.

    A gap that is smaller than the open ones on either side depends on nothing that is still to be decided:
    all such gaps are decided at once, which gives what one after the other gives.

    Args:
        settings: of the merging.
        windows: of all peaks, ascending.
        area_pe: of all peaks.
        signal: `Signal` of all peaks.

    Returns:
        Peak g of the merged ones is made of pieces first[g] to first[g + 1].
    """
    n = len(area_pe)
    gap_ns = windows.start_ns[1:] - windows.end_ns[:-1]
    joinable = signal != int(Signal.S1)
    reach = max(settings.gap_ns) if settings.max_duration_ns > 0 else -1.0
    gap = np.flatnonzero(joinable[:-1] & joinable[1:] & (gap_ns <= reach))  # open ones, by the piece before
    rank = np.empty(len(gap), np.int64)
    rank[np.argsort(gap_ns[gap], kind="stable")] = np.arange(len(gap))
    leader, last = np.arange(n), np.arange(n)  # first piece of each piece's group; last of a leader's group
    joint, has_s2 = area_pe.astype(np.float64), signal == int(Signal.S2)
    while len(gap):
        ready = _smaller_than_neighbours(rank)
        a, b = leader[gap[ready]], gap[ready] + 1  # b is a leader: this gap is not joined yet
        duration_ns = windows.end_ns[last[b]] - windows.start_ns[a]
        allowed = margins.merge(settings, gap_ns[gap[ready]], np.minimum(joint[a], joint[b]), duration_ns)
        join = (has_s2[a] | has_s2[b]) & (np.minimum.reduce(allowed) >= 0)
        for first, second, sum_pe in zip(a[join], b[join], (joint[a] + joint[b])[join], strict=True):
            leader[second : last[second] + 1] = first
            last[first], joint[first], has_s2[first] = last[second], sum_pe, True
        gap, rank = gap[~ready], rank[~ready]
    return np.append(np.flatnonzero(leader == np.arange(n)), n)


def _smaller_than_neighbours(rank: np.ndarray) -> np.ndarray:
    """Which open gaps rank below the next open ones before and after, at any distance."""
    padded = np.full(len(rank) + 2, np.iinfo(np.int64).max)
    padded[1:-1] = rank
    return (rank < padded[:-2]) & (rank < padded[2:])
