"""Figures of `dmsim infer`: the events with what is expected of them, the posterior, the signal's scan."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from inference.commands.infer_summary import prior_text
from inference.likelihood.population_data import EventSet
from inference.parameters import Parameter
from inference.population.fit import PopulationFit
from inference.population.intervals import SignalResult, asymptotic_level

_DATA, _FIT = "black", "#1f5a96"
_COLOURS = ("#b0653a", "#1f5a96", "#5a8f3c", "#8a5aa0", "#a08c2c", "#4a9090")
_MOST_SHOWN = 8  # parameters in the corner
_OF_SIGNAL = (0.5, 0.9)  # that contours hold


def draw_events(fit: PopulationFit, events: EventSet, *, has_signal: bool) -> Figure:
    """Events in cS1 and cS2 over the expected density, and both projections by component.

    Args:
        fit: the expected density is that at its mode.
        events: those outside of the window are not drawn.
        has_signal: whether the first component is a signal, which gets contours.
    """
    population = fit.likelihood.population
    window = population.window
    leaves, rates = population.split(jnp.asarray(fit.mode))
    detector = population.free.unpack(leaves, population.detector) if len(leaves) else population.detector
    tables = eqx.filter_jit(lambda p, d: p.tables(d))(population, detector)
    expected = np.asarray(rates)[:, None, None] * np.asarray(tables)
    s1, y = np.asarray(window.cs1_edges), np.asarray(window.log_cs2_edges)
    figure = Figure(figsize=(11, 4), layout="constrained")
    plane, along_s1, along_s2 = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    total = expected.sum(axis=0).T
    norm = PowerNorm(0.5, vmin=0, vmax=total.max())
    shades = plane.pcolormesh(s1, 10**y, total, cmap="Blues", norm=norm, rasterized=True)
    figure.colorbar(shades, ax=plane, label="expected events a bin")
    if has_signal:
        _contours(plane, s1, y, np.asarray(tables)[0])
    inside = events.inside(window)
    plane.plot(inside.cs1_pe, inside.cs2_pe, ".", color=_DATA, markersize=2, rasterized=True)
    plane.set_yscale("log")
    plane.set_xlabel("cS1 [PE]")
    plane.set_ylabel("cS2 [PE]")
    title = "events, and what is expected"
    if has_signal:
        shares = " and ".join(f"{share:.0%}" for share in _OF_SIGNAL)
        title += f"; lines: {shares} of {population.components[0].name}"
    plane.set_title(title, fontsize=9)
    counts = events.histogram(window)
    for axes, edges, axis, label in ((along_s1, s1, 1, "cS1 [PE]"), (along_s2, y, 0, "log$_{10}$(cS2 / PE)")):
        n, centre = counts.sum(axis=axis), (edges[1:] + edges[:-1]) / 2
        axes.errorbar(centre, n, np.sqrt(np.maximum(n, 1)), fmt=".", color=_DATA, label="events", zorder=3)
        axes.stairs(expected.sum(axis=(0, 1 + axis)), edges, color="0.3", label="expected")
        if len(expected) > 1:
            for component, part, colour in zip(population.components, expected, _COLOURS * 9, strict=False):
                axes.stairs(part.sum(axis=axis), edges, color=colour, linewidth=1, label=component.name)
        axes.set_xlabel(label)
        axes.set_ylabel("events a bin")
        axes.legend(frameon=False, fontsize=7)
    return figure


def _contours(ax: Axes, s1: np.ndarray, y: np.ndarray, density: np.ndarray) -> None:
    """Lines around shares of a signal's events: bins in order of what they hold."""
    ordered = np.sort(density.ravel())[::-1]
    held = np.cumsum(ordered) / ordered.sum()
    levels = sorted({float(ordered[np.searchsorted(held, share)]) for share in _OF_SIGNAL})
    centre = (s1[1:] + s1[:-1]) / 2, 10 ** ((y[1:] + y[:-1]) / 2)
    ax.contour(*centre, density.T, levels=levels, colors=_COLOURS[0], linewidths=1.2)


def draw_posterior(fit: PopulationFit) -> Figure:
    """Marginal and pairwise posteriors, with the prior; all panels of a column have its range."""
    parameters = fit.likelihood.population.parameters[-_MOST_SHOWN:]
    draws = fit.draws[:, -len(parameters) :]
    ranges = [_range(column) for column in draws.T]
    n = len(parameters)
    figure = Figure(figsize=(1.8 * n + 0.8, 1.8 * n + 0.4), layout="constrained")
    grid = figure.subplots(n, n, squeeze=False)
    for i in range(n):
        for j in range(n):
            axes = grid[i, j]
            if j > i:
                axes.set_axis_off()
                continue
            axes.tick_params(labelsize=6, labelleft=j == 0 < i, labelbottom=i in (j, n - 1))
            if i == j:
                _marginal(axes, draws[:, i], parameters[i], ranges[i])
            else:
                axes.hist2d(
                    draws[:, j], draws[:, i], bins=30, range=(ranges[j], ranges[i]), cmap="Blues",
                    rasterized=True,
                )  # fmt: skip
            axes.locator_params(axis="x", nbins=4)
            if i == n - 1:
                axes.set_xlabel(_label(parameters[j]), fontsize=7)
            if j == 0 < i:
                axes.locator_params(axis="y", nbins=4)
                axes.set_ylabel(_label(parameters[i]), fontsize=7)
    figure.suptitle("posterior; grey: prior", fontsize=8)
    return figure


def _range(draws: np.ndarray) -> tuple[float, float]:
    """What holds nearly all draws, and 0 where they pile up at it."""
    low, high = np.quantile(draws, [0.001, 0.999])
    margin = 0.05 * (high - low) or 1.0
    return (0.0 if 0 <= low < margin else low - margin), high + margin


def _marginal(ax: Axes, draws: np.ndarray, parameter: Parameter, span: tuple[float, float]) -> None:
    ax.hist(draws, bins=40, range=span, histtype="step", color=_FIT, density=True)
    top = ax.get_ylim()[1]
    x = np.linspace(*span, 200)
    support = np.asarray(parameter.prior.support(jnp.asarray(x, jnp.float32)))  # type: ignore[operator]
    density = np.exp(np.asarray(parameter.prior.log_prob(jnp.asarray(x[support], jnp.float32))))
    ax.plot(x[support], density, color="0.6", linewidth=1.2)
    ax.set_ylim(0, max(top, 1.05 * density.max(initial=0)))
    ax.set_title(f"prior {prior_text(parameter).replace('+-', '±')}", fontsize=6, color="0.45")
    ax.set_xlim(*span)
    ax.set_yticks([])


def _label(parameter: Parameter) -> str:
    name = parameter.name if len(parameter.name) <= 24 else "..." + parameter.name[-21:]
    return f"{name}\n[{parameter.unit}]" if parameter.unit else name


def draw_signal(signal: SignalResult, stated: dict[str, Any]) -> Figure:
    """The scan of t with its levels, the best rate, the interval and the limit."""
    figure = Figure(figsize=(6.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(signal.signals, signal.t, color=_FIT, label="t: -2 log likelihood ratio to the best fit")
    level = asymptotic_level(signal.asymptotic.level)
    confidence = f"{signal.asymptotic.level:.0%}"
    axes.axhline(level, color="black", linewidth=0.8, label=f"level of the {confidence} interval")
    interval, upper, how = signal.asymptotic, signal.upper, "asymptotic"
    top = max(2.5 * level, 1.1 * float(signal.t[0]))
    if signal.levels is not None and signal.toys is not None and signal.toy_upper is not None:
        axes.plot(signal.signals, signal.levels, color=_COLOURS[0], label="the same, from toys")
        interval, upper, how = signal.toys, signal.toy_upper, "toys"
        top = max(top, 1.2 * float(np.nanmax(signal.levels)))
    high = float(signal.signals[-1]) if np.isnan(interval.high) else interval.high
    axes.axvspan(interval.low, high, color="0.92", label=f"{confidence} interval, two-sided ({how})")
    if np.isfinite(upper):
        axes.axvline(
            upper, color=_COLOURS[3], linestyle="--",
            label=f"{confidence} upper limit, one-sided ({how}): {upper:.3g}",
        )  # fmt: skip
    best = float(signal.best.parameters[0])
    axes.plot([best], [0], "o", color=_FIT, clip_on=False, zorder=5, label=f"best fit: {best:.3g}")
    axes.set_ylim(0, top)
    shown = signal.signals[signal.t <= top]
    axes.set_xlim(0, min(float(signal.signals[-1]), 1.15 * max(float(shown.max(initial=0)), high)))
    what = "cross section" if stated["unit"].endswith("cm2") else "rate"
    axes.set_xlabel(f"{what} of {stated['name']} [{stated['unit'].replace('cm2', 'cm²')}]")
    axes.set_ylabel("t")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return figure
