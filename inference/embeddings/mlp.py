"""Multilayer perceptron with LayerNorm on flattened data."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from inference.embeddings.base import Shapes, flat, rngs


class Dense(nnx.Module):
    """Linear layers, each but the last followed by LayerNorm and SiLU."""

    def __init__(self, n_in: int, width: int, depth: int, n_out: int, *, rngs: nnx.Rngs):
        sizes = [n_in, *[width] * depth]
        self.layers = nnx.List(
            [nnx.Linear(a, b, rngs=rngs) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        )
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(depth)])
        self.out = nnx.Linear(sizes[-1], n_out, rngs=rngs)

    def __call__(self, x: Float[Array, "... into"]) -> Float[Array, "... out"]:
        """The last layer's output."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = jax.nn.silu(norm(layer(x)))
        return self.out(x)


class MLPNet(eqx.Module):
    """Flatten, then dense layers."""

    dense: Dense

    def __call__(self, x: Any) -> Float[Array, "out"]:
        """The embedding of one event."""
        return self.dense(flat(x))


@dataclass(frozen=True)
class MLP:
    """Description of dense layers.

    Args:
        n_out: length of the embedding.
        width: of the hidden layers.
        depth: hidden layers.
    """

    kind: ClassVar[str] = "mlp"
    scales_itself: ClassVar[bool] = False
    n_out: int = 32
    width: int = 64
    depth: int = 2

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> MLPNet:
        """An untrained network."""
        n_in = sum(math.prod(shape) for shape in shapes.values())
        return MLPNet(Dense(n_in, self.width, self.depth, self.n_out, rngs=rngs(key)))
