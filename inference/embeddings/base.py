"""What an embedding is: a network that turns one event's data into a short vector."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

Shapes = dict[str, tuple[int, ...]]  # of one event; the name is "" where x is a plain array


class Description(Protocol):
    """A frozen dataclass of plain numbers, which files name; `build` gives the network.

    A network with a method `started(x)` is asked before training for itself with what it takes from a batch
    of x, such as scales of its own.
    """

    kind: ClassVar[str]
    scales_itself: ClassVar[bool]  # x comes as it is, not standardised

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> Any:
        """An untrained network: x of one event -> vector."""
        ...


def flat(x: Any) -> Float[Array, "feature"]:
    """All entries of one event's data, dictionaries in the order of their names."""
    return jnp.concatenate([jnp.ravel(leaf).astype(jnp.result_type(float)) for leaf in jax.tree.leaves(x)])


def rngs(key: PRNGKeyArray) -> nnx.Rngs:
    """Random streams as flax wants them, from a key."""
    return nnx.Rngs(key)


class FeaturesNet(eqx.Module):
    """The data themselves."""

    def __call__(self, x: Any) -> Float[Array, "feature"]:
        """The flattened data."""
        return flat(x)


@dataclass(frozen=True)
class Features:
    """Description of no embedding at all: the flow sees the standardised data."""

    kind: ClassVar[str] = "features"
    scales_itself: ClassVar[bool] = False

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> FeaturesNet:
        """Nothing to train."""
        del key, shapes
        return FeaturesNet()


@dataclass(frozen=True)
class Raw:
    """Description of no embedding, and no standardising either: x is a summary in units of its own."""

    kind: ClassVar[str] = "raw"
    scales_itself: ClassVar[bool] = True

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> FeaturesNet:
        """Nothing to train."""
        del key, shapes
        return FeaturesNet()
