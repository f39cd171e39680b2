"""One-dimensional convolutions over a summed waveform."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from inference.embeddings.base import Shapes, rngs
from inference.embeddings.mlp import Dense


class Halving(nnx.Module):
    """Convolutions of stride 2, each followed by LayerNorm and SiLU."""

    def __init__(self, n_channels: int, width: int, n_layers: int, kernel: int, *, rngs: nnx.Rngs):
        sizes = [n_channels, *[width] * n_layers]
        self.layers = nnx.List(
            [
                nnx.Conv(a, b, (kernel,), strides=2, rngs=rngs)
                for a, b in zip(sizes[:-1], sizes[1:], strict=True)
            ]
        )
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(n_layers)])

    def __call__(self, x: Float[Array, "sample channel"]) -> Float[Array, "short width"]:
        """The last layer's output."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = jax.nn.silu(norm(layer(x)))
        return x


class WaveformNet(eqx.Module):
    """A waveform [sample] or [channel, sample] -> vector."""

    halving: Halving
    dense: Dense
    signal: str = eqx.field(static=True)

    def __call__(self, x: Any) -> Float[Array, "out"]:
        """The embedding of one event."""
        wave = x[self.signal] if self.signal else x
        channels = wave[:, None] if wave.ndim == 1 else wave.T
        # amplitudes span decades; arsinh is linear at the noise and logarithmic above
        features = self.halving(jnp.arcsinh(channels))
        area = jnp.log1p(jnp.maximum(jnp.sum(channels, axis=0), 0.0))
        return self.dense(jnp.concatenate([jnp.ravel(features), area]))


@dataclass(frozen=True)
class Waveform:
    """Description of a convolutional network.

    Args:
        signal: name of the entry of x with the samples, in photoelectrons; "" where x is that array.
        n_layers: each halves the number of samples.
        kernel: samples that a convolution sees.
        width: channels of the layers.
        n_out: length of the embedding.
    """

    kind: ClassVar[str] = "waveform"
    scales_itself: ClassVar[bool] = True
    signal: str = ""
    n_layers: int = 3
    kernel: int = 5
    width: int = 16
    n_out: int = 32

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> WaveformNet:
        """An untrained network.

        Raises:
            ValueError: if the data are no waveform.
        """
        shape = shapes.get(self.signal, ())
        if len(shape) not in (1, 2):
            raise ValueError(
                f"waveform: entry {self.signal!r} of x must be [sample] or [channel, sample], not {shape}"
            )
        n_channels, n_samples = (1, *shape) if len(shape) == 1 else shape
        for _ in range(self.n_layers):
            n_samples = math.ceil(n_samples / 2)
        key_wave, key_dense = jax.random.split(key)
        halving = Halving(n_channels, self.width, self.n_layers, self.kernel, rngs=rngs(key_wave))
        n_in = n_samples * self.width + n_channels
        return WaveformNet(
            halving, Dense(n_in, 2 * self.n_out, 1, self.n_out, rngs=rngs(key_dense)), self.signal
        )
