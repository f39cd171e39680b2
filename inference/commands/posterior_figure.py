"""The figure of `dmsim infer --posterior`: what came out for all events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_BLUE, _BROWN, _GREY = "#1f5a96", "#b0653a", "#666666"


def draw_posteriors(prior: Any, table: dict[str, Any], trouble: Sequence[str]) -> Any:
    """Histograms over events: mean and width of each parameter, probability of the last kind, efficiency.

    Args:
        prior: of the parameters.
        table: columns of posterior.parquet.
        trouble: what speaks against the result; written above.
    """
    from matplotlib.figure import Figure

    continuous = [
        (name, unit) for name, unit in zip(prior.names, prior.units, strict=True) if f"{name}_mean" in table
    ]
    columns = [
        [
            (f"mean of {name} [{unit}]", table[f"{name}_mean"], _BLUE),
            (f"standard deviation of {name} [{unit}]", table[f"{name}_standard_deviation"], _BROWN),
        ]
        for name, unit in continuous
    ]
    last = []
    if prior.category is not None:
        kind = prior.category.labels[-1]
        last.append((f"probability of {kind}", table[f"probability_{kind}"], _BLUE))
    if "importance_efficiency" in table:
        last.append(("importance efficiency", table["importance_efficiency"], _GREY))
    columns += [last] if last else []
    figure = Figure(figsize=(3.2 * len(columns), 5), layout="constrained")
    grid = figure.subplots(2, len(columns), squeeze=False)
    for i, panels in enumerate(columns):
        for axes in grid[len(panels) :, i]:
            axes.set_visible(False)
        for axes, (label, values, color) in zip(grid[:, i], panels, strict=False):
            share = label.startswith(("probability", "importance"))
            axes.hist(values, bins=50, range=(0, 1) if share else None, histtype="step", color=color)
            axes.set_xlabel(label)
            axes.set_ylabel("events")
            if label.startswith("probability"):
                axes.set_yscale("log")
    if trouble:
        figure.suptitle("; ".join(trouble), color="#b00020", fontsize=8)
    return figure
