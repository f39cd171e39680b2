"""Cuts as one vector: every threshold in units of the signal's spread in the cut's own variable."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim.selection import AbstractCut, Curve, CutSet, register_trees
from dmsim.selection.arrays import namespace

Cuts = CutSet | Sequence[AbstractCut]

NO_MARGIN = (
    1e9  # margin of an event whose variable is not defined, where the cut says that it passes or fails
)


def side_margins(cuts: CutSet, columns: Mapping[str, Any]) -> list[Any]:
    """Signed distances from every threshold, cut by cut; > 0 passes. Gradient: exact."""
    out = []
    for cut in cuts:
        for margin in cut.margins(columns):
            if cut.missing != "refuse":
                absent = NO_MARGIN if cut.missing == "pass" else -NO_MARGIN
                xp = namespace(margin)
                margin = xp.where(xp.isnan(margin), absent, margin)  # noqa: PLW2901
            out.append(margin)
    return out


@dataclasses.dataclass(frozen=True)
class Vector:
    """The way between cuts and a vector in which 1 is a spread of the signal."""

    origin: Float[np.ndarray, "parameter"]  # thresholds at vector 0
    scale: Float[np.ndarray, "parameter"]  # spread of the signal in the variable of each
    lower: Float[np.ndarray, "parameter"]  # bounds of the thresholds
    upper: Float[np.ndarray, "parameter"]
    names: tuple[str, ...]  # `cut.side`, with [i] for knots
    groups: tuple[tuple[int, int], ...]  # of each threshold or curve: its first number, and how many
    rebuild: Callable[[Any], CutSet]

    def __len__(self) -> int:
        """Number of parameters."""
        return len(self.origin)

    def values(self, vector: Array) -> Float[Array, "parameter"]:
        """Thresholds. Gradient: exact."""
        return jnp.asarray(self.origin, jnp.float32) + jnp.asarray(self.scale, jnp.float32) * vector

    def of_values(self, values: Float[np.ndarray, "... parameter"]) -> Float[Array, "... parameter"]:
        """The vector of these thresholds."""
        return jnp.asarray((values - self.origin) / self.scale, jnp.float32)

    def cuts(self, vector: Array) -> CutSet:
        """Cuts with these thresholds. Gradient: exact."""
        return self.rebuild(self.values(vector))

    def project(self, vector: Array) -> Float[Array, "parameter"]:
        """The nearest vector within the bounds."""
        low, high = ((bound - self.origin) / self.scale for bound in (self.lower, self.upper))
        return jnp.clip(vector, jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32))


def make_vector(
    cuts: CutSet,
    spreads: Mapping[str, Sequence[float]],
    ends: Mapping[str, tuple[float, float]],
    bounds: Mapping[str, tuple[float, float]],
) -> Vector:
    """The vector whose 0 is these cuts.

    Args:
        cuts: start.
        spreads: of the signal's margins by name of the cut, one a side, > 0.
        ends: lowest and highest value of each cut's variable; thresholds stay within, or where they start.
        bounds: `cut.side` or `cut.side[i]` -> lowest and highest threshold.

    Raises:
        ValueError: if a bound is of no parameter or empty, or a threshold starts outside of its bounds.
    """
    register_trees()
    leaves, treedef = jax.tree_util.tree_flatten(cuts)
    names, scale, groups, within = [], [], [], []
    for cut in cuts:
        for side, spread in zip(cut.sides, spreads[cut.name], strict=True):
            threshold = getattr(cut, side)
            size = np.size(threshold.values) if isinstance(threshold, Curve) else 1
            groups.append((len(names), size))
            base = f"{cut.name}.{side}"
            names += [f"{base}[{i}]" for i in range(size)] if isinstance(threshold, Curve) else [base]
            scale += [float(spread)] * size
            within += [ends[cut.name]] * size
    shapes = [np.shape(leaf) for leaf in leaves]

    def rebuild(values):
        parts = [
            values[first : first + size].reshape(shape)
            for (first, size), shape in zip(groups, shapes, strict=True)
        ]
        return jax.tree_util.tree_unflatten(treedef, parts)

    origin = np.concatenate([np.ravel(np.asarray(leaf, float)) for leaf in leaves])
    lower, upper = _limits(names, origin, bounds)
    low, high = np.asarray(within, float).T
    lower = np.maximum(lower, np.minimum(low, origin))
    upper = np.minimum(upper, np.maximum(high, origin))
    return Vector(origin, np.asarray(scale), lower, upper, tuple(names), tuple(groups), rebuild)


def _limits(
    names: Sequence[str], origin: np.ndarray, bounds: Mapping[str, tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = np.full(len(names), -np.inf), np.full(len(names), np.inf)
    for name, (low, high) in bounds.items():
        rows = [i for i, known in enumerate(names) if known == name or known.startswith(f"{name}[")]
        if not rows:
            raise ValueError(f"bound on {name!r}, which is no parameter: they are {', '.join(names)}")
        if not low <= high:
            raise ValueError(f"bounds of {name} contradict each other: at least {low} and at most {high}")
        lower[rows], upper[rows] = low, high
    outside = (origin < lower) | (origin > upper)
    if outside.any():
        i = int(np.argmax(outside))
        raise ValueError(
            f"{names[i]} starts at {origin[i]:g}, outside its bounds {lower[i]:g} to {upper[i]:g}"
        )
    return lower, upper
