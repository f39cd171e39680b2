"""Thresholds that follow another quantity of the event: a curve through knots."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from dmsim.selection.arrays import is_concrete, namespace
from dmsim.selection.quantities import Columns, quantity
from dmsim.selection.trees import register_trees, tree

INTERPOLATIONS = ("linear", "monotone_cubic")
AXES = ("linear", "log")


@tree(leaves=("values",))
@dataclass(frozen=True, eq=False)
class Curve:
    """A value at each knot, interpolated in between and constant beyond the outermost.

    Args:
        of: column or quantity of the event that the knots are in.
        knots: ascending, at least 2, in the unit of `of`.
        values: at the knots, in the unit of what the curve stands for. The leaf of the tree.
        interpolation: "linear", or "monotone_cubic" (smooth, without overshoot).
        axis: "linear", or "log" to interpolate in log10 of `of`; the knots must be positive then.

    Raises:
        ValueError: if the knots do not ascend or the values are not one a knot.
    """

    of: str
    knots: tuple[float, ...]
    values: Float[Any, "knot"]
    interpolation: str = "linear"
    axis: str = "linear"

    def __post_init__(self) -> None:
        register_trees()
        object.__setattr__(self, "knots", tuple(float(knot) for knot in self.knots))
        if isinstance(self.values, list | tuple):
            object.__setattr__(self, "values", np.asarray(self.values, dtype=float))
        for name, value, options in (
            ("interpolation", self.interpolation, INTERPOLATIONS),
            ("axis", self.axis, AXES),
        ):
            if value not in options:
                raise ValueError(f"{name} of the curve is {value!r}: must be one of {', '.join(options)}")
        knots = np.asarray(self.knots)
        if knots.size < 2 or not np.isfinite(knots).all() or (np.diff(knots) <= 0).any():
            raise ValueError(f"knots of the curve are {self.knots} {self.of}: at least 2, ascending")
        if self.axis == "log" and knots[0] <= 0:
            raise ValueError(f"knots of the curve begin at {knots[0]} {self.of}: a log axis needs them > 0")
        if is_concrete(self.values):
            self._check_values(np.asarray(self.values))

    def _check_values(self, values: np.ndarray) -> None:
        if values.shape != (len(self.knots),):
            raise ValueError(
                f"values of the curve are {values.size}: one for each of {len(self.knots)} knots"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"values of the curve are {values.tolist()}: must be finite")

    def at(self, events: Columns) -> Float[Any, "event"]:
        """The curve's value for each event; NaN where `of` is.

        Gradient: exact in the values and in `of`.
        """
        return self.through(quantity(self.of, events))

    def through(self, x: Float[Any, "event"]) -> Float[Any, "event"]:
        """The curve's value at x, in the unit of `of`. Gradient: exact."""
        xp = namespace(self.values, x)
        knots, values = self._places(), self.values
        defined = ~xp.isnan(x)
        x = xp.where(defined, x, self.knots[0])  # so that no NaN reaches the gradient
        if self.axis == "log":
            x = xp.log10(xp.maximum(x, self.knots[0]))
        # a sum over the knots in place of a search: every term is constant outside of its interval, so no
        # gather and, in the gradient, no scatter is needed
        slopes = _monotone_slopes(knots, values) if self.interpolation == "monotone_cubic" else None
        total = values[0] + 0.0 * x
        for i, width in enumerate(np.diff(knots)):
            step = values[i + 1] - values[i]
            t = xp.clip((x - float(knots[i])) / float(width), 0.0, 1.0)
            if slopes is None:
                total = total + step * t
            else:  # cubic Hermite polynomial; both tangent terms vanish at t = 0 and at t = 1
                tangents = slopes[i] * (t - 1) ** 2 * t + slopes[i + 1] * (t - 1) * t * t
                total = total + step * t * t * (3 - 2 * t) + float(width) * tangents
        return xp.where(defined, total, xp.nan)

    def roughness(self) -> Float[Any, ""]:
        """Integral of the squared second derivative over the knots' range scaled to 0 .. 1.

        Zero for a straight line (in log10 of `of` on a log axis); unit of the values squared.

        Gradient: exact.
        Source: the penalty of smoothing splines, Reinsch, Numer. Math. 10 (1967) 177, by second divided
        differences.
        """
        xp = namespace(self.values)
        knots = self._places()
        if len(knots) < 3:
            return xp.sum(0.0 * self.values)
        widths = np.diff((knots - knots[0]) / (knots[-1] - knots[0]))
        slopes = (self.values[1:] - self.values[:-1]) / widths
        reach = (widths[1:] + widths[:-1]) / 2
        return xp.sum((slopes[1:] - slopes[:-1]) ** 2 / reach)

    def _places(self) -> Float[np.ndarray, "knot"]:
        knots = np.asarray(self.knots)
        return np.log10(knots) if self.axis == "log" else knots


def _monotone_slopes(knots: Float[np.ndarray, "knot"], values: Float[Any, "knot"]) -> list[Any]:
    """Slope at each knot such that the cubic through them has no overshoot.

    Source: Fritsch & Butland, SIAM J. Sci. Stat. Comput. 5 (1984) 300: weighted harmonic mean of the two
    neighbours' slopes, 0 where they differ in sign; the ends after Moler, "Numerical Computing with MATLAB",
    section 3.6.
    """
    xp = namespace(values)
    widths = np.diff(knots)
    secant = [(values[i + 1] - values[i]) / float(width) for i, width in enumerate(widths)]
    if len(secant) == 1:
        return [secant[0], secant[0]]
    slopes = [_end_slope(xp, widths[0], widths[1], secant[0], secant[1])]
    for i in range(1, len(secant)):
        before, after = float(widths[i - 1]), float(widths[i])
        same = secant[i - 1] * secant[i] > 0
        left, right = xp.where(same, secant[i - 1], 1.0), xp.where(same, secant[i], 1.0)
        mean = 3 * (before + after) / ((2 * after + before) / left + (after + 2 * before) / right)
        slopes.append(xp.where(same, mean, 0.0))
    slopes.append(_end_slope(xp, widths[-1], widths[-2], secant[-1], secant[-2]))
    return slopes


def _end_slope(xp: Any, width: float, next_width: float, secant: Any, next_secant: Any) -> Any:
    slope = float((2 * width + next_width) / (width + next_width)) * secant
    slope = slope - float(width / (width + next_width)) * next_secant
    slope = xp.where(slope * secant <= 0, 0.0, slope)
    turns = (secant * next_secant <= 0) & (xp.abs(slope) > 3 * xp.abs(secant))
    return xp.where(turns, 3 * secant, slope)
