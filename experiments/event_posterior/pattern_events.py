"""Events seen as light patterns, unresolved double scatters among them: prior, proposal and simulator.

A double scatter is two deposits of one interaction whose S2s lie too near in depth to be told apart in time.
Its energy is the sum, its place that of the larger deposit. The larger deposit need not make the brighter of
the two light sources that a fit finds: which of them it is, is a label of its own.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pattern_summary
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from pattern_sharing import binomial, multinomial
from pattern_summary import LABELS, RADIUS_COLUMN, RESOLVED, gain_of

from dmsim import charge, rng
from dmsim import quanta as quanta_stage
from dmsim.light.photoelectrons import area
from dmsim.pipeline.keys import CHARGE, QUANTA, deposit_keys
from dmsim.pipeline.levels import draw_signals
from dmsim.reconstruction.light_table import top_shares
from dmsim.records import Deposits, Quanta
from inference import position
from inference.events import SingleScatters, deposits_of
from inference.position.pair import Pair
from inference.position.study import sensor_areas
from inference.priors import Category, Prior

__all__ = ["LABELS", "Partner", "PatternEvents", "Patterns", "grouped"]
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
        wall_share: of the simulated events of a training, that are drawn near the wall alone.
        wall_from: near: beyond this share of the radius.
        wall_weight: of events that are found at the wall, over that of others: a choice by data.
    """

    areas: SingleScatters
    prior: Prior
    one: position.PositionSummary
    distance_mm: float = eqx.field(static=True)
    farthest_mm: float = eqx.field(static=True)
    depth_mm: float = eqx.field(static=True)
    share: tuple[float, float] = eqx.field(static=True)
    wall_share: float = eqx.field(static=True)
    wall_from: float = eqx.field(static=True)
    wall_weight: float = eqx.field(static=True)

    def __init__(
        self,
        areas: SingleScatters,
        *,
        distance_mm: float,
        farthest_mm: float,
        depth_mm: float,
        share: tuple[float, float],
        wall_share: float = 0.0,
        wall_from: float = 0.95,
        wall_weight: float = 1.0,
    ):
        light = areas.detector.light
        if light.s1_pattern_map is not None:
            raise ValueError(f"{areas.detector.name} has a map of S1 patterns: this study takes the model")
        self.areas, self.one = areas, position.position_summary(areas.detector)
        self.prior = Prior(*areas.prior.blocks[:3], Category("scatter", LABELS))
        self.distance_mm, self.farthest_mm, self.depth_mm = distance_mm, farthest_mm, depth_mm
        self.share = (share[0], share[1])
        self.wall_share, self.wall_from, self.wall_weight = wall_share, wall_from, wall_weight

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
        s1_top = binomial(keys[0], n_s1, to_top)
        s2_top = binomial(keys[1], n_s2, light.s2_top_fraction)
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
        self, key: PRNGKeyArray, n: int, *, double_share: float = 0.5, proposed: bool = False
    ) -> tuple[Float[Array, "n 5"], Patterns, Partner]:
        """Events that are seen. The last column of theta is 0 er, 1 nr, 2 er double, 3 nr double.

        Args:
            key: of the draws.
            n: events, > 0.
            double_share: of double scatters.
            proposed: theta from the proposal of trainings instead of the prior.
        """
        keys = jax.random.split(key, 4)
        m = math.ceil(self.areas.oversample * n) + 64
        theta = self.areas.prior.sample(keys[0], m)
        if proposed:
            theta = self.pushed(jax.random.fold_in(keys[0], 1), theta)
        double = jax.random.bernoulli(keys[1], double_share, (m,))
        partner = self.partners(keys[2], theta)
        data = self.observe(keys[3], theta, partner, double)
        theta = theta.at[:, 4].add(2.0 * double)
        kept = jnp.argsort(~self.seen(data), stable=True)[:n]
        return jax.tree.map(lambda part: part[kept], (theta, data, partner))

    def pushed(self, key: PRNGKeyArray, theta: Float[Array, "event 5"]) -> Float[Array, "event 5"]:
        """The proposal: a share of the events at the same angle, evenly over the ring at the wall."""
        keys, n = jax.random.split(key), theta.shape[0]
        radius = self.detector.geometry.radius_mm
        r = radius * jnp.sqrt(jax.random.uniform(keys[0], (n, 1), minval=self.wall_from**2))
        xy = theta[:, 1:3]
        at_wall = xy * r / jnp.maximum(jnp.linalg.norm(xy, axis=1, keepdims=True), 1e-3)
        chosen = jax.random.bernoulli(keys[1], self.wall_share, (n, 1))
        return theta.at[:, 1:3].set(jnp.where(chosen, at_wall, xy))

    def weight(self, theta: Float[Array, "event 5"], x: Float[Array, "event x"]) -> Float[Array, "event"]:
        """In a training's loss: prior over proposal, times what events found at the wall count."""
        in_ring = jnp.linalg.norm(theta[:, 1:3], axis=1) > self.wall_from * self.detector.geometry.radius_mm
        ratio = 1 / (1 - self.wall_share + self.wall_share * in_ring / (1 - self.wall_from**2))
        found = jax.nn.sigmoid((x[:, RADIUS_COLUMN] - self.wall_from) / 0.005)
        return ratio * (1 + (self.wall_weight - 1) * found)

    def simulate(self, key: PRNGKeyArray, n: int) -> tuple[Array, Array, None, Array]:
        """Parameters, with the labels of `LABELS`, summaries, no score, weights: what training takes."""
        theta, data, _ = self.draw(key, n, proposed=True)
        x, sources = self.summary(data)
        theta = theta.at[:, 4].set(self.labels(theta, x, sources))
        return theta, x, None, self.weight(theta, x)

    def labels(
        self, theta: Float[Array, "event 5"], x: Float[Array, "event x"], sources: Float[Array, "event 2 2"]
    ) -> Float[Array, "event"]:
        """Of `LABELS`: a resolved double scatter's larger deposit is the source that it lies nearer to."""
        off = jnp.sum((sources - theta[:, None, 1:3]) ** 2, axis=-1)
        fainter = (off[:, 1] < off[:, 0]) & (gain_of(x) > RESOLVED)
        return jnp.where(theta[:, 4] < 2, theta[:, 4], theta[:, 4] + 2.0 * fainter)

    def summary(
        self, data: Patterns, pair: Pair | None = None
    ) -> tuple[Float[Array, "event x"], Float[Array, "event 2 2"]]:
        """What the network sees of each event, and the two sources' places."""
        return pattern_summary.summary(self.areas, self.one, self.depth_mm, data, pair)


def grouped(labels: Int[np.ndarray, "..."] | Float[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
    """Whether a label is of a nuclear recoil, and whether of a double scatter."""
    whole = np.asarray(labels).astype(int)
    return whole % 2 == 1, whole >= 2
