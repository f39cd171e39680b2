"""Single scatters seen as areas, drift time and place."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dmsim import charge, light, rng
from dmsim import quanta as quanta_stage
from dmsim.detector import Detector
from dmsim.pipeline.keys import AREAS, CHARGE, QUANTA, deposit_keys, event_keys
from dmsim.pipeline.levels import draw_signals
from dmsim.records import Deposits, Interaction
from inference.events.summary import Grid, area_summary, energies
from inference.likelihood.areas import AreaData, area_data, log_likelihood, quanta_law, skew_nodes
from inference.priors import Category, Disc, Prior, Scalar

OBSERVABLES = ("s1_pe", "s2_pe", "drift_time_ns", "x_mm", "y_mm")  # columns of tables of events and of areas
KINDS = {"er": Interaction.ER_BETA, "nr": Interaction.NR}
_N_ENERGIES = 96  # of the grid: 0.8 of an energy's width apart


def deposits_of(theta: Float[Array, "event parameter"], kinds: tuple[Interaction, ...]) -> Deposits:
    """One deposit an event.

    Args:
        theta: energy [keV], x, y, z [mm], and the kind as a label where there is more than one.
        kinds: that the labels stand for.

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


class SingleScatters(eqx.Module):
    """Prior, simulator, exact likelihood and summary of single scatters in one range of energies.

    The prior is log-uniform in energy, uniform in the whole active volume, and gives each kind the same
    chance.

    Args:
        detector: that sees the events; with a uniform drift field.
        energy_kev: lowest and highest, 0 < low < high.
        kinds: "er" and "nr", or one of them; the labels of the prior's category, if there are two.
        least_pe: S1 and S2 that an event must have to be one, > 0 PE: a choice by data, so it changes no
            posterior.
        oversample: events drawn for each that is kept, >= 1.

    Raises:
        ValueError: for a detector with a drift field, an empty range of energies, or other kinds.
    """

    detector: Detector
    prior: Prior
    energy_kev: tuple[float, float] = eqx.field(static=True)
    kinds: tuple[Interaction, ...] = eqx.field(static=True)
    least_pe: tuple[float, float] = eqx.field(static=True)
    oversample: float = eqx.field(static=True)
    n_skew: int = eqx.field(static=True)
    grid: Grid

    def __init__(
        self,
        detector: Detector,
        *,
        energy_kev: tuple[float, float],
        kinds: tuple[str, ...] = ("er", "nr"),
        least_pe: tuple[float, float] = (2.0, 100.0),
        oversample: float = 1.4,
    ):
        low, high = energy_kev
        if detector.drift_field is not None:
            raise ValueError(f"{detector.name} has a drift field: single scatters take a uniform one")
        if not 0 < low < high < math.inf:
            raise ValueError(f"energy_kev is {low:g} to {high:g} keV: must be a range above 0")
        if not kinds or len(set(kinds)) < len(kinds) or set(kinds) - set(KINDS):
            raise ValueError(f"kinds are {', '.join(map(str, kinds))}: must be some of {', '.join(KINDS)}")
        if not min(least_pe) > 0:
            raise ValueError(f"least_pe is {least_pe}: an S1 and an S2 above 0 PE are needed")
        geometry = detector.geometry
        blocks = (
            Scalar("energy_kev", "keV", dist.LogUniform(low, high)),
            Disc(("x_mm", "y_mm"), "mm", radius=float(geometry.radius_mm)),
            Scalar("z_mm", "mm", dist.Uniform(-float(geometry.drift_length_mm), 0.0)),
        )
        category = (Category("interaction", tuple(kinds)),) if len(kinds) > 1 else ()
        self.prior = Prior(*blocks, *category)
        self.detector, self.kinds = detector, tuple(KINDS[kind] for kind in kinds)
        self.energy_kev = (float(low), float(high))
        self.least_pe, self.oversample = (float(least_pe[0]), float(least_pe[1])), oversample
        self.n_skew = skew_nodes(detector)
        # an energy's width grows about as its root: bins of equal widths in that
        edges = np.linspace(math.sqrt(low), math.sqrt(high), _N_ENERGIES + 1) ** 2
        columns = np.zeros((_N_ENERGIES, 5))
        columns[:, 0], columns[:, 3] = (edges[1:] + edges[:-1]) / 2, -1.0
        u = self.prior.to_unbounded(jnp.asarray(columns[:, : self.prior.n_parameters]))[:, 0]
        laws = []
        for label in range(len(self.kinds)):
            columns[:, 4] = label
            deposits = deposits_of(jnp.asarray(columns, jnp.result_type(float)), self.kinds)
            laws.append(eqx.filter_jit(quanta_law)(detector, deposits, interactions=self.kinds))
        log_weight = jnp.log(jnp.asarray(np.diff(np.log(edges)), jnp.result_type(float)))
        self.grid = Grid(u, log_weight, jax.tree.map(lambda *parts: jnp.stack(parts), *laws))

    @property
    def n_kinds(self) -> int:
        """Labels of the category; 0 without one."""
        return len(self.kinds) if len(self.kinds) > 1 else 0

    def to_json(self) -> dict[str, Any]:
        """All that `event_model` needs beside the detector."""
        names = {kind: name for name, kind in KINDS.items()}
        return {
            "model": "single_scatters",
            "energy_kev": list(self.energy_kev),
            "kinds": [names[kind] for kind in self.kinds],
            "least_pe": list(self.least_pe),
        }

    def seen(self, columns: Float[Array, "event 5"]) -> Bool[Array, "event"]:
        """Whether the areas make it an event.

        Args:
            columns: `OBSERVABLES`; NaN is not seen.

        Gradient: none.
        """
        return (columns[:, 0] >= self.least_pe[0]) & (columns[:, 1] >= self.least_pe[1])

    def observe(self, key: PRNGKeyArray, theta: Float[Array, "event parameter"]) -> Float[Array, "event 5"]:
        """`OBSERVABLES` of events with these parameters, as `dmsim.simulate_areas` draws them.

        Args:
            key: of the draws.
            theta: columns as the prior's.

        Gradient: as `dmsim.simulate_areas`.
        """
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
        """Parameters and observables of n events that are seen.

        Args:
            key: of the draws.
            n: events, > 0. Where `oversample` is too small the last ones are not seen.

        Gradient: none meant.
        """
        key_theta, key_areas = jax.random.split(key)
        m = math.ceil(self.oversample * n) + 64
        theta = self.prior.sample(key_theta, m)
        columns = self.observe(key_areas, theta)
        kept = jnp.argsort(~self.seen(columns), stable=True)[:n]
        return theta[kept], columns[kept]

    def simulate(self, key: PRNGKeyArray, n: int) -> tuple[Float[Array, "n parameter"], Float[Array, "n x"]]:
        """Parameters and summaries: what an estimator's `fit` takes.

        Args:
            key: of the draws.
            n: events, > 0.

        Gradient: none meant.
        """
        theta, columns = self.draw(key, n)
        return theta, self.summary(columns)

    def data(self, columns: Float[Array, "event 5"]) -> AreaData:
        """For `log_density`."""
        return area_data(self.detector, *jnp.moveaxis(columns, -1, 0))

    def log_density(self, theta: Float[Array, "event parameter"], data: AreaData) -> Float[Array, "event"]:
        """Exact likelihood times prior, one theta an event; minus infinity outside of the prior.

        Args:
            theta: columns as the prior's.
            data: of `data`.

        Gradient: exact inside of the prior.
        """
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
        """What a network sees: anchors for `flows.Anchored` with `plane=(1, 2)`, and features.

        Args:
            columns: `OBSERVABLES` of events that are seen.

        Gradient: exact between the ends of the volume, at which places are cut.
        """
        place_of = deposits_of(jnp.zeros((columns.shape[0], 5)), self.kinds)
        return area_summary(self.detector, self.grid, place_of, columns)

    def energies(
        self, s1_pe: Float[Array, "event"], s2_pe: Float[Array, "event"], deposits: Deposits
    ) -> tuple[Array, Array, Array]:
        """Mean and log width of the energy's u, and log evidence, of each event and kind.

        Args:
            s1_pe: uncorrected, > 0.
            s2_pe: uncorrected, > 0.
            deposits: whose places are taken.

        Gradient: exact.
        """
        return energies(self.detector, self.grid, s1_pe, s2_pe, deposits)


def event_model(detector: Detector, stated: dict[str, Any]) -> SingleScatters:
    """The model that a file names.

    Args:
        detector: that the events are from.
        stated: of `SingleScatters.to_json`.

    Raises:
        ValueError: if there is no such model, or its numbers are missing or others.
    """
    names = ("energy_kev", "kinds", "least_pe")
    if stated.get("model") != "single_scatters":
        raise ValueError(f"event model {stated.get('model')!r} is unknown: there is 'single_scatters'")
    if set(stated) != {"model", *names}:
        raise ValueError(f"event model single_scatters has {', '.join(stated)}: it takes {', '.join(names)}")
    if not all(isinstance(stated[name], list | tuple) for name in names):
        raise ValueError(f"event model single_scatters: {', '.join(names)} must be lists")
    energy_kev, kinds, least_pe = (tuple(stated[name]) for name in names)
    return SingleScatters(detector, energy_kev=energy_kev, kinds=kinds, least_pe=least_pe)
