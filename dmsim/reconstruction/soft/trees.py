"""Splits within splits: a piece can only be split where the split that makes it is.

Boundaries whose splits lie in each other's waveforms form trees; all other boundaries are independent.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Slots(NamedTuple):
    """Boundaries of trees that decide about each candidate, daughters before their mothers.

    Those inside and at its ends, and the mothers of these, wherever they are.
    """

    boundary: Int[Any, "peak slot"]  # the certain one: padding
    up: Int[Any, "peak slot"]  # slot of the mother; that after the last one: none
    inside: Bool[Any, "peak slot"]  # must not be cut, or be joined again
    end: Bool[Any, "peak slot"]  # must be cut, and not be joined


class Chances(NamedTuple):
    """Of each boundary."""

    opened: Float[Array, "boundary"]  # cut before merging, if that of the mother is, or if there is none
    closed: Float[Array, "boundary"]  # the same if that of the mother is not: by a gap alone
    merged: Float[Array, "boundary"]


def depths(mother: Int[np.ndarray, "split"]) -> Int[np.ndarray, "split"]:
    """Number of mothers above each. Host code."""
    depth, above = np.zeros(len(mother), np.int64), mother
    while (above >= 0).any():
        depth += above >= 0
        above = np.where(above >= 0, mother[above], -1)
    return depth


def mothers(
    node: Int[np.ndarray, "boundary"], mother: Int[np.ndarray, "split"]
) -> Int[np.ndarray, "boundary"]:
    """Boundary of each boundary's mother; -1: none. Host code.

    Args:
        node: split at each boundary; -1: none.
        mother: of each split. One that has no boundary is passed over.
    """
    boundary = np.full(len(mother) + 1, -1)
    boundary[node[node >= 0]] = np.flatnonzero(node >= 0)
    out = np.full(len(node), -1)
    for k in np.flatnonzero(node >= 0):
        above = mother[node[k]]
        while above >= 0 and boundary[above] < 0:
            above = mother[above]
        out[k] = boundary[above] if above >= 0 else -1
    return out


def slots_of(runs: list[tuple[int, int]], mother: Int[np.ndarray, "boundary"], certain: int) -> Slots:
    """Slots of each run of atoms. Host code.

    Args:
        runs: first and last atoms; boundary k lies after atom k.
        mother: boundary of each boundary's mother.
        certain: boundary that stands for none.
    """
    depth = depths(mother)
    member = np.zeros(len(mother) + 1, bool)
    member[: len(mother)] = mother >= 0
    member[mother[mother >= 0]] = True
    member[len(mother)] = False  # after the last atom
    rows = []
    for first, last in runs:
        wanted = {int(k) for k in range(max(first - 1, 0), last + 1) if member[k]}
        for k in list(wanted):
            above = int(mother[k])
            while above >= 0:
                wanted.add(above)
                above = int(mother[above])
        rows.append(sorted(wanted, key=lambda k: (-depth[k], k)))
    width = max((len(row) for row in rows), default=0)
    width = 1 << (width - 1).bit_length() if width else 0  # few sizes, few compilations
    boundary = np.full((len(rows), width), certain)
    up = np.full((len(rows), width), width)
    inside, end = np.zeros((2, len(rows), width), bool)
    for i, ((first, last), row) in enumerate(zip(runs, rows, strict=True)):
        place = {k: s for s, k in enumerate(row)} | {-1: width}
        for s, k in enumerate(row):
            boundary[i, s], up[i, s] = k, place[int(mother[k])]
            inside[i, s], end[i, s] = first <= k < last, k in (first - 1, last)
    return Slots(boundary, up, inside, end)


def marginal(chances: Chances, mother: Int[Array, "boundary"], n_levels: int) -> Float[Array, "boundary"]:
    """Probability that each boundary is cut before merging. Gradient: exact."""
    cut = chances.opened
    for _ in range(n_levels):
        below = chances.closed + cut[mother] * (chances.opened - chances.closed)
        cut = jnp.where(mother >= 0, below, chances.opened)
    return cut


def joint(chances: Chances, slots: Slots, *, unmerged: bool = False) -> Float[Array, "peak"]:
    """Probability that the slots' boundaries let each candidate be, summed from the daughters up.

    Args:
        chances: of the boundaries.
        slots: of the candidates.
        unmerged: with none inside that is cut and joined again.

    Gradient: exact.
    """
    n, width = slots.boundary.shape
    row = jnp.arange(n)

    def step(below, at):
        if_cut, if_not = below  # products over the daughters, whether or not their mother is cut
        k, up, inside, end, slot = at
        merged = chances.merged[k]
        joined = jnp.zeros_like(merged) if unmerged else merged
        yes = jnp.where(end, 1 - merged, jnp.where(inside, joined, 1.0)) * if_cut[:, slot]
        no = jnp.where(end, 0.0, 1.0) * if_not[:, slot]
        new = (chance * yes + (1 - chance) * no for chance in (chances.opened[k], chances.closed[k]))
        pairs = zip((if_cut, if_not), new, strict=True)
        return tuple(product.at[row, up].set(product[row, up] * value) for product, value in pairs), None

    one = jnp.ones((n, width + 1), chances.opened.dtype)
    columns = (jnp.swapaxes(jnp.asarray(x), 0, 1) for x in slots)
    (product, _), _ = jax.lax.scan(step, (one, one), (*columns, jnp.arange(width)))
    return product[:, width]
