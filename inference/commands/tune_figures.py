"""Figures of tuned cuts: distributions with the thresholds, the way there, and the figure around them."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dmsim.selection import AbstractCut, Curve
from dmsim.selection.cuts import unit_of
from inference.tuning.around import Profile
from inference.tuning.result import TunedCuts
from inference.tuning.samples import Sample, Table, join

_GIVEN, _TUNED = "#b0653a", "#1f5a96"
_N_POINTS = 2000  # of each class in a scatter plot
_COLUMNS = 3


def _grid(n: int, *, height: float) -> tuple[Figure, list[Axes]]:
    rows = -(-n // _COLUMNS)
    figure = Figure(figsize=(4.2 * min(n, _COLUMNS), height * rows), layout="constrained")
    axes = figure.subplots(rows, min(n, _COLUMNS), squeeze=False).ravel()
    for spare in axes[n:]:
        spare.set_visible(False)
    return figure, list(axes[:n])


def draw_variables(tuned: TunedCuts, samples: Mapping[str, Sample]) -> Figure:
    """Each cut's variable for events that pass all other cuts, with its thresholds before and after."""
    table = join(samples, tuned.cuts)
    passed = np.stack([np.asarray(cut.passes(table.columns)) for cut in tuned.cuts])
    cuts = list(tuned.cuts)
    figure, axes = _grid(len(cuts), height=3.2)
    for number, (ax, cut) in enumerate(zip(axes, cuts, strict=True)):
        others = np.asarray(np.delete(passed, number, axis=0).all(axis=0)).reshape(len(table))
        before = tuned.given[cut.name]
        if cut.curves:
            _scatter(ax, table, others, before, cut)
        else:
            _histogram(ax, table, others, before, cut)
        ax.set_title(cut.name)
    _legend(figure, table)
    return figure


def _label(cut: AbstractCut) -> str:
    return _words(getattr(cut, "column", "") or cut.KIND, cut.unit)


def _words(name: str, unit: str) -> str:
    """A column or kind of cut in words, with its unit: cs1_pe is "cS1 [PE]"."""
    words = name.removesuffix(f"_{unit.lower()}") if unit else name
    words = re.sub(r"(?<![a-z])(c?)s([12])(?![0-9])", r"\1S\2", words)
    words = words.replace("log10_", "log10 ").replace("_over_", "/").replace("_", " ")
    return f"{words} [{unit}]" if unit else words


def _legend(figure: Figure, table: Table) -> None:
    """One for all panels: the classes in their colours, and both lines."""
    handles = [
        Line2D([], [], color=_color(table, source), lw=2, label=name)
        for source, name in enumerate(table.names)
    ]
    for label, color, line in (("cut as given", _GIVEN, "--"), ("cut as tuned", _TUNED, "-")):
        handles.append(Line2D([], [], color=color, ls=line, lw=1.4, label=label))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)


def _color(table: Table, source: int) -> str:
    return "black" if table.signal[source] else f"C{source + 1}"


def _histogram(ax: Axes, table: Table, others: np.ndarray, before: AbstractCut, after: AbstractCut) -> None:
    values = table.columns[after.key]
    shown = values[others & np.isfinite(values)]
    if not shown.size:
        shown = values[np.isfinite(values)]
    low, high = (float(end) for end in np.quantile(shown, [0.002, 0.998]))
    for cut in (before, after):  # thresholds in reach are shown
        for side in cut.sides:
            threshold = float(getattr(cut, side))
            if abs(threshold - (low + high) / 2) < high - low:
                low, high = min(low, threshold), max(high, threshold)
    room = 0.02 * (high - low) or 1.0
    edges = np.linspace(low - room, high + room, 41)
    for source in range(len(table.names)):
        mine = others & (table.source == source)
        counts, _ = np.histogram(values[mine], edges, weights=table.weight[mine])
        width = 1.8 if table.signal[source] else 1.0
        ax.stairs(counts, edges, lw=width, color=_color(table, source))
    ax.set_yscale("log")
    for cut, color, line in ((before, _GIVEN, "--"), (after, _TUNED, "-")):
        for side in cut.sides:
            threshold = float(getattr(cut, side))
            if edges[0] <= threshold <= edges[-1]:
                ax.axvline(threshold, color=color, ls=line, lw=1.2)
    ax.set_xlabel(_label(after))
    ax.set_ylabel("expected events")


def _scatter(ax: Axes, table: Table, others: np.ndarray, before: AbstractCut, after: AbstractCut) -> None:
    of = next(iter(after.curves.values())).of
    x, y = table.columns[of], table.columns[after.key]
    good = others & np.isfinite(x) & np.isfinite(y)
    random = np.random.default_rng(0)
    order = sorted(range(len(table.names)), key=lambda source: table.signal[source])
    for source in order:  # the signal on top
        mine = np.flatnonzero(good & (table.source == source))
        mine = random.permutation(mine)[:_N_POINTS]
        ax.plot(x[mine], y[mine], ".", color=_color(table, source), ms=3.5, mew=0, alpha=0.5)
    log = any(curve.axis == "log" for curve in after.curves.values()) and (x[good] > 0).all()
    low, high = np.quantile(x[good], [0.005, 0.995]) if good.any() else (0.0, 1.0)
    at = np.geomspace(low, high, 200) if log else np.linspace(low, high, 200)
    for cut, color, line in ((before, _GIVEN, "--"), (after, _TUNED, "-")):
        for side in cut.sides:
            threshold = getattr(cut, side)
            follows = isinstance(threshold, Curve) and threshold.of == of
            height = (
                threshold.through(at) if follows else np.full(at.size, float(np.mean(_values(threshold))))
            )
            ax.plot(at, height, color=color, ls=line, lw=1.4)
    if good.any():
        ends = np.quantile(y[good], [0.005, 0.995])
        room = 0.15 * (ends[1] - ends[0]) + 1e-9
        ax.set_ylim(ends[0] - room, ends[1] + room)
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter("")
    ax.set_xlabel(_words(of, unit_of(of)))
    ax.set_ylabel(_label(after))


def _values(threshold) -> np.ndarray:
    return np.asarray(threshold.values if isinstance(threshold, Curve) else threshold, float)


def draw_trajectory(tuned: TunedCuts) -> Figure:
    """Soft and hard figures of every start, the efficiency and the softness, against the step.

    The last climb, on all events but the held-out ones, follows behind a dotted line.
    """
    tracks = [tuned.trajectory, *([tuned.trajectory_on_all] if tuned.trajectory_on_all else [])]
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    before = 0
    for number, track in enumerate(tracks):
        step = before + track.step
        for values, color, label in (
            (track.soft, "0.6", "soft, tuned events"),
            (track.hard, _GIVEN, "hard, tuned events"),
            (track.validation, _TUNED, "hard, events to choose on"),
        ):
            lines = left.plot(step, values, color=color, lw=1)
            if number == 0:
                lines[0].set_label(label)
        middle.plot(step, track.efficiency, color=_TUNED, lw=1)
        right.plot(step, track.softness / track.softness[0], color="0.3", lw=0.8)
        if number:
            for ax in (left, middle, right):
                ax.axvline(before, color="black", lw=0.8, ls=":")
        before = int(step[-1])
    left.set_ylabel("figure, penalised")
    left.legend(frameon=False, fontsize=7)
    middle.set_ylabel("signal efficiency")
    right.set_yscale("log")
    right.set_ylabel("softness of each threshold / its first")
    for ax in (left, middle, right):
        ax.set_xlabel("step")
    return figure


def draw_profiles(profiles: Sequence[Profile]) -> Figure:
    """The figure against each threshold, all others as tuned; a curve moves as a whole."""
    figure, axes = _grid(len(profiles), height=2.4)
    top = max(float(np.nanmax(p.figure)) for p in profiles)
    for ax, profile in zip(axes, profiles, strict=True):
        centre = 0.0 if profile.tuned is None else profile.tuned
        ax.plot(centre + profile.shift, profile.figure, color=_TUNED, lw=1.2)
        ax.axvline(centre, color="black", lw=0.8, ls=":")
        ax.set_ylim(0, 1.08 * top)
        what = "shift of the curve" if profile.tuned is None else "threshold"
        ax.set_xlabel(f"{what} [{profile.unit}]" if profile.unit else what)
        ax.set_title(profile.name, fontsize=9)
    axes[0].set_ylabel("figure")
    return figure
