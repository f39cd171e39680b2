"""DeepSets: an embedding of a set of events that does not depend on their order.

Source: Zaheer et al., arXiv:1703.06114.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from inference.embeddings.base import Shapes, rngs
from inference.embeddings.mlp import Dense


class EventSetNet(eqx.Module):
    """Features of each event of a set -> vector."""

    of_event: Dense
    of_sums: Dense
    events: str = eqx.field(static=True)
    valid: str = eqx.field(static=True)

    def __call__(self, x: Any) -> Float[Array, "out"]:
        """The embedding of one set."""
        events = x[self.events] if self.events else x
        there = x[self.valid].astype(bool) if self.valid else jnp.ones(events.shape[0], bool)
        # what stands in an empty place must not matter, nor must its gradient
        events = jnp.where(there[:, None], events, 0.0)
        each = jax.nn.silu(self.of_event(events))
        count = jnp.sum(there)
        mean = jnp.sum(jnp.where(there[:, None], each, 0.0), axis=0) / jnp.maximum(count, 1)
        # the mean forgets how many there are
        return self.of_sums(jnp.concatenate([mean, jnp.log1p(count.astype(mean.dtype))[None]]))


@dataclass(frozen=True)
class EventSet:
    """Description of a DeepSets network.

    Args:
        events: name of the entry of x with [event, feature]; "" where x is that array.
        valid: name of the entry that says which places of the list hold an event; "" if all do.
        width: of both networks.
        depth: hidden layers of each.
        n_out: length of the embedding.
    """

    kind: ClassVar[str] = "event_set"
    scales_itself: ClassVar[bool] = True
    events: str = ""
    valid: str = ""
    width: int = 64
    depth: int = 2
    n_out: int = 32

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> EventSetNet:
        """An untrained network.

        Raises:
            ValueError: if the data are no list of events.
        """
        shape = shapes.get(self.events, ())
        if len(shape) != 2:
            raise ValueError(f"event set: entry {self.events!r} of x must be [event, feature], not {shape}")
        key_event, key_sums = jax.random.split(key)
        return EventSetNet(
            Dense(shape[1], self.width, self.depth, self.width, rngs=rngs(key_event)),
            Dense(self.width + 1, self.width, self.depth, self.n_out, rngs=rngs(key_sums)),
            self.events,
            self.valid,
        )
