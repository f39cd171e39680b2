"""Embeddings of a set of events that do not depend on their order: sums (DeepSets), or attention.

Places of the list that hold no event give nothing, whatever number stands there.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from inference.embeddings.base import Shapes, rngs
from inference.embeddings.mlp import Dense

_FAR_BELOW = -1e9  # a logit of weight 0; finite, so that a set of empty places has finite gradients


class Listed(eqx.Module):
    """Where the list of events is in x, and in which units a network sees it."""

    events: str = eqx.field(static=True)
    valid: str = eqx.field(static=True)
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


def _listed(described: Any, shapes: Shapes) -> tuple[Listed, int]:
    """The reader of a description, and the number of features."""
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
    return Listed(described.events, described.valid, centre, scale), shape[1]


class EventSetNet(eqx.Module):
    """Features of each event of a set -> vector."""

    of_event: Dense
    of_sums: Dense
    listed: Listed

    def __call__(self, x: Any) -> Float[Array, "out"]:
        """The embedding of one set."""
        events, there = self.listed(x)
        each = jax.nn.silu(self.of_event(events))
        count = jnp.sum(there)
        mean = jnp.sum(jnp.where(there[:, None], each, 0.0), axis=0) / jnp.maximum(count, 1)
        # the mean forgets how many there are
        return self.of_sums(jnp.concatenate([mean, jnp.log1p(count.astype(mean.dtype))[None]]))


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

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> EventSetNet:
        """An untrained network.

        Raises:
            ValueError: if the data are no list of events, or of other features than centre and scale.
        """
        listed, n_features = _listed(self, shapes)
        key_event, key_sums = jax.random.split(key)
        return EventSetNet(
            Dense(n_features, self.width, self.depth, self.width, rngs=rngs(key_event)),
            Dense(self.width + 1, self.width, self.depth, self.n_out, rngs=rngs(key_sums)),
            listed,
        )


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


class AttentionSetNet(eqx.Module):
    """Features of each event of a set -> vector."""

    of_event: Dense
    inducing: Float[Array, "block point width"]
    blocks: nnx.List
    seeds: Float[Array, "seed width"]
    pool: Attention
    of_sums: Dense
    listed: Listed

    def __call__(self, x: Any) -> Float[Array, "out"]:
        """The embedding of one set."""
        events, there = self.listed(x)
        each = self.of_event(events)
        for points, (gather, spread) in zip(self.inducing, self.blocks, strict=True):
            each = spread(each, gather(points, each, there), None)
        pooled = self.pool(self.seeds, each, there)
        count = jnp.log1p(jnp.sum(there).astype(pooled.dtype))
        # attention is a mean: it forgets how many there are
        return self.of_sums(jnp.append(pooled.reshape(-1), count))


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

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> AttentionSetNet:
        """An untrained network.

        Raises:
            ValueError: if the data are no list of events, or of other features than centre and scale, or the
                width is no multiple of the heads.
        """
        listed, n_features = _listed(self, shapes)
        if self.width % self.n_heads:
            raise ValueError(
                f"attention set: width {self.width} must be a multiple of n_heads {self.n_heads}"
            )
        keys = jax.random.split(key, 4)
        streams = rngs(keys[0])

        def attention():
            return Attention(self.width, self.n_heads, rngs=streams)

        return AttentionSetNet(
            Dense(n_features, self.width, 1, self.width, rngs=rngs(keys[1])),
            jax.random.normal(keys[2], (self.n_blocks, self.n_inducing, self.width)),
            nnx.List([nnx.List([attention(), attention()]) for _ in range(self.n_blocks)]),
            jax.random.normal(keys[3], (self.n_seeds, self.width)),
            attention(),
            Dense(self.n_seeds * self.width + 1, 2 * self.width, 1, self.n_out, rngs=streams),
            listed,
        )
