"""Goodness of a split and the probability that a waveform is split, at a boundary that is held."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dmsim.reconstruction import margins
from dmsim.reconstruction.settings import Splitting
from dmsim.reconstruction.soft.temperature import Temperature
from dmsim.relax import decide, stop


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
