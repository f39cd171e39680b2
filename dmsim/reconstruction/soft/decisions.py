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
    Splitting,
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


def _sums(x: Float[Array, "piece sample"]) -> Float[Array, "piece boundary"]:
    return jnp.pad(jnp.cumsum(x, axis=1), ((0, 0), (1, 0)))


def _at(
    prefix: Float[Array, "piece boundary"], boundary: Float[Array, "piece *k"]
) -> Float[Array, "piece *k"]:
    """Prefix sums at boundaries that may lie inside a sample."""
    low = jnp.clip(jnp.floor(stop(boundary)).astype(jnp.int32), 0, prefix.shape[1] - 2)
    at, after, before = (
        jnp.take_along_axis(prefix, k, axis=1) for k in (low, low + 1, jnp.maximum(low - 1, 0))
    )
    inside = boundary - low
    # between two samples, where the sum has a kink, the slope is the mean of both
    slope = jnp.where(stop(inside) == 0, (after - before) / 2, after - at)
    return at + inside * slope


def _wing(settings: Splitting, t: Temperature, dt: int) -> Float[Array, ""]:
    """Half width of the moving sum in samples: whole at temperature 0, else with its fraction."""
    exact = jnp.asarray(settings.filter_wing_ns) / dt
    warm = (jnp.asarray(t.goodness) > 0) | (jnp.asarray(t.minimum_pe) > 0)
    return jnp.maximum(jnp.where(warm, exact, jnp.round(stop(exact))), 0.0)


def goodness_of_split(
    wave: Float[Array, "piece sample"],
    n: Int[Array, "piece"],
    cut: Int[Array, "piece"],
    wing: Float[Array, ""],
) -> Float[Array, "piece"]:
    """Goodness of natural breaks at one boundary, as the hard reading has it at its best one.

    Args:
        wave: area in each sample, zero from sample n on.
        n: samples.
        cut: boundary, 1 to n - 1.
        wing: samples on either side in the moving average.

    Gradient: exact; the boundary is held.
    """
    light = jnp.maximum(wave, 0.0)
    sample = jnp.arange(wave.shape[1], dtype=wave.dtype)
    left = sample < cut[:, None]

    def moments(weight):
        total = jnp.sum(weight, axis=1)
        return total, jnp.sum(weight * sample, axis=1) / jnp.where(total > 0, total, 1.0)

    total, mean = moments(light)
    weight_left, mean_left = moments(jnp.where(left, light, 0.0))
    weight_right, mean_right = moments(jnp.where(left, 0.0, light))
    deviation = jnp.sum(light * (sample - mean[:, None]) ** 2, axis=1)
    some = (deviation > 0) & (weight_left > 0) & (weight_right > 0)
    between = weight_left * weight_right / jnp.where(total > 0, total, 1.0) * (mean_right - mean_left) ** 2
    apart = jnp.where(some, between / jnp.where(some, deviation, 1.0), 0.0)
    prefix = _sums(wave)
    boundary = jnp.arange(wave.shape[1] + 1, dtype=wave.dtype)
    end = n[:, None].astype(wave.dtype)

    def mean_around(k):
        low, high = jnp.maximum(k - wing, 0.0), jnp.minimum(k + wing, end)
        return (_at(prefix, high) - _at(prefix, low)) / jnp.maximum(high - low, 1e-6)

    inside = boundary <= end
    around = mean_around(jnp.where(inside, boundary, end))
    highest = jnp.max(jnp.where(inside, around, -jnp.inf), axis=1)
    here = jnp.maximum(mean_around(cut[:, None].astype(wave.dtype))[:, 0], 0.0)
    filtered = (highest > 0) & (wing > 0)
    return apart * jnp.where(filtered, 1 - here / jnp.where(filtered, highest, 1.0), 1.0)


def _minimum_and_side(wave, n, cut, wing):
    """Moving sum at a boundary, and the lower of the highest before and after it."""
    wing = jnp.maximum(wing, 1.0)
    prefix = _sums(wave)
    boundary = jnp.arange(wave.shape[1] + 1, dtype=wave.dtype)
    end = n[:, None].astype(wave.dtype)

    def around(k):
        return _at(prefix, jnp.minimum(k + wing, end)) - _at(prefix, jnp.maximum(k - wing, 0.0))

    inside = boundary <= end
    sums = around(jnp.where(inside, boundary, end))
    before = jnp.max(jnp.where(boundary <= cut[:, None], sums, -jnp.inf), axis=1)
    after = jnp.max(jnp.where(inside & (boundary >= cut[:, None]), sums, -jnp.inf), axis=1)
    return around(cut[:, None].astype(wave.dtype))[:, 0], jnp.minimum(before, after)


def split(
    settings: Splitting,
    t: Temperature,
    wave: Float[Array, "piece sample"],
    n: Int[Array, "piece"],
    cut: Int[Array, "piece"],
    *,
    area_pe: Float[Array, "piece"],
    rise_ns: Float[Array, "piece"],
    dt: int,
) -> Float[Array, "piece"]:
    """Probability that each waveform is split at the boundary.

    Args:
        settings: of the splitting.
        t: temperatures.
        wave: PE in each sample, zero from sample n on.
        n: samples.
        cut: boundary that the hard reading finds best.
        area_pe: of the waveform.
        rise_ns: of the waveform.
        dt: ns a sample.

    Gradient: jitter; the place of the boundary is held.
    """
    if settings.search == "none":
        return jnp.zeros_like(area_pe)
    wing = _wing(settings, t, dt)
    if settings.search == "natural_breaks":
        goodness = goodness_of_split(wave, n, cut, wing)
        chance = decide(margins.split(settings, goodness, area_pe, rise_ns, xp=jnp), t.goodness)
    else:
        minimum, side = _minimum_and_side(wave, n, cut, wing)
        chance = decide(margins.local_minimum(settings, minimum, side, xp=jnp), t.minimum_pe)
    return chance * decide(margins.split_area(settings, area_pe), t.split_area_pe, at_zero=True)


def split_level(
    settings: Splitting,
    t: Temperature,
    wave: Float[Array, "sample"],
    cut: int,
    *,
    rise_ns: Float[Array, ""],
    dt: int,
) -> tuple[Float[Array, ""], Float[Array, "2"]]:
    """One level of splitting of one waveform: the probability to split, and the areas of both pieces."""
    n = wave.shape[0]
    chance = split(
        settings, t, wave[None], jnp.array([n]), jnp.array([cut]),
        area_pe=jnp.sum(wave)[None], rise_ns=jnp.reshape(rise_ns, (1,)), dt=dt,
    )  # fmt: skip
    return chance[0], jnp.stack([jnp.sum(wave[:cut]), jnp.sum(wave[cut:])])


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
