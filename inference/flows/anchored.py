"""A coupling flow around an anchor: a rough estimate and its width that come with the condition.

Where data say a parameter to a thousandth of its prior, a flow on the prior's scale spends its training on
finding the place. Here the condition begins with an estimate m and a width w of each entry, and the flow is
one of (value - m) / w, which is near a unit normal: what it learns are biases, shapes and correlations. It
stays a normalised density whatever the anchor is; a poor anchor costs training, not correctness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from typing_extensions import override

from inference.flows.base import AbstractFlow
from inference.flows.coupling import Coupling, CouplingFlow


class AnchoredFlow(AbstractFlow):
    """The condition is [mean, log width of each kind, (cos, sin), what the inner flow sees, kind]."""

    size: int = eqx.field(static=True)
    n_condition: int = eqx.field(static=True)
    inner: CouplingFlow
    n_kinds: int = eqx.field(static=True)
    plane: tuple[int, ...] = eqx.field(static=True)

    def _parts(self, condition: Float[Array, "batch condition"]):
        """Mean and log width of the event's kind, cosine and sine, and the inner condition."""
        n = max(self.n_kinds, 1)
        anchors = condition[:, : 2 * n * self.size].reshape(-1, n, 2, self.size)
        rest = condition[:, 2 * n * self.size :]
        if self.n_kinds:
            kind = condition[:, -self.n_kinds :]
            mean, log_width = jnp.moveaxis(jnp.sum(anchors * kind[:, :, None, None], axis=1), 1, 0)
        else:
            mean, log_width = anchors[:, 0, 0], anchors[:, 0, 1]
        turn = (rest[:, 0], rest[:, 1]) if self.plane else None
        return mean, log_width, turn, rest[:, 2:] if self.plane else rest

    def _turned(self, value: Array, turn, sign: float) -> Array:
        """The plane's two entries turned by the angle."""
        if turn is None:
            return value
        i, j = self.plane
        cos, sin = (part.reshape(-1, *(1,) * (value.ndim - 2)) for part in turn)
        a, b = value[..., i], value[..., j]
        turned = value.at[..., i].set(cos * a + sign * sin * b)
        return turned.at[..., j].set(cos * b - sign * sin * a)

    @override
    def log_prob(
        self, value: Float[Array, "batch size"], condition: Float[Array, "batch condition"]
    ) -> Float[Array, "batch"]:
        mean, log_width, turn, inner = self._parts(condition)
        unit = self._turned(value - mean, turn, 1.0) * jnp.exp(-log_width)
        return self.inner.log_prob(unit, inner) - jnp.sum(log_width, axis=-1)

    @override
    def push(
        self, noise: Float[Array, "batch draw size"], condition: Float[Array, "batch condition"]
    ) -> Float[Array, "batch draw size"]:
        mean, log_width, turn, inner = self._parts(condition)
        unit = self.inner.push(noise, inner) * jnp.exp(log_width)[:, None]
        return mean[:, None] + self._turned(unit, turn, -1.0)


@dataclass(frozen=True)
class Anchored:
    """Description of an anchored coupling flow; take `embeddings.Raw`, which leaves anchors as they are.

    x begins with the anchors: for each kind the means of all entries of the unbounded vector, then the
    logarithms of their widths; then, with a plane, cosine and sine of its angle.

    Args:
        n_layers: of the inner flow, as its other arguments.
        width: of the conditioners' hidden layers.
        n_blocks: residual blocks of a conditioner.
        n_bins: of each spline, > 1.
        bound: splines act on [-bound, bound] anchor widths.
        n_kinds: labels of the prior's category, each with an anchor of its own; 0 without category.
        plane: two entries whose widths are along and across a direction, as radial and tangential.
    """

    kind: ClassVar[str] = "anchored"
    scales_itself: ClassVar[bool] = True  # anchors are in the unbounded vector's own units
    n_layers: int = 4
    width: int = 48
    n_blocks: int = 2
    n_bins: int = 8
    bound: float = 6.0
    n_kinds: int = 0
    plane: Sequence[int] = ()

    def __post_init__(self):
        if len(self.plane) not in (0, 2):
            raise ValueError(f"plane is {tuple(self.plane)}: must be two entries, or none")
        object.__setattr__(self, "plane", tuple(self.plane))

    def n_anchor(self, size: int) -> int:
        """Numbers at the beginning of x that are anchors."""
        return 2 * max(self.n_kinds, 1) * size + 2 * bool(self.plane)

    def build(self, key: PRNGKeyArray, size: int, n_condition: int) -> AnchoredFlow:
        """An untrained flow: unit normals around the anchors.

        Raises:
            ValueError: if the condition is too short for the anchors.
        """
        n_inner = n_condition - self.n_anchor(size)
        if n_inner < self.n_kinds:
            raise ValueError(
                f"condition has {n_condition - self.n_kinds} numbers: anchors of {size} parameters and "
                f"{max(self.n_kinds, 1)} kinds take {self.n_anchor(size)}"
            )
        inner = Coupling(self.n_layers, self.width, self.n_blocks, self.n_bins, self.bound)
        built = inner.build(key, size, n_inner)
        return AnchoredFlow(size, n_condition, built, self.n_kinds, tuple(self.plane))
