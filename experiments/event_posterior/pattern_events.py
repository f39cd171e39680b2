"""Events seen as light patterns, unresolved double scatters among them: simulator, and what a network sees.

A double scatter is two deposits of one interaction whose S2s lie too near in depth to be told apart in time.
Its energy is the sum, its place that of the larger deposit. The larger deposit need not make the brighter of
the two light sources that a fit finds: which of them it is, is a label of its own.
"""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from events import Events, cut_quantiles, deposits_of
from jax.scipy.special import ndtri
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dmsim import charge, relax, rng
from dmsim import quanta as quanta_stage
from dmsim.light.photoelectrons import area
from dmsim.pipeline.keys import CHARGE, QUANTA, deposit_keys
from dmsim.pipeline.levels import draw_signals
from dmsim.reconstruction.light_table import top_shares
from dmsim.records import Deposits, Quanta
from inference import position
from inference.position.pair import Pair, fit_pair
from inference.position.study import sensor_areas
from inference.priors import Category, Prior

# of q(kind | x); of a double scatter, which source is the larger deposit's
LABELS = ("er", "nr", "er_double_brighter", "nr_double_brighter", "er_double_fainter", "nr_double_fainter")
_N_DIRECTIONS = 8  # drawn for a partner, until one is inside of the volume


class Patterns(NamedTuple):
    """What is seen of each event; areas in PE."""

    s2_top_pe: Float[Array, "event top"]  # of each sensor
    s2_bottom_pe: Float[Array, "event"]
    s1_top_pe: Float[Array, "event"]
    s1_bottom_pe: Float[Array, "event"]
    drift_time_ns: Float[Array, "event"]

    @property
    def s1_pe(self) -> Float[Array, "event"]:
        """Of both arrays."""
        return self.s1_top_pe + self.s1_bottom_pe

    @property
    def s2_pe(self) -> Float[Array, "event"]:
        """Of both arrays."""
        return jnp.sum(self.s2_top_pe, axis=-1) + self.s2_bottom_pe


class Partner(NamedTuple):
    """The smaller deposit of a double scatter: drawn for every event, used for half of them."""

    share: Float[Array, "event"]  # of the energy, that the larger deposit has
    x_mm: Float[Array, "event"]
    y_mm: Float[Array, "event"]
    z_mm: Float[Array, "event"]


class PatternEvents(eqx.Module):
    """Prior, simulator and summary.

    Args:
        areas: events without patterns: energies, detector, and what is an event.
        distance_mm: mean distance across of the partner, exponential.
        farthest_mm: largest.
        depth_mm: largest distance in depth, uniform.
        share: least and largest share of the larger deposit in the energy.
    """

    areas: Events
    prior: Prior
    one: position.PositionSummary
    distance_mm: float = eqx.field(static=True)
    farthest_mm: float = eqx.field(static=True)
    depth_mm: float = eqx.field(static=True)
    share: tuple[float, float] = eqx.field(static=True)

    def __init__(
        self,
        areas: Events,
        *,
        distance_mm: float,
        farthest_mm: float,
        depth_mm: float,
        share: tuple[float, float],
    ):
        light = areas.detector.light
        if light.s1_pattern_map is not None:
            raise ValueError(f"{areas.detector.name} has a map of S1 patterns: this study takes the model")
        self.areas, self.one = areas, position.position_summary(areas.detector)
        self.prior = Prior(*areas.prior.blocks[:3], Category("scatter", LABELS))
        self.distance_mm, self.farthest_mm, self.depth_mm = distance_mm, farthest_mm, depth_mm
        self.share = (share[0], share[1])

    @property
    def detector(self):
        """That sees the events."""
        return self.areas.detector

    @property
    def n_kinds(self) -> int:
        """Labels of the category."""
        return len(LABELS)

    def partners(self, key: PRNGKeyArray, theta: Float[Array, "event parameter"]) -> Partner:
        """Places inside of the volume: the first of a few directions that leads there, or inwards."""
        n, geometry = theta.shape[0], self.detector.geometry
        keys = jax.random.split(key, 4)
        distance = jnp.minimum(self.distance_mm * jax.random.exponential(keys[0], (n,)), self.farthest_mm)
        angle = 2 * math.pi * jax.random.uniform(keys[1], (n, _N_DIRECTIONS))
        at = theta[:, None, 1:3] + distance[:, None, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
        inside = jnp.sum(at**2, axis=-1) < geometry.radius_mm**2
        chosen = jnp.take_along_axis(at, jnp.argmax(inside, axis=1)[:, None, None], axis=1)[:, 0]
        r = jnp.maximum(jnp.linalg.norm(theta[:, 1:3], axis=1, keepdims=True), 1e-3)
        inwards = theta[:, 1:3] * (1 - distance[:, None] / r)
        xy = jnp.where(inside.any(axis=1)[:, None], chosen, inwards)
        z = -jnp.abs(theta[:, 3] + self.depth_mm * jax.random.uniform(keys[2], (n,), minval=-1.0))
        z = -geometry.drift_length_mm + jnp.abs(z + geometry.drift_length_mm)
        low, high = self.share
        share = jax.random.uniform(keys[3], (n,), minval=low, maxval=high)
        return Partner(share, xy[:, 0], xy[:, 1], z)

    def observe(
        self,
        key: PRNGKeyArray,
        theta: Float[Array, "event 5"],
        partner: Partner,
        double: Bool[Array, "event"],
    ) -> Patterns:
        """Draw what is seen; the kind of theta is 0 for er and 1 for nr.

        Photons share out over the sensors as the light of a point: the clouds' own spread, 5 mm at most
        against the 70 mm to the sensors, is left out of the patterns.
        """
        detector, n = self.detector, theta.shape[0]
        light = detector.light
        share = jnp.where(double, partner.share, 1.0)
        larger = deposits_of(theta, self.areas.kinds)

        def both(first, second):
            return jnp.stack([first, second], axis=1).reshape(-1)

        deposits = Deposits(
            event=jnp.repeat(larger.event, 2),
            interaction=jnp.repeat(larger.interaction, 2),
            # a single scatter's partner has quanta that do not count
            energy_kev=both(theta[:, 0] * share, theta[:, 0] * jnp.where(double, 1 - share, 1.0)),
            x_mm=both(larger.x_mm, partner.x_mm),
            y_mm=both(larger.y_mm, partner.y_mm),
            z_mm=both(larger.z_mm, partner.z_mm),
            time_ns=jnp.zeros(2 * n, theta.dtype),
            first_event=jnp.int32(0),
            event_time_ns=None,
            n_events=n,
        )
        counts = both(jnp.ones(n), double.astype(theta.dtype))
        words, keys = rng.words_of(key), jax.random.split(jax.random.fold_in(key, 1), 10)
        drawn = quanta_stage.sample_quanta(
            deposit_keys(words, deposits, QUANTA), detector, deposits, interactions=self.areas.kinds
        )
        drawn = Quanta(drawn.n_photons * counts, drawn.n_electrons * counts, drawn.n_excitons * counts)
        clouds, n_s1 = draw_signals(words, detector, deposits, drawn)
        n_s2 = charge.count_s2_photons(deposit_keys(words, deposits, CHARGE), detector, clouds)
        depth = -deposits.z_mm / detector.geometry.drift_length_mm
        to_top = light.s1_top_fraction_gate + depth * (
            light.s1_top_fraction_cathode - light.s1_top_fraction_gate
        )
        s1_top = _binomial(keys[0], n_s1, to_top)
        s2_top = _binomial(keys[1], n_s2, light.s2_top_fraction)
        pattern = top_shares(light, detector.geometry, jnp.stack([clouds.x_mm, clouds.y_mm], axis=-1))
        photons = multinomial(keys[2], s2_top, pattern).reshape(n, 2, -1).sum(axis=1)
        z_time = jax.random.normal(keys[3], n_s2.shape)
        late = clouds.time_spread_ns / jnp.sqrt(jnp.maximum(clouds.n_electrons, 1)) * z_time
        pairs = n_s2.reshape(n, 2)
        weight = pairs / jnp.maximum(pairs.sum(axis=1, keepdims=True), 1.0)

        def charges(key, count):
            key_double, key_charge = jax.random.split(key)
            u = jax.random.uniform(key_double, (n,), minval=1e-7)
            z = jax.random.normal(key_charge, (n,))
            return area(u, z, count.reshape(n, 2).sum(axis=1), detector.electronics, light.sensors)

        return Patterns(
            s2_top_pe=sensor_areas(keys[4:7], detector, photons),
            s2_bottom_pe=charges(keys[7], n_s2 - s2_top),
            s1_top_pe=charges(keys[8], s1_top),
            s1_bottom_pe=charges(keys[9], n_s1 - s1_top),
            drift_time_ns=jnp.sum(weight * (clouds.time_ns + late).reshape(n, 2), axis=1),
        )

    def seen(self, data: Patterns) -> Bool[Array, "event"]:
        """Whether the areas make it an event."""
        least_s1, least_s2 = self.areas.least_pe
        return (data.s1_pe >= least_s1) & (data.s2_pe >= least_s2)

    def draw(
        self, key: PRNGKeyArray, n: int, double_share: float = 0.5
    ) -> tuple[Float[Array, "n 5"], Patterns, Partner]:
        """Events that are seen. The last column of theta is 0 er, 1 nr, 2 er double, 3 nr double."""
        keys = jax.random.split(key, 4)
        m = math.ceil(self.areas.oversample * n) + 64
        theta = self.areas.prior.sample(keys[0], m)
        double = jax.random.bernoulli(keys[1], double_share, (m,))
        partner = self.partners(keys[2], theta)
        data = self.observe(keys[3], theta, partner, double)
        theta = theta.at[:, 4].add(2.0 * double)
        kept = jnp.argsort(~self.seen(data), stable=True)[:n]
        return jax.tree.map(lambda part: part[kept], (theta, data, partner))

    def simulate(self, key: PRNGKeyArray, n: int) -> tuple[Float[Array, "n 5"], Float[Array, "n x"]]:
        """Parameters, with the labels of `LABELS`, and summaries: what training takes."""
        theta, data, _ = self.draw(key, n)
        x, sources = self.summary(data)
        return theta.at[:, 4].set(self.labels(theta, sources)), x

    def labels(
        self, theta: Float[Array, "event 5"], sources: Float[Array, "event 2 2"]
    ) -> Float[Array, "event"]:
        """Of `LABELS`: a double scatter's larger deposit is the source that it lies nearer to."""
        off = jnp.sum((sources - theta[:, None, 1:3]) ** 2, axis=-1)
        return jnp.where(theta[:, 4] < 2, theta[:, 4], theta[:, 4] + 2.0 * (off[:, 1] < off[:, 0]))

    def summary(self, data: Patterns) -> tuple[Float[Array, "event x"], Float[Array, "event 2 2"]]:
        """Anchors and features of each event, and the two sources' places. Gradient: as `PositionSummary`."""
        detector, n = self.detector, data.drift_time_ns.shape[0]
        s1, s2 = data.s1_pe, data.s2_pe
        seen = self.one(data.s2_top_pe)
        u_xy, log_w_xy, turn, of_place = seen[:, :2], seen[:, 2:4], seen[:, 4:6], seen[:, 6:]
        place = self.prior.blocks[1].to_physical(u_xy)
        count = self.one.counts(data.s2_top_pe)
        pair = fit_pair(self.one, count, place)

        at = jnp.concatenate([jnp.ones((n, 1)), place, self._depth(data.drift_time_ns)[:, None]], axis=1)
        deposits = deposits_of(jnp.concatenate([at, jnp.zeros((n, 1))], axis=1), self.areas.kinds)
        energy, log_w_energy, log_evidence = self.areas.energies(s1, s2, deposits)
        sigma_z = self._depth_spread(deposits, s2)
        share = jax.nn.sigmoid(pair.logit)
        off = self.depth_mm / detector.geometry.drift_length_mm / math.sqrt(3)
        depths = [self._depth_anchor(data.drift_time_ns, jnp.sqrt(sigma_z**2 + (part * off) ** 2))
                  for part in (jnp.zeros(n), 1 - share, share)]  # fmt: skip
        places = [(u_xy, log_w_xy)] + [self._place_anchor(pair, i, turn) for i in (0, 1)]
        anchors = []
        for (u, log_w), (u_z, log_w_z, _) in zip(places, depths, strict=True):
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
            *self._pair_features(pair, place, turn),
        ]  # fmt: skip
        rest = [turn, of_place, jnp.stack(features, axis=-1)]
        return jnp.concatenate([*anchors, *rest], axis=-1), pair.place_mm

    def _depth(self, drift_time_ns: Array) -> Array:
        z = self.detector.electrons.z_mm(drift_time_ns)
        return jnp.clip(z, -self.detector.geometry.drift_length_mm, -0.3)

    def _depth_spread(self, deposits: Deposits, s2: Array) -> Array:
        """Standard deviation of the depth over the length, by diffusion."""
        detector = self.detector
        way = charge.drift(detector, deposits)
        gain = detector.electron_gain_phd(way.x_mm, way.y_mm) * (
            1 + detector.electronics.double_pe_probability
        )
        n_electrons = jnp.maximum(s2 / gain, 1.0)
        mm = way.time_spread_ns / jnp.sqrt(n_electrons) * detector.electrons.drift_speed_mm_per_us * 1e-3
        return mm / detector.geometry.drift_length_mm

    def _depth_anchor(self, drift_time_ns: Array, sigma: Array) -> tuple[Array, Array, list[Array]]:
        """Mean, log width in the prior's unbounded vector, and how near the ends of the volume are."""
        share = self.detector.electrons.z_mm(drift_time_ns) / self.detector.geometry.drift_length_mm + 1
        bottom, top = -share / sigma, (1 - share) / sigma
        low, middle, high = (
            ndtri(jnp.clip(share + sigma * q, 1e-6, 1 - 1e-6)) for q in cut_quantiles(bottom, top)
        )
        ends = [jnp.clip(top, -4, 6) / 3 - 2, jnp.clip(-bottom, -4, 6) / 3 - 2]
        return middle, jnp.log(jnp.maximum((high - low) / 2, 2e-6)), ends

    def _place_anchor(self, pair: Pair, source: int, turn: Array) -> tuple[Array, Array]:
        """Of one source: mean and log widths in the unbounded vector, along and across the turn."""
        radius = self.detector.geometry.radius_mm
        place, covariance = pair.place_mm[:, source], pair.covariance_mm2[:, source]
        r = jnp.maximum(jnp.sqrt(jnp.sum(place**2, axis=-1)), 1e-3)
        outward = place / r[:, None]
        width = jnp.sqrt(jnp.einsum("bi,bij,bj->b", outward, covariance, outward))
        # a place at the wall is inside of it on average, as the anchor of one place has it
        ratio = jnp.clip(1 - width / radius * jax.nn.softplus((radius - r) / width), 1e-4, 0.9999)
        u = jnp.sqrt(-2 * jnp.log1p(-(ratio**2)))
        across = jnp.stack([-outward[:, 1], outward[:, 0]], axis=-1)
        slopes = 2 * ratio / radius / ((1 - ratio**2) * u), u / (ratio * radius)
        root = slopes[0][:, None, None] * outward[:, :, None] * outward[:, None, :]
        root = root + slopes[1][:, None, None] * across[:, :, None] * across[:, None, :]
        of_u = jnp.einsum("bij,bjk,blk->bil", root, covariance, root)
        axes = jnp.stack([turn, jnp.stack([-turn[:, 1], turn[:, 0]], axis=-1)], axis=1)
        variance = jnp.einsum("bai,bij,baj->ba", axes, of_u, axes)
        return outward * u[:, None], jnp.log(jnp.minimum(jnp.sqrt(variance), 0.8))

    def _pair_features(self, pair: Pair, place: Array, turn: Array) -> list[Array]:
        """Whether there are two sources, and where they are, seen from the single place."""
        radius = self.detector.geometry.radius_mm
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


def _binomial(key: PRNGKeyArray, n: Array, p: Any) -> Array:
    return relax.binomial(jax.random.uniform(key, n.shape, minval=1e-7), n, p)


def multinomial(
    key: PRNGKeyArray, n: Float[Array, "row"], share: Float[Array, "row cell"]
) -> Float[Array, "row cell"]:
    """Counts of n things in cells of these shares, by halving: few rounds of binomials, not one a cell.

    Args:
        key: of the draws.
        n: things of each row, integer-valued.
        share: of each cell; normalised here.

    Gradient: none meant.
    """
    cells = share.shape[1]
    depth = math.ceil(math.log2(cells))
    # pairs of cells are added up to the root
    sums = [jnp.pad(share, ((0, 0), (0, 2**depth - cells)))]
    for _ in range(depth):
        sums.append(sums[-1].reshape(len(share), -1, 2).sum(axis=2))
    count = n[:, None]
    for level, (parent, child) in enumerate(zip(sums[:0:-1], sums[-2::-1], strict=True)):
        left = child[:, ::2] / jnp.maximum(parent, 1e-30)
        first = _binomial(jax.random.fold_in(key, level), count, left)
        count = jnp.stack([first, count - first], axis=2).reshape(len(share), -1)
    return count[:, :cells]


def grouped(labels: Int[np.ndarray, "..."] | Float[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
    """Whether a label is of a nuclear recoil, and whether of a double scatter."""
    whole = np.asarray(labels).astype(int)
    return whole % 2 == 1, whole >= 2
