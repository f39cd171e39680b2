"""Which possible peak is the main S1 and S2 of its event.

The largest wins. Peaks of one reading exclude those of another, so that "no larger one" is a sum over all
ways to cut the event into peaks: a recurrence along its boundaries, F_b = sum over runs (a, b) of
F_a w (1 - bad).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_BEST = 4  # alternatives for the main S2 that an S1 is paired with


class Slots(NamedTuple):
    """Candidates of one event, twice: by their last atom ascending, and by their first descending."""

    first: Int[Array, "slot"]  # atom
    last: Int[Array, "slot"]
    weight: Float[Array, "slot"]  # given that it begins there; 0: padding
    area_pe: Float[Array, "slot"]


def chance_of_largest(
    slots: Slots,
    backwards: Int[Array, "slot"],
    n_atoms: Int[Array, ""],
    kind: Float[Array, "slot"],
    size: int,
) -> Float[Array, "slot"]:
    """Probability that each candidate exists, is of a kind, and no larger one that exists is.

    Args:
        slots: by last atom.
        backwards: their order by first atom, descending.
        n_atoms: of the event.
        kind: probability that each candidate is of the kind, if it exists.
        size: room for the atoms' boundaries.

    Gradient: exact in the probabilities; the order of areas is held.
    """
    area = jax.lax.stop_gradient(slots.area_pe)
    # the earlier of equals counts as the larger, as in the hard reading
    larger = (area[None, :] > area[:, None]) | (
        (area[None, :] == area[:, None]) & (slots.first[None, :] < slots.first[:, None])
    )
    good = 1 - larger * kind[None, :]  # of candidate j when i is to be the largest
    n = area.shape[0]
    one = jnp.ones((n, 1), kind.dtype)

    def forward(state, j):
        new = state[:, slots.first[j]] * slots.weight[j] * good[:, j]
        return state.at[:, slots.last[j] + 1].add(new), None

    def backward(state, j):
        new = state[:, slots.last[j] + 1] * slots.weight[j] * good[:, j]
        return state.at[:, slots.first[j]].add(new), None

    empty = jnp.zeros((n, size + 1), kind.dtype)
    ahead, _ = jax.lax.scan(forward, empty.at[:, :1].set(one), jnp.arange(n))
    behind, _ = jax.lax.scan(backward, empty.at[:, n_atoms].set(1.0), backwards)
    everything = jnp.maximum(_total(slots, n_atoms, size), 1e-30)
    row = jnp.arange(n)
    return ahead[row, slots.first] * slots.weight * kind * behind[row, slots.last + 1] / everything


def _total(slots: Slots, n_atoms, size: int) -> Float[Array, ""]:
    """What all runs that are kept add up to: 1, less what was left out."""

    def forward(state, j):
        return state.at[slots.last[j] + 1].add(state[slots.first[j]] * slots.weight[j]), None

    start = jnp.zeros(size + 1, slots.weight.dtype).at[0].set(1.0)
    state, _ = jax.lax.scan(forward, start, jnp.arange(slots.first.shape[0]))
    return state[n_atoms]


class Pairs(NamedTuple):
    """Of one event's candidates."""

    main_s2: Float[Array, "slot"]
    main_s1: Float[Array, "slot"]
    joint: Float[Array, "best+1 slot"]  # main S1 given that main S2, or none (last row), times its chance
    best: Int[Array, "best"]  # slots of the likeliest main S2s


def pair(slots: Slots, backwards, n_atoms, s1, s2, is_pair, size: int) -> Pairs:
    """Main signals of one event.

    Args:
        slots: candidates.
        backwards: their order by first atom, descending.
        n_atoms: of the event.
        s1: probability of the class, if it exists.
        s2: the same.
        is_pair: [S2 slot, S1 slot], probability that they can be a pair.
        size: room for the atoms' boundaries.

    The main S1 is chosen given each of the likeliest main S2s; the S1's reading and the S2's are taken as
    independent of each other, which they are unless one boundary is of both.
    """
    main = chance_of_largest(slots, backwards, n_atoms, s2, size)
    chance, best = jax.lax.top_k(main, min(_BEST, main.shape[0]))
    none = jnp.maximum(1 - jnp.sum(main), 0.0)

    def given(kind):
        return chance_of_largest(slots, backwards, n_atoms, kind, size)

    kinds = jnp.concatenate([s1 * is_pair[best], s1[None]])
    joint = jax.vmap(given)(kinds) * jnp.concatenate([chance, none[None]])[:, None]
    return Pairs(main, jnp.sum(joint, axis=0), joint, best)
