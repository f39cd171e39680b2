"""What tuned cuts must obey: efficiency of the signal, expected background, ranges of parameters."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from inference.tuning.samples import Table

_LEAST = 1e-6  # of a ratio whose logarithm is taken


@dataclasses.dataclass(frozen=True)
class Efficiency:
    """The signal's efficiency is this one, to `tolerance`."""

    value: float
    tolerance: float = 0.003

    def __post_init__(self):
        _check_fraction("efficiency", self.value)


@dataclasses.dataclass(frozen=True)
class MinEfficiency:
    """The signal's efficiency is at least this; of one sample, or of all signal."""

    value: float
    sample: str | None = None

    def __post_init__(self):
        _check_fraction("minimum efficiency", self.value)


@dataclasses.dataclass(frozen=True)
class MaxBackground:
    """At most so many expected background events remain; of one sample, or of all backgrounds."""

    value: float
    sample: str | None = None

    def __post_init__(self):
        if not (np.isfinite(self.value) and self.value > 0):
            raise ValueError(f"maximum background is {self.value} events: must be above 0 and finite")


@dataclasses.dataclass(frozen=True)
class Bounds:
    """A parameter `cut.parameter` stays between low and high; a list of knots, each of them."""

    parameter: str
    low: float = -np.inf
    high: float = np.inf


Limit = Efficiency | MinEfficiency | MaxBackground
Constraint = Limit | Bounds


def _check_fraction(what: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{what} is {value}: must be above 0 and at most 1")


def bounds_of(constraints: Sequence[Constraint]) -> dict[str, tuple[float, float]]:
    """Bounds of each parameter; several on one are all obeyed."""
    out: dict[str, tuple[float, float]] = {}
    for c in constraints:
        if isinstance(c, Bounds):
            low, high = out.get(c.parameter, (-np.inf, np.inf))
            out[c.parameter] = (max(low, c.low), min(high, c.high))
    return out


def check(constraints: Sequence[Constraint], table: Table) -> None:
    """Refuse what can be seen to contradict before anything is tuned.

    Raises:
        ValueError: for a sample that is not there, or of the wrong kind, or efficiencies that exclude each
            other.
    """
    signals = dict(zip(table.names, table.signal, strict=True))
    asked = [c for c in constraints if isinstance(c, Efficiency)]
    if len({c.value for c in asked}) > 1:
        raise ValueError(
            f"constraints contradict each other: efficiency is {asked[0].value} and {asked[1].value}"
        )
    for c in constraints:
        if isinstance(c, MinEfficiency | MaxBackground) and c.sample is not None:
            if c.sample not in signals:
                raise ValueError(f"constraint on sample {c.sample!r}: samples are {', '.join(signals)}")
            if signals[c.sample] != isinstance(c, MinEfficiency):
                kind = "signal" if signals[c.sample] else "background"
                raise ValueError(f"{type(c).__name__} on {c.sample!r}, which is a {kind}")
        if isinstance(c, MinEfficiency) and c.sample is None and asked and asked[0].value < c.value:
            raise ValueError(
                f"constraints contradict each other: efficiency is {asked[0].value} and at least {c.value}"
            )


def ratios(
    constraints: Sequence[Constraint], names: Sequence[str], signal: Sequence[bool], expected: Any, kept: Any
) -> list[Any]:
    """What is kept over what is asked for, of each constraint but bounds.

    Args:
        constraints: all.
        names: of the classes of events.
        signal: whether each class is signal.
        expected: events of each class before cuts.
        kept: the same behind them. Gradients flow through it.
    """
    out = []
    for c in limits_of(constraints):
        rows = rows_of(c, names, signal)
        asked = 1.0 if isinstance(c, MaxBackground) else sum(expected[i] for i in rows)
        out.append(sum(kept[i] for i in rows) / (c.value * asked))
    return out


def limits_of(constraints: Sequence[Constraint]) -> list[Limit]:
    """All but bounds."""
    return [c for c in constraints if not isinstance(c, Bounds)]


def rows_of(constraint: Constraint, names: Sequence[str], signal: Sequence[bool]) -> list[int]:
    """Classes that the constraint is on."""
    wants_signal, one = not isinstance(constraint, MaxBackground), getattr(constraint, "sample", None)
    return [i for i, name in enumerate(names) if signal[i] == wants_signal and (one is None or name == one)]


def excesses(constraints: Sequence[Constraint], ratios: Sequence[Any]) -> list[Any]:
    """By how much each constraint but bounds is broken, relative; <= 0 obeys, but 0 alone an efficiency."""
    return [1 - r if isinstance(c, MinEfficiency) else r - 1 for c, r in _pairs(constraints, ratios)]


def log_excesses(constraints: Sequence[Constraint], ratios: Sequence[Any]) -> list[Any]:
    """The same as logarithms, of one size for a background 100 times too high and 100 times too low."""
    return [
        jnp.log(jnp.maximum(r, _LEAST)) * (-1 if isinstance(c, MinEfficiency) else 1)
        for c, r in _pairs(constraints, ratios)
    ]


def _pairs(constraints, values):
    return zip(limits_of(constraints), values, strict=True)


def allowed(constraint: Constraint) -> float:
    """Relative excess that still obeys."""
    return constraint.tolerance / constraint.value if isinstance(constraint, Efficiency) else 0.0


def obeyed(constraints: Sequence[Constraint], broken: Sequence[Any]) -> bool:
    """Whether all excesses, in the order of `excesses`, are within what is allowed."""
    return all(
        (abs(excess) if isinstance(c, Efficiency) else excess) <= allowed(c)
        for c, excess in _pairs(constraints, broken)
    )
