"""Simulated pairs (theta, x), and what the data of one event look like."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

# (theta, x), (theta, x, score) with the gradient in theta of log p(x, latents | theta), or
# (theta, x, score or None, weight) with the weight of each event in the loss: see `Cached`
Simulate = Callable[[PRNGKeyArray, int], tuple[Any, ...]]


@dataclass(frozen=True)
class Layout:
    """Names and shapes of one event's data: an array (named ""), or a dictionary of arrays."""

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, x: Any) -> "Layout":
        """The layout of a batch: the first axis is left out.

        Raises:
            ValueError: if x is neither an array nor a flat dictionary of arrays.
        """
        parts = x if isinstance(x, Mapping) else {"": x}
        if not parts or not all(hasattr(part, "shape") and part.shape for part in parts.values()):
            raise ValueError(
                "x must be an array [event, ...] or a dictionary of such arrays, not "
                f"{type(x).__name__} of {[type(part).__name__ for part in parts.values()]}"
            )
        return cls(tuple((name, tuple(int(n) for n in parts[name].shape[1:])) for name in sorted(parts)))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By name."""
        return dict(self.entries)

    @property
    def n_features(self) -> int:
        """Numbers of one event."""
        return sum(math.prod(shape) for _, shape in self.entries)

    def batched(self, x: Any) -> tuple[Any, bool]:
        """The data with a leading event axis, and whether it had one.

        Raises:
            ValueError: for data with other names or shapes than the estimator was trained for, or not finite.
        """
        parts = dict(x) if isinstance(x, Mapping) else {"": x}
        expected = self.shapes
        if set(parts) != set(expected):
            named = "an array" if set(expected) == {""} else f"the entries {', '.join(sorted(expected))}"
            given = "an array" if set(parts) == {""} else f"the entries {', '.join(sorted(parts))}"
            raise ValueError(f"x is {given}: this estimator was trained on {named}")
        parts = {name: jnp.asarray(part) for name, part in parts.items()}
        single = {name: parts[name].shape == shape for name, shape in expected.items()}
        for name, shape in expected.items():
            got = parts[name].shape
            if got not in (shape, got[:1] + shape) or single[name] != next(iter(single.values())):
                what = f"x[{name!r}]" if name else "x"
                raise ValueError(
                    f"{what} has shape {got}: this estimator was trained on {shape} an event, "
                    f"so give {shape} or (event, {', '.join(map(str, shape))})"
                )
        if next(iter(single.values())):
            parts = {name: part[None] for name, part in parts.items()}
        counts = {name: part.shape[0] for name, part in parts.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"entries of x differ in their number of events: {counts}")
        check_finite(parts if set(parts) != {""} else parts[""])
        rebuilt = parts[""] if set(parts) == {""} else parts
        return rebuilt, not next(iter(single.values()))


def check_finite(x: Any) -> None:
    """Raise for NaN or infinity.

    Raises:
        ValueError: names the entry, the number of events and the first.
    """
    for name, part in x.items() if isinstance(x, Mapping) else [("", x)]:
        values = np.asarray(part)
        if not np.issubdtype(values.dtype, np.inexact):
            continue
        bad = np.flatnonzero(~np.isfinite(values.reshape(values.shape[0], -1)).all(axis=1))
        if bad.size:
            what = f"x[{name!r}]" if name else "x"
            where = f"{bad.size} of {values.shape[0]} events, first in event {bad[0]}"
            raise ValueError(f"{what} is not finite in {where}")


@dataclass(frozen=True)
class Cached:
    """A fixed set of simulated pairs, used pass after pass.

    Args:
        theta: parameters, columns as the prior's.
        x: data of each, an array or a dictionary of arrays.
        score: gradient in theta of log p(x, latents | theta), where the simulator gives it.
        weight: of each event in the loss, of mean 1, > 0. Prior density over that of a proposal leaves the
            posterior what it is where theta was drawn from the proposal, and so does any factor that
            depends on x alone: events that matter can be simulated more often, and counted more.
    """

    theta: Float[np.ndarray, "event parameter"]
    x: Any
    score: Float[np.ndarray, "event continuous"] | None = None
    weight: Float[np.ndarray, "event"] | None = None

    def __post_init__(self):
        counts = {len(part) for part in jax.tree.leaves((self.theta, self.x, self.score, self.weight))}
        if len(counts) != 1:
            raise ValueError(f"theta and x differ in their number of events: {sorted(counts)}")

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.theta)

    @classmethod
    def draw(cls, key: PRNGKeyArray, simulate: Simulate, n: int, *, chunk: int = 65536) -> "Cached":
        """Simulate a set once, in chunks of one size, so that there is one compilation."""
        size = min(n, chunk)
        compiled = eqx.filter_jit(simulate)
        parts = [
            jax.tree.map(np.asarray, compiled(jax.random.fold_in(key, i), size)) for i in range(-(-n // size))
        ]
        return cls(*jax.tree.map(lambda *each: np.concatenate(each)[:n], *parts))

    def split(self, n_last: int) -> tuple["Cached", "Cached"]:
        """All but the last pairs, and the last."""
        first, whole = len(self) - n_last, (self.theta, self.x, self.score, self.weight)
        return (
            Cached(*jax.tree.map(lambda part: part[:first], whole)),
            Cached(*jax.tree.map(lambda part: part[first:], whole)),
        )
