"""Whole sets of events drawn from a population, for an amortized posterior of its parameters.

A set comes with its truth: parameters from the prior, Poisson numbers of each component's events, and their
areas by the simulator itself. Deposits are taken again and again from those that the likelihood sums over,
quanta and signals are new each time. Sets are lists of one length: an empty place is marked, and events for
which there is none are lost and counted.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dmsim import charge, light, rng
from dmsim import quanta as quanta_stage
from dmsim.detector import Detector
from dmsim.pipeline.keys import AREAS, CHARGE, QUANTA, deposit_keys, event_keys
from dmsim.pipeline.levels import after_quanta, draw_signals
from dmsim.records import Deposits
from inference.likelihood.population import Population
from inference.likelihood.population_data import EventSet
from inference.likelihood.population_response import DEPOSIT_COLUMNS, Pairing, Response
from inference.parameters import set_leaf
from inference.population.features import prior_of
from inference.priors import Prior

Features = Callable[[Float[Array, "place 2"]], Float[Array, "place feature"]]
EVENTS, VALID = "events", "valid"  # entries of x
_AT_ONCE = 64  # sets simulated together: beyond, memory grows and speed does not
_PILOT = 4096  # draws of the prior for the number of places
_MARGIN = 5.0  # standard deviations of a Poisson number above the pilot's largest mean


class Drawn(NamedTuple):
    """One set."""

    events: Float[Array, "place feature"]  # cS1 [PE], log10(cS2 / PE) and features
    valid: Bool[Array, "place"]
    n_lost: Int[Array, ""]  # events of the window, or deposits, for which there was no place


class Overflow(NamedTuple):
    """What did not fit into some sets."""

    n_sets: int
    n_short: int  # sets that lost something
    n_lost: int


class SetSimulator(eqx.Module):
    """Draws (parameters, set of events) of a population: `simulator(key, n) -> (theta, x)`.

    Theta has the free leaves and the rates in their own units, in the population's order; x has "events"
    [n, place, feature] and "valid" [n, place]: cS1, log10 cS2, and what `features` makes of them.
    """

    population: Population
    n_deposits: tuple[int, ...] = eqx.field(static=True)  # places for each component, before any selection
    n_places: int = eqx.field(static=True)  # of events in the window
    features: Features | None = None

    @classmethod
    def of(
        cls, population: Population, *, n_places: int | None = None, features: Features | None = None
    ) -> "SetSimulator":
        """A simulator with places for what the prior allows.

        Args:
            population: as the likelihood takes it.
            n_places: of events in the window, > 0; enough for 4096 draws of the prior, with a margin of 5
                standard deviations, if not given.
            features: of events, beside cS1 and log10 cS2, such as `event_features` makes.
        """
        rates = np.asarray(prior_of(population).sample(jax.random.key(0), _PILOT))[:, len(population.free) :]
        mean = rates * [c.events_per_unit for c in population.components]
        most = mean.max(axis=0)
        n_deposits = tuple(_rounded(m + _MARGIN * math.sqrt(m)) for m in most)
        if n_places is None:
            seen = np.asarray(_seen(population))
            # leaves move the share that is seen: a tenth more
            m = 1.1 * float((mean @ seen).max())
            n_places = _rounded(min(m + _MARGIN * math.sqrt(m), sum(n_deposits)))
        if n_places < 1:
            raise ValueError(f"n_places is {n_places}: a set needs a place or more")
        return cls(population, n_deposits, n_places, features)

    # jax looks compilations of a function up by it: the simulator is itself, whatever arrays it holds
    def __hash__(self) -> int:
        """Of this very object."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        """Whether it is this very object."""
        return self is other

    @property
    def n_features(self) -> int:
        """Of an event, beside cS1 and log10 cS2."""
        if self.features is None:
            return 0
        return jax.eval_shape(self.features, jax.ShapeDtypeStruct((1, 2), jnp.float32)).shape[1]

    @property
    def prior(self) -> Prior:
        """Of theta."""
        return prior_of(self.population)

    def __call__(self, key: PRNGKeyArray, n: int) -> tuple[Float[Array, "n parameter"], dict[str, Array]]:
        """Draw sets and their truths."""
        theta, drawn = self.draw(key, n)
        return theta, {EVENTS: drawn.events, VALID: drawn.valid}

    def draw(self, key: PRNGKeyArray, n: int) -> tuple[Float[Array, "n parameter"], Drawn]:
        """The same, with what was lost."""
        key_theta, key_sets = jax.random.split(key)
        theta = self.prior.sample(key_theta, n)
        return theta, self.observe(jax.random.split(key_sets, n), theta)

    def observe(self, keys: PRNGKeyArray, theta: Float[Array, "n parameter"]) -> Drawn:
        """A set for each row of theta, with a key each. Gradient: none."""
        return jax.lax.map(lambda row: self._one(*row), (keys, theta), batch_size=min(_AT_ONCE, len(theta)))

    def overflow(self, key: PRNGKeyArray, n: int) -> Overflow:
        """How many of n sets lose events, and how many events."""
        lost = np.asarray(jax.jit(lambda key: self.draw(key, n)[1].n_lost)(key))
        return Overflow(n, int((lost > 0).sum()), int(lost.sum()))

    def padded(self, events: EventSet) -> dict[str, Any]:
        """Measured events as x.

        Raises:
            ValueError: if none is inside of the window, or more than there are places.
        """
        inside = events.inside(self.population.window)
        n = len(inside)
        if not 0 < n <= self.n_places:
            raise ValueError(
                f"{n} events are inside of the window: this set posterior takes 1 to {self.n_places}"
            )
        places = np.zeros((self.n_places, 2), np.float32)
        places[:n] = np.stack([inside.cs1_pe, inside.log_cs2], axis=-1)
        valid = np.arange(self.n_places) < n
        return {EVENTS: np.asarray(self._featured(jnp.asarray(places), jnp.asarray(valid))), VALID: valid}

    def _featured(
        self, events: Float[Array, "place 2"], valid: Bool[Array, "place"]
    ) -> Float[Array, "place feature"]:
        """Events with their features; empty places are 0."""
        if self.features is not None:
            events = jnp.concatenate([events, self.features(events)], axis=-1)
        return jnp.where(valid[:, None], events, 0.0)

    def _one(self, key: PRNGKeyArray, theta: Float[Array, "parameter"]) -> Drawn:
        population = self.population
        detector = population.detector
        for i, parameter in enumerate(population.free):
            detector = set_leaf(detector, parameter.path, theta[i])
        detector = charge.prepare(detector)
        n_leaves = len(population.free)
        parts, lost = [], jnp.int32(0)
        for i, component in enumerate(population.components):
            key_number, key_areas = jax.random.split(jax.random.fold_in(key, i))
            mean = theta[n_leaves + i] * component.events_per_unit
            number = jax.random.poisson(key_number, mean)
            places = self.n_deposits[i]
            cs1, cs2 = _areas(key_areas, component.response, detector, places)
            there = jnp.arange(places) < number
            lost += jnp.maximum(number - places, 0)
            parts.append((jnp.where(there, cs1, 0.0), cs2))
        cs1, cs2 = (jnp.concatenate(part) for part in zip(*parts, strict=True))
        s1, s2 = population.window.cs1_edges, population.window.log_cs2_edges
        y = jnp.log10(jnp.maximum(cs2, 1e-3))
        kept = (cs1 > 0) & (cs2 > 0) & (cs1 >= s1[0]) & (cs1 < s1[-1]) & (y >= s2[0]) & (y < s2[-1])
        # those that are kept come first; the places behind them are zero
        chosen = jnp.argsort(~kept, stable=True)[: self.n_places]
        valid = kept[chosen]
        events = self._featured(jnp.stack([cs1, y], axis=-1)[chosen], valid)
        return Drawn(events, valid, lost + jnp.sum(kept) - jnp.sum(valid))


def _rounded(n: float) -> int:
    """Up to a multiple of 16, which vector units like."""
    return 16 * math.ceil(max(n, 1) / 16)


@eqx.filter_jit
def _seen(population: Population) -> Float[Array, "component"]:
    """Share of each component's events that the window sees, by the calibration."""
    return population.tables(population.detector).sum(axis=(1, 2))


def _areas(
    key: PRNGKeyArray, response: Response | Pairing, detector: Detector, n: int
) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """Corrected areas [PE] of n events; an S1 that misses the coincidence is 0."""
    if isinstance(response, Pairing):
        first, second = jax.random.split(key)
        cs1, _ = _areas(first, response.lone_s1, detector, n)
        return cs1, _areas(second, response.lone_s2, detector, n)[1]
    key_choice, key_events, key_coincidence = jax.random.split(key, 3)
    rows = jax.random.randint(key_choice, (n,), 0, response.n_events)
    deposits = Deposits(
        event=jnp.arange(n, dtype=jnp.int32),
        **{name: getattr(response.deposits, name)[rows] for name in DEPOSIT_COLUMNS},
        first_event=jnp.int32(0),
        event_time_ns=None,
        n_events=n,
    )
    # as `dmsim.simulate_areas`, but which interactions occur is known while deposits are being traced
    words = rng.words_of(key_events)
    of_quanta, of_charge, of_areas = (deposit_keys(words, deposits, s) for s in (QUANTA, CHARGE, AREAS))
    quanta = quanta_stage.sample_quanta(of_quanta, detector, deposits, interactions=response.interactions)
    detector = after_quanta(detector)
    clouds, n_s1 = draw_signals(words, detector, deposits, quanta)
    n_s2 = charge.count_s2_photons(of_charge, detector, clouds)
    parts = (detector, deposits, quanta, clouds, n_s1, n_s2)
    areas = light.measure(
        of_areas, event_keys(words, deposits, AREAS), *parts, calibration=response.calibration
    )
    coincident = jax.random.uniform(key_coincidence, (n,)) < areas.s1_acceptance
    return jnp.where(coincident, areas.cs1_pe, 0.0), areas.cs2_pe
