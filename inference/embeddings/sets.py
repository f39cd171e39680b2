"""Embeddings of a set of events that do not depend on their order: means and sums (DeepSets).

Places of the list that hold no event give nothing, whatever number stands there. What is pooled over n events
differs from set to set by about 1/sqrt(n) of its size only: before it goes on it is standardised, by sets
drawn before training starts. Means of the events' features go on untouched as well, so that a feature whose
sum says much need not be learned again.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from typing_extensions import override

from inference.embeddings.base import Shapes, rngs
from inference.embeddings.mlp import Dense

_AT_ONCE = 64  # sets whose pooled vectors are made together
_CONSTANT = 1e-6  # of its mean: a number that varies less is only shifted


class Listed(eqx.Module):
    """Where the list of events is in x, and in which units a network sees it."""

    events: str = eqx.field(static=True)
    valid: str = eqx.field(static=True)
    n_features: int = eqx.field(static=True)
    centre: tuple[float, ...] = eqx.field(static=True)
    scale: tuple[float, ...] = eqx.field(static=True)

    @classmethod
    def of(
        cls, shapes: Shapes, events: str, valid: str, centre: tuple[float, ...], scale: tuple[float, ...]
    ) -> Self:
        """The reader of a description, whose arguments these are.

        Raises:
            ValueError: if the data are no list of events, or of other features than centre and scale.
        """
        shape = shapes.get(events, ())
        if len(shape) != 2:
            raise ValueError(f"event set: entry {events!r} of x must be [event, feature], not {shape}")
        for name, given in (("centre", centre), ("scale", scale)):
            if len(given) not in (0, shape[1]):
                raise ValueError(f"event set: {name} has {len(given)} numbers for {shape[1]} features")
        if any(not value > 0 for value in scale):
            raise ValueError(f"event set: scale is {scale}: each must be above 0")
        centre = tuple(centre) or (0.0,) * len(scale)
        return cls(events, valid, shape[1], centre, tuple(scale) or (1.0,) * len(centre))

    def __call__(self, x: Any) -> tuple[Float[Array, "event feature"], Bool[Array, "event"]]:
        """Features of each event, 0 in an empty place, and which places hold an event."""
        events = x[self.events] if self.events else x
        there = x[self.valid].astype(bool) if self.valid else jnp.ones(events.shape[0], bool)
        if self.centre:
            events = (events - jnp.asarray(self.centre)) / jnp.asarray(self.scale)
        # what stands in an empty place must not matter, nor must its gradient
        return jnp.where(there[:, None], events, 0.0), there


def network_of_sums(
    n_pooled: int, width: int, depth: int, n_out: int, *, rngs: nnx.Rngs
) -> tuple[Dense, Float[Array, "pool"], Float[Array, "pool"]]:
    """The network on what is pooled, and its shift and scale before sets were seen."""
    return Dense(n_pooled, width, depth, n_out, rngs=rngs), jnp.zeros(n_pooled), jnp.ones(n_pooled)


class AbstractSetNet(eqx.Module):
    """Features of each event of a set -> vector: what is pooled, standardised, then a network on it.

    A new one states `pooled`.
    """

    of_sums: eqx.AbstractVar[Dense]
    listed: eqx.AbstractVar[Listed]
    shift: eqx.AbstractVar[Float[Array, "pool"]]  # of what is pooled; never trained
    scale: eqx.AbstractVar[Float[Array, "pool"]]
    standardised: eqx.AbstractVar[bool]

    @abstractmethod
    def pooled(
        self, events: Float[Array, "event feature"], there: Bool[Array, "event"]
    ) -> Float[Array, "learned"]:
        """What is learned of the events that are there."""

    def before_sums(self, x: Any) -> Float[Array, "pool"]:
        """All that is known of a set: means of features, how many there are, and what is pooled."""
        events, there = self.listed(x)
        count = jnp.sum(there).astype(events.dtype)
        # means forget how many there are
        plain = jnp.append(events.sum(axis=0) / jnp.maximum(count, 1), jnp.log1p(count))
        return jnp.concatenate([plain, self.pooled(events, there)])

    def __call__(self, x: Any) -> Float[Array, "out"]:
        """The embedding of one set: the network's, then means and number untouched."""
        pooled = (self.before_sums(x) - jax.lax.stop_gradient(self.shift)) / jax.lax.stop_gradient(self.scale)
        return jnp.concatenate([self.of_sums(pooled), pooled[: self.listed.n_features + 1]])

    def started(self, x: Any) -> Self:
        """The same with what is pooled standardised over some sets, as it is before training.

        Source: data-dependent initialisation, Salimans and Kingma, arXiv:1602.07868, section 3.
        """
        if not self.standardised:
            return self
        pooled = eqx.filter_jit(lambda net, x: jax.lax.map(net.before_sums, x, batch_size=_AT_ONCE))(self, x)
        width = pooled.std(axis=0)
        constant = width <= _CONSTANT * jnp.maximum(jnp.abs(pooled.mean(axis=0)), 1e-30)
        moments = pooled.mean(axis=0), jnp.where(constant, 1.0, width)
        return eqx.tree_at(lambda net: (net.shift, net.scale), self, moments)


class EventSetNet(AbstractSetNet):
    """Pools by the mean of what a network makes of each event."""

    of_event: Dense
    of_sums: Dense
    listed: Listed
    shift: Float[Array, "pool"]
    scale: Float[Array, "pool"]
    standardised: bool = eqx.field(static=True)

    @override
    def pooled(
        self, events: Float[Array, "event feature"], there: Bool[Array, "event"]
    ) -> Float[Array, "learned"]:
        each = jnp.where(there[:, None], jax.nn.silu(self.of_event(events)), 0.0)
        return each.sum(axis=0) / jnp.maximum(jnp.sum(there), 1)


@dataclass(frozen=True)
class EventSet:
    """Description of a DeepSets network.

    Source: Zaheer et al., arXiv:1703.06114.

    Args:
        events: name of the entry of x with [event, feature]; "" where x is that array.
        valid: name of the entry that says which places of the list hold an event; "" if all do.
        width: of both networks.
        depth: hidden layers of each.
        n_out: length of the embedding.
        centre: of each feature, in its unit; 0 if not given.
        scale: of each feature, in its unit, > 0; 1 if not given. The network sees (feature - centre) / scale.
        standardised: whether sets drawn before training set the scale of what is pooled.
    """

    kind: ClassVar[str] = "event_set"
    scales_itself: ClassVar[bool] = True
    events: str = ""
    valid: str = ""
    width: int = 64
    depth: int = 2
    n_out: int = 32
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    standardised: bool = True

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> EventSetNet:
        """An untrained network.

        Raises:
            ValueError: if the data are no list of events, or of other features than centre and scale.
        """
        listed = Listed.of(shapes, self.events, self.valid, self.centre, self.scale)
        key_event, key_sums = jax.random.split(key)
        n = listed.n_features
        sums, shift, scale = network_of_sums(
            n + 1 + self.width, self.width, self.depth, self.n_out, rngs=rngs(key_sums)
        )
        of_event = Dense(n, self.width, self.depth, self.width, rngs=rngs(key_event))
        return EventSetNet(
            of_event=of_event,
            of_sums=sums,
            listed=listed,
            shift=shift,
            scale=scale,
            standardised=self.standardised,
        )


class SetMeansNet(AbstractSetNet):
    """Pools nothing but the means of features."""

    of_sums: Dense
    listed: Listed
    shift: Float[Array, "pool"]
    scale: Float[Array, "pool"]
    standardised: bool = eqx.field(static=True)

    @override
    def pooled(
        self, events: Float[Array, "event feature"], there: Bool[Array, "event"]
    ) -> Float[Array, "learned"]:
        return jnp.zeros(0, events.dtype)


@dataclass(frozen=True)
class SetMeans:
    """Description of a network on the means of features and the number of events, and on nothing else.

    For features whose sums are sufficient; a fraction of the cost of a network on each event.

    Args:
        events: as `EventSet`.
        valid: as `EventSet`.
        width: of the network.
        depth: its hidden layers.
        n_out: length of the embedding, means and number apart.
        centre: as `EventSet`.
        scale: as `EventSet`.
        standardised: as `EventSet`.
    """

    kind: ClassVar[str] = "set_means"
    scales_itself: ClassVar[bool] = True
    events: str = ""
    valid: str = ""
    width: int = 64
    depth: int = 2
    n_out: int = 32
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    standardised: bool = True

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> SetMeansNet:
        """An untrained network.

        Raises:
            ValueError: as `EventSet.build`.
        """
        listed = Listed.of(shapes, self.events, self.valid, self.centre, self.scale)
        sums, shift, scale = network_of_sums(
            listed.n_features + 1, self.width, self.depth, self.n_out, rngs=rngs(key)
        )
        return SetMeansNet(sums, listed, shift, scale, self.standardised)
