"""What every cut is: a variable of the event between a lower and an upper threshold."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import numpy as np
from jaxtyping import Bool, Float

from dmsim.selection.arrays import is_concrete, log_sigmoid, namespace
from dmsim.selection.curves import Curve
from dmsim.selection.quantities import Columns, needs, quantity
from dmsim.selection.trees import register_trees, tree

Threshold = Any  # float, array [] of NumPy or JAX, Curve, or None for a side that is open
MISSING = ("refuse", "fail", "pass")
SIDES = ("low", "high")


_C = TypeVar("_C", bound="AbstractCut")

KINDS: dict[str, type["AbstractCut"]] = {}  # of cuts, by the name that files use


@dataclass_transform(kw_only_default=True, frozen_default=True)
def cut_kind(kind: str) -> Callable[[type[_C]], type[_C]]:
    """Make a subclass of `AbstractCut` a frozen dataclass, a tree of its thresholds, and known to files."""

    def mark(cls: type[_C]) -> type[_C]:
        cls = tree(leaves=SIDES)(dataclass(frozen=True, kw_only=True, eq=False)(cls))
        cls.KIND = kind
        KINDS[kind] = cls
        return cls

    return mark


@dataclass(frozen=True, eq=False)
class AbstractCut(ABC):
    """An event passes while its `variable` lies strictly between `low` and `high`.

    A subclass says what its variable is: decorated with `@cut_kind("name")`, it defines `unit`,
    `columns_of_variable` and `variable`, reads columns through `quantities.quantity`, and has static fields
    with defaults. Hard and soft reading follow from the variable. Thresholds are the leaves of the tree: each
    enters its margin with slope +1 or -1, so one scale serves margin and threshold.

    Args:
        name: unique in a set of cuts.
        low: lower threshold in the unit of the variable: a number, a `Curve`, or None.
        high: upper threshold, likewise.
        missing: what an event does whose variable is not defined (NaN): "refuse" (an error that names it),
            "fail" or "pass".
        why: what the cut is for, in a few words.

    Raises:
        ValueError: if no threshold is given, or no event could pass.
    """

    KIND: ClassVar[str]

    name: str
    _: KW_ONLY
    low: Threshold = None
    high: Threshold = None
    missing: str = "refuse"
    why: str = ""

    def __post_init__(self) -> None:
        register_trees()
        if not self.name or not isinstance(self.name, str):
            raise ValueError(f"a cut's name is {self.name!r}: must be a text of at least one character")
        if self.missing not in MISSING:
            raise ValueError(
                f"{self._label}: missing is {self.missing!r}: must be one of {', '.join(MISSING)}"
            )
        if not self.sides:
            raise ValueError(f"{self._label} has no threshold: give low, high or both")
        for side in self.sides:
            self._check_threshold(side, getattr(self, side))
        self._check_order()

    @property
    def _label(self) -> str:
        return f"cut {self.name}"

    def _check_numbers(self, *, positive: tuple[str, ...] = (), not_negative: tuple[str, ...] = ()) -> None:
        """Refuse static numbers out of range; for `__post_init__` of subclasses."""
        for name in (*positive, *not_negative):
            value = getattr(self, name)
            if not (np.isfinite(value) and (value > 0 or (name in not_negative and value == 0))):
                what = "> 0" if name in positive else ">= 0"
                raise ValueError(f"{self._label}: {name} is {value}: must be finite and {what}")

    def _check_threshold(self, side: str, value: Threshold) -> None:
        if isinstance(value, Curve) or not is_concrete(value):
            return
        if isinstance(value, bool) or np.shape(value) != () or not np.isfinite(float(value)):
            raise ValueError(f"{self._label}: {side} is {value} {self.unit}: must be one finite number")

    def _check_order(self) -> None:
        low, high = self.low, self.high
        if isinstance(low, Curve) and isinstance(high, Curve) and low.knots == high.knots:
            low, high = low.values, high.values
        if low is None or high is None or isinstance(low, Curve) or isinstance(high, Curve):
            return
        if is_concrete(low) and is_concrete(high) and not (np.asarray(low) < np.asarray(high)).any():
            raise ValueError(
                f"{self._label}: low {low} is not below high {high} {self.unit}: nothing could pass"
            )

    @property
    def sides(self) -> tuple[str, ...]:
        """Of "low" and "high", those that have a threshold, in the order of the margins."""
        return tuple(side for side in SIDES if getattr(self, side) is not None)

    @property
    def key(self) -> str:
        """Column under which `reduce` keeps the variable."""
        return f"variable of {self.name}"

    @property
    @abstractmethod
    def columns_of_variable(self) -> tuple[str, ...]:
        """Columns that the variable is made of."""

    @abstractmethod
    def variable(self, events: Columns) -> Float[Any, "event"]:
        """What the cut is on, in `unit`; it does not depend on the thresholds."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """Of the variable and of the thresholds."""

    @property
    def curves(self) -> dict[str, Curve]:
        """Thresholds that are curves, by side."""
        both = {side: getattr(self, side) for side in self.sides}
        return {side: value for side, value in both.items() if isinstance(value, Curve)}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the events that the cut needs, curves included."""
        names = [*self.columns_of_variable]
        for curve in self.curves.values():
            names += needs(curve.of)
        return tuple(dict.fromkeys(names))

    def reduce(self, events: Columns) -> dict[str, Float[Any, "event"]]:
        """The variable, and what the curves follow: all that the margins need.

        The variable does not depend on the thresholds, so that it needs to be computed only once for many.
        """
        kept = {curve.of: quantity(curve.of, events) for curve in self.curves.values()}
        return {self.key: self._variable(events), **kept}

    def _variable(self, events: Columns) -> Float[Any, "event"]:
        return events[self.key] if self.key in events else self.variable(events)

    def margins(self, events: Columns) -> list[Float[Any, "event"]]:
        """How far inside of each side's threshold the variable lies, in `unit`; passed if > 0.

        Args:
            events: name -> array of each column that the cut needs, or what `reduce` made of them.

        Returns:
            One array a side, in the order of `sides`. Where it is not defined: inf if `missing` is "pass",
            -inf if "fail", NaN if "refuse", which `check` finds.

        Gradient: exact in thresholds and columns.
        """
        variable = self._variable(events)
        margins = []
        for side in self.sides:
            threshold = getattr(self, side)
            at = threshold.at(events) if isinstance(threshold, Curve) else threshold
            margins.append(variable - at if side == "low" else at - variable)
        if self.missing == "refuse":
            return margins
        xp = namespace(*margins)
        instead = xp.inf if self.missing == "pass" else -xp.inf
        return [xp.where(xp.isnan(margin), instead, margin) for margin in margins]

    def passes(self, events: Columns) -> Bool[Any, "event"]:
        """The hard reading; a NaN does not pass. Gradient: none."""
        margins = self.margins(events)
        good = margins[0] > 0
        for margin in margins[1:]:
            good = good & (margin > 0)
        return good

    def log_acceptance(
        self, events: Columns, softness: float | Sequence[float] | Float[Any, "side"]
    ) -> Float[Any, "event"]:
        """The soft reading: log of the product over sides of sigmoid(margin / softness).

        Args:
            events: as for `margins`.
            softness: > 0, unit of the variable; one, or one a side.

        Returns:
            At most 0; NaN where a margin is.

        Raises:
            ValueError: if there are as many values of softness as neither one nor the sides.

        Gradient: exact in thresholds and columns.
        """
        margins = self.margins(events)
        scales: Any = [softness] * len(margins) if np.ndim(softness) == 0 else softness
        if len(scales) != len(margins):
            raise ValueError(f"{self._label}: {len(scales)} values of softness for {len(margins)} sides")
        terms = [log_sigmoid(margin / scale) for margin, scale in zip(margins, scales, strict=True)]
        return sum(terms[1:], terms[0])

    def check_columns(self, events: Columns) -> None:
        """Refuse events without a column that the cut needs.

        Raises:
            ValueError: names cut and column.
        """
        absent = [] if self.key in events else [name for name in self.columns if name not in events]
        if absent:
            raise ValueError(
                f"{self._label} needs column {', '.join(absent)}: the events have "
                f"{', '.join(sorted(events)) or 'none'}"
            )

    def check(self, events: Columns) -> None:
        """Refuse events that the cut cannot judge.

        Raises:
            ValueError: if a column is missing, or a margin is NaN and `missing` is "refuse".
        """
        self.check_columns(events)
        if self.missing != "refuse":
            return
        bad = np.isnan(np.sum([np.asarray(margin, float) for margin in self.margins(events)], axis=0))
        if bad.any():
            row = int(np.argmax(bad))
            known = {name: float(events[name][row]) for name in self.columns if name in events}
            names = [name for name, value in known.items() if np.isnan(value)]
            at = ", ".join(f"{name} = {value:g}" for name, value in known.items())
            what = f"{' and '.join(names)} is NaN" if names else f"it is not defined at {at}"
            raise ValueError(
                f"{self._label}: {what} in row {row} ({int(bad.sum())} of {bad.size} events): leave such "
                'events out, or set missing = "fail" or "pass"'
            )

    def with_thresholds(self, **thresholds: Threshold) -> Self:
        """The same cut at other thresholds: low, high or both."""
        return replace(self, **thresholds)
