"""A set of cuts: what each keeps, and where it lies in what it is on."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmsim.plot.style import BLUE, GREY, INK, ORANGE, VERMILION, note

Column = Float[np.ndarray, "event"]
_MOST_POINTS = 5000  # of a scatter plot
_BARS = ((0.0, BLUE, "o", "in order"), (0.22, ORANGE, "s", "alone"), (-0.22, GREY, "D", "after all others"))


class Share(NamedTuple):
    """An efficiency and its interval, 0 to 1; NaN without events."""

    value: float
    low: float
    high: float


class Line(NamedTuple):
    """A threshold: one number, or what it is at places of another quantity."""

    name: str  # low or high
    values: Float[np.ndarray, "place"]
    places: Float[np.ndarray, "place"] | None  # None: one number


class CutView(NamedTuple):
    """One cut as it is drawn."""

    name: str
    what: str  # the cut's variable, with unit
    shares: tuple[Share, ...]  # in order, alone, after all others
    variable: Column
    passed_others: Bool[np.ndarray, "event"]
    passed: Bool[np.ndarray, "event"]  # this cut
    lines: tuple[Line, ...]
    along: Column | None  # what curves follow; None without curves
    along_what: str = ""
    is_log: bool = False  # the axis of what curves follow


def draw_selection(views: list[CutView], weights: Column) -> Figure:
    """The efficiencies of all cuts, and each cut's variable behind all others."""
    n_columns = min(3, len(views))
    n_rows = -(-len(views) // n_columns)
    height = 0.9 + 0.45 * len(views)
    figure = Figure(figsize=(3.6 * max(n_columns, 2), height + 2.9 * n_rows), layout="constrained")
    halves = figure.subfigures(2, 1, height_ratios=(height, 2.9 * n_rows), squeeze=False)[:, 0]
    draw_efficiencies(halves[0].subplots(), views)
    axes = halves[1].subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, view in zip(axes, views, strict=False):
        draw_cut(ax, view, weights)
    for ax in axes[len(views) :]:
        ax.set_visible(False)
    return figure


def draw_efficiencies(ax: Axes, views: list[CutView]) -> None:
    """Efficiency of each cut in order, alone, and of the events that pass all others."""
    places = np.arange(len(views))[::-1]
    for i, (shift, colour, marker, label) in enumerate(_BARS):
        shares = np.array([view.shares[i] for view in views])
        known = np.isfinite(shares[:, 0])
        value, low, high = 100 * shares[known].T
        error = np.clip([value - low, high - value], 0, None)
        ax.errorbar(value, places[known] + shift, xerr=error, fmt=marker, ms=4, lw=1.2, color=colour,
                    label=label)  # fmt: skip
    ax.set_yticks(places, [view.name for view in views])
    ax.set(xlabel="events kept [%]", xlim=(-2, 102), ylim=(-0.6, len(views) - 0.4))
    ax.grid(axis="x", lw=0.4, color="#dddddd")
    ax.legend(loc="lower left", ncols=3, bbox_to_anchor=(0, 1.0))


def draw_cut(ax: Axes, view: CutView, weights: Column) -> None:
    """The cut's variable of events that pass all others, and its thresholds; of all events if none does."""
    is_empty = not view.passed_others.any()
    if is_empty:
        everything = np.ones(view.passed_others.size, bool)
        view = view._replace(passed_others=everything, passed=~everything)
    if view.along is None:
        _draw_histogram(ax, view, weights)
    else:
        _draw_scatter(ax, view, view.along)
    ax.set_title(f"{view.name} (of all events)" if is_empty else view.name)


def _draw_histogram(ax: Axes, view: CutView, weights: Column) -> None:
    shown = view.passed_others & np.isfinite(view.variable)
    values = view.variable[shown]
    thresholds = np.concatenate([line.values for line in view.lines])
    if values.size:
        low, high = np.quantile(values, [0.002, 0.998])
        low, high = min(low, thresholds.min()), max(high, thresholds.max())
        margin = 0.05 * (high - low) or 1.0
        bins = np.linspace(low - margin, high + margin, 51)
        inside = np.clip(values, bins[0], bins[-1])  # what lies outside is seen in the outermost bins
        for chosen, colour, label in ((np.ones(values.size, bool), GREY, "all others passed"),
                                      (view.passed[shown], BLUE, "and this cut")):  # fmt: skip
            ax.hist(inside[chosen], bins=bins.tolist(), weights=weights[shown][chosen], histtype="stepfilled",
                    color=colour, alpha=0.45, label=label)  # fmt: skip
    else:
        note(ax, "no event has a finite value", colour=GREY)
    for value in thresholds:
        ax.axvline(value, color=VERMILION, lw=1.2)
    ax.set(xlabel=view.what, ylabel="events")


def _draw_scatter(ax: Axes, view: CutView, along: Column) -> None:
    shown = np.flatnonzero(view.passed_others & np.isfinite(view.variable) & np.isfinite(along))
    shown = shown[:: max(1, shown.size // _MOST_POINTS)]
    for chosen, colour in ((shown[~view.passed[shown]], GREY), (shown[view.passed[shown]], BLUE)):
        ax.scatter(along[chosen], view.variable[chosen], s=4, lw=0, alpha=0.5, color=colour, rasterized=True)
    for line in view.lines:
        if line.places is None:
            ax.axhline(line.values[0], color=VERMILION, lw=1.2)
        else:
            ax.plot(line.places, line.values, color=VERMILION, lw=1.4)
    ax.set(xlabel=view.along_what, ylabel=view.what)
    ax.tick_params(colors=INK)
    if view.is_log:
        ax.set_xscale("log")
