"""Cuts in order, with names of their own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float

from dmsim.selection.cut import AbstractCut
from dmsim.selection.quantities import Columns
from dmsim.selection.trees import tree
from dmsim.selection.weighted import weighted_quantiles

Softness = float | Mapping[str, Any]  # one for all, or by name: one, or one a side


@tree(leaves=("cuts",))
@dataclass(frozen=True, eq=False)
class CutSet:
    """An event is selected if it passes every cut.

    Args:
        cuts: in the order of the cut flow.

    Raises:
        ValueError: if two cuts have the same name, or there is none.
    """

    cuts: tuple[AbstractCut, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "cuts", tuple(self.cuts))
        if not self.cuts:
            raise ValueError("a set of cuts needs at least one cut")
        names = [cut.name for cut in self.cuts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two cuts are called {twice}: names must be unique")

    def __iter__(self) -> Iterator[AbstractCut]:
        return iter(self.cuts)

    def __len__(self) -> int:
        """Number of cuts."""
        return len(self.cuts)

    def __getitem__(self, name: str) -> AbstractCut:
        for cut in self.cuts:
            if cut.name == name:
                return cut
        raise ValueError(f"there is no cut {name}: the set has {', '.join(cut.name for cut in self.cuts)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the cuts."""
        return tuple(cut.name for cut in self.cuts)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the events that the cuts need."""
        return tuple(dict.fromkeys(name for cut in self.cuts for name in cut.columns))

    def reduce(self, events: Columns) -> dict[str, Float[Any, "event"]]:
        """What the margins need of the events: each cut's variable, computed once, and what curves follow.

        Every other method takes these columns in place of the events. Cuts that look at an event's
        predecessors in time work inside compiled code only through it.
        """
        return {key: values for cut in self.cuts for key, values in cut.reduce(events).items()}

    def margins(self, events: Columns) -> dict[str, list[Float[Any, "event"]]]:
        """Of each cut, by name: one array a side. Gradient: exact."""
        return {cut.name: cut.margins(events) for cut in self.cuts}

    def passes(self, events: Columns) -> Bool[Any, "event"]:
        """The hard reading. Gradient: none."""
        good = self.cuts[0].passes(events)
        for cut in self.cuts[1:]:
            good = good & cut.passes(events)
        return good

    def log_acceptance(self, events: Columns, softness: Softness) -> Float[Any, "event"]:
        """The soft reading: sum of the cuts' log-acceptances.

        Args:
            events: columns, or what `reduce` made of them.
            softness: > 0: one number for all, or by name of the cut, in its unit, one or one a side.

        Gradient: exact.
        """
        total: Any = 0.0
        for cut in self.cuts:
            scale = softness[cut.name] if isinstance(softness, Mapping) else softness
            total = total + cut.log_acceptance(events, scale)
        return total

    def scales(
        self, events: Columns, weights: Float[np.ndarray, "event"] | None = None
    ) -> dict[str, Float[np.ndarray, "side"]]:
        """Spread of each cut's margins over these events: half of the central 68 %, in the cut's unit.

        What softness and steps are best measured in, for the signal's events. Where the central 68 % are one
        value it is the standard deviation, and where that is 0, 1.

        Args:
            events: columns, or what `reduce` made of them.
            weights: of the events, >= 0; 1 by default.
        """
        margins = self.margins(events)
        return {
            name: np.array([_spread(np.asarray(margin, float), weights) for margin in sides])
            for name, sides in margins.items()
        }

    def roughness(self, scales: Mapping[str, Sequence[float]] | None = None) -> Float[Any, ""]:
        """Smoothness penalty of all curves, each in units of its side's scale squared; 0 without curves.

        Gradient: exact.
        """
        total: Any = 0.0
        for cut in self.cuts:
            for side, curve in cut.curves.items():
                scale = 1.0 if scales is None else scales[cut.name][cut.sides.index(side)]
                total = total + curve.roughness() / scale**2
        return total

    def check(self, events: Columns) -> None:
        """Refuse events that a cut cannot judge.

        Raises:
            ValueError: as `AbstractCut.check`; names cut, column and row.
        """
        for cut in self.cuts:
            cut.check(events)

    def replaced(self, *cuts: AbstractCut) -> Self:
        """The same set with these in place of the cuts of their names."""
        new = {cut.name: cut for cut in cuts}
        for name in new:
            self[name]  # that it is there
        return type(self)(tuple(new.get(cut.name, cut) for cut in self.cuts))


def _spread(values: Float[np.ndarray, "event"], weights: Float[np.ndarray, "event"] | None) -> float:
    weights = np.ones(values.size) if weights is None else np.asarray(weights, float)
    good = np.isfinite(values) & (weights > 0)
    values, weights = values[good], weights[good]
    if values.size == 0:
        return 1.0
    low, high = weighted_quantiles(values, weights, [0.16, 0.84])
    if high > low:
        return float(high - low) / 2
    mean = np.average(values, weights=weights)
    deviation = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    return deviation if deviation > 0 else 1.0
