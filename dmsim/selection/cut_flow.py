"""How many events each cut keeps: alone, in order, and after all others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from dmsim.selection.columns import columns_of
from dmsim.selection.cut import AbstractCut
from dmsim.selection.cut_set import CutSet
from dmsim.selection.weighted import effective_events, effective_trials, efficiency_interval

ONE_SIGMA = 0.6827  # content of a normal distribution within one standard deviation


@dataclass(frozen=True)
class Efficiency:
    """Share of events that pass, and its interval."""

    passed: float  # sum of weights
    total: float
    value: float  # NaN without events
    low: float
    high: float


@dataclass(frozen=True)
class CutRow:
    """One cut of a cut flow."""

    name: str
    kind: str
    alone: Efficiency  # of all events
    cumulative: Efficiency  # of all events: this cut and those before it
    n_minus_one: Efficiency  # of the events that pass all others


@dataclass(frozen=True)
class CutFlow:
    """What a set of cuts does to events. Prints as a table."""

    rows: tuple[CutRow, ...]
    passed: Bool[np.ndarray, "event"]  # all cuts
    n_events: int
    sum_of_weights: float
    effective_events: float  # (sum of w)^2 / sum of w^2
    confidence: float  # of the intervals
    is_weighted: bool

    @property
    def efficiency(self) -> Efficiency:
        """Of all cuts."""
        return self.rows[-1].cumulative

    @property
    def interval_method(self) -> str:
        """How the intervals are made."""
        return "Clopper-Pearson" + (" on effective numbers of events" if self.is_weighted else "")

    def as_dict(self) -> dict[str, Any]:
        """The numbers, for JSON; an efficiency without events is None."""

        def plain(share: Efficiency) -> dict[str, float | None]:
            return {key: None if np.isnan(value) else value for key, value in vars(share).items()}

        return {
            "n_events": self.n_events,
            "sum_of_weights": self.sum_of_weights,
            "effective_events": self.effective_events,
            "n_passed": int(self.passed.sum()),
            "confidence": self.confidence,
            "intervals": self.interval_method,
            "cuts": [
                {
                    "name": row.name,
                    "kind": row.kind,
                    "alone": plain(row.alone),
                    "cumulative": plain(row.cumulative),
                    "n_minus_one": plain(row.n_minus_one),
                }
                for row in self.rows
            ],
        }

    def __str__(self) -> str:
        head = ("cut", "kind", "left (in order)", "alone", "in order", "all others passed")
        count = ".6g" if self.is_weighted else ".0f"
        lines = [("all events", "", format(self.sum_of_weights, count), "", "", "")]
        for row in self.rows:
            alone, cumulative, others = map(_percent, (row.alone, row.cumulative, row.n_minus_one))
            left = format(row.cumulative.passed, count)
            lines.append((row.name, row.kind, left, alone, cumulative, others))
        widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
        table = [
            "  ".join(
                cell.ljust(w) if i < 2 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in (head, *lines)
        ]
        what = f"{self.n_events} events"
        if self.is_weighted:
            what += (
                f", weight {self.sum_of_weights:.6g} (as good as {self.effective_events:.4g} equal events)"
            )
        note = f"{what}; efficiencies in %, {100 * self.confidence:.4g} % intervals: {self.interval_method}"
        return "\n".join([*(line.rstrip() for line in table), note])


def _percent(share: Efficiency) -> str:
    if np.isnan(share.value):
        return "no events"
    low, high = share.value - share.low, share.high - share.value
    return f"{100 * share.value:.2f} -{100 * low:.2f} +{100 * high:.2f}"


def evaluate(
    events: Any,
    cuts: CutSet | AbstractCut,
    *,
    weights: Float[np.ndarray, "event"] | None = None,
    names: Mapping[str, str] | None = None,
    confidence: float = ONE_SIGMA,
) -> CutFlow:
    """Apply cuts and count: each alone, all up to each, and each after all others. NumPy alone.

    Args:
        events: what `columns_of` takes.
        cuts: a set, or one cut.
        weights: of the events, >= 0; 1 by default.
        names: our name of a column -> its name in the events.
        confidence: of the intervals, between 0 and 1.

    Raises:
        ValueError: for no events, weights that are none or all zero, a missing column, or a NaN where a cut
            refuses it; names cut, column and row.
    """
    chosen = CutSet((cuts,)) if isinstance(cuts, AbstractCut) else cuts
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: must be between 0 and 1")
    columns = columns_of(events, names=names)
    n_events = next(iter(columns.values())).shape[0] if columns else 0
    if n_events == 0:
        raise ValueError("there are no events: nothing to evaluate")
    share = _weights(weights, n_events)
    for cut in chosen:
        cut.check_columns(columns)
    columns = {**columns, **chosen.reduce(columns)}
    chosen.check(columns)
    passed = {cut.name: np.asarray(cut.passes(columns)) for cut in chosen}
    n_failed = sum((~good).astype(int) for good in passed.values())
    so_far = np.ones(n_events, bool)
    rows = []
    for cut in chosen:
        good = passed[cut.name]
        so_far = so_far & good
        others = n_failed - ~good == 0
        rows.append(
            CutRow(
                cut.name,
                cut.KIND,
                _efficiency(good, share, confidence),
                _efficiency(so_far, share, confidence),
                _efficiency(good[others], share[others], confidence),
            )
        )
    return CutFlow(
        rows=tuple(rows),
        passed=so_far,
        n_events=n_events,
        sum_of_weights=float(share.sum()),
        effective_events=effective_events(share),
        confidence=confidence,
        is_weighted=weights is not None,
    )


def _weights(weights: Any, n_events: int) -> Float[np.ndarray, "event"]:
    if weights is None:
        return np.ones(n_events)
    values = np.asarray(weights, float)
    if values.shape != (n_events,):
        raise ValueError(f"weights have shape {values.shape}: must be one for each of {n_events} events")
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"weight of event {row} is {values[row]}: must be finite and >= 0")
    if not values.any():
        raise ValueError("all weights are zero: nothing to evaluate")
    return values


def _efficiency(
    good: Bool[np.ndarray, "event"], weights: Float[np.ndarray, "event"], confidence: float
) -> Efficiency:
    total = float(weights.sum())
    passed = float(weights[good].sum())
    if total == 0:
        return Efficiency(0.0, 0.0, np.nan, 0.0, 1.0)
    value = passed / total
    n = effective_trials(good, weights)
    low, high = efficiency_interval(value * n, n, confidence)
    return Efficiency(passed, total, value, low, high)
