"""Table and figure of all seeds."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

Results = list[dict[str, dict[str, Any]]]  # of each seed: method -> numbers
PARTS = ("split", "merged", "misclassified", "false")


def table_of(results: Results) -> str:
    """Mean over seeds and its error; the interval is that of the test events."""
    if not results:
        return "no results\n"
    lines = [
        "| method | errors in 1000 signals | 68 % of the test events | split | merged | misclassified "
        "| false | "
        "area bias S1, S2 [%] | against straxen-like [%] | against defaults [%] | other detector | "
        "evaluations | CPU-s |",
        "|---" * 13 + "|",
    ]
    for method in results[0]:
        rows = [r[method] for r in results if method in r]
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
            f"| {method} | {_mean(1e3 * per)} | {1e3 * low:.1f} to {1e3 * high:.1f} | "
            + " | ".join(f"{part:.1f}" for part in parts)
            + f" | {bias[0]:+.2f}, {bias[1]:+.2f} | {against[0]} | {against[1]} | {_mean(1e3 * other)} | "
            f"{np.mean([row['evaluations'] for row in rows]):.0f} | "
            f"{np.mean([row['cpu_s'] for row in rows]):.0f} |"
        )
    lines += ["", f"Seeds of tuned events: {len(results)}; one set of test events of either detector."]
    gaps = [row["tuned"]["soft_hard_gap"] for r in results for m, row in r.items() if m == "gradient"]
    if gaps:
        lines.append(
            f"Soft loss at the last temperature over the hard one - 1: {100 * np.mean(gaps):+.1f} %."
        )
    return "\n".join(lines) + "\n"


def _mean(values: np.ndarray) -> str:
    error = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 and np.ptp(values) > 0 else None
    return f"{values.mean():.1f}" + ("" if error is None else f" ± {error:.1f}")


def _against(results: Results, method: str, base: str) -> str:
    """Change, with its 68 % interval on the same bootstrap draws of the test events."""
    ratio = np.mean([r[method]["nominal"]["per_signal"] / r[base]["nominal"]["per_signal"] for r in results])
    draws = [np.array(r[method]["nominal"]["draws"]) / np.array(r[base]["nominal"]["draws"]) for r in results]
    low, high = np.quantile(np.mean(draws, axis=0), [0.16, 0.84])
    return f"{100 * (ratio - 1):+.0f} ({100 * (low - 1):+.0f} to {100 * (high - 1):+.0f})"


def draw(results: Results, path: Path) -> None:
    """Errors by method and detector; the gradient's way."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    methods = list(results[0])
    for number, (test, hatch) in enumerate((("nominal", ""), ("shifted", "//"))):
        floor = np.zeros(len(methods))
        for part, color in zip(PARTS, ("tab:blue", "tab:orange", "tab:green", "tab:red"), strict=True):
            size = np.array(
                [
                    np.mean([1e3 * r[m][test][part] / r[m][test]["n_signals"] for r in results if m in r])
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
    for r in results:
        track = r["gradient"]["tuned"]["trajectory"]
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
