"""Likelihood of a set of events: a mixture of sources in (cS1, log10 cS2), binned or event by event.

The extended likelihood of n events seen where the model expects r_c p_c of each component c is

    log L = sum over events or bins of n log(sum_c r_c p_c) - sum_c r_c a_c,

with p_c the probability of a bin (binned) or the density at an event (unbinned), a_c the probability to be
seen inside of the window, and r_c the number of events before any selection.
Source: Barlow, Nucl. Instrum. Meth. A 297 (1990) 496 (extended maximum likelihood).
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from dmsim.detector import Detector
from inference.likelihood.population_data import EventSet, Window
from inference.likelihood.population_response import Bins, Pairing, Points, Response
from inference.parameters import FreeParameters, Parameter

# added to each component's probability of a bin, or to its density, before the logarithm is expanded: what is
# rarer than 1e-8 an event has no bearing on any set of events that fits in memory. assumed
FLOOR = 1e-8


class Component(eqx.Module):
    """One source of events and its rate."""

    name: str = eqx.field(static=True)
    response: Response | Pairing
    rate: Parameter  # in units of `events_per_unit` events, >= 0
    events_per_unit: float = eqx.field(static=True, default=1.0)  # in the exposure, before any selection

    @classmethod
    def of(
        cls,
        name: str,
        response: Response | Pairing,
        prior: dist.Distribution,
        *,
        start: float | None = None,
        unit: str = "events",
        events_per_unit: float = 1.0,
    ) -> "Component":
        """A component.

        Args:
            name: of the source.
            response: where its events are seen.
            prior: of the rate; its support must not reach below 0.
            start: of a fit; the prior's mean if not given.
            unit: of the rate, such as "events" or "1e-47 cm2".
            events_per_unit: events at a rate of 1, in the volume and the energies that the response was
                simulated in, > 0.

        Raises:
            ValueError: if the rate can be negative, or an argument is outside its range.
        """
        support: Any = prior.support
        if bool(support(-1e-6)):
            raise ValueError(f"the prior of {name} allows a negative rate: cut it at 0")
        if not events_per_unit > 0:
            raise ValueError(f"events_per_unit of {name} is {events_per_unit}: must be positive")
        value = float(prior.mean) if start is None else float(start)
        return cls(name, response, Parameter(name, "", value, prior, unit), events_per_unit)


class Population(eqx.Module):
    """Components that share a detector, its free leaves, and the window that is looked at.

    The vector of a population is that of the free leaves, then of the rates: unconstrained numbers, 0 at the
    start and about 1 for a prior standard deviation.
    """

    components: tuple[Component, ...]
    detector: Detector
    free: FreeParameters
    window: Window

    def __check_init__(self):
        names = self.names
        repeated = {name for name in names if names.count(name) > 1}
        if not self.components or repeated:
            raise ValueError(f"components and free leaves must have names of their own: {names}")

    @property
    def names(self) -> list[str]:
        """Of the parameters, in the vector's order."""
        return [*self.free.names, *(c.name for c in self.components)]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """In the vector's order."""
        return (*self.free.parameters, *(c.rate for c in self.components))

    def start(self) -> Float[Array, "parameter"]:
        """The vector of the detector's values and the starting rates."""
        dtype = self.detector.xenon.temperature_k.dtype
        return jnp.zeros(len(self.parameters), dtype)

    def split(
        self, vector: Float[Array, "parameter"]
    ) -> tuple[Float[Array, "leaf"], Float[Array, "component"]]:
        """The part of the free leaves, and the expected events of each component before any selection.

        Gradient: exact.
        """
        n = len(self.free)
        return vector[:n], jnp.stack(
            [c.rate.transform(vector[n + i]) * c.events_per_unit for i, c in enumerate(self.components)]
        )

    def values(self, vector: Float[Array, "parameter"]) -> Float[Array, "parameter"]:
        """Physical values and rates. Gradient: exact."""
        return jnp.stack([p.transform(vector[i]) for i, p in enumerate(self.parameters)])

    def log_prior(self, vector: Float[Array, "parameter"]) -> Float[Array, ""]:
        """Log prior density of the vector, Jacobian included. Gradient: exact."""
        values, total = self.values(vector), jnp.zeros((), vector.dtype)
        for i, p in enumerate(self.parameters):
            total += jnp.asarray(p.prior.log_prob(values[i]))
            total += jnp.asarray(p.transform.log_abs_det_jacobian(vector[i], values[i]))
        return total

    def tables(self, detector: Detector) -> Float[Array, "component s1_bin s2_bin"]:
        """Probability of each bin, by component. Gradient: as `Response`."""
        return jnp.stack([c.response(detector, Bins(self.window)) for c in self.components])


def predict_component(
    response: Response | Pairing,
    free: FreeParameters,
    detector: Detector,
    where: Bins | Points,
    ends: Bins,
    leaves: Float[Array, "leaf"],
) -> Float[Array, "place_and_all"]:
    """Log of a component's p in every place, and of its a in the last column. Gradient: as `Response`."""
    if len(free):
        detector = free.unpack(leaves, detector)
    at = response(detector, where)
    whole = at.sum() if isinstance(where, Bins) else response(detector, ends).sum()
    return jnp.log(jnp.append(at.reshape(-1), whole) + FLOOR)


@eqx.filter_jit
def linearised_component(
    response: Response | Pairing,
    free: FreeParameters,
    detector: Detector,
    where: Bins | Points,
    ends: Bins,
    leaves: Float[Array, "leaf"],
) -> tuple[Float[Array, "place_and_all"], Float[Array, "place_and_all leaf"]]:
    """`predict_component` and its Jacobian: compiled once for all components of one interaction."""

    def predict(leaves):
        return predict_component(response, free, detector, where, ends, leaves)

    if not len(leaves):
        value = predict(leaves)
        return value, jnp.zeros((value.shape[0], 0), value.dtype)
    value, push = jax.linearize(predict, leaves)
    return value, jax.vmap(push, out_axes=1)(jnp.eye(leaves.shape[0], dtype=leaves.dtype))


class PopulationLikelihood(eqx.Module):
    """The likelihood of one set of events. `binned` and `unbinned` make it."""

    population: Population
    where: Bins | Points
    counts: Float[np.ndarray, "place"]  # events in each bin; 1 for each event

    def predict(self, leaves: Float[Array, "leaf"]) -> Float[Array, "component place_and_all"]:
        """Log of each component's p in every place, and of its a in the last column.

        Gradient: as `Response`.
        """
        population = self.population
        rows = [
            predict_component(c.response, population.free, population.detector, self.where, self.ends, leaves)
            for c in population.components
        ]
        return jnp.stack(rows)

    @property
    def ends(self) -> Bins:
        """The window as one bin."""
        s1, s2 = self.population.window.cs1_edges, self.population.window.log_cs2_edges
        return Bins(Window((s1[0], s1[-1]), (s2[0], s2[-1])))

    def linearised(
        self, leaves: Float[Array, "leaf"]
    ) -> tuple[Float[Array, "component_place"], Float[Array, "component_place leaf"]]:
        """The predictions of `predict`, flat, and their Jacobian; compiled component by component."""
        p = self.population
        parts = [
            linearised_component(c.response, p.free, p.detector, self.where, self.ends, leaves)
            for c in p.components
        ]
        return jnp.concatenate([v for v, _ in parts]), jnp.concatenate([j for _, j in parts])

    def log_likelihood(
        self, prediction: Float[Array, "component place_and_all"], rates: Float[Array, "component"]
    ) -> Float[Array, ""]:
        """Of the events, up to a constant.

        Args:
            prediction: as `predict` gives it.
            rates: expected events of each component before any selection.

        Gradient: exact.
        """
        expected = rates @ jnp.exp(prediction)
        return jnp.sum(self.counts * jnp.log(expected[:-1])) - expected[-1]

    def log_density(self, vector: Float[Array, "parameter"]) -> Float[Array, ""]:
        """Log posterior density of the population's vector, up to a constant. Gradient: as `Response`."""
        leaves, rates = self.population.split(vector)
        return self.log_likelihood(self.predict(leaves), rates) + self.population.log_prior(vector)


def binned(population: Population, events: EventSet) -> PopulationLikelihood:
    """Poisson likelihood of the counts in the window's bins.

    Raises:
        ValueError: if no event is inside of the window.
    """
    counts = _inside(population, events).histogram(population.window).reshape(-1)
    return PopulationLikelihood(population, Bins(population.window), counts.astype(np.float32))


def unbinned(
    population: Population, events: EventSet, *, n_places: int | None = None
) -> PopulationLikelihood:
    """Extended likelihood of each event inside of the window.

    Args:
        population: see there.
        events: of a file.
        n_places: events that there is room for; sets of other numbers then compile nothing anew.

    Raises:
        ValueError: if no event is inside of the window, or more than there is room for.
    """
    inside = _inside(population, events)
    n = len(inside)
    if n_places is None:
        return PopulationLikelihood(
            population, Points.of(inside.cs1_pe, inside.log_cs2), np.ones(n, np.float32)
        )
    if n > n_places:
        raise ValueError(f"{n} events are inside of the window: there is room for {n_places}")
    # what counts 0 times may lie anywhere that is possible
    at = np.where(np.arange(n_places) < n, np.arange(n_places), 0)
    most = population.window.cs1_edges[-1]
    where = Points.of(inside.cs1_pe[at], inside.log_cs2[at], max_cs1_pe=most)
    return PopulationLikelihood(population, where, (np.arange(n_places) < n).astype(np.float32))


def _inside(population: Population, events: EventSet) -> EventSet:
    inside = events.inside(population.window)
    if not len(inside):
        w = population.window
        raise ValueError(
            f"none of {len(events)} events is inside of the window: cS1 {w.cs1_edges[0]:g} to "
            f"{w.cs1_edges[-1]:g} PE, cS2 {10 ** w.log_cs2_edges[0]:g} to {10 ** w.log_cs2_edges[-1]:g} PE"
        )
    return inside


def draw_events(
    rng: np.random.Generator, tables: Float[np.ndarray, "component s1_bin s2_bin"], rates: Sequence[float]
) -> Float[np.ndarray, "s1_bin s2_bin"]:
    """Poisson counts of a toy experiment in the bins.

    Args:
        rng: of the toy.
        tables: as `Population.tables`.
        rates: expected events of each component before any selection.
    """
    return rng.poisson(np.einsum("c,cij->ij", np.asarray(rates), np.asarray(tables))).astype(np.float32)
