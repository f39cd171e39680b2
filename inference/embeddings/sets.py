"""Embeddings of a set of events that do not depend on their order: means, sums (DeepSets), attention.

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
_FAR_BELOW = -1e9  # a logit of weight 0; finite, so that a set of empty places has finite gradients


class Listed(eqx.Module):
    """Where the list of events is in x, and in which units a network sees it."""

    events: str = eqx.field(static=True)
    valid: str = eqx.field(static=True)
    n_features: int = eqx.field(static=True)
    centre: tuple[float, ...] = eqx.field(static=True)
    width: tuple[float, ...] = eqx.field(static=True)

    def __call__(self, x: Any) -> tuple[Float[Array, "event feature"], Bool[Array, "event"]]:
        """Features of each event, 0 in an empty place, and which places hold an event."""
        events = x[self.events] if self.events else x
        there = x[self.valid].astype(bool) if self.valid else jnp.ones(events.shape[0], bool)
        if self.centre:
            events = (events - jnp.asarray(self.centre)) / jnp.asarray(self.width)
        # what stands in an empty place must not matter, nor must its gradient
        return jnp.where(there[:, None], events, 0.0), there


def _listed(described: Any, shapes: Shapes) -> Listed:
    """The reader of a description."""
    shape = shapes.get(described.events, ())
    if len(shape) != 2:
        raise ValueError(f"event set: entry {described.events!r} of x must be [event, feature], not {shape}")
    for name in ("centre", "scale"):
        given = getattr(described, name)
        if len(given) not in (0, shape[1]):
            raise ValueError(f"event set: {name} has {len(given)} numbers for {shape[1]} features")
    if any(not value > 0 for value in described.scale):
        raise ValueError(f"event set: scale is {described.scale}: each must be above 0")
    centre = tuple(described.centre) or (0.0,) * len(described.scale)
    scale = tuple(described.scale) or (1.0,) * len(centre)
    return Listed(described.events, described.valid, shape[1], centre, scale)


def _sums(described: Any, n_features: int, n_learned: int, width: int, depth: int, streams: Any) -> Any:
    """The network on what is pooled, and its shift and scale before sets were seen."""
    n = n_features + 1 + n_learned
    return Dense(n, width, depth, described.n_out, rngs=streams), jnp.zeros(n), jnp.ones(n)


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
        listed = _listed(self, shapes)
        key_event, key_sums = jax.random.split(key)
        n = listed.n_features
        sums, shift, scale = _sums(self, n, self.width, self.width, self.depth, rngs(key_sums))
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
        listed = _listed(self, shapes)
        sums, shift, scale = _sums(self, listed.n_features, 0, self.width, self.depth, rngs(key))
        return SetMeansNet(sums, listed, shift, scale, self.standardised)


class Attention(nnx.Module):
    """Some vectors ask others: multihead attention, then a layer on its own, each added and normalised.

    Source: Lee et al., arXiv:1810.00825, equations 6 and 7 (MAB).
    """

    def __init__(self, width: int, n_heads: int, *, rngs: nnx.Rngs):
        self.n_heads = n_heads
        self.asked, self.key, self.value, self.last = (nnx.Linear(width, width, rngs=rngs) for _ in range(4))
        self.first_norm, self.last_norm = (nnx.LayerNorm(width, rngs=rngs) for _ in range(2))

    def __call__(
        self, asking: Float[Array, "a width"], asked: Float[Array, "b width"], there: Bool[Array, "b"] | None
    ) -> Float[Array, "a width"]:
        """What each that asks makes of those that are there; all are if it is not said."""
        query, key, value = (
            layer(v).reshape(v.shape[0], self.n_heads, -1)
            for layer, v in ((self.asked, asking), (self.key, asked), (self.value, asked))
        )
        logits = jnp.einsum("ahd,bhd->hab", query, key) / query.shape[-1] ** 0.5
        weights = jax.nn.softmax(logits if there is None else jnp.where(there, logits, _FAR_BELOW))
        if there is not None:  # where none is there all logits are alike
            weights = jnp.where(there, weights, 0.0)
        seen = jnp.einsum("hab,bhd->ahd", weights, value).reshape(asking.shape)
        mixed = self.first_norm(asking + seen)
        return self.last_norm(mixed + jax.nn.silu(self.last(mixed)))


class AttentionSetNet(AbstractSetNet):
    """Pools by attention of learned seeds, after attention among the events."""

    of_event: Dense
    inducing: Float[Array, "block point width"]
    blocks: nnx.List
    seeds: Float[Array, "seed width"]
    pool: Attention
    of_sums: Dense
    listed: Listed
    shift: Float[Array, "pool"]
    scale: Float[Array, "pool"]
    standardised: bool = eqx.field(static=True)

    @override
    def pooled(
        self, events: Float[Array, "event feature"], there: Bool[Array, "event"]
    ) -> Float[Array, "learned"]:
        each = self.of_event(events)
        for points, (gather, spread) in zip(self.inducing, self.blocks, strict=True):
            each = spread(each, gather(points, each, there), None)
        return self.pool(self.seeds, each, there).reshape(-1)


@dataclass(frozen=True)
class AttentionSet:
    """Description of a Set Transformer: induced attention among events, then attention by learned seeds.

    Events do not ask each other, which would cost the square of their number, but a few learned points, which
    asked all events before.

    Source: Lee et al., arXiv:1810.00825 (ISAB, PMA).

    Args:
        events: as `EventSet`.
        valid: as `EventSet`.
        width: of all vectors, a multiple of n_heads.
        n_heads: of attention.
        n_inducing: learned points of a block.
        n_blocks: of induced attention.
        n_seeds: that pool the events.
        n_out: length of the embedding.
        centre: as `EventSet`.
        scale: as `EventSet`.
        standardised: as `EventSet`.
    """

    kind: ClassVar[str] = "attention_set"
    scales_itself: ClassVar[bool] = True
    events: str = ""
    valid: str = ""
    width: int = 32
    n_heads: int = 4
    n_inducing: int = 8
    n_blocks: int = 1
    n_seeds: int = 4
    n_out: int = 32
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    standardised: bool = True

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> AttentionSetNet:
        """An untrained network.

        Raises:
            ValueError: if the data are no list of events, or of other features than centre and scale, or the
                width is no multiple of the heads.
        """
        listed = _listed(self, shapes)
        if self.width % self.n_heads:
            raise ValueError(
                f"attention set: width {self.width} must be a multiple of n_heads {self.n_heads}"
            )
        keys = jax.random.split(key, 4)
        streams = rngs(keys[0])

        def attention():
            return Attention(self.width, self.n_heads, rngs=streams)

        n_pooled = self.n_seeds * self.width
        sums, shift, scale = _sums(self, listed.n_features, n_pooled, 2 * self.width, 1, streams)
        return AttentionSetNet(
            of_event=Dense(listed.n_features, self.width, 1, self.width, rngs=rngs(keys[1])),
            inducing=jax.random.normal(keys[2], (self.n_blocks, self.n_inducing, self.width)),
            blocks=nnx.List([nnx.List([attention(), attention()]) for _ in range(self.n_blocks)]),
            seeds=jax.random.normal(keys[3], (self.n_seeds, self.width)),
            pool=attention(),
            of_sums=sums,
            listed=listed,
            shift=shift,
            scale=scale,
            standardised=self.standardised,
        )
