"""Amortized posteriors: draws and densities for any data of the shape that was trained for."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from typing_extensions import override

from inference.estimators.data import Layout
from inference.estimators.networks import PosteriorNetwork
from inference.estimators.refine import refine
from inference.priors import Prior
from inference.sampling.importance import Refined

_DRAWS_AT_ONCE = 65536  # a chunk's work space then stays at some 50 MB
_ROWS_AT_ONCE = 16384


def bucket(n: int) -> int:
    """The power of two that holds n: few sizes, so few compilations."""
    return 1 << max(n - 1, 0).bit_length()


def padded(x: Any, n: int) -> Any:
    """The last event repeated until there are n."""
    return jax.tree.map(
        lambda part: jnp.concatenate([part, jnp.repeat(part[-1:], n - part.shape[0], axis=0)]), x
    )


class AbstractPosterior(eqx.Module):
    """p(theta | x). Methods take one event, or a batch with a leading event axis."""

    prior: eqx.AbstractVar[Prior]
    layout: eqx.AbstractVar[Layout]

    @property
    def names(self) -> tuple[str, ...]:
        """Of theta's columns."""
        return self.prior.names

    @abstractmethod
    def sample(self, key: PRNGKeyArray, x: Any, n: int) -> Float[Array, "*batch n parameter"]:
        """Draws of theta."""

    @abstractmethod
    def log_prob(self, theta: Float[Array, "... parameter"], x: Any) -> Float[Array, "..."]:
        """Log density of theta."""

    def _rows(self, theta: Any, x: Any) -> tuple[Array, Any, tuple[int, ...]]:
        """Theta [event, point, parameter] and x [event, ...], and the shape of the answer."""
        x, batched = self.layout.batched(x)
        theta = jnp.asarray(theta)
        n_events = jax.tree.leaves(x)[0].shape[0]
        if theta.ndim < 1 or theta.shape[-1] != self.prior.n_parameters:
            names = ", ".join(self.prior.names)
            raise ValueError(f"theta has shape {theta.shape}: its last axis must hold {names}")
        if batched and (theta.ndim < 2 or theta.shape[0] != n_events):
            raise ValueError(
                f"theta has shape {theta.shape}: its first axis must be the {n_events} events of x"
            )
        if not jnp.isfinite(theta).all():
            raise ValueError("theta is not finite")
        return theta.reshape(n_events, -1, theta.shape[-1]), x, theta.shape[:-1]


@eqx.filter_jit
def _condition(network: PosteriorNetwork, x: Any) -> Float[Array, "event embedding"]:
    return network.condition(x)


@eqx.filter_jit
def _draw(
    network: PosteriorNetwork,
    prior: Prior,
    keys: PRNGKeyArray,
    condition: Float[Array, "event embedding"],
    n: int,
) -> Float[Array, "event n parameter"]:
    u, kind = network.sample(keys, condition, n)
    theta = prior.to_physical(u)
    return jnp.concatenate([theta, kind[..., None].astype(theta.dtype)], axis=-1) if prior.category else theta


@eqx.filter_jit
def _log_prob(
    network: PosteriorNetwork,
    prior: Prior,
    theta: Float[Array, "row parameter"],
    condition: Float[Array, "row embedding"],
) -> Float[Array, "row"]:
    u = prior.to_unbounded(theta)
    kind = theta[:, -1].astype(jnp.int32) if prior.category else jnp.zeros(theta.shape[0], jnp.int32)
    density = network.log_prob(u, kind, condition) - prior.log_jacobian(u)
    return jnp.where(prior.inside(theta), density, -jnp.inf)


class DirectPosterior(AbstractPosterior):
    """A flow conditioned on the embedded data (NPE, FMPE): draws cost one pass.

    Args:
        prior: of the parameters.
        network: trained.
        layout: of one event's data.
    """

    prior: Prior
    network: PosteriorNetwork
    layout: Layout = eqx.field(static=True)

    def draw(self, keys: PRNGKeyArray, x: Any, n: int) -> Float[Array, "event n parameter"]:
        """Draws for a batch with one key an event: pure, for jit and export; nothing is checked."""
        return _draw(self.network, self.prior, keys, self.network.condition(x), n)

    def condition(self, x: Any) -> Float[Array, "event embedding"]:
        """The embedding of a batch, in chunks."""
        n_events = jax.tree.leaves(x)[0].shape[0]
        size = min(bucket(n_events), 4096)
        parts = []
        for first in range(0, n_events, size):
            part = jax.tree.map(lambda leaf, first=first: leaf[first : first + size], x)
            parts.append(_condition(self.network, padded(part, size)))
        return jnp.concatenate(parts)[:n_events]

    @override
    def sample(self, key: PRNGKeyArray, x: Any, n: int) -> Float[Array, "*batch n parameter"]:
        """Draws of theta.

        Args:
            key: of all draws; an event's draws do not depend on how many events follow it.
            x: one event or a batch.
            n: draws an event, > 0.

        Raises:
            ValueError: for data of other names or shapes than trained for, or not finite.
        """
        if n < 1:
            raise ValueError(f"n is {n}: at least one draw is needed")
        x, batched = self.layout.batched(x)
        n_events = jax.tree.leaves(x)[0].shape[0]
        condition = self.condition(x)
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n_events))
        at_once = min(n, _DRAWS_AT_ONCE)
        size = min(bucket(n_events), max(1, bucket(_DRAWS_AT_ONCE // at_once + 1) // 2))
        done = []
        for first in range(0, n_events, size):
            here = slice(first, first + size)
            keys_here, condition_here = padded((keys[here], condition[here]), size)
            drawn = []
            for part in range(-(-n // at_once)):
                keys_part = jax.vmap(lambda k, part=part: jax.random.fold_in(k, part))(keys_here)
                drawn.append(_draw(self.network, self.prior, keys_part, condition_here, at_once))
            done.append(jnp.concatenate(drawn, axis=1)[:, :n] if len(drawn) > 1 else drawn[0])
        draws = jnp.concatenate(done)[:n_events] if len(done) > 1 else done[0][:n_events]
        return draws if batched else draws[0]

    @override
    def log_prob(self, theta: Float[Array, "... parameter"], x: Any) -> Float[Array, "..."]:
        """Log density of theta, normalised over the prior's support; -inf outside it.

        Args:
            theta: [..., parameter] for one event; the first axis is the event's for a batch.
            x: one event or a batch.

        Raises:
            ValueError: for data of other names or shapes than trained for, or not finite.
        """
        rows, x, shape = self._rows(theta, x)
        condition = jnp.repeat(self.condition(x), rows.shape[1], axis=0)
        flat = rows.reshape(-1, rows.shape[-1])
        size = min(bucket(len(flat)), _ROWS_AT_ONCE)
        parts = []
        for first in range(0, len(flat), size):
            here = padded((flat[first : first + size], condition[first : first + size]), size)
            parts.append(_log_prob(self.network, self.prior, *here))
        return jnp.concatenate(parts)[: len(flat)].reshape(shape)

    def refine(
        self, key: PRNGKeyArray, x: Any, likelihood: Callable[[Array, Any], Array], *, n: int = 1000
    ) -> Refined:
        """Importance sampling of the exact posterior with draws of this one.

        Args:
            key: of the draws.
            x: one event or a batch.
            likelihood: log p(x | theta) of one theta and one event.
            n: draws an event.
        """
        theta = self.sample(key, x, n)
        return refine(theta, self.log_prob(theta, x), self.prior, x, likelihood, batched=theta.ndim == 3)
