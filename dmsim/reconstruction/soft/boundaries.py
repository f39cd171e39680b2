"""Probability of every boundary between atoms, and of the runs of atoms between them."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dmsim import relax
from dmsim.reconstruction import margins
from dmsim.reconstruction.settings import Settings
from dmsim.reconstruction.soft import decisions, trees
from dmsim.reconstruction.soft.layout import Layout, Static
from dmsim.reconstruction.soft.measure import Measured
from dmsim.reconstruction.soft.segments import product_before
from dmsim.reconstruction.soft.splitting import split
from dmsim.reconstruction.soft.temperature import Temperature

_NONE = 1e-12  # probability


class Cuts(NamedTuple):
    """Of each boundary: probability that it is cut.

    One merge may decide about several boundaries, those around pieces that are dropped: it joins over all of
    them or over none. So where one of them is cut, the others are as if there were no merging.
    """

    before_merging: Float[Array, "boundary"]
    final: Float[Array, "boundary"]  # after merging
    given: Float[Array, "boundary"]  # after merging, if none before it of the same merge is cut


def cuts(
    settings: Settings, t: Temperature, layout: Layout, static: Static, of: Measured, starts, ends
) -> tuple[Cuts, trees.Chances]:
    """Probability of each boundary; and what those of trees depend on each other by."""
    b, dt = layout.boundaries, static.dt
    gap_ns = b.gap_ns - dt * (starts[b.gap_start] + ends[b.gap_end])
    apart = relax.decide(margins.gap(settings.clustering, gap_ns), t.gap * b.gap_tau_ns)
    long = relax.decide(b.duration_ns - settings.clustering.max_duration_ns, t.duration_ns)
    stay = jnp.where(b.is_gap, (1 - apart) * (1 - long), 1.0)

    candidate, cut = layout.nodes
    # splits are looked for before samples are restored
    raw = (of.wave_pe - layout.held_wave_pe)[candidate]
    c = layout.candidates
    sample = jnp.arange(static.n_samples)
    # without the padding at soft edges: the hard window
    n = c.n_samples[candidate] - c.pad[candidate] - c.pad_after[candidate]
    moved = jnp.minimum(sample + c.pad[candidate][:, None], static.n_samples - 1)
    wave = jnp.where(sample < n[:, None], jnp.take_along_axis(raw, moved, axis=1), 0.0)
    chance = split(
        settings.splitting, t, wave, n, jnp.maximum(cut, 1),
        area_pe=jnp.sum(raw, axis=1), rise_ns=of.rise_ns[candidate], dt=dt,
    )  # fmt: skip
    whole = jnp.where(b.node >= 0, 1 - chance[b.node], 1.0)
    opened, closed = (jnp.where(b.certain, 1.0, 1 - x) for x in (stay * whole, stay))

    s1, s2, _ = of.chance
    one, other = b.before[:, 0], b.after[:, 0]
    left, right = b.before[:, 1], b.after[:, 1]
    # an S1 is never joined, and one of both sides must be an S2; a group of several is one already
    left_s2, right_s2 = (
        jnp.where(group != piece, 1.0, s2[piece]) for group, piece in ((left, one), (right, other))
    )
    neither = jnp.maximum(1 - s1[one] - left_s2, 0.0) * jnp.maximum(1 - s1[other] - right_s2, 0.0)
    willing = (1 - s1[one]) * (1 - s1[other]) - neither
    area = of.area_pe
    allowed = decisions.merge(
        settings.merging,
        t,
        gap_ns=b.merge_gap_ns,
        smaller_pe=jnp.minimum(area[left], area[right]),
        duration_ns=b.merge_duration_ns,
    )
    merged = jnp.where(b.mergeable, willing * allowed, 0.0)
    chances = trees.Chances(opened, closed, merged)
    before = trees.marginal(chances, b.mother, static.n_levels)
    return after_merging(before, merged, b.merge), chances


def after_merging(
    before: Float[Array, "boundary"], merged: Float[Array, "boundary"], merge: Int[Array, "boundary"]
) -> Cuts:
    """Cuts that are left by merges.

    Args:
        before: probability that each boundary is cut before merging.
        merged: probability that its merge joins; the same for all boundaries of one.
        merge: number of the merge; boundaries of one are neighbours.

    Gradient: exact.
    """
    begins = jnp.append(True, merge[1:] != merge[:-1])
    # none before this one is cut: they are joined, or each is not cut by itself
    stay = product_before(1 - before, begins)
    some = merged + (1 - merged) * stay
    joint = (1 - merged) * stay * before
    given = jnp.where(some > 0, joint / jnp.where(some > 0, some, 1.0), before)
    return Cuts(before, before * (1 - merged), given)


class Runs(NamedTuple):
    """Probability of each candidate."""

    probability: Float[Array, "peak"]
    enough: Float[Array, "peak"]  # that its sensors are enough, which is in `probability` but not in `weight`
    weight: Float[Array, "peak"]  # given that it begins there: its inside and its end
    unmerged: Float[Array, "peak"]  # that no boundary inside was cut and joined again, if it exists


def runs(
    settings: Settings,
    layout: Layout,
    of: Measured,
    cut: Cuts,
    chances: trees.Chances | None = None,
) -> Runs:
    """Candidates exist where both their ends are cut and nothing inside is.

    Args:
        settings: resolved.
        layout: of the candidates.
        of: what was measured of them.
        cut: of the boundaries.
        chances: of those in trees; None: nothing is split within a split.
    """
    c = layout.candidates
    certain = cut.final.shape[0] - 1  # the last boundary stands for an end of all data
    free, final, given = (chance.at[certain].set(1.0) for chance in cut)
    merge = layout.boundaries.merge

    def cut_at(boundary, left):
        """If the run begins at the boundary `left`, and none between is cut."""
        return jnp.where(merge[boundary] == merge[left], free[boundary], given[boundary])

    inside = c.inner != certain
    stay = jnp.where(inside, 1 - cut_at(c.inner, c.left[:, None]), 1.0)
    plain = jnp.where(inside, 1 - free[c.inner], 1.0)
    begin, end, between = final[c.left], cut_at(c.right, c.left), jnp.prod(stay, axis=1)
    unmerged = jnp.prod(_ratio(plain, stay), axis=1)
    if chances is not None:
        joint = trees.joint(chances, layout.slots)
        unmerged = unmerged * _ratio(trees.joint(chances, layout.slots, unmerged=True), joint)
        left, right = (layout.boundaries.in_tree[k] for k in (c.left, c.right))
        # the ends in trees are in `joint`: given that it begins there, without that
        between = between * jnp.where(left, _ratio(joint, begin), joint)
        end = jnp.where(right, 1.0, end)
    # groups of hits in too few sensors are dropped; a piece of a split is of a group that was not
    whole = c.left_soft & c.right_soft
    enough = jnp.where(whole, decisions.at_least(of.sees, settings.clustering.min_sensors), 1.0)
    weight = jnp.where(c.n_samples > 0, between * end, 0.0)
    return Runs(begin * weight * enough, enough, weight, unmerged)


def _ratio(part: Float[Array, "..."], whole: Float[Array, "..."]) -> Float[Array, "..."]:
    """Of probabilities; 0 where the whole has none to speak of: a slope of the ratio would overflow."""
    some = whole > _NONE
    return jnp.where(some, part / jnp.where(some, whole, 1.0), 0.0)
