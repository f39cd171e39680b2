"""Figures of `dmsim infer`: the events with what is expected of them, the posterior, the signal's scan."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from inference.likelihood.population_data import EventSet
from inference.population.fit import PopulationFit
from inference.population.intervals import SignalResult, asymptotic_level

_DATA, _FIT = "black", "#1f5a96"
_COLOURS = ("#b0653a", "#1f5a96", "#5a8f3c", "#8a5aa0", "#a08c2c", "#4a9090")
_MOST_SHOWN = 8  # parameters in the corner


def draw_events(fit: PopulationFit, events: EventSet) -> Figure:
    """Events in cS1 and cS2 over the expected density, and both projections by component."""
    population = fit.likelihood.population
    window = population.window
    leaves, rates = population.split(jnp.asarray(fit.mode))
    detector = population.free.unpack(leaves, population.detector) if len(leaves) else population.detector
    tables = eqx.filter_jit(lambda p, d: p.tables(d))(population, detector)
    expected = np.asarray(rates)[:, None, None] * np.asarray(tables)
    s1, y = np.asarray(window.cs1_edges), np.asarray(window.log_cs2_edges)
    figure = Figure(figsize=(10, 4), layout="constrained")
    plane, along_s1, along_s2 = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    plane.pcolormesh(s1, 10**y, np.sqrt(expected.sum(axis=0)).T, cmap="Blues", rasterized=True)
    inside = events.inside(window)
    plane.plot(inside.cs1_pe, inside.cs2_pe, ".", color=_DATA, markersize=2, rasterized=True)
    plane.set_yscale("log")
    plane.set_xlabel("cS1 [PE]")
    plane.set_ylabel("cS2 [PE]")
    plane.set_title("events, and root of what is expected")
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


def draw_posterior(fit: PopulationFit) -> Figure:
    """Marginal and pairwise posteriors, with the prior's width."""
    parameters = fit.likelihood.population.parameters[-_MOST_SHOWN:]
    draws = fit.draws[:, -len(parameters) :]
    n = len(parameters)
    figure = Figure(figsize=(1.7 * n + 0.8, 1.7 * n + 0.4), layout="constrained")
    grid = figure.subplots(n, n, squeeze=False)
    for i in range(n):
        for j in range(n):
            axes = grid[i, j]
            axes.tick_params(labelsize=6, labelleft=j == 0 < i, labelbottom=i == n - 1)
            axes.locator_params(nbins=3)
            if j > i:
                axes.set_axis_off()
            elif i == j:
                axes.hist(draws[:, i], bins=40, histtype="step", color=_FIT, density=True)
                low, high = axes.get_xlim()
                x = np.linspace(low, high, 200)
                with np.errstate(invalid="ignore"):
                    prior = np.exp(np.asarray(parameters[i].prior.log_prob(jnp.asarray(x, jnp.float32))))
                axes.plot(x, np.nan_to_num(prior), color="0.6", linewidth=1)
                axes.set_yticks([])
            else:
                axes.hist2d(draws[:, j], draws[:, i], bins=30, cmap="Blues", rasterized=True)
            if i == n - 1:
                axes.set_xlabel(_short(parameters[j].name), fontsize=7)
            if j == 0 < i:
                axes.set_ylabel(_short(parameters[i].name), fontsize=7)
    figure.suptitle("posterior; grey: prior", fontsize=8)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 24 else "..." + name[-21:]


def draw_signal(signal: SignalResult, stated: dict[str, Any]) -> Figure:
    """The scan of t with its levels."""
    figure = Figure(figsize=(6.2, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(signal.signals, signal.t, color=_FIT, label="t")
    low, high = signal.asymptotic.low, signal.asymptotic.high
    confidence = f"{signal.asymptotic.level:.0%}"
    axes.axhline(_level(signal), color="black", linewidth=0.8, label=f"{confidence}, asymptotic")
    if signal.levels is not None:
        axes.plot(signal.signals, signal.levels, color=_COLOURS[0], label=f"{confidence}, from toys")
    axes.axvspan(low, signal.signals[-1] if np.isnan(high) else high, color="0.93")
    axes.set_ylim(0, max(3 * _level(signal), 1.1 * float(signal.t[0])))
    axes.set_xlim(0, float(signal.signals[-1]))
    axes.set_xlabel(f"rate of {stated['name']} [{stated['unit']}]")
    axes.set_ylabel("-2 log likelihood ratio")
    axes.legend(frameon=False)
    return figure


def _level(signal: SignalResult) -> float:
    return asymptotic_level(signal.asymptotic.level)
