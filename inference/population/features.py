"""What each event says of the parameters: functions of an event whose sums hold a set's likelihood.

Log densities of an event at many parameters, less what they share, lie close to a few functions of the event:

    log p(event | theta) = a(theta) + b(event) + sum over r of c_r(theta) f_r(event).

The sums of f_r over a set and the number of its events are then sufficient. Scores at one theta, as score
compression has them (Alsing and Wandelt, arXiv:1712.00012), are sufficient near that theta only; these f_r
are the best over the prior, by the singular values of the table of log densities.
"""

import hashlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from inference.likelihood.population import Population
from inference.likelihood.population_data import Window
from inference.likelihood.population_response import Bins
from inference.parameters import set_leaf
from inference.priors import Prior, Scalar

# of the mean density in the window, added to each before its logarithm: what is this rare tells nothing.
# assumed
_FLOOR = 1e-3


class EventFeatures(eqx.Module):
    """Functions of (cS1, log10 cS2), interpolated between the middles of a window's bins."""

    window: Window
    table: Float[Array, "s1_bin s2_bin feature"]  # mean square 1 over the prior's events
    nats: Float[np.ndarray, "direction"]  # spread of an event's log likelihood by each direction, all of them

    @property
    def sha256(self) -> str:
        """Of window and table: a network trained on other features takes these without a complaint."""
        running = hashlib.sha256(repr((self.window.cs1_edges, self.window.log_cs2_edges)).encode())
        running.update(np.ascontiguousarray(self.table).tobytes())
        return running.hexdigest()

    def __call__(self, events: Float[Array, "place 2"]) -> Float[Array, "place feature"]:
        """Features of each event. Gradient: of the interpolation."""
        lows, nodes = [], []
        for value, edges, n in zip(
            events.T, (self.window.cs1_edges, self.window.log_cs2_edges), self.window.shape, strict=True
        ):
            at = jnp.clip((value - edges[0]) / (edges[-1] - edges[0]) * n - 0.5, 0.0, n - 1.0)
            node = jnp.minimum(at.astype(jnp.int32), n - 2)
            lows.append((at - node)[:, None])
            nodes.append(node)
        (u, v), (i, j) = lows, nodes
        table = self.table
        near = (1 - v) * table[i, j] + v * table[i, j + 1]
        far = (1 - v) * table[i + 1, j] + v * table[i + 1, j + 1]
        return (1 - u) * near + u * far


def prior_of(population: Population) -> Prior:
    """The prior of a population's parameters, as estimators take it."""
    return Prior(*(Scalar(p.name, p.unit, p.prior) for p in population.parameters))


@eqx.filter_jit
def _densities(
    population: Population, window: Window, theta: Float[Array, "draw parameter"]
) -> Float[Array, "draw s1_bin s2_bin"]:
    """Expected events in each bin over their mean in the window, by draw."""

    def one(values):
        detector = population.detector
        for i, parameter in enumerate(population.free):
            detector = set_leaf(detector, parameter.path, values[i])
        expected = jnp.zeros(window.shape)
        for i, c in enumerate(population.components):
            rate = values[len(population.free) + i] * c.events_per_unit
            expected += rate * c.response(detector, Bins(window))
        return expected / expected.mean()

    return jax.lax.map(one, theta)


def signed(vectors: Float[np.ndarray, "vector entry"]) -> Float[np.ndarray, "vector entry"]:
    """Singular vectors, of which a decomposition leaves the sign open, with their largest entry positive."""
    largest = np.abs(vectors).argmax(axis=1)
    return vectors * np.sign(vectors[np.arange(len(vectors)), largest])[:, None]


def event_features(
    key: PRNGKeyArray,
    population: Population,
    *,
    n_features: int = 12,
    n_draws: int = 128,
    n_bins: tuple[int, int] = (48, 64),
) -> EventFeatures:
    """The functions that hold most of an event's log likelihood.

    Args:
        key: of the draws of the prior.
        population: with templates of its own.
        n_features: functions kept, > 0.
        n_draws: parameters at which log densities are taken, > n_features.
        n_bins: of the table in cS1 and log10 cS2, > 1; together n_features or more.

    Raises:
        ValueError: if a number is outside its range.

    Gradient: none.
    """
    if not 0 < n_features < n_draws or min(n_bins) < 2 or n_bins[0] * n_bins[1] < n_features:
        raise ValueError(
            f"n_features is {n_features}, n_draws {n_draws}, n_bins {n_bins}: give 0 < n_features < n_draws, "
            "two bins or more of each, and together n_features or more"
        )
    s1, s2 = population.window.cs1_edges, population.window.log_cs2_edges
    window = Window.of((s1[0], s1[-1]), (10 ** s2[0], 10 ** s2[-1]), n_bins)
    theta = prior_of(population).sample(key, n_draws)
    density = np.asarray(_densities(population, window, theta), float).reshape(n_draws, -1)
    weight = density.mean(axis=0) / density.mean(axis=0).sum()
    log = np.log(density + _FLOOR)
    log -= log.mean(axis=0)
    log -= (log @ weight)[:, None]
    root = np.sqrt(weight)
    _, sizes, functions = np.linalg.svd(log * root, full_matrices=False)
    # where no draw of the prior has events the table is 0
    table = signed(functions[:n_features]) / np.maximum(root, 1e-9)
    return EventFeatures(
        window, jnp.asarray(table.T.reshape(*n_bins, -1), jnp.float32), sizes / np.sqrt(n_draws)
    )
