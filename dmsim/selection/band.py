"""The band cut: where an event lies among a reference population at its S1."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from dmsim.selection.arrays import namespace
from dmsim.selection.columns import columns_of
from dmsim.selection.curves import Curve
from dmsim.selection.cut import AbstractCut, Threshold, cut_kind
from dmsim.selection.quantities import Columns, log10_ratio, quantity
from dmsim.selection.weighted import weighted_quantiles

PERCENTS = (2.5, 10.0, 25.0, 50.0, 75.0, 90.0, 97.5)  # of the reference that are kept
_ROUNDS = 8  # of the median's curve; the steps shrink by 2 or more a round
_MIN_EVENTS = 50  # around a knot: its outermost quantiles are those of one event then


def score_of_percent(percent: float) -> float:
    """Standard deviations of a normal distribution at a percentile; 50 % is 0, 84.1 % is 1.

    Raises:
        ValueError: outside of 0 to 100 %.
    """
    if not 0 < percent < 100:
        raise ValueError(f"percentile is {percent} %: must be between 0 and 100")
    return NormalDist().inv_cdf(percent / 100)


def percent_of_score(score: float) -> float:
    """The inverse of `score_of_percent`."""
    return 100 * NormalDist().cdf(score)


@cut_kind("band")
class Band(AbstractCut):
    """Percentile of log10(S2/S1) in a reference population at the event's S1.

    The percentile is counted in standard deviations of a normal distribution ("score"): -1 is 15.9 %, 0 the
    median. Thresholds are scores: one number cuts at the same percentile everywhere, a curve of S1 at another
    in each place. The score is linear between the reference's quantiles, and they are between its knots in
    log10 of S1; beyond the outermost quantiles it goes on with the slope of the last two.
    """

    knots_s1: tuple[float, ...]  # unit of the S1
    scores: tuple[float, ...]  # of the quantiles, ascending
    log10_ratio: tuple[tuple[float, ...], ...]  # [knot][score], of the reference
    s1: str = "cs1_pe"
    s2: str = "cs2_pe"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("knots_s1", "scores"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        rows = tuple(tuple(float(value) for value in row) for row in self.log10_ratio)
        object.__setattr__(self, "log10_ratio", rows)
        label = f"cut {self.name}"
        if len(self.scores) < 2 or not (np.diff(self.scores) > 0).all():
            raise ValueError(f"{label}: scores are {self.scores}: at least 2, ascending")
        if len(rows) != len(self.knots_s1) or any(len(row) != len(self.scores) for row in rows):
            raise ValueError(
                f"{label}: log10_ratio must have a row for each of {len(self.knots_s1)} knots, with a number "
                f"for each of {len(self.scores)} scores"
            )
        if not all((np.diff(row) > 0).all() for row in rows):
            raise ValueError(f"{label}: each row of log10_ratio must ascend")
        self._quantile_curves()  # refuses knots that do not ascend

    @classmethod
    def of_population(
        cls,
        name: str,
        events: Any,
        *,
        knots_s1: Sequence[float],
        weights: Float[np.ndarray, "event"] | None = None,
        low: Threshold = None,
        high: Threshold = None,
        low_percent: float | None = None,
        high_percent: float | None = None,
        s1: str = "cs1_pe",
        s2: str = "cs2_pe",
        missing: str = "refuse",
        why: str = "",
    ) -> Self:
        """The cut on a reference population, such as simulated nuclear recoils.

        Args:
            name: of the cut.
            events: the reference: what `columns_of` takes; events without S1 or S2 are left out of it.
            knots_s1: > 0, ascending, unit of the S1, over the range that the cut is for: quantiles are taken
                from the events nearest to each in log10, and stay what they are beyond the outermost.
            weights: of the events, >= 0.
            low: score, or curve of scores.
            high: likewise.
            low_percent: in place of low, a percentile, 0 to 100.
            high_percent: in place of high.
            s1: column of the S1.
            s2: column of the S2.
            missing: as for every cut.
            why: as for every cut.

        Raises:
            ValueError: if fewer than 50 events lie around a knot.
        """
        columns = columns_of(events)
        x, y = np.asarray(columns[s1], float), np.asarray(columns[s2], float)
        share = np.ones(x.size) if weights is None else np.asarray(weights, float)
        good = (x > 0) & (y > 0) & (share > 0)
        x, ratio, share = np.log10(x[good]), np.log10(y[good] / x[good]), share[good]
        rows = _quantiles(f"cut {name}", s1, np.asarray(knots_s1, float), x, ratio, share)
        return cls(
            name,
            low=low if low_percent is None else score_of_percent(low_percent),
            high=high if high_percent is None else score_of_percent(high_percent),
            knots_s1=tuple(knots_s1),
            scores=tuple(score_of_percent(percent) for percent in PERCENTS),
            log10_ratio=tuple(map(tuple, rows.tolist())),
            s1=s1,
            s2=s2,
            missing=missing,
            why=why,
        )

    @property
    def unit(self) -> str:
        """Standard deviations of the reference."""
        return "sigma"

    @property
    def columns_of_variable(self) -> tuple[str, ...]:
        """S1 and S2."""
        return self.s1, self.s2

    def _quantile_curves(self) -> list[Curve]:
        table = np.asarray(self.log10_ratio)
        return [Curve(self.s1, self.knots_s1, table[:, k], axis="log") for k in range(len(self.scores))]

    def variable(self, events: Columns) -> Float[Any, "event"]:
        """The score; NaN without S1 or S2. Gradient: exact in the columns."""
        s1 = quantity(self.s1, events)
        ratio = log10_ratio(quantity(self.s2, events), s1)
        xp = namespace(ratio)
        quantiles = [curve.through(s1) for curve in self._quantile_curves()]
        last = len(quantiles) - 2
        score = self.scores[0] + 0.0 * ratio
        for k in range(last + 1):
            # a sum of ramps in place of a search; the outermost two go on for ever
            t = (ratio - quantiles[k]) / (quantiles[k + 1] - quantiles[k])
            t = t if k == 0 == last else xp.clip(t, -xp.inf if k == 0 else 0.0, xp.inf if k == last else 1.0)
            score = score + (self.scores[k + 1] - self.scores[k]) * t
        return score


def _quantiles(
    label: str,
    s1: str,
    knots: Float[np.ndarray, "knot"],
    log10_s1: Float[np.ndarray, "event"],
    log10_ratio: Float[np.ndarray, "event"],
    weights: Float[np.ndarray, "event"],
) -> Float[np.ndarray, "knot percent"]:
    """Quantiles of the ratio at each knot, from the events between the knots that are nearest to it."""
    places = np.log10(knots)
    nearest = np.digitize(log10_s1, (places[1:] + places[:-1]) / 2)
    nearest[(log10_s1 < places[0]) | (log10_s1 > places[-1])] = -1
    groups = [np.flatnonzero(nearest == i) for i in range(knots.size)]
    for knot, mine in zip(knots, groups, strict=True):
        if mine.size < _MIN_EVENTS:
            raise ValueError(
                f"{label}: {mine.size} events of the reference lie around the knot at {s1} = {knot:g}: must "
                f"be {_MIN_EVENTS} or more"
            )
    median = np.zeros(knots.size)
    rows = np.zeros((knots.size, len(PERCENTS)))
    levels = np.array([50.0, *PERCENTS]) / 100
    for _ in range(_ROUNDS):
        # of what is left beside the median's curve: the band's slope would widen it
        left = log10_ratio - np.interp(log10_s1, places, median)
        found = np.array([weighted_quantiles(left[mine], weights[mine], levels) for mine in groups])
        rows = median[:, None] + found[:, 1:]
        median = median + found[:, 0]
    return rows
