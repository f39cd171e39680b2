"""Figure of the posterior from patterns."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

_BLUE, _RED, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#8a8a8a"
_NAMES = ("energy", "radius", "x", "y", "z")


def draw(path: Path, results: dict[str, Any]) -> None:
    """Efficiency, coverage, recognition of double scatters, reliability, errors of places."""
    figure = Figure(figsize=(11.5, 6.4), layout="constrained")
    grid = figure.subplots(2, 3)
    seeds = results["seeds"]
    _efficiency(grid[0, 0], seeds[0]["efficiency"])
    _coverage(grid[0, 1], seeds)
    _places(grid[0, 2], results["places"]["rows"])
    _recognition(grid[1, 0], seeds[0]["recognition"])
    _by_s2(grid[1, 1], seeds[0]["recognition"])
    _reliability(grid[1, 2], seeds[0]["reliability"])
    for at in grid.ravel():
        at.spines[["top", "right"]].set_visible(False)
        at.title.set_fontsize(9)
        at.tick_params(labelsize=7)
    figure.savefig(path, dpi=130)


def _efficiency(at: Any, found: dict[str, Any]) -> None:
    at.plot(found["s2_pe"], found["values"], ".", ms=2.5, color=_BLUE)
    at.axhline(0.2, color=_RED, lw=1)
    at.set(
        xscale="log", xlabel="S2 [PE]", ylabel="effective draws a draw", ylim=(0, 1.02),
        title=f"{found['n_events']} single scatters: median {found['median']:.1%}, must be 20 %",
    )  # fmt: skip


def _coverage(at: Any, seeds: list[dict[str, Any]]) -> None:
    groups = list(seeds[0]["coverage"])
    for number, group in enumerate(groups):
        n = seeds[0]["coverage"][group]["n"]
        for level, colour in (("0.68", _BLUE), ("0.95", _RED)):
            nominal = float(level)
            error = 100 * np.sqrt(nominal * (1 - nominal) / n)
            for i, name in enumerate(_NAMES):
                off = [100 * (seed["coverage"][group]["coverage"][name][level] - nominal) for seed in seeds]
                place = number + 0.15 * (i - 2) + (0.03 if level == "0.95" else -0.03)
                label = f"{nominal:.0%}" if number == i == 0 else None
                at.errorbar(
                    [place] * len(off), off, error, fmt="o", ms=2.5, lw=0.7, color=colour, label=label
                )
    at.axhline(0, color=_GREY, lw=0.8)
    at.axhspan(-1.5, 1.5, color=_GREY, alpha=0.15, lw=0)
    at.set_xticks(range(len(groups)), ["all", "at the wall", "double scatters"][: len(groups)])
    at.set(ylabel="found less nominal coverage [%]", title="energy, radius, x, y, z; each training")
    at.legend(frameon=False, fontsize=7)


def _places(at: Any, rows: list[dict[str, Any]]) -> None:
    words = [f"{_short(r['s2_pe'])}\n{r['where']}" for r in rows]
    place = np.arange(len(rows))
    at.bar(
        place - 0.25, [r["as_reconstructed_mm"] for r in rows], 0.24, color=_GREY, label="preset's resolution"
    )
    at.bar(place, [r["likelihood_mm"] for r in rows], 0.24, color=_RED, label="maximum likelihood")
    at.bar(
        place + 0.25, [np.mean(r["posterior_mm"]) for r in rows], 0.24, color=_BLUE, label="posterior mean"
    )
    at.set_xticks(place, words, fontsize=5, rotation=30)
    at.set(ylabel="rms error of x, y [mm]", title="Single scatters by S2 [PE] and place")
    at.legend(frameon=False, fontsize=7)


def _short(edges: list[float]) -> str:
    low, high = edges
    return f"> {low:.0f}" if high >= 1e6 else f"{low:.0f}-{high:.0f}"


def _middle(edges: list[float]) -> np.ndarray:
    edge = np.array(edges)
    return (edge[1:] + edge[:-1]) / 2


def _recognition(at: Any, found: dict[str, Any]) -> None:
    for (name, colour), mark in zip(
        (("posterior", _BLUE), ("two places' likelihood", _RED)), "os", strict=True
    ):
        share = [row[0] for row in found[name]["bins"]]
        at.plot(_middle(found["edges_mm"]), share, mark + "-", ms=4, lw=1, color=colour, label=name)
    at.set(
        xlabel="distance of the deposits across [mm]", ylabel="double scatters recognised", ylim=(0, 1.02),
        title="1 % of single scatters lost",
    )  # fmt: skip
    at.legend(frameon=False, fontsize=7)


def _by_s2(at: Any, found: dict[str, Any]) -> None:
    edges = found["s2_edges_pe"]
    for k, colour in enumerate((_GREY, _GREEN, _BLUE)):
        share = [np.nan if v is None else v for v in found["posterior"]["by_s2"][k]]
        label = f"S2 {_short(edges[k : k + 2])} PE"
        at.plot(_middle(found["edges_mm"]), share, "o-", ms=4, lw=1, color=colour, label=label)
    at.set(xlabel="distance of the deposits across [mm]", ylim=(0, 1.02), title="the same, posterior, by S2")
    at.legend(frameon=False, fontsize=7)


def _reliability(at: Any, found: dict[str, Any]) -> None:
    at.plot([0, 1], [0, 1], color=_GREY, lw=0.8)
    for name, colour in (("double", _BLUE), ("nr", _RED)):
        said, true, error, _ = np.array(found[name]["rows"]).T
        at.errorbar(said, true, error, fmt="o-", ms=3, lw=0.8, color=colour, label=name)
    at.set(xlabel="probability said", ylabel="share found", title="Labels")
    at.legend(frameon=False, fontsize=7)
