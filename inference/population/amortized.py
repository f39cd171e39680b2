"""The posterior of a population's parameters for any set of events, learned once.

Where the likelihood is sampled anew for each set of events (`fit_population`), this one costs a pass of a
network. It is as good as its training: hold it against the likelihood's on some sets before it is used alone.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import PRNGKeyArray

from inference import embeddings, flows
from inference.estimators import NPE, Budget, Fit
from inference.population.sets import EVENTS, VALID, SetSimulator


def set_embedding(
    simulator: SetSimulator, *, kind: Callable[..., embeddings.Description], **options: Any
) -> embeddings.Description:
    """A description of a set network that sees the window as the square from -1 to 1, features as they are.

    Args:
        simulator: of the sets.
        kind: `embeddings.EventSet`, `embeddings.AttentionSet` or `embeddings.SetMeans`.
        options: of it.
    """
    window = simulator.population.window
    ends = [(edges[0], edges[-1]) for edges in (window.cs1_edges, window.log_cs2_edges)]
    none = (0.0,) * simulator.n_features
    centre = (*((low + high) / 2 for low, high in ends), *none)
    scale = (*((high - low) / 2 for low, high in ends), *(1.0 for _ in none))
    return kind(EVENTS, VALID, centre=centre, scale=scale, **options)


def fit_set_posterior(
    key: PRNGKeyArray,
    simulator: SetSimulator,
    budget: Budget,
    *,
    embedding: embeddings.Description | None = None,
    flow: flows.Description | None = None,
    **options: Any,
) -> Fit:
    """Train on sets that are simulated inside of the compiled training loop.

    The posterior takes `simulator.padded(events)`. `simulator.overflow` counts what sets lose for want of
    places.

    Args:
        key: of simulations and weights.
        simulator: of the population.
        budget: `n_simulations` are sets.
        embedding: of a set; DeepSets if not given.
        flow: of the parameters; a coupling flow of 3 layers if not given.
        options: of `NPE.fit`, such as `checkpoint`.

    Raises:
        ValueError: as `NPE.fit`.
    """
    npe = NPE(
        simulator.prior,
        embedding or set_embedding(simulator, kind=embeddings.EventSet),
        flow or flows.Coupling(n_layers=3),
    )
    return npe.fit(key, simulator, budget, **options)
