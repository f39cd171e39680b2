"""Set network on an array of sensors: each sees its signal, its place and its neighbours; dead ones do not.

A sensor that is masked gives nothing to its neighbours or to the sums, whatever number stands in its place.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from inference.embeddings.base import Shapes, rngs
from inference.embeddings.mlp import Dense


class HitPatternNet(eqx.Module):
    """Photoelectrons of each sensor -> vector."""

    of_sensor: Dense
    of_sums: Dense
    place: Float[Array, "sensor 2"]  # of each sensor over the array's radius
    neighbours: Int[Array, "sensor neighbour"]
    alive: Bool[Array, "sensor"]
    signal: str = eqx.field(static=True)
    mask: str = eqx.field(static=True)

    def __call__(self, x: Any) -> Float[Array, "out"]:
        """The embedding of one event."""
        pe = x[self.signal] if self.signal else x
        alive = self.alive & x[self.mask].astype(bool) if self.mask else self.alive
        shown = alive.astype(pe.dtype)
        # a root makes the fluctuations of counts about equal, and with 3/8 has a slope at no light: Anscombe,
        # Biometrika 35 (1948) 246
        root = jnp.sqrt(jnp.maximum(jnp.where(alive, pe, 0.0), 0.0) + 0.375) - 0.375**0.5
        near, n_near = shown[self.neighbours], jnp.sum(shown[self.neighbours], axis=-1)
        around = jnp.sum(root[self.neighbours] * near, axis=-1) / jnp.maximum(n_near, 1.0)
        place = jax.lax.stop_gradient(self.place)
        features = jnp.concatenate([jnp.stack([root, around, shown], axis=-1), place], axis=-1)
        each = jax.nn.silu(self.of_sensor(features)) * shown[:, None]
        # means say where and how bright; the root-weighted mean sharpens the place
        weights = root / jnp.maximum(jnp.sum(root), 1e-6)
        n_alive = jnp.maximum(jnp.sum(shown), 1.0)
        total = jnp.sum(jnp.where(alive, jnp.maximum(pe, 0.0), 0.0))
        centre = weights @ place
        summed = [jnp.sum(each, axis=0) / n_alive, weights @ each, centre, jnp.log1p(total)[None]]
        return self.of_sums(jnp.concatenate(summed))


@dataclass(frozen=True)
class HitPattern:
    """Description of a set network on one array.

    Args:
        positions_mm: x and y of each sensor.
        alive: whether each sensor works; all if not given.
        signal: name of the entry of x with the photoelectrons of each sensor; "" where x is that array.
        mask: name of an entry of x that says which sensors work in this event; "" if none does.
        n_neighbours: nearest sensors that each sensor sees.
        n_out: length of the embedding.
        width: of the networks.
    """

    kind: ClassVar[str] = "hit_pattern"
    scales_itself: ClassVar[bool] = True
    positions_mm: tuple[tuple[float, float], ...]
    alive: tuple[bool, ...] = ()
    signal: str = ""
    mask: str = ""
    n_neighbours: int = 6
    n_out: int = 32
    width: int = 32

    def build(self, key: PRNGKeyArray, shapes: Shapes) -> HitPatternNet:
        """An untrained network.

        Raises:
            ValueError: if the positions, the mask and the data are not of one array.
        """
        place = np.asarray(self.positions_mm, np.float64)
        alive = np.asarray(self.alive or [True] * len(place), bool)
        if shapes.get(self.signal) != (len(place),) or len(alive) != len(place):
            raise ValueError(
                f"hit pattern: {len(place)} positions, {len(alive)} entries of alive, x of shapes {shapes}: "
                f"entry {self.signal!r} must have one number a sensor"
            )
        apart = np.hypot(*(place[:, None] - place[None]).transpose(2, 0, 1))
        neighbours = np.argsort(apart, axis=1)[:, 1 : 1 + self.n_neighbours]
        key_sensor, key_sums = jax.random.split(key)
        return HitPatternNet(
            Dense(5, self.width, 1, self.width, rngs=rngs(key_sensor)),
            Dense(2 * self.width + 3, 2 * self.width, 1, self.n_out, rngs=rngs(key_sums)),
            jnp.asarray(place / np.abs(place).max()),
            jnp.asarray(neighbours),
            jnp.asarray(alive),
            self.signal,
            self.mask,
        )
