"""The hard chain's decisions as probabilities: the margins of `dmsim.reconstruction.margins`, jittered.

Decisions of one kind are jittered independently of each other. Counts of sensors are not jittered: they are
counts of independent hits, each there with a probability, and the chance to reach a number is exact.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dmsim.reconstruction import event_margins, margins
from dmsim.reconstruction.settings import (
    Classification,
    Coincidence,
    EventBuilding,
    Hits,
    Merging,
)
from dmsim.reconstruction.soft.segments import product_before
from dmsim.reconstruction.soft.temperature import Temperature
from dmsim.relax import decide, stop


def present(
    settings: Hits, t: Temperature, depth_adc: Float[Array, "hit"], rms_adc: Float[Array, "hit"]
) -> Float[Array, "hit"]:
    """Probability that a sample of this depth is over threshold. Gradient: jitter."""
    return decide(margins.hit(settings, depth_adc, rms_adc, xp=jnp), t.hit_adc, at_zero=True)


def any_of(chance: Float[Array, "hit"], cell: Int[Array, "hit"], n_cells: int) -> Float[Array, "cell"]:
    """1 - prod(1 - chance) over the hits of each cell: a sensor needs one of its hits. Gradient: exact."""
    certain = chance >= 1
    rest = jnp.log1p(-jnp.where(certain, 0.0, chance))
    logs = jax.ops.segment_sum(rest, cell, num_segments=n_cells)
    sure = jax.ops.segment_sum(certain.astype(chance.dtype), cell, num_segments=n_cells) > 0
    return jnp.where(sure, 1.0, -jnp.expm1(logs))


def any_within(
    chance: Float[Array, "hit"], within: Float[Array, "hit"], cell: Int[Array, "hit"], n_cells: int
) -> Float[Array, "cell"]:
    """Probability that a cell has a hit that is there and lies in a window whose edge is jittered.

    The jitter of the edge is one for all hits of a cell: where it lets one in, it lets in those further
    inside. So the hit furthest inside of those that are there decides.

    Args:
        chance: that each hit is there, independently of the others.
        within: that the window reaches it.
        cell: of each hit.
        n_cells: their number.

    Gradient: exact; the order of the hits is held.
    """
    # of two hits as far inside, one at each edge, either may be the first: the slope is the mean of both
    number = jnp.arange(cell.shape[0])
    orders = [jnp.lexsort((tie, -stop(within), cell)) for tie in (number, -number)]
    early, late = (_any_in_order(chance[order], within[order], cell[order], n_cells) for order in orders)
    return 0.5 * (early + late)


def _any_in_order(chance, within, cell, n_cells: int):
    """The same for hits in order, of each cell the one furthest inside first."""
    begins = jnp.append(True, cell[1:] != cell[:-1])
    first = chance * product_before(1 - chance, begins)  # that none further inside is there
    return jax.ops.segment_sum(within * first, cell, num_segments=n_cells)


def at_least(chance: Float[Array, "peak sensor"], n: int) -> Float[Array, "peak"]:
    """Probability that n or more of the sensors see, independently of each other. Gradient: exact."""
    if n <= 0:
        return jnp.ones(chance.shape[0], chance.dtype)
    start = jnp.zeros((chance.shape[0], n), chance.dtype).at[:, 0].set(1.0)  # probability of 0 .. n - 1

    def step(below, p):
        moved = jnp.concatenate([jnp.zeros_like(below[:, :1]), below[:, :-1]], axis=1)
        return below * (1 - p[:, None]) + moved * p[:, None], None

    below, _ = jax.lax.scan(step, start, chance.T)
    return 1 - jnp.sum(below, axis=1)


class ClassChances(NamedTuple):
    """Probabilities that sum to 1."""

    s1: Float[Array, "peak"]
    s2: Float[Array, "peak"]
    unknown: Float[Array, "peak"]


def classes(
    settings: Classification,
    t: Temperature,
    *,
    area_pe: Float[Array, "peak"],
    area_fraction_top: Float[Array, "peak"],
    rise_time_ns: Float[Array, "peak"],
    sees: Float[Array, "peak sensor"],
    sees_at_once: Float[Array, "peak sensor"],
) -> ClassChances:
    """Probability of each class.

    Args:
        settings: resolved.
        t: temperatures.
        area_pe: of each peak.
        area_fraction_top: of each peak.
        rise_time_ns: from 10 to 50 % of the area.
        sees: probability that each sensor has a hit in the peak.
        sees_at_once: that it has one near the maximum.

    Gradient: jitter.
    """
    # without a rise time or an area fraction it is neither; a NaN would reach the gradients of all
    defined = ~(jnp.isnan(jnp.asarray(area_fraction_top)) | jnp.isnan(jnp.asarray(rise_time_ns)))
    area_fraction_top = jnp.where(defined, area_fraction_top, 0.5)
    rise_time_ns = jnp.where(defined, rise_time_ns, 1.0)
    m = margins.classes(
        settings,
        area_pe=area_pe,
        area_fraction_top=area_fraction_top,
        rise_time_ns=rise_time_ns,
        n_sensors=jnp.sum(sees, axis=1),
        tight_coincidence=jnp.sum(sees_at_once, axis=1),
        xp=jnp,
    )
    hard = margins.passed(m)
    scales = {
        "small": t.area_pe, "s1_rise_small": t.rise_ns, "s1_rise_large": t.rise_ns, "s2_rise": t.rise_ns,
        "s2_area": t.area_pe, "s2_top": t.area_fraction_top, "s2_large": t.area_pe,
    }  # fmt: skip
    chance = {
        name: jnp.where(jnp.asarray(scale) > 0, decide(getattr(m, name), scale), getattr(hard, name))
        for name, scale in scales.items()
    }
    assert settings.s1_min_coincidence is not None  # resolved
    chance["s1_coincidence"] = at_least(sees_at_once, settings.s1_min_coincidence)
    chance["s2_coincidence"] = at_least(sees_at_once, settings.s2_min_coincidence)
    chance["s2_sensors"] = at_least(sees, settings.s2_min_sensors)
    s1, s2 = (defined * p for p in margins.s1_and_s2(margins.ClassMargins(**chance), xp=jnp))
    return ClassChances(s1, s2, 1 - s1 - s2)


def near_maximum(settings: Coincidence, t: Temperature, late_ns: Float[Array, "hit"]) -> Float[Array, "hit"]:
    """Probability that a hit counts for the tight coincidence. Gradient: jitter; none in its time."""
    return decide(margins.coincidence(settings, late_ns, xp=jnp), t.coincidence_ns, at_zero=True)


def merge(
    settings: Merging,
    t: Temperature,
    *,
    gap_ns: Float[Array, "gap"],
    smaller_pe: Float[Array, "gap"],
    duration_ns: Float[Array, "gap"],
) -> Float[Array, "gap"]:
    """Probability that the limits let two pieces of an S2 be joined. Gradient: jitter."""
    m = margins.merge(settings, gap_ns, smaller_pe, duration_ns, xp=jnp)
    # a maximum of 0 switches merging off in the hard reading
    on = jnp.asarray(settings.max_duration_ns) > 0
    return on * (
        decide(m.gap, t.merge_gap_ns, at_zero=True)
        * decide(m.area, t.merge_log10_area, at_zero=True)
        * decide(m.duration, t.duration_ns, at_zero=True)
    )


def paired(
    settings: EventBuilding, t: Temperature, drift_ns: Float[Array, "..."], cathode_drift_ns: Float[Array, ""]
) -> Float[Array, "..."]:
    """Probability that an S1 and an S2 with these centres can be a pair. Gradient: jitter."""
    longest = event_margins.longest_drift_ns(settings, cathode_drift_ns)
    return decide(event_margins.paired(drift_ns, longest), t.drift_ns)
