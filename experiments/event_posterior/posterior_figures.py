"""Figures of the study: one event, coverage, efficiencies, and the rows of the table."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

_FLOW, _EXACT, _THIRD, _GREY = "#0072B2", "#D55E00", "#009E73", "#8a8a8a"
_NAMES = ("energy [keV]", "x [mm]", "y [mm]", "z [mm]")


def draw_all(folder: Path, results: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write every figure of the README but the report's."""
    folder.mkdir(parents=True, exist_ok=True)
    # of the events with exact draws the one nearest to the wall
    radius = np.hypot(arrays["columns"][:, 3], arrays["columns"][:, 4])[: len(arrays["accuracy"])]
    corner(arrays, int(np.argmax(radius))).savefig(folder / "event.png", dpi=130)
    coverage(results["diagnosed"]).savefig(folder / "coverage.png", dpi=130)
    efficiency(arrays, results).savefig(folder / "efficiency.png", dpi=130)
    table_rows(results).savefig(folder / "rows.png", dpi=130)


def corner(arrays: dict[str, np.ndarray], event: int) -> Figure:
    """Flow and exact draws of one event, with the truth."""
    flow, exact, truth = (arrays[name][event] for name in ("flow", "exact", "theta"))
    figure = Figure(figsize=(7.2, 7.2), layout="constrained")
    axes = figure.subplots(4, 4)
    for i in range(4):
        both = np.concatenate([flow[:, i], exact[:, i]])
        low, high = np.quantile(both, [0.002, 0.998])
        pad = 0.08 * (high - low)
        for j in range(4):
            at = axes[i, j]
            if j > i:
                at.axis("off")
                continue
            if i == j:
                edges = np.linspace(low - pad, high + pad, 31)
                at.hist(exact[:, i], edges, histtype="stepfilled", color=_EXACT, alpha=0.35, density=True)
                at.hist(flow[:, i], edges, histtype="step", color=_FLOW, density=True)
                at.axvline(truth[i], color="k", lw=1)
                at.set_yticks([])
            else:
                at.plot(exact[:400, j], exact[:400, i], ".", ms=2, color=_EXACT, alpha=0.6)
                at.plot(flow[:400, j], flow[:400, i], ".", ms=2, color=_FLOW, alpha=0.6)
                at.plot(truth[j], truth[i], "k+", ms=9)
                at.set_ylim(low - pad, high + pad)
                wide = np.quantile(np.concatenate([flow[:, j], exact[:, j]]), [0.002, 0.998])
                at.set_xlim(wide[0] - 0.08 * np.ptp(wide), wide[1] + 0.08 * np.ptp(wide))
            at.tick_params(labelsize=6)
            if i == 3:
                at.set_xlabel(_NAMES[j], fontsize=8)
            if j == 0 and i > 0:
                at.set_ylabel(_NAMES[i], fontsize=8)
    key = axes[0, 3]
    lines = [
        ("flow", _FLOW),
        ("exact (NUTS)", _EXACT),
        ("truth: " + ", ".join(f"{v:.4g}" for v in truth[:4]), "k"),
    ]
    if len(truth) > 4:
        shares = f"P(nr): flow {flow[:, 4].mean():.3f}, exact {exact[:, 4].mean():.3f}, truth {int(truth[4])}"
        lines.append((shares, "k"))
    lines.append((f"classifier {arrays['accuracy'][event]:.3f}", "k"))
    for row, (words, colour) in enumerate(lines):
        key.text(1.0, 0.95 - 0.16 * row, words, color=colour, fontsize=8, ha="right", transform=key.transAxes)
    return figure


def coverage(found: dict) -> Figure:
    """Share of truths in central intervals, less nominal, in bins of the data and at the wall."""
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    axes = figure.subplots(1, 4, sharey=True)
    names, marks = ("energy", "radius", "x", "y", "z"), "osv^D"
    units = {"energy": "keV", "radius": "mm", "depth": "mm"}
    for at, (column, given) in zip(axes, found["binned"].items(), strict=False):
        edges, n = np.array(given["edges"]), np.array(given["n"])
        for level, colour in (("0.68", _FLOW), ("0.95", _EXACT)):
            nominal = float(level)
            error = 100 * np.sqrt(nominal * (1 - nominal) / n)
            for i, name in enumerate(names):
                place = np.arange(len(n)) + 0.12 * (i - 2)
                off = 100 * (np.array(given[level][i]) - nominal)
                label = f"{name}, {float(level):.0%}" if at is axes[0] else None
                at.errorbar(place, off, error, fmt=marks[i], ms=3, lw=0.8, color=colour, label=label)
        words = [f"{a:.4g}-{b:.4g}" for a, b in zip(edges[:-1], edges[1:], strict=True)]
        at.set_xticks(np.arange(len(n)), words, rotation=60, fontsize=6)
        at.set_title(f"bins of {column} [{units[column]}]", fontsize=9)
    last = axes[3]
    for level, colour in (("0.68", _FLOW), ("0.95", _EXACT)):
        nominal = float(level)
        error = 100 * np.sqrt(nominal * (1 - nominal) / found["n_wall"])
        for i, name in enumerate(names):
            off = 100 * (found["wall_coverage"][name][level] - nominal)
            last.errorbar(i, off, error, fmt=marks[i], ms=4, lw=1, color=colour)
    last.set_xticks(range(len(names)), names, fontsize=7)
    last.set_title(f"{found['n_wall']} events at the wall", fontsize=9)
    for at in axes:
        at.axhline(0, color=_GREY, lw=0.8)
        at.axhspan(-1.5, 1.5, color=_GREY, alpha=0.15, lw=0)
        at.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("found less nominal coverage [%]")
    axes[0].set_ylim(-5.5, 4)
    # where no point is
    last.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=6, ncol=2, loc="lower center")
    return figure


def efficiency(arrays: dict[str, np.ndarray], results: dict[str, Any]) -> Figure:
    """Importance efficiency of all test events, against the S1, and the classifier test."""
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    values, s1 = arrays["efficiency"], arrays["columns"][:, 0]
    left.hist(values, np.linspace(0, 1, 101), color=_FLOW)
    left.axvline(0.2, color=_EXACT, lw=1)
    left.set(
        yscale="log", xlabel="effective draws a draw", ylabel="events",
        title=f"median {np.median(values):.1%}; must be 20 %",
    )  # fmt: skip
    radius = np.hypot(arrays["columns"][:, 3], arrays["columns"][:, 4])
    wall = radius > results["config"]["diagnose"]["wall_radius"] * 664
    middle.plot(s1[~wall], values[~wall], ".", ms=1, color=_FLOW, label="bulk")
    middle.plot(s1[wall], values[wall], ".", ms=2, color=_EXACT, label="wall")
    middle.set(xscale="log", xlabel="S1 [PE]", ylabel="effective draws a draw", ylim=(0, 1.02))
    middle.legend(frameon=False, fontsize=7)
    right.hist(arrays["accuracy"], np.linspace(0.4, 0.7, 31), color=_FLOW)
    right.axvline(0.6, color=_EXACT, lw=1)
    right.set(
        xlabel="classifier accuracy, flow against NUTS", ylabel="events",
        title=f"mean {arrays['accuracy'].mean():.3f}; must be 0.60",
    )  # fmt: skip
    for at in (left, middle, right):
        at.title.set_fontsize(9)
        at.spines[["top", "right"]].set_visible(False)
    return figure


def table_rows(results: dict) -> Figure:
    """Energy resolution and leakage."""
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, row in enumerate(results["energy"]["lines"]):
        for shift, (name, colour) in enumerate(
            (("combined", _GREY), ("linear", _EXACT), ("posterior", _FLOW))
        ):
            value = row[name]["percent"] / row["bound_percent"]
            error = row[name]["error"] / row["bound_percent"]
            left.errorbar(
                i + 0.15 * (shift - 1), value, error, fmt="o", color=colour, label=name if i == 0 else None
            )
    left.axhline(1, color="k", lw=0.8)
    words = [
        f"{row['energy_kev']:g} keV\nbound {row['bound_percent']:.2f} %" for row in results["energy"]["lines"]
    ]
    left.set_xticks(range(len(words)), words)
    left.set(ylabel="resolution over the bound", title="Energy")
    left.legend(frameon=False, fontsize=8)
    found = results["discrimination"]
    edges = np.array(found["edges_pe"])
    middle = np.sqrt(edges[1:] * edges[:-1])
    for name, colour in (("cut", _GREY), ("trees", _EXACT), ("posterior", _FLOW)):
        each = np.array([row[name]["bins"] for row in found["seeds"]])
        right.errorbar(
            middle, each.mean(axis=0), each.std(axis=0), fmt="o-", ms=3, lw=1, color=colour, label=name
        )
    right.set(
        xscale="log", yscale="log", xlabel="cS1 [PE]", ylabel="leakage of ER at 50 % of NR", title="ER and NR"
    )
    right.set_xticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
    right.set_xticks([], minor=True)
    right.legend(frameon=False, fontsize=8)
    for at in (left, right):
        at.spines[["top", "right"]].set_visible(False)
    return figure
