"""Light pattern of two places at once: where both are, how the light is shared, and whether there are two.

Scoring as in `PositionSummary`, in the same simplified law: sensor i adds s_i log p_i, with p_i the weighted
shares of two places. It starts from the fit of one place and the second place that a score test over the grid
points to. A weak prior keeps fits of patterns from a single place finite.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim.reconstruction.light_table import top_shares
from inference.position.anchor import PositionSummary

_N_STEPS = 10
_LONGEST_MM = 60.0  # of a step
_LONGEST_LOGIT = 1.0
_PRIOR_MM = 100.0  # of each place about that of the single fit
_PRIOR_LOGIT = 1.0
_NEAR_MM = 60.0  # a start so much farther must promise a nat more: far and faint ones are mostly noise
_UNRESOLVED = 20.0  # a smaller gain does not tell two places from one
_UNRESOLVED_MM = 12.0  # offset of a brighter source from the single place then, about


class Pair(NamedTuple):
    """Two places that a pattern is from, the brighter first."""

    place_mm: Float[Array, "batch 2 2"]  # source, (x, y)
    free_mm: Float[
        Array, "batch 2 2"
    ]  # where a normal law of these widths has its mean: beyond the wall, for some
    covariance_mm2: Float[Array, "batch 2 2 2"]  # of each source
    logit: Float[Array, "batch"]  # of the brighter's share of the light, >= 0
    logit_width: Float[Array, "batch"]
    gain: Float[Array, "batch"]  # twice the log likelihood gained over one place


def fit_pair(
    summary: PositionSummary, count: Float[Array, "batch top"], single_mm: Float[Array, "batch 2"]
) -> Pair:
    """Fit two places to each pattern.

    Args:
        summary: of the detector.
        count: of `summary.counts`.
        single_mm: place of one source.

    Gradient: exact but for the order of the two places; of no use beyond training.
    """
    live, radius = summary.live, summary.geometry.radius_mm
    total = jnp.maximum(jnp.sum(count, axis=-1), 1e-3)
    n = count.shape[0]

    def shares(xy: Float[Array, "row 2"]) -> Float[Array, "row top"]:
        return top_shares(summary.light, summary.geometry, xy)

    def two(place: Float[Array, "batch 4"]) -> tuple[Array, Array]:
        """Shares [source, batch, top] and slopes [source, axis, batch, top]."""
        rows = jnp.concatenate([place[:, :2], place[:, 2:]])
        value, push = jax.linearize(shares, rows)
        axes = jnp.broadcast_to(jnp.eye(2, dtype=rows.dtype)[:, None], (2, *rows.shape))
        slope = jnp.stack([push(axes[0]), push(axes[1])])
        return value.reshape(2, n, -1), jnp.moveaxis(slope.reshape(2, 2, n, -1), 1, 0)

    def mixed(value: Array, logit: Array) -> Array:
        share = jax.nn.sigmoid(logit)[:, None]
        return jnp.maximum(share * value[0] + (1 - share) * value[1], 1e-9)

    def look(place: Array, logit: Array) -> tuple[Array, Array, Array]:
        value, slope = two(place)
        p = mixed(value, logit)
        share = jax.nn.sigmoid(logit)[:, None]
        parts = [share * slope[0, 0], share * slope[0, 1], (1 - share) * slope[1, 0],
                 (1 - share) * slope[1, 1], share * (1 - share) * (value[0] - value[1])]  # fmt: skip
        jacobian = jnp.stack(parts, axis=1)
        score = jnp.einsum("bt,bit->bi", live * count / p, jacobian)
        information = total[:, None, None] * jnp.einsum(
            "bit,bjt->bij", live / p[:, None] * jacobian, jacobian
        )
        score = score - jnp.concatenate(
            [(place - jnp.tile(single_mm, 2)) / _PRIOR_MM**2, logit[:, None] / _PRIOR_LOGIT**2], axis=1
        )
        weak = jnp.array([_PRIOR_MM**-2] * 4 + [_PRIOR_LOGIT**-2], score.dtype)
        return p, score, _inverse(information + jnp.diag(weak))

    def step(state: tuple[Array, Array], _: object) -> tuple[tuple[Array, Array], None]:
        place, logit = state
        _, score, covariance = look(place, logit)
        move = jnp.einsum("bij,bj->bi", covariance, score)
        longest = _longest(move[:, :4])
        longest = jnp.maximum(longest / _LONGEST_MM, jnp.abs(move[:, 4]) / _LONGEST_LOGIT)
        move = move / jnp.maximum(longest, 1.0)[:, None]
        return (_confined(place + move[:, :4], radius), logit + move[:, 4]), None

    start = _start(summary, count, total, single_mm, shares(single_mm))
    (place, logit), _ = jax.lax.scan(step, start, length=_N_STEPS)
    p, score, covariance = look(place, logit)
    free = place + _shortened(jnp.einsum("bij,bj->bi", covariance, score)[:, :4], _LONGEST_MM)
    one = jnp.maximum(shares(single_mm), 1e-9)
    gain = 2 * jnp.sum(live * count * jnp.log(p / one), axis=-1)
    places, free = place.reshape(n, 2, 2), free.reshape(n, 2, 2)
    blocks = jnp.stack([covariance[:, :2, :2], covariance[:, 2:4, 2:4]], axis=1)
    # widths of one wrong mode are too small where there may be another
    unresolved = _UNRESOLVED_MM**2 * jax.nn.sigmoid((_UNRESOLVED - gain) / 5)
    blocks = blocks + unresolved[:, None, None, None] * jnp.eye(2, dtype=blocks.dtype)
    other = (logit < 0)[:, None, None]
    return Pair(
        jnp.where(other, places[:, ::-1], places),
        jnp.where(other, free[:, ::-1], free),
        jnp.where(other[..., None], blocks[:, ::-1], blocks),
        jnp.abs(logit),
        jnp.sqrt(covariance[:, 4, 4]),
        gain,
    )


def free_place(
    summary: PositionSummary, count: Float[Array, "batch top"], near_mm: Float[Array, "batch 2"]
) -> tuple[Float[Array, "batch 2"], Float[Array, "batch 2 2"]]:
    """Mean and covariance of one place by a normal law, as if there were no wall.

    Args:
        summary: of the detector.
        count: of `summary.counts`.
        near_mm: a place inside of the wall, from which one step is taken.

    Gradient: as `fit_pair`.
    """

    def shares(xy: Float[Array, "batch 2"]) -> Float[Array, "batch top"]:
        return top_shares(summary.light, summary.geometry, xy)

    value, push = jax.linearize(shares, near_mm)
    axes = jnp.broadcast_to(jnp.eye(2, dtype=near_mm.dtype)[:, None], (2, *near_mm.shape))
    slope = jnp.stack([push(axes[0]), push(axes[1])], axis=1)
    value, total = jnp.maximum(value, 1e-9), jnp.maximum(jnp.sum(count, axis=-1), 1e-3)
    score = jnp.einsum("bt,bit->bi", summary.live * count / value, slope)
    information = total[:, None, None] * jnp.einsum(
        "bit,bjt->bij", summary.live / value[:, None] * slope, slope
    )
    weak = 4 / summary.geometry.radius_mm**2 * jnp.eye(2, dtype=near_mm.dtype)
    covariance = _inverse(information + weak)
    return near_mm + _shortened(jnp.einsum("bij,bj->bi", covariance, score), _LONGEST_MM), covariance


def _longest(move: Float[Array, "batch coordinate"]) -> Float[Array, "batch"]:
    """Length of the longer of the moves of one or two places."""
    return jnp.sqrt(jnp.max(jnp.sum(move.reshape(len(move), -1, 2) ** 2, axis=2), axis=1) + 1e-12)


def _shortened(move: Float[Array, "batch coordinate"], longest: float) -> Float[Array, "batch coordinate"]:
    """Moves of at most this length."""
    return move / jnp.maximum(_longest(move) / longest, 1.0)[:, None]


def _start(
    summary: PositionSummary, count: Array, total: Array, single_mm: Array, one: Array
) -> tuple[Array, Array]:
    """Two places with the single fit's as their centre: the second where some light from it helps most."""
    of_grid = jnp.exp(summary.grid_log_share) * summary.live[:, None]
    weight = summary.live / jnp.maximum(one, 1e-9)
    score = (count * weight) @ of_grid - total[:, None]
    variance = total[:, None] * jnp.maximum(weight @ of_grid**2 - 1, 1e-3)
    z = jnp.maximum(score, 0.0) / jnp.sqrt(variance)
    distance = jnp.sqrt(jnp.sum((summary.grid_mm - single_mm[:, None]) ** 2, axis=-1) + 1e-6)
    chance = jax.nn.softmax(0.5 * z**2 - distance / _NEAR_MM, axis=-1)
    second = chance @ summary.grid_mm
    light = jnp.clip(jnp.sum(chance * score / variance, axis=-1), 0.1, 0.5)
    first = single_mm - (light / (1 - light))[:, None] * (second - single_mm)
    place = _confined(jnp.concatenate([first, second], axis=1), summary.geometry.radius_mm)
    return place, -jnp.log(light / (1 - light))


def _confined(place: Float[Array, "batch 4"], radius: Array) -> Float[Array, "batch 4"]:
    """Both places inside of the radius."""
    both = place.reshape(-1, 2, 2)
    r = jnp.sqrt(jnp.sum(both**2, axis=-1, keepdims=True) + 1e-12)
    return (both * jnp.minimum(1.0, 0.9999 * radius / r)).reshape(-1, 4)


def _inverse(matrix: Float[Array, "batch size size"]) -> Float[Array, "batch size size"]:
    """Of positive definite matrices, by elimination written out: a library's call for each costs more."""
    size = matrix.shape[-1]
    scale = 1 / jnp.sqrt(jnp.diagonal(matrix, axis1=1, axis2=2))
    unit = matrix * scale[:, :, None] * scale[:, None, :] + 1e-6 * jnp.eye(size, dtype=matrix.dtype)
    rows = [jnp.concatenate([unit[:, i], jnp.broadcast_to(jnp.eye(size)[i], unit[:, i].shape)], 1)
            for i in range(size)]  # fmt: skip
    for i in range(size):
        rows[i] = rows[i] / jnp.maximum(rows[i][:, i : i + 1], 1e-6)
        rows = [row if j == i else row - row[:, i : i + 1] * rows[i] for j, row in enumerate(rows)]
    inverse = jnp.stack([row[:, size:] for row in rows], axis=1)
    return inverse * scale[:, :, None] * scale[:, None, :]
