"""Table and figure of the comparison, from the results of all seeds."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

Results = list[dict[str, dict[str, Any]]]  # of each seed: set -> method -> numbers

ORDER = (
    "none",
    "defaults",
    "scan once",
    "scan converged",
    "TPE",
    "CMA-ES",
    "gradient",
    "gradient, 2 starts",
    "boosted trees",
)
SEARCHES = ("scan converged", "TPE", "CMA-ES")
_TITLES = {"eight": "8 thresholds", "twenty": "20 thresholds", "curves": "66 parameters, curves"}


def _sets(results: Results) -> list[str]:
    return [name for name in _TITLES if all(name in r for r in results)]


def _column(results: Results, name: str, method: str, what: str) -> np.ndarray:
    return np.array([r[name][method].get(what, np.nan) for r in results if method in r[name]], float)


def _mean(values: np.ndarray, form: str = ".3f") -> str:
    if not values.size or np.isnan(values).all():
        return ""
    error = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else np.nan
    return f"{values.mean():{form}}" + ("" if np.isnan(error) else f" ± {error:{form.lstrip('+')}}")


def table_of(results: Results) -> str:
    """Markdown: every method's mean over seeds, then what the gradient gains."""
    lines = []
    for name in _sets(results):
        lines += [
            f"**{_TITLES[name]}** ({len(results)} seeds)",
            "",
            "| method | held-out figure | 68 % of one seed | on tuned events | evaluations | CPU-s "
            "| lifetime -20 % | g1 -5 % |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for method in ORDER:
            if method not in results[0][name]:
                continue
            half = (_column(results, name, method, "high") - _column(results, name, method, "low")) / 2
            cells = [
                method,
                _mean(_column(results, name, method, "figure")),
                f"± {half.mean():.3f}",
                _mean(_column(results, name, method, "tuning_figure")),
                f"{_column(results, name, method, 'evaluations').mean():.0f}",
                f"{_column(results, name, method, 'cpu_s').mean():.1f}",
                _mean(_column(results, name, method, "lifetime")),
                _mean(_column(results, name, method, "g1")),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, *_gains(results), ""])


def _gains(results: Results) -> list[str]:
    lines = [
        "| set | gradient over the best search | over the scan | soft-hard gap |",
        "|---|---|---|---|",
    ]
    for name in _sets(results):
        gradient = _column(results, name, "gradient", "figure")
        searches = {m: _column(results, name, m, "figure") for m in SEARCHES}
        best = max(searches, key=lambda m: searches[m].mean())
        gap = 100 * np.abs(_column(results, name, "gradient", "soft_hard_gap"))
        lines.append(
            f"| {_TITLES[name]} | {_mean(100 * (gradient / searches[best] - 1), '+.1f')} % ({best}) "
            f"| {_mean(100 * (gradient / searches['scan converged'] - 1), '+.1f')} % "
            f"| {gap.mean():.2f} %, at most {gap.max():.2f} % |"
        )
    return [*lines, "", *_costs(results), *_shares(results)]


def _costs(results: Results) -> list[str]:
    """What the converged scan took over what the gradient took to its figure, seed by seed."""
    lines = [
        "| fewer than the converged scan, to its figure | on tuned events: evaluations | CPU-s "
        "| on held-out events: evaluations | CPU-s |",
        "|---|---|---|---|---|",
    ]
    for name in _sets(results):
        scan = [r[name]["scan converged"] for r in results]
        cells = [_TITLES[name]]
        for kind in ("reached_scan", "reached_scan_held_out"):
            reached = [r[name]["gradient"][kind] for r in results]
            for what in ("evaluations", "cpu_s"):
                ratios = [
                    s[what] / max(h[what], 1e-9) for s, h in zip(scan, reached, strict=True) if h is not None
                ]
                cells.append(
                    f"{np.median(ratios):.2g} times ({min(ratios):.2g} to {max(ratios):.2g}; "
                    f"{len(ratios)} of {len(reached)} seeds)"
                    if ratios
                    else "not reached"
                )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _shares(results: Results) -> list[str]:
    """How much of the boosted trees' gain over flat cuts the curves have."""
    lines = []
    if "curves" in _sets(results) and "twenty" in _sets(results):
        flat, curved = (_column(results, name, "gradient", "figure") for name in ("twenty", "curves"))
        trees = _column(results, "curves", "boosted trees", "figure")
        share = (curved.mean() - flat.mean()) / (trees.mean() - flat.mean())
        lines += [
            "",
            f"Boosted trees {_mean(trees)}, curves by gradient {_mean(curved)}, 20 flat thresholds by "
            f"gradient {_mean(flat)}: curves have {100 * share:.0f} % of the trees' gain over flat cuts, and "
            f"{100 * (curved.mean() / trees.mean() - 1):+.1f} % against the trees.",
        ]
    return lines


def draw(results: Results, path: Path) -> None:
    """Held-out figures of all methods, and the figure against evaluations."""
    names = _sets(results)
    figure = Figure(figsize=(4.2 * len(names), 7), layout="constrained")
    axes = figure.subplots(2, len(names), squeeze=False)
    for (top, bottom), name in zip(axes.T, names, strict=True):
        # far below, the first two would leave no room for the others
        methods = [m for m in ORDER if m in results[0][name] and m not in ("none", "defaults")]
        for i, method in enumerate(methods):
            values = _column(results, name, method, "figure")
            color = "#b0653a" if method.startswith("gradient") else "#1f5a96"
            top.plot(values, np.full(values.size, i), ".", color=color, alpha=0.5)
            top.errorbar(
                values.mean(), i, xerr=values.std() / np.sqrt(max(values.size, 1)), fmt="o", color=color
            )
        top.set_yticks(range(len(methods)), methods)
        top.invert_yaxis()
        top.set_xlabel("held-out significance")
        top.set_title(_TITLES[name])
        for method, color in (
            ("scan converged", "#1f5a96"),
            ("TPE", "#5b8c5a"),
            ("CMA-ES", "#7f7f7f"),
            ("gradient", "#b0653a"),
        ):
            for number, result in enumerate(results):
                n, _, value = np.array(result[name][method]["history"]).T
                label = method if number == 0 else None
                best = np.maximum.accumulate(value)
                bottom.step(np.maximum(n, 1), best, where="post", color=color, alpha=0.6, lw=1, label=label)
        bottom.set_xscale("log")
        bottom.set_xlabel("evaluations (gradient: steps)")
        bottom.set_ylabel("penalised significance, tuned events")
        bottom.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
