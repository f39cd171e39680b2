"""From a population to the model of its profile likelihood."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from inference.likelihood.population import Population, PopulationLikelihood, unbinned
from inference.likelihood.population_data import EventSet
from inference.likelihood.population_response import Bins
from inference.population.profile import Model
from inference.sampling.surrogate import Quadratic, expand

_HALF_DISTANCE = 1.0  # prior standard deviations: of the differences of Jacobians


def search_model(
    population: Population,
    *,
    events: EventSet | None = None,
    n_places: int | None = None,
    on_evaluation: Callable[[int, int], None] | None = None,
) -> Model:
    """The profile likelihood of the first component's rate, on the window's bins or on single events.

    The other rates keep the normal priors of the population as auxiliary measurements; those with another
    prior are known from the data alone. The leaves enter as shapes in units of their prior's width, through a
    quadratic expansion of the templates' logarithms around the detector's own values.

    Args:
        population: the signal comes first.
        events: for the unbinned likelihood; `counts_of` gives its counts.
        n_places: events that there is room for, as in `unbinned`.
        on_evaluation: called with the number of Jacobians done and to do, for progress.

    Raises:
        ValueError: if there are events, and none is inside of the window.
    """
    if events is None:
        ones = np.ones(int(np.prod(population.window.shape)), np.float32)
        likelihood = PopulationLikelihood(population, Bins(population.window), ones)
    else:
        likelihood = unbinned(population, events, n_places=n_places)
    last = None if events is not None else -1  # the column of all that is expected
    scale = jnp.log(jnp.asarray([c.events_per_unit for c in population.components]))[:, None]
    n_components = len(population.components)

    def linearised(leaves):
        value, jacobian = likelihood.linearised(leaves)
        value = value.reshape(n_components, -1)[:, :last] + scale
        jacobian = jacobian.reshape(*value.shape[:1], -1, len(leaves))[:, :last]
        return value.reshape(-1), jacobian.reshape(-1, len(leaves))

    n = len(population.free)
    centre = population.start()[:n]
    if n:
        steps = _HALF_DISTANCE * jnp.eye(n, dtype=centre.dtype)
        templates = expand(linearised, centre, steps, on_evaluation=on_evaluation)
    else:
        value, jacobian = linearised(centre)
        templates = Quadratic(centre, value, jacobian, jnp.zeros((value.shape[0], 0, 0), value.dtype))
    return Model.of(
        templates,
        jnp.asarray([c.rate.start for c in population.components]),
        jnp.asarray([np.inf, *(_width(c.rate.prior) for c in population.components[1:])]),
        shape_widths=jnp.ones(n),
        of_events=events is not None,
    )


def counts_of(population: Population, events: EventSet, model: Model) -> Float[np.ndarray, "place"]:
    """What a model's places count: events in bins, or one each and none in the place of all."""
    if not model.of_events:
        return events.histogram(population.window).reshape(-1).astype(np.float32)
    n_places = model.log_templates.value.shape[0] // model.n_components
    return (np.arange(n_places) < len(events.inside(population.window))).astype(np.float32)


def _width(prior) -> float:
    """Width of a normal that is cut at most at 0; infinite for any other prior."""
    base = getattr(prior, "base_dist", prior)
    return float(base.scale) if hasattr(base, "scale") else float("inf")
