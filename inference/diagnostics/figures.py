"""Figures of the diagnostics: each draws into axes; `page` puts some into one file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from inference.diagnostics.c2st import Accuracy, LocalTest
from inference.diagnostics.coverage import Bin
from inference.diagnostics.efficiency import Efficiencies
from inference.diagnostics.misspecification import Mismatch
from inference.diagnostics.pulls import Pulls
from inference.diagnostics.ranks import RATE
from inference.diagnostics.uniformity import CRITICAL_5_PERCENT, ecdf_band
from inference.sampling.importance import LARGEST_K

Panel = Callable[[Any], None]  # draws into axes
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
_GREY = "#8a8a8a"


def page(path: Path | str, panels: list[Panel], *, n_columns: int = 3) -> None:
    """Draw the panels into one file.

    Args:
        path: with an ending that matplotlib knows.
        panels: each draws into the axes it is given.
        n_columns: at most.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to load

    columns = min(n_columns, len(panels))
    rows = -(-len(panels) // columns)
    # a figure of its own, not pyplot's: nothing stays open, and any thread may draw
    figure = Figure(figsize=(3.9 * columns, 3.1 * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        panel(axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    figure.savefig(path, dpi=150)


def _ecdf(axes, levels, colour, label):
    at = np.sort(levels)
    axes.step(at, np.arange(1, len(at) + 1) / len(at) - at, where="post", color=colour, lw=1.2, label=label)


def ranks(axes: Any, levels: Float[np.ndarray, "event parameter"], names: tuple[str, ...]) -> None:
    """ECDF of the ranks less the diagonal, with the band that holds all of a right posterior's."""
    band = ecdf_band(len(levels), RATE / levels.shape[1])
    limits = (band.low / band.n - band.at, band.high / band.n - band.at)
    axes.fill_between(band.at, *limits, color=_GREY, alpha=0.25, lw=0)
    for i, name in enumerate(names):
        _ecdf(axes, levels[:, i], _COLOURS[i % len(_COLOURS)], name)
    axes.axhline(0, color=_GREY, lw=0.8)
    axes.set(title="Ranks of the truth", xlabel="rank", ylabel="ECDF $-$ diagonal", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=7)


def levels(axes: Any, given: Mapping[str, Float[np.ndarray, "event"]]) -> None:
    """Coverage less nominal, with 1.36 / sqrt(N)."""
    for colour, (name, values) in zip(_COLOURS, given.items(), strict=False):
        _ecdf(axes, values, colour, name)
        limit = CRITICAL_5_PERCENT / np.sqrt(len(values))
        axes.axhspan(-limit, limit, color=_GREY, alpha=0.2 / len(given), lw=0)
    axes.axhline(0, color=_GREY, lw=0.8)
    axes.set(title="Expected coverage", xlabel="nominal", ylabel="found $-$ nominal", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=7)


def bins(axes: Any, given: list[Bin], *, name: str = "") -> None:
    """Share of truths in the 68.3 and 95.5 % regions, bin by bin, with binomial errors."""
    place = np.arange(len(given))
    for colour, level, values in (
        (_COLOURS[0], 0.6827, [each.inside_68 for each in given]),
        (_COLOURS[1], 0.9545, [each.inside_95 for each in given]),
    ):
        errors = [np.sqrt(level * (1 - level) / each.found.n) for each in given]
        axes.errorbar(place, values, errors, fmt="o", ms=3, lw=1, color=colour)
        axes.axhline(level, color=colour, lw=0.8, ls=":")
    words = [f"{each.low:.3g} to {each.high:.3g}" for each in given]
    axes.set_xticks(place, words, rotation=90, fontsize=6)
    columns = list(dict.fromkeys(each.column for each in given))
    axes.set(title=f"{name} in bins of {', '.join(columns)}"[:60], ylabel="share inside", ylim=(0.4, 1.02))


def pulls(axes: Any, found: Pulls, names: tuple[str, ...]) -> None:
    """Histograms of the pulls with the unit normal, which they follow where posteriors are normal."""
    edges = np.linspace(-4, 4, 41)
    for i, name in enumerate(names):
        words = f"{name}: {found.mean[i]:+.2f}, {found.width[i]:.2f}"
        colour = _COLOURS[i % len(_COLOURS)]
        axes.hist(found.values[:, i], edges, density=True, histtype="step", color=colour, label=words)
    axes.plot(edges, np.exp(-0.5 * edges**2) / np.sqrt(2 * np.pi), color=_GREY, lw=0.8)
    axes.set(title="Pulls: mean, width", xlabel="(truth $-$ mean) / width")
    axes.legend(frameon=False, fontsize=7)


def accuracies(axes: Any, given: Mapping[str, Accuracy]) -> None:
    """Classifier accuracies with their errors at 0.5."""
    for place, (name, found) in enumerate(given.items()):
        axes.errorbar(
            place, found.value, 0.5 / np.sqrt(found.n), fmt="o", ms=4, color=_COLOURS[0], label=name
        )
    axes.axhline(0.5, color=_GREY, lw=0.8)
    axes.set_xticks(np.arange(len(given)), list(given), fontsize=8)
    axes.set(title="Classifier two-sample test", ylabel="held-out accuracy", xlim=(-0.5, len(given) - 0.5))


def local(axes: Any, found: LocalTest) -> None:
    """The local statistic of each event over what exchanged labels give."""
    order = np.argsort(found.statistic)
    low, middle, high = np.quantile(found.null[:, order], [0.005, 0.5, 0.995], axis=0)
    place = np.arange(len(order))
    axes.fill_between(place, low, high, color=_GREY, alpha=0.25, lw=0, step="mid")
    axes.plot(place, middle, color=_GREY, lw=0.8)
    axes.plot(place, found.statistic[order], "o", ms=3, color=_COLOURS[0])
    axes.set(
        title="Local C2ST, 99 % of exchanges", xlabel="event, sorted", ylabel="(probability $-$ 1/2)$^2$"
    )


def efficiencies(axes: Any, found: Efficiencies) -> None:
    """Efficiency against Pareto k, an event a point."""
    finite = np.isfinite(found.pareto_k)
    axes.plot(found.pareto_k[finite], found.efficiency[finite], "o", ms=2.5, color=_COLOURS[0])
    axes.axvline(LARGEST_K, color=_COLOURS[1], lw=0.8)
    middle = np.median(found.efficiency)
    title = f"Importance: median {middle:.0%}, {found.trusted:.0%} with k $\\leq$ 0.7"
    axes.set(title=title, xlabel="Pareto k", ylabel="effective draws a draw", ylim=(0, 1.02))


def predictive(axes: Any, given: Float[np.ndarray, "event summary"], names: tuple[str, ...]) -> None:
    """Histograms of the levels of observed summaries among replicated ones."""
    edges = np.linspace(0, 1, 21)
    for i, name in enumerate(names):
        colour = _COLOURS[i % len(_COLOURS)]
        axes.hist(given[:, i], edges, density=True, histtype="step", color=colour, label=name)
    axes.axhline(1, color=_GREY, lw=0.8)
    axes.set(title="Posterior predictive", xlabel="level of the data", ylabel="density")
    axes.legend(frameon=False, fontsize=7)


def mismatches(axes: Any, given: Mapping[str, Mismatch]) -> None:
    """Discrepancies beside the law of exchanged labels."""
    null = np.concatenate([found.null for found in given.values()])
    axes.hist(null, 40, density=True, color=_GREY, alpha=0.4)
    for colour, (name, found) in zip(_COLOURS, given.items(), strict=False):
        axes.axvline(found.statistic, color=colour, lw=1.4, label=name)
    axes.axvline(
        max(found.threshold for found in given.values()), color=_GREY, ls=":", lw=1, label="threshold"
    )
    axes.set(title="Mismatch of data and simulation", xlabel="discrepancy / exchanged labels' spread")
    axes.legend(frameon=False, fontsize=7)


def training(axes: Any, history: Mapping[str, Float[np.ndarray, "step"]]) -> None:
    """Losses; each over the whole width, whatever its steps."""
    for colour, name in zip(_COLOURS, ("training", "validation"), strict=False):
        if name in history:
            curve = np.asarray(history[name])
            axes.plot(np.linspace(0, 1, len(curve)), curve, color=colour, lw=1, label=name)
    axes.set(title="Training", xlabel="share of the budget", ylabel="loss / nats")
    axes.legend(frameon=False, fontsize=7)


def report_page(path: Path | str, report: Any) -> None:
    """The panels of a `report.Report`.

    Args:
        path: with an ending that matplotlib knows.
        report: with its arrays.
    """
    arrays, names = report.arrays, report.names
    panels: list[Panel] = [
        lambda axes: ranks(axes, arrays["ranks"], names),
        lambda axes: levels(axes, arrays["levels"]),
    ]
    if "pulls" in arrays:
        panels.append(lambda axes: pulls(axes, arrays["pulls"], arrays["pulled"]))
    panels += [
        lambda axes, name=name, found=found: bins(axes, found, name=name)
        for name, found in arrays["bins"].items()
    ]
    if "history" in arrays:
        panels.append(lambda axes: training(axes, arrays["history"]))
    page(path, panels)
