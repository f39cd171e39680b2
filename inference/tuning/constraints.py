"""What tuned cuts must obey: efficiency of the signal, expected background, ranges of parameters."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.tuning.samples import Table


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


Constraint = Efficiency | MinEfficiency | MaxBackground | Bounds


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


def excesses(
    constraints: Sequence[Constraint], names: Sequence[str], signal: Sequence[bool], expected: Any, kept: Any
) -> list[tuple[Any, bool]]:
    """By how much each constraint but bounds is broken, relative; <= 0 obeys. And whether 0 is asked for.

    Args:
        constraints: all.
        names: of the classes of events.
        signal: whether each class is signal.
        expected: events of each class before cuts.
        kept: the same behind them. Gradients flow through it.
    """
    out = []
    for c in constraints:
        if isinstance(c, Bounds):
            continue
        wants_signal = not isinstance(c, MaxBackground)
        one = getattr(c, "sample", None)
        rows = [
            i for i, name in enumerate(names) if signal[i] == wants_signal and (one is None or name == one)
        ]
        events = sum(kept[i] for i in rows)
        if isinstance(c, MaxBackground):
            out.append((events / c.value - 1, False))
        else:
            ratio = events / (c.value * sum(expected[i] for i in rows)) - 1
            out.append((ratio, True) if isinstance(c, Efficiency) else (-ratio, False))
    return out


def obeyed(constraints: Sequence[Constraint], broken: Sequence[tuple[Any, bool]]) -> bool:
    """Whether all excesses, in the order of `excesses`, are within what is allowed."""
    asked = [c for c in constraints if not isinstance(c, Bounds)]
    for c, (excess, equal) in zip(asked, broken, strict=True):
        allowed = c.tolerance / c.value if isinstance(c, Efficiency) else 0.0
        if (abs(excess) if equal else excess) > allowed:
            return False
    return True
