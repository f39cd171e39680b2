"""Events of the study: prior, the simulator inside of the training loop, and what a network sees of them.

A network sees no raw areas but a summary that physics gives: for each interaction the energy's mean and width
on a grid, with areas taken as normal; the place with its width, cut at wall, gate and cathode. The flow's
anchors are made of it. It is only a summary: what it gets wrong the network learns.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import logsumexp, ndtr, ndtri
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dmsim import charge, light, rng
from dmsim import quanta as quanta_stage
from dmsim.detector import Detector
from dmsim.light.detection import detection_probability
from dmsim.pipeline.keys import AREAS, CHARGE, QUANTA, deposit_keys, event_keys
from dmsim.pipeline.levels import draw_signals
from dmsim.records import Deposits, Interaction
from inference.likelihood.areas import (
    AreaData,
    QuantaLaw,
    area_data,
    log_likelihood,
    quanta_law,
    s2_moments,
    skew_nodes,
)
from inference.priors import Category, Disc, Prior, Scalar

OBSERVABLES = ("s1_pe", "s2_pe", "drift_time_ns", "x_mm", "y_mm")
KINDS = {"er": Interaction.ER_BETA, "nr": Interaction.NR}
_N_ENERGIES = 96  # of the grid: 0.8 of an energy's width apart
_QUANTILES = (0.15865525, 0.5, 0.84134475)
_SHALLOWEST_MM = 0.3  # depth for which the shortest drift's spread is taken


def deposits_of(theta: Float[Array, "event parameter"], kinds: tuple[Interaction, ...]) -> Deposits:
    """One deposit an event: energy, x, y, z, and the kind as a label where there is more than one.

    Gradient: exact in the continuous columns.
    """
    n = theta.shape[0]
    label = theta[:, 4].astype(jnp.int32) if len(kinds) > 1 else jnp.zeros(n, jnp.int32)
    return Deposits(
        event=jnp.arange(n, dtype=jnp.int32),
        interaction=jnp.asarray([int(kind) for kind in kinds], jnp.int32)[label],
        energy_kev=theta[:, 0],
        x_mm=theta[:, 1],
        y_mm=theta[:, 2],
        z_mm=theta[:, 3],
        time_ns=jnp.zeros_like(theta[:, 0]),
        first_event=jnp.int32(0),
        event_time_ns=None,
        n_events=n,
    )


class Events(eqx.Module):
    """Prior, simulator, exact likelihood and summary of one range of energies.

    Args:
        detector: that sees the events; with a uniform field.
        energy_kev: lowest and highest; log-uniform between.
        kinds: "er" and "nr", or one of them.
        least_pe: S1 and S2 that an event must have to be one.
        oversample: events drawn for each that is kept.
    """

    detector: Detector
    prior: Prior
    kinds: tuple[Interaction, ...] = eqx.field(static=True)
    least_pe: tuple[float, float] = eqx.field(static=True)
    oversample: float = eqx.field(static=True)
    n_skew: int = eqx.field(static=True)
    grid_u: Float[Array, "energy"]
    grid_log_weight: Float[Array, "energy"]
    law: QuantaLaw  # [kind, energy]

    def __init__(
        self,
        detector: Detector,
        *,
        energy_kev: tuple[float, float],
        kinds: tuple[str, ...] = ("er", "nr"),
        least_pe: tuple[float, float] = (2.0, 100.0),
        oversample: float = 1.4,
    ):
        if detector.drift_field is not None:
            raise ValueError(f"{detector.name} has a drift field: this study takes a uniform one")
        geometry = detector.geometry
        low, high = energy_kev
        blocks = (
            Scalar("energy_kev", "keV", dist.LogUniform(low, high)),
            Disc(("x_mm", "y_mm"), "mm", radius=float(geometry.radius_mm)),
            Scalar("z_mm", "mm", dist.Uniform(-float(geometry.drift_length_mm), 0.0)),
        )
        category = (Category("interaction", kinds),) if len(kinds) > 1 else ()
        self.prior = Prior(*blocks, *category)
        self.detector, self.kinds = detector, tuple(KINDS[kind] for kind in kinds)
        self.least_pe, self.oversample = (least_pe[0], least_pe[1]), oversample
        self.n_skew = skew_nodes(detector)
        # an energy's width grows about as its root: bins of equal widths in that
        edges = np.linspace(math.sqrt(low), math.sqrt(high), _N_ENERGIES + 1) ** 2
        middle = (edges[1:] + edges[:-1]) / 2
        columns = np.zeros((_N_ENERGIES, 5))
        columns[:, 0], columns[:, 3] = middle, -1.0
        self.grid_u = self.prior.to_unbounded(jnp.asarray(columns[:, : self.prior.n_parameters]))[:, 0]
        self.grid_log_weight = jnp.log(jnp.asarray(np.diff(np.log(edges)), jnp.result_type(float)))
        laws = []
        for label in range(len(self.kinds)):
            columns[:, 4] = label
            deposits = deposits_of(jnp.asarray(columns, jnp.result_type(float)), self.kinds)
            laws.append(eqx.filter_jit(quanta_law)(detector, deposits, interactions=self.kinds))
        self.law = jax.tree.map(lambda *parts: jnp.stack(parts), *laws)

    @property
    def n_kinds(self) -> int:
        """Labels of the category; 0 without one."""
        return len(self.kinds) if len(self.kinds) > 1 else 0

    def seen(self, columns: Float[Array, "event 5"]) -> Bool[Array, "event"]:
        """Whether the areas make it an event: a function of data alone, so it changes no posterior."""
        return (columns[:, 0] >= self.least_pe[0]) & (columns[:, 1] >= self.least_pe[1])

    def observe(self, key: PRNGKeyArray, theta: Float[Array, "event parameter"]) -> Float[Array, "event 5"]:
        """`OBSERVABLES` of events with these parameters, as `dmsim.simulate_areas` draws them."""
        words, deposits, detector = rng.words_of(key), deposits_of(theta, self.kinds), self.detector
        keys = deposit_keys(words, deposits, QUANTA)
        quanta = quanta_stage.sample_quanta(keys, detector, deposits, interactions=self.kinds)
        clouds, n_s1 = draw_signals(words, detector, deposits, quanta)
        n_s2 = charge.count_s2_photons(deposit_keys(words, deposits, CHARGE), detector, clouds)
        of_areas = (deposit_keys(words, deposits, AREAS), event_keys(words, deposits, AREAS))
        parts = (detector, deposits, quanta, clouds, n_s1, n_s2)
        areas = light.measure(*of_areas, *parts, calibration=detector)
        return jnp.stack([getattr(areas, name) for name in OBSERVABLES], axis=-1)

    def draw(self, key: PRNGKeyArray, n: int) -> tuple[Float[Array, "n parameter"], Float[Array, "n 5"]]:
        """Parameters and observables of n events that are seen."""
        key_theta, key_areas = jax.random.split(key)
        m = math.ceil(self.oversample * n) + 64
        theta = self.prior.sample(key_theta, m)
        columns = self.observe(key_areas, theta)
        kept = jnp.argsort(~self.seen(columns), stable=True)[:n]
        return theta[kept], columns[kept]

    def simulate(self, key: PRNGKeyArray, n: int) -> tuple[Float[Array, "n parameter"], Float[Array, "n x"]]:
        """Parameters and summaries: what training takes."""
        theta, columns = self.draw(key, n)
        return theta, self.summary(columns)

    def data(self, columns: Float[Array, "event 5"]) -> AreaData:
        """For `log_density`."""
        return area_data(self.detector, *jnp.moveaxis(columns, -1, 0))

    def log_density(self, theta: Float[Array, "event parameter"], data: AreaData) -> Float[Array, "event"]:
        """Exact likelihood times prior, one theta an event. Gradient: exact inside of the prior."""
        inside = self.prior.inside(theta)
        middle = self.prior.to_physical(jnp.zeros((1, self.prior.n_unbounded), theta.dtype))
        middle = jnp.concatenate([middle, jnp.zeros((1, theta.shape[1] - middle.shape[1]))], axis=1)
        safe = jnp.where(inside[:, None], theta, middle)
        deposits = deposits_of(safe, self.kinds)
        value = log_likelihood(
            self.detector, deposits, data, interactions=self.kinds, n_skew=self.n_skew
        ) + self.prior.log_prob(safe)
        return jnp.where(inside, value, -jnp.inf)

    def summary(self, columns: Float[Array, "event 5"]) -> Float[Array, "event x"]:
        """Anchors and features of each event. Gradient: none meant."""
        s1, s2, drift_time, x, y = jnp.moveaxis(columns, -1, 0)
        place = self._place(s1, s2, drift_time, x, y)
        mean, log_width, log_evidence = self.energies(s1, s2, place["deposits"])
        n, kinds = columns.shape[0], len(self.kinds)
        u_x, u_y = place["u_r"] * place["cos"], place["u_r"] * place["sin"]
        ones = jnp.ones((n, kinds))
        means = jnp.stack(
            [mean, u_x[:, None] * ones, u_y[:, None] * ones, place["u_z"][:, None] * ones], axis=-1
        )
        widths = [place[name][:, None] * ones for name in ("log_w_r", "log_w_t", "log_w_z")]
        log_widths = jnp.stack([log_width, *widths], axis=-1)
        anchors = jnp.stack([means, log_widths], axis=2).reshape(n, -1)
        features = [
            *mean.T,
            *(log_width.T + 2),
            jnp.log(s1) / 2 - 2,
            jnp.log(s2) / 2 - 4.5,
            jnp.log(s2 / s1) - 4,
            place["wall"],
            place["top"],
            place["bottom"],
            place["u_r"] - 1,
            place["u_z"],
            place["log_w_r"] + 5,
            place["log_w_z"] + 7,
        ]
        if kinds > 1:
            ratio = log_evidence[:, 1] - log_evidence[:, 0]
            features += [jnp.arcsinh(ratio) / 2, jnp.tanh(ratio / 4)]
        turn = jnp.stack([place["cos"], place["sin"]], axis=-1)
        return jnp.concatenate([anchors, turn, jnp.stack(features, axis=-1)], axis=-1)

    def _place(self, s1, s2, drift_time, x, y) -> dict[str, Any]:
        """Place and width in the prior's unbounded vector: quantiles of normals cut at the volume's ends."""
        detector, geometry = self.detector, self.detector.geometry
        radius, length = geometry.radius_mm, geometry.drift_length_mm
        z_seen = detector.electrons.z_mm(drift_time)
        r_seen = jnp.sqrt(x**2 + y**2)
        safe_r = jnp.maximum(r_seen, 1e-3)
        cos, sin = x / safe_r, y / safe_r
        r = jnp.minimum(r_seen, radius * (1 - 1e-4))
        columns = jnp.stack(
            [jnp.ones_like(x), r * cos, r * sin, jnp.clip(z_seen, -length, -_SHALLOWEST_MM)], axis=-1
        )
        label = jnp.zeros((x.shape[0], 1), x.dtype)
        deposits = deposits_of(jnp.concatenate([columns, label], axis=-1), self.kinds)
        way = charge.drift(detector, deposits)
        gain = s2_moments(_one(self.law), 1.0, self._gain(way), detector)[0]
        n_electrons = jnp.maximum(s2 / gain, 1.0)
        resolution = detector.resolution
        variance = (resolution.xy_mm_sqrt_pe / jnp.sqrt(s2) + resolution.xy_floor_mm) ** 2
        sigma = jnp.sqrt(variance + way.spread_mm**2 / n_electrons)
        # across the wall: a normal cut at it
        wall = (radius - r_seen) / sigma
        of_r = [
            _u_of_radius((r_seen + sigma * q) / radius)
            for q in cut_quantiles(jnp.full_like(wall, -40.0), wall)
        ]
        # along it: the arc, in the unbounded vector's radius at that place
        across = jnp.maximum(jnp.abs(of_r[1]), 0.05)
        arc = jnp.where(r_seen > 0.03 * radius, across * radius / safe_r, math.sqrt(2)) * sigma / radius
        sigma_z = (
            way.time_spread_ns
            / jnp.sqrt(n_electrons)
            * detector.electrons.drift_speed_mm_per_us
            * 1e-3
            / length
        )
        share = z_seen / length + 1
        bottom, top = -share / sigma_z, (1 - share) / sigma_z
        of_z = [ndtri(jnp.clip(share + sigma_z * q, 1e-6, 1 - 1e-6)) for q in cut_quantiles(bottom, top)]
        return {
            "deposits": deposits,
            "cos": cos,
            "sin": sin,
            "u_r": of_r[1],
            "log_w_r": jnp.log(jnp.maximum((of_r[2] - of_r[0]) / 2, 1e-5)),
            "log_w_t": jnp.log(jnp.maximum(arc, 1e-5)),
            "u_z": of_z[1],
            "log_w_z": jnp.log(jnp.maximum((of_z[2] - of_z[0]) / 2, 2e-6)),
            "wall": jnp.clip(wall, -4, 6) / 3,
            "top": jnp.clip(top, -4, 6) / 3 - 2,
            "bottom": jnp.clip(-bottom, -4, 6) / 3 - 2,
        }

    def _gain(self, way):
        detector = self.detector
        relative = detector.light.s2_relative_yield(detector.geometry, way.x_mm, way.y_mm)
        return detector.electron_gain_phd(way.x_mm, way.y_mm) * relative

    def energies(self, s1, s2, deposits):
        """Mean and log width of the energy's u and the evidence of each kind, with areas taken as normal."""
        detector = self.detector
        way, seen = charge.drift(detector, deposits), detection_probability(detector, deposits)
        law = jax.tree.map(lambda part: part[None], self.law)
        # the skewness as a wider normal
        var_skew = law.slope**2 * (1 - 2 / math.pi)
        law = law._replace(
            var_photons=law.var_photons + var_skew,
            var_electrons=law.var_electrons + var_skew,
            covariance=law.covariance - var_skew,
        )
        survival, gain, seen = (
            part[:, None, None] for part in (way.survival, self._gain(way) * jnp.ones_like(s1), seen)
        )
        of_electron, var_s2, covariance = s2_moments(law, survival, gain, detector)
        double, width = detector.electronics.double_pe_probability, detector.electronics.spe_width
        of_photon = 1 + double
        var_charge = double * (1 - double) + width**2 * of_photon
        n_s1 = law.n_photons * seen
        var_s1 = of_photon**2 * (n_s1 * (1 - seen) + seen**2 * law.var_photons) + n_s1 * var_charge
        covariance = covariance * seen * of_photon
        r1 = s1[:, None, None] - n_s1 * of_photon
        r2 = s2[:, None, None] - of_electron * law.n_electrons
        left = var_s1 - covariance**2 / var_s2
        r1 = r1 - covariance / var_s2 * r2
        value = (
            -0.5 * (r2**2 / var_s2 + r1**2 / left + jnp.log(var_s2) + jnp.log(left)) + self.grid_log_weight
        )
        log_evidence = logsumexp(value, axis=-1)
        weight = jnp.exp(value - log_evidence[..., None])
        mean = weight @ self.grid_u
        variance = jnp.sum(weight * (self.grid_u - mean[..., None]) ** 2, axis=-1)
        return mean, 0.5 * jnp.log(variance + 1e-5), log_evidence


def _one(law: QuantaLaw) -> QuantaLaw:
    """A law of one electron, whose area is the gain."""
    one = jnp.ones(())
    return QuantaLaw(one, one, one, one, one, one)


def cut_quantiles(low, high):
    """Quantiles of a unit normal between two ends."""
    below, inside = ndtr(low), ndtr(high) - ndtr(low)
    # far out of one end nothing is left between them in single precision: the end itself, an exponential
    return [
        jnp.where(
            high < -4.0,
            high + math.log(q) / jnp.maximum(-high, 1.0),
            ndtri(jnp.clip(below + q * inside, 1e-30, 1 - 6e-8)),
        )
        for q in _QUANTILES
    ]


def _u_of_radius(share):
    """Signed radius of the disc's unbounded vector, from r over the radius."""
    rest = jnp.maximum(1 - jnp.abs(share), 1e-6)
    return jnp.sign(share) * jnp.sqrt(-2 * jnp.log(rest * (2 - rest)))
