"""Table and figure of all seeds."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

Results = dict[int, dict[str, dict[str, Any]]]  # seed -> method -> numbers
PARTS = ("split", "merged", "misclassified", "false")


SEARCHES = ("scan once", "scan converged", "TPE", "CMA-ES")


def table_of(results: Results) -> str:
    """Mean over seeds and their spread; the interval is that of the test events."""
    if not results:
        return "no results\n"
    lines = [
        "| method | seeds | errors in 1000 signals | 68 % of the test events | split | merged "
        "| misclassified | false | area bias S1, S2 [%] | against straxen-like [%] | against defaults [%] "
        "| other detector | evaluations | CPU-s |",
        "|---" * 14 + "|",
    ]
    for method in _methods(results):
        rows = _rows(results, method)
        per = np.array([row["nominal"]["per_signal"] for row in rows])
        other = np.array([row["shifted"]["per_signal"] for row in rows])
        low, high = np.mean([row["nominal"]["interval"] for row in rows], axis=0)
        parts = [
            np.mean([1e3 * row["nominal"][part] / row["nominal"]["n_signals"] for row in rows])
            for part in PARTS
        ]
        bias = [100 * np.mean([row["nominal"]["area_bias"][kind] for row in rows]) for kind in ("s1", "s2")]
        against = [_against(results, method, base) for base in ("straxen-like", "defaults")]
        lines.append(
            f"| {method} | {len(rows)} | {_spread(1e3 * per)} | {1e3 * low:.1f} to {1e3 * high:.1f} | "
            + " | ".join(f"{part:.1f}" for part in parts)
            + f" | {bias[0]:+.2f}, {bias[1]:+.2f} | {against[0]} | {against[1]} | {_spread(1e3 * other)} | "
            f"{_evaluations(rows)} | {np.mean([row['cpu_s'] for row in rows]):.0f} |"
        )
    lines += ["", "After ±: standard deviation over seeds of tuned events; one set of test events of either "
              "detector."]  # fmt: skip
    return "\n".join([*lines, "", *_paired(results), "", *_to_scan(results), "", *_gaps(results)]) + "\n"


def _methods(results: Results) -> list[str]:
    return list(dict.fromkeys(method for r in results.values() for method in r))


def _rows(results: Results, method: str) -> list[dict[str, Any]]:
    return [r[method] for r in results.values() if method in r]


def _evaluations(rows: list[dict[str, Any]]) -> str:
    text = f"{np.mean([row['evaluations'] for row in rows]):.0f}"
    if "n_hard" in rows[0]:
        text += (
            f" with gradient, {np.mean([row['n_hard'] for row in rows]):.0f} readings of half of the events"
        )
    return text


def _paired(results: Results) -> list[str]:
    """Gradient less another, seed by seed."""
    lines = [
        "| gradient less ... [errors in 1000 signals] | each seed | mean ± its error | other detector |",
        "|---" * 4 + "|",
    ]
    for base in ("straxen-like", "defaults", *SEARCHES, "best search"):
        pairs = [
            (r["gradient"], other)
            for r in results.values()
            if "gradient" in r and (other := _base(r, base)) is not None
        ]
        if pairs:
            each, other = (
                np.array([1e3 * (one[t]["per_signal"] - two[t]["per_signal"]) for one, two in pairs])
                for t in ("nominal", "shifted")
            )
            numbers = ", ".join(f"{x:+.1f}" for x in each)
            lines.append(f"| {base} | {numbers} | {_error(each)} | {_error(other)} |")
    return [*lines, "", "Best search: the one with the least loss on the seed's events."]


def _base(result: dict[str, dict[str, Any]], name: str) -> dict[str, Any] | None:
    if name != "best search":
        return result.get(name)
    found = [result[search] for search in SEARCHES if search in result]
    return min(found, key=lambda row: row["loss"]) if found else None


def _to_scan(results: Results) -> list[str]:
    """When each method came to what the converged scan came to, seed by seed."""
    lines = [
        "| seed | scan converged: loss on its events, passes, evaluations, CPU-s | TPE: loss; to the scan's "
        "| CMA-ES: loss; to the scan's | gradient: loss; to the scan's | gradient: to the scan's errors on "
        "the test events |",
        "|---" * 6 + "|",
    ]
    for seed, r in results.items():
        if "scan converged" not in r:
            continue
        scan = r["scan converged"]
        cells = [f"{scan['loss']:.4f}, {scan['passes']}{'' if scan['converged'] else ' (not converged)'}, "
                 f"{scan['evaluations']}, {scan['cpu_s']:.0f}"]  # fmt: skip
        for method in ("TPE", "CMA-ES", "gradient"):
            row = r.get(method)
            cells.append(f"{row['loss']:.4f}; {_first(row['history'], scan['loss'])}" if row else "")
        track = r.get("gradient", {}).get("track")
        cells.append(_first(track, scan["nominal"]["per_signal"]) if track else "")
        lines.append(f"| {seed} | " + " | ".join(cells) + " |")
    lines += ["", "To the scan's: evaluations, of the gradient steps, and CPU-seconds until there."]
    return lines if len(lines) > 4 else []


def _first(history: list[tuple[int, float, float]], wanted: float) -> str:
    """Where a history first is so low."""
    there = [f"{n}, {cpu:.0f} CPU-s" for n, cpu, value in history if value <= wanted]
    return there[0] if there else "not reached"


def _gaps(results: Results) -> list[str]:
    gaps = [100 * row["tuned"]["soft_hard_gap"] for row in _rows(results, "gradient")]
    if not gaps:
        return []
    tracks = [row["tuned"]["trajectory"] for row in _rows(results, "gradient")]
    sizes = {
        looks[0]["temperature"]: 100 * np.mean([abs(look["soft"] / look["hard"] - 1) for look in looks])
        for looks in zip(*tracks, strict=True)
    }
    return [
        "Expected loss at the last temperature over the counted one - 1, on the same events, seed by seed: "
        + ", ".join(f"{gap:+.2f}" for gap in gaps)
        + " %. Mean size on the way, at temperature: "
        + ", ".join(f"{size:.1f} % at {temperature:.2f}" for temperature, size in sizes.items())
        + "."
    ]


def _spread(values: np.ndarray) -> str:
    spread = values.std(ddof=1) if values.size > 1 and np.ptp(values) > 0 else None
    return f"{values.mean():.1f}" + ("" if spread is None else f" ± {spread:.1f}")


def _error(values: np.ndarray) -> str:
    if values.size < 2:
        return f"{values.mean():+.1f}"
    return f"{values.mean():+.1f} ± {values.std(ddof=1) / np.sqrt(values.size):.1f}"


def _against(results: Results, method: str, base: str) -> str:
    """Change, with its 68 % interval on the same bootstrap draws of the test events."""
    pairs = [
        (r[method]["nominal"], r[base]["nominal"]) for r in results.values() if method in r and base in r
    ]
    if not pairs:
        return ""
    ratio = np.mean([one["per_signal"] / two["per_signal"] for one, two in pairs])
    draws = [np.array(one["draws"]) / np.array(two["draws"]) for one, two in pairs]
    low, high = np.quantile(np.mean(draws, axis=0), [0.16, 0.84])
    return f"{100 * (ratio - 1):+.0f} ({100 * (low - 1):+.0f} to {100 * (high - 1):+.0f})"


def draw(results: Results, path: Path) -> None:
    """Errors by method and detector; the gradient's way."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    methods = _methods(results)
    for number, (test, hatch) in enumerate((("nominal", ""), ("shifted", "//"))):
        floor = np.zeros(len(methods))
        for part, color in zip(PARTS, ("tab:blue", "tab:orange", "tab:green", "tab:red"), strict=True):
            size = np.array(
                [
                    np.mean([1e3 * row[test][part] / row[test]["n_signals"] for row in _rows(results, m)])
                    for m in methods
                ]
            )
            left.bar(
                np.arange(len(methods)) + 0.4 * number - 0.2, size, 0.36, bottom=floor, color=color,
                hatch=hatch, alpha=0.6 if hatch else 1.0, label=None if number else part,
            )  # fmt: skip
            floor += size
    left.set_xticks(range(len(methods)), methods, rotation=35, ha="right")
    left.set_ylabel("errors in 1000 true signals, test")
    left.legend(frameon=False, fontsize=8, title="hatched: another detector", title_fontsize=7)
    for row in _rows(results, "gradient"):
        track = row["tuned"]["trajectory"]
        step = [look["step"] for look in track]
        right.plot(step, [look["soft"] for look in track], color="tab:grey", ls=":")
        right.plot(step, [look["hard"] for look in track], color="tab:blue")
        right.plot(step, [look["validation"] for look in track], color="tab:orange")
    for color, style, name in (
        ("tab:grey", ":", "expected, tuned on"), ("tab:blue", "-", "hard, tuned on"),
        ("tab:orange", "-", "hard, chosen on"),
    ):  # fmt: skip
        right.plot([], [], color=color, ls=style, label=name)
    right.set(xlabel="step", ylabel="loss")
    right.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)
