"""Figures of the report. Blue is dmsim, orange straxen, grey a bad setting; bars are 68 % intervals."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from event_matching import Columns
from matching import KINDS
from summary import (
    EVENTS,
    S1,
    S2,
    Tables,
    area_residual,
    chosen,
    confusion,
    efficiency,
    fakes_per_event,
    has_both,
    pooled,
    quantiles,
    true_signals,
    well_found,
    wilson,
    xy_residual_mm,
)

mpl.use("Agg")
import matplotlib.pyplot as plt

STYLE = {"dmsim": ("tab:blue", "o"), "straxen": ("tab:orange", "s")}
TWIN_STYLE = {"two_fold": ("tab:cyan", "v"), "gap_100": ("0.6", "x"), "no_split": ("0.6", "x")}
LABEL = {
    "dmsim": "dmsim",
    "two_fold": "dmsim, 2-fold S1",
    "straxen": "straxen",
    "gap_100": "gap of 100 ns",
    "no_split": "no splitting",
}
PHOTONS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 17, 24, 36, 60, 100, 200]) - 0.5
ELECTRONS = np.array([1, 2, 3, 4, 5, 7, 10, 15, 24, 40, 80, 160]) - 0.5


def draw_all(tables: Tables, folder: Path) -> None:
    """Every figure, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "finding": finding,
        "splits_merges": splits_merges,
        "classes": classes,
        "areas": areas,
        "places": places,
        "events": events,
        "late_light": late_light,
    }
    for name, draw in drawn.items():
        figure = draw(tables)
        figure.savefig(folder / f"{name}.png", dpi=100)
        plt.close(figure)


def _chains(tables: Tables, sample: str, *more: str) -> list[tuple[str, str, str]]:
    style = STYLE | {name: TWIN_STYLE[name] for name in more}
    return [(name, *look) for name, look in style.items() if (sample, name) in tables]


def _fractions(axes, place, n_yes, n, *, color, marker, label, shift=0.0):
    """Points with binomial errors; `shift` sets chains beside each other, in parts of the logarithm."""
    p, low, high = wilson(n_yes, n)
    seen = np.asarray(n) > 0
    errors = np.maximum([(p - low)[seen], (high - p)[seen]], 0)
    at = np.asarray(place)[seen] * 10**shift
    axes.errorbar(
        at, p[seen], errors, fmt=marker, color=color, ms=4, lw=1, label=label, mfc="none" if shift else None
    )


def _binned(axes, size, yes, edges, **look):
    n = np.histogram(size, edges)[0]
    centre = np.sqrt((edges[1:]) * np.maximum(edges[:-1], 0.5))
    _fractions(axes, centre, np.histogram(size[yes], edges)[0], n, **look)


def finding(tables: Tables):
    """Finding efficiency against size."""
    figure, all_axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    for axes, kind, edges in zip(all_axes, (S1, S2), (PHOTONS, ELECTRONS), strict=True):
        more = ("two_fold",) if kind == S1 else ("gap_100",)
        sample = "light" if kind == S1 else "charge"
        for number, (chain, color, marker) in enumerate(_chains(tables, sample, *more)):
            counts = efficiency(true_signals(tables, chain, kind), kind, edges)
            centre = np.sqrt(edges[1:] * edges[:-1])
            look = {"color": color, "shift": 0.012 * (number - 1)}
            _fractions(axes, centre, counts["right"], counts["n"], marker=marker, label=LABEL[chain], **look)
            p, *_ = wilson(counts["found"], counts["n"])
            axes.plot(centre, p, color=color, lw=0.8, ls=":")
        axes.set(xscale="log", ylim=(0, 1.03), ylabel=f"true S{kind}s found as S{kind}")
        axes.set_xlabel("detected photons" if kind == S1 else "extracted electrons")
        axes.legend(frameon=False, fontsize=8, title="dotted: found as any peak", title_fontsize=7)
    return figure


def splits_merges(tables: Tables):
    """Split fraction against size; resolved fraction against separation."""
    figure, grid = plt.subplots(2, 2, figsize=(9.5, 6.6), layout="constrained")
    edges = {S1: np.geomspace(3, 3000, 13), S2: np.geomspace(1, 5000, 14)}
    for axes, kind in zip(grid[0], (S1, S2), strict=True):
        for number, (chain, color, marker) in enumerate(_chains(tables, "er", "gap_100")):
            lone = true_signals(tables, chain, kind)
            lone = chosen(lone, lone["lone"])
            size = lone["n_photons" if kind == S1 else "n_electrons"]
            look = {"color": color, "marker": marker, "label": LABEL[chain], "shift": 0.012 * (number - 1)}
            _binned(axes, size, lone["split"], edges[kind], **look)
        axes.set(xscale="log", yscale="symlog", ylim=(0, 1), ylabel=f"lone S{kind}s that are split")
        axes.set_yscale("symlog", linthresh=0.01)
        axes.set_xlabel("detected photons" if kind == S1 else "extracted electrons")
        axes.legend(frameon=False, fontsize=8)
    for number, (chain, color, marker) in enumerate(_chains(tables, "kr83m", "no_split")):
        look = {"color": color, "marker": marker, "label": LABEL[chain], "shift": 0.008 * (number - 1)}
        signals = true_signals(tables, chain, S1, ("kr83m",))
        resolved = signals["found"] & ~signals["merged"]
        _binned(grid[1, 0], signals["gap_ns"], resolved, np.geomspace(20, 1500, 14), **look)
        signals = true_signals(tables, chain, S2, ("scatter", "scatter_low"))
        resolved = signals["found"] & ~signals["merged"]
        near = np.maximum(signals["gap"], 0.3)
        _binned(grid[1, 1], near, resolved, np.geomspace(0.3, 100, 16), **look)
    grid[1, 0].set(
        xscale="log", xlabel="between the two S1s of Kr-83m [ns]", ylabel="S1s with a peak of their own"
    )
    grid[1, 1].set(
        xscale="log",
        xlabel="between two S2s [mean standard deviations]",
        ylabel="S2s with a peak of their own",
    )
    for axes in grid[1]:
        axes.legend(frameon=False, fontsize=8)
        axes.set_ylim(-0.02, 1.03)
    return figure


def classes(tables: Tables):
    """Confusion: what peaks are of, against what they are taken for."""
    names = _chains(tables, "er", "two_fold")
    figure, row = plt.subplots(
        1, len(names), figsize=(4.4 * len(names), 4.2), layout="constrained", sharey=True, squeeze=False
    )
    samples = ("er", "nr", "light", "charge")
    n_events = sum(tables[s, "dmsim"]["events"]["event"].size for s in samples if (s, "dmsim") in tables)
    for axes, (chain, _, _) in zip(row[0], names, strict=True):
        found = confusion(tables, chain, samples)[:, [1, 2, 0]] / n_events
        axes.imshow(np.log10(found + 1e-4), cmap="Blues", vmin=-4, vmax=1, aspect="auto")
        for (y, x), value in np.ndenumerate(found):
            color = "white" if value > 0.3 else "black"
            axes.text(x, y, f"{value:.4f}", ha="center", va="center", fontsize=9, color=color)
        axes.set_xticks(range(3), ["S1", "S2", "unknown"])
        axes.set_yticks(range(len(KINDS)), KINDS)
        axes.set(title=LABEL[chain], xlabel="taken for")
    row[0, 0].set_ylabel("peaks an event, by what they are mostly of")
    return figure


def areas(tables: Tables):
    """Bias and spread of the area of lone, whole, rightly classified signals."""
    figure, grid = plt.subplots(2, 2, figsize=(9.5, 6.6), layout="constrained", sharex="col")
    edges = {S1: np.geomspace(4, 3000, 12), S2: np.geomspace(20, 1e5, 12)}
    against = {"charge_pe": "own light", "light_pe": "all light in it"}
    for row, (column, what) in zip(grid, against.items(), strict=True):
        for axes, kind in zip(row, (S1, S2), strict=True):
            for number, (chain, color, marker) in enumerate(_chains(tables, "er")):
                good = well_found(true_signals(tables, chain, kind), kind)
                residual = area_residual(good, column)
                middle, low, high = 100 * quantiles(residual, good["charge_pe"], edges[kind])
                at = np.sqrt(edges[kind][1:] * edges[kind][:-1]) * 10 ** (0.02 * number)
                look = {"color": color, "ms": 4, "lw": 1, "label": LABEL[chain]}
                axes.errorbar(at, middle, [middle - low, high - middle], fmt=marker, **look)
            axes.axhline(0, color="0.7", lw=0.8)
            # limits, for where so few events give no quantile: an axis of nothing cannot be logarithmic
            axes.set(xscale="log", xlim=edges[kind][[0, -1]], ylabel=f"S{kind} area / {what} − 1 [%]")
            axes.set_ylim(*((-15, 15) if kind == S1 else (-8, 12)))
            axes.legend(frameon=False, fontsize=8, title="median and central 68 %", title_fontsize=7)
    for axes, kind in zip(grid[1], (S1, S2), strict=True):
        axes.set_xlabel(f"charge of the S{kind}'s photons [PE]")
    return figure


def places(tables: Tables):
    """Position of S2s against size and radius; depth of events."""
    figure, (size_axes, radius_axes, z_axes) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    good = well_found(true_signals(tables, "dmsim", S2), S2)
    residual = xy_residual_mm(good)
    edges = np.geomspace(20, 1e5, 12)
    at = np.sqrt(edges[1:] * edges[:-1])
    size_axes.plot(at, _level(residual, good["charge_pe"], edges), "o", color="tab:blue", ms=4, label="dmsim")
    axis_mm = 152.2 / np.sqrt(at) + 0.36  # straxen, of one axis
    size_axes.plot(at, 1.51 * axis_mm, color="tab:orange", label="XENONnT's networks, as straxen quotes them")
    size_axes.set(xscale="log", yscale="log", xlabel="S2 charge [PE]", ylabel="68 % of xy within [mm]")
    radius = np.hypot(good["x_gas_mm"], good["y_gas_mm"])
    edges = np.linspace(0, 664, 9)
    for (low, high), color in zip(
        ((100, 1e3), (1e3, 1e4), (1e4, 1e5)), plt.colormaps["Blues"]([0.5, 0.7, 1.0]), strict=True
    ):
        rows = (good["charge_pe"] >= low) & (good["charge_pe"] < high)
        values = _level(residual[rows], radius[rows], edges)
        if not np.isfinite(values).any():
            continue
        radius_axes.plot(
            (edges[1:] + edges[:-1]) / 2,
            values,
            "o-",
            color=color,
            ms=4,
            label=f"{low:,.0f} to {high:,.0f} PE",
        )
    radius_axes.set(xlabel="radius at the gas [mm]", ylabel="68 % of xy within [mm]")
    if radius_axes.lines:
        radius_axes.set_yscale("log")
    bins = np.linspace(-4, 4, 81)
    for chain, color, _ in _chains(tables, "er"):
        built = pooled(tables, chain, ("er", "nr"), "built")
        z_residual = (built["z_mm"] - built["z_true_mm"])[built["right"]]
        z_axes.hist(
            z_residual,
            bins,
            histtype="step",
            color=color,
            label=f"{LABEL[chain]}: {np.median(z_residual):+.2f} mm",
        )
    z_axes.set(xlabel="z − true z [mm]", ylabel="ER and NR events")
    for axes in (size_axes, radius_axes, z_axes):
        axes.legend(frameon=False, fontsize=8)
    return figure


def _level(values: np.ndarray, place: np.ndarray, edges: np.ndarray, level: float = 0.68) -> np.ndarray:
    bins = np.digitize(place, edges) - 1
    rows = [values[(bins == i) & np.isfinite(values)] for i in range(len(edges) - 1)]
    return np.array([np.quantile(v, level) if v.size >= 20 else np.nan for v in rows])


def events(tables: Tables):
    """Events with the right main S1 and S2 against energy, and the purity of what is built."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    ranges = {"er": np.geomspace(0.5, 60, 13), "nr": np.geomspace(2, 50, 9)}
    for axes, (sample, edges) in zip((left, middle), ranges.items(), strict=True):
        for number, (chain, color, marker) in enumerate(_chains(tables, sample, "two_fold")):
            table: Columns = tables[sample, chain]["events"]
            look = {"color": color, "marker": marker, "label": LABEL[chain], "shift": 0.01 * (number - 1)}
            _binned(axes, table["energy_kev"], table["right"], edges, **look)
        axes.set(xscale="log", ylim=(0, 1.03), xlabel=f"{sample.upper()} energy [keV]")
        axes.set_ylabel("events with the right S1 and S2")
        ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50) if edges[0] <= tick <= edges[-1] * 1.01]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.legend(frameon=False, fontsize=8)
    samples = [name for name in EVENTS if (name, "dmsim") in tables]
    for number, (chain, color, marker) in enumerate(_chains(tables, "er")):
        for level, (what, fill) in enumerate((("right", color), ("pure", "none"))):
            yes, n = [], []
            for sample in samples:
                found = tables[sample, chain]
                of_event = has_both(found["events"])
                row = (
                    found["events"]["right"][of_event]
                    if what == "right"
                    else found["built"]["pure"][found["built"]["both"]]
                )
                yes.append(row.sum())
                n.append(row.size)
            p, low, high = wilson(np.array(yes), np.array(n))
            at = np.arange(len(samples)) + 0.15 * (2 * number + level - 1.5)
            label = f"{LABEL[chain]}: " + (
                "true events found right" if what == "right" else "built pairs that are pure"
            )
            right.errorbar(
                at,
                p,
                np.maximum([p - low, high - p], 0),
                fmt=marker,
                color=color,
                mfc=fill,
                ms=5,
                lw=1,
                label=label,
            )
    right.set_xticks(range(len(samples)), [name.replace("_", "\n") for name in samples])
    right.legend(frameon=False, fontsize=7, loc="lower left")
    return figure


def late_light(tables: Tables):
    """The same ER with and without delayed electrons, afterpulses and dark counts."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    edges = np.geomspace(100, 1e5, 9)
    at = np.sqrt(edges[1:] * edges[:-1])
    for number, (chain, color, marker) in enumerate(_chains(tables, "er")):
        for sample, fill, label in (("er", color, "all light"), ("er_quiet", "none", "without late light")):
            if (sample, chain) not in tables:
                continue
            good = well_found(true_signals(tables, chain, S2, (sample,)), S2)
            bias = 100 * quantiles(area_residual(good), good["charge_pe"], edges)[0]
            left.plot(at, bias, marker, color=color, mfc=fill, ms=5, label=f"{LABEL[chain]}, {label}")
            fakes = fakes_per_event(tables, chain, sample)
            n = tables[sample, chain]["events"]["event"].size
            places = np.arange(2) + 0.18 * (2 * number + (fill == "none") - 1.5)
            values = np.array([fakes["s1"], fakes["s2"]])
            right.bar(
                places,
                values,
                0.16,
                yerr=np.sqrt(values / n),
                fill=fill != "none",
                color=color,
                edgecolor=color,
            )
    left.axhline(0, color="0.7", lw=0.8)
    left.set(xscale="log", xlim=edges[[0, -1]], xlabel="charge of the S2's photons [PE]")
    left.set_ylabel("median of S2 area / own light − 1 [%]")
    left.legend(frameon=False, fontsize=8)
    right.set_xticks(range(2), ["S1s that are none", "S2s that are none"])
    right.set_ylabel("an event")
    return figure
