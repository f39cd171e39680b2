"""What a network sees of an event that is a light pattern: anchors of each label, and features.

A place's anchor is a normal law cut at the wall: quantiles of what is left of it inside are turned into the
prior's unbounded vector, so that mean and width are right where the wall cuts most of the law away.

Where a second place gains little likelihood, which of two fitted sources a deposit lies nearer to is noise,
and cuts the law of its place in two at a line that no flow follows. A double scatter has one label and one
anchor there, about the single place.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float

from dmsim import charge
from dmsim.records import Deposits
from inference import position
from inference.events import SingleScatters, cut_quantiles, deposits_of
from inference.position.pair import Pair, fit_pair, free_place

# of q(kind | x); of a double scatter that is resolved, which source is the larger deposit's
LABELS = ("er", "nr", "er_double_brighter", "nr_double_brighter", "er_double_fainter", "nr_double_fainter")
_N_PARAMETERS = 4
_N_TURN, _N_PLACE, _N_ENERGY = 2, 10, 14  # entries: direction; features of one place; of areas and depth
_ANCHORS_END = 2 * _N_PARAMETERS * len(LABELS)
# columns of the summary that are read by name
RADIUS_COLUMN = _ANCHORS_END + _N_TURN  # that one source is found at, over the wall's
GAIN_COLUMN = RADIUS_COLUMN + _N_PLACE + _N_ENERGY  # log1p of the gain of a second place, over 2
RESOLVED = 20.0  # gain of a second place, above which single scatters have next to none
_OFF_MM = 10.0  # of the larger deposit from the single place where two are not resolved, about
_WIDEST = 0.8  # of a place's anchor, in the unbounded vector, where the prior has 1


def gain_of(x: Any) -> Any:
    """Twice the log likelihood that a second place gains, of summaries [event, x]."""
    return jnp.expm1(2 * x[:, GAIN_COLUMN])


def with_unresolved(x: Float[Array, "event x"], radius: Any) -> Float[Array, "event x"]:
    """Brighter sources' anchors about the single place where two are not resolved, and whether they are.

    Args:
        x: summaries with each source's own anchors.
        radius: of the wall, in mm.

    Gradient: exact; steep at the gain that resolves.
    """
    resolved = jax.nn.sigmoid(gain_of(x) - RESOLVED)[:, None]
    anchors = x[:, :_ANCHORS_END].reshape(-1, len(LABELS), 2, _N_PARAMETERS)
    mean, log_width = anchors[:, 0, 0, 1:3], anchors[:, 0, 1, 1:3]
    u = jnp.sqrt(jnp.sum(mean**2, axis=-1) + 1e-6)
    ratio = jnp.sqrt(-jnp.expm1(-(u**2) / 2))
    slopes = jnp.stack([2 * ratio / (jnp.maximum(1 - ratio**2, 1e-6) * u), u / ratio], axis=-1) / radius
    wider = 0.5 * jnp.log(jnp.exp(2 * log_width) + (_OFF_MM * slopes) ** 2)
    wider = jnp.minimum(wider, math.log(_WIDEST))
    for label in (2, 3):  # the brighter ones
        own = anchors[:, label, :, 1:3]
        merged = jnp.stack([mean, wider], axis=1)
        anchors = anchors.at[:, label, :, 1:3].set(merged + resolved[:, :, None] * (own - merged))
    return jnp.concatenate([anchors.reshape(len(x), -1), x[:, _ANCHORS_END:], resolved], axis=1)


def summary(
    areas: SingleScatters, one: position.PositionSummary, depth_mm: float, data: Any, pair: Pair | None = None
) -> tuple[Float[Array, "event x"], Float[Array, "event 2 2"]]:
    """Anchors and features of each event, and the two sources' places.

    Args:
        areas: events without patterns: energies and detector.
        one: of the detector.
        depth_mm: largest distance of two deposits in depth.
        data: `Patterns`.
        pair: two places of each pattern; fitted if not given.

    Gradient: exact but for the order of the two sources and for the grid's maximum.
    """
    detector, n = areas.detector, data.drift_time_ns.shape[0]
    s1, s2 = data.s1_pe, data.s2_pe
    seen = one(data.s2_top_pe)
    turn, of_place = seen[:, 4:6], seen[:, 6:]
    place = areas.prior.blocks[1].to_physical(seen[:, :2])
    count = one.counts(data.s2_top_pe)
    free, covariance = free_place(one, count, place)
    pair = fit_pair(one, count, place) if pair is None else pair

    at = jnp.concatenate([jnp.ones((n, 1)), place, _depth(areas, data.drift_time_ns)[:, None]], axis=1)
    deposits = deposits_of(jnp.concatenate([at, jnp.zeros((n, 1))], axis=1), areas.kinds)
    energy, log_w_energy, log_evidence = areas.energies(s1, s2, deposits)
    sigma_z = _depth_spread(areas, deposits, s2)
    share = jax.nn.sigmoid(pair.logit)
    off = depth_mm / detector.geometry.drift_length_mm / math.sqrt(3)
    depths = [_depth_anchor(areas, data.drift_time_ns, jnp.sqrt(sigma_z**2 + (part * off) ** 2))
              for part in (jnp.zeros(n), 1 - share, share)]  # fmt: skip
    radius = detector.geometry.radius_mm
    places = [_place_anchor(free, covariance, turn, radius)]
    places += [_place_anchor(pair.free_mm[:, i], pair.covariance_mm2[:, i], turn, radius) for i in (0, 1)]
    anchors = []
    for (u, log_w, _), (u_z, log_w_z, _) in zip(places, depths, strict=True):
        for kind in range(2):
            mean = [energy[:, kind], u[:, 0], u[:, 1], u_z]
            width = [log_w_energy[:, kind], log_w[:, 0], log_w[:, 1], log_w_z]
            anchors += [jnp.stack(mean, axis=-1), jnp.stack(width, axis=-1)]
    ratio = log_evidence[:, 1] - log_evidence[:, 0]
    top = data.s1_top_pe / s1
    _, log_w_z, ends = depths[0]
    features = [
        *energy.T, *(log_w_energy.T + 2),
        jnp.log(s1) / 2 - 2, jnp.log(s2) / 2 - 4.5, jnp.log(s2 / s1) - 4,
        jnp.arcsinh(ratio) / 2, jnp.tanh(ratio / 4), top - 0.2, at[:, 3] / 1000 + 0.7, log_w_z + 7, *ends,
    ]  # fmt: skip
    assert (len(features), of_place.shape[1]) == (_N_ENERGY, _N_PLACE)
    features += _pair_features(pair, place, turn, radius)
    features += [wall for _, _, wall in places]
    rest = [turn, of_place, jnp.stack(features, axis=-1)]
    return with_unresolved(jnp.concatenate([*anchors, *rest], axis=-1), radius), pair.place_mm


def _depth(areas: SingleScatters, drift_time_ns: Array) -> Array:
    z = areas.detector.electrons.z_mm(drift_time_ns)
    return jnp.clip(z, -areas.detector.geometry.drift_length_mm, -0.3)


def _depth_spread(areas: SingleScatters, deposits: Deposits, s2: Array) -> Array:
    """Standard deviation of the depth over the length, by diffusion."""
    detector = areas.detector
    way = charge.drift(detector, deposits)
    gain = detector.electron_gain_phd(way.x_mm, way.y_mm) * (1 + detector.electronics.double_pe_probability)
    n_electrons = jnp.maximum(s2 / gain, 1.0)
    mm = way.time_spread_ns / jnp.sqrt(n_electrons) * detector.electrons.drift_speed_mm_per_us * 1e-3
    return mm / detector.geometry.drift_length_mm


def _depth_anchor(
    areas: SingleScatters, drift_time_ns: Array, sigma: Array
) -> tuple[Array, Array, list[Array]]:
    """Mean, log width in the prior's unbounded vector, and how near the ends of the volume are."""
    share = areas.detector.electrons.z_mm(drift_time_ns) / areas.detector.geometry.drift_length_mm + 1
    bottom, top = -share / sigma, (1 - share) / sigma
    low, middle, high = (
        ndtri(jnp.clip(share + sigma * q, 1e-6, 1 - 1e-6)) for q in cut_quantiles(bottom, top)
    )
    ends = [jnp.clip(top, -4, 6) / 3 - 2, jnp.clip(-bottom, -4, 6) / 3 - 2]
    return middle, jnp.log(jnp.maximum((high - low) / 2, 2e-6)), ends


def _place_anchor(free: Array, covariance: Array, turn: Array, radius: Array) -> tuple[Array, Array, Array]:
    """Mean and log widths in the unbounded vector, along and across the turn, and how near the wall is."""
    r = jnp.sqrt(jnp.sum(free**2, axis=-1) + 1e-6)
    outward = free / r[:, None]
    with_r = jnp.einsum("bij,bj->bi", covariance, outward)
    width = jnp.sqrt(jnp.sum(with_r * outward, axis=-1))
    wall = (radius - r) / width
    low, middle, high = (r + width * q for q in cut_quantiles(jnp.full_like(wall, -40.0), wall))
    # what lies along the wall goes with the distance from it
    moved = free + with_r * ((middle - r) / width**2)[:, None]
    outward = moved / jnp.sqrt(jnp.sum(moved**2, axis=-1, keepdims=True) + 1e-6)
    u = _u_of_radius(middle / radius)
    slope_r = (_u_of_radius(high / radius) - _u_of_radius(low / radius)) / (2 * width)
    slope_t = jnp.where(middle > 0.03 * radius, u / jnp.maximum(middle, 1e-3), math.sqrt(2) / radius)
    across = jnp.stack([-outward[:, 1], outward[:, 0]], axis=-1)
    root = slope_r[:, None, None] * outward[:, :, None] * outward[:, None, :]
    root = root + slope_t[:, None, None] * across[:, :, None] * across[:, None, :]
    of_u = jnp.einsum("bij,bjk,blk->bil", root, covariance, root)
    axes = jnp.stack([turn, jnp.stack([-turn[:, 1], turn[:, 0]], axis=-1)], axis=1)
    variance = jnp.einsum("bai,bij,baj->ba", axes, of_u, axes)
    log_width = 0.5 * jnp.log(jnp.clip(variance, 1e-10, _WIDEST**2))
    return outward * u[:, None], log_width, jnp.clip(wall, -4, 6) / 3


def _u_of_radius(share: Array) -> Array:
    """Signed radius of the disc's unbounded vector, from r over the radius."""
    rest = jnp.maximum(1 - jnp.abs(share), 1e-6)
    return jnp.sign(share) * jnp.sqrt(jnp.maximum(-2 * jnp.log(rest * (2 - rest)), 1e-12))


def _pair_features(pair: Pair, place: Array, turn: Array, radius: Array) -> list[Array]:
    """Whether there are two sources, and where they are, seen from the single place; the gain comes first."""
    across = jnp.stack([-turn[:, 1], turn[:, 0]], axis=-1)
    apart = pair.place_mm[:, 0] - pair.place_mm[:, 1]
    distance = jnp.sqrt(jnp.sum(apart**2, axis=-1) + 1e-6)
    features = [
        jnp.log1p(jnp.maximum(pair.gain, 0.0)) / 2,
        jnp.tanh(pair.gain / 20), jnp.log1p(distance / 10) / 2,
        pair.logit / 2, jnp.log(pair.logit_width),
        jnp.sum(apart * turn, axis=-1) / distance, jnp.sum(apart * across, axis=-1) / distance,
    ]  # fmt: skip
    for i in (0, 1):
        off = pair.place_mm[:, i] - place
        root = jnp.sqrt(jnp.einsum("bii->b", pair.covariance_mm2[:, i]) / 2)
        features += [
            jnp.arcsinh(jnp.sum(off * turn, axis=-1) / 20) / 2,
            jnp.arcsinh(jnp.sum(off * across, axis=-1) / 20) / 2,
            jnp.log(root / 10) / 2,
            jnp.sqrt(jnp.sum(pair.place_mm[:, i] ** 2, axis=-1)) / radius,
        ]
    return features
