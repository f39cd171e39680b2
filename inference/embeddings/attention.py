"""Embedding of a set of events by attention, which sees how events differ from each other."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from typing_extensions import override

from inference.embeddings.base import Shapes, rngs
from inference.embeddings.mlp import Dense
from inference.embeddings.sets import AbstractSetNet, Listed, network_of_sums

_FAR_BELOW = -1e9  # a logit of weight 0; finite, so that a set of empty places has finite gradients


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
        events: as `embeddings.EventSet`.
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
        listed = Listed.of(shapes, self.events, self.valid, self.centre, self.scale)
        if self.width % self.n_heads:
            raise ValueError(
                f"attention set: width {self.width} must be a multiple of n_heads {self.n_heads}"
            )
        keys = jax.random.split(key, 4)
        streams = rngs(keys[0])

        def attention():
            return Attention(self.width, self.n_heads, rngs=streams)

        n_pooled = listed.n_features + 1 + self.n_seeds * self.width
        sums, shift, scale = network_of_sums(n_pooled, 2 * self.width, 1, self.n_out, rngs=streams)
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
