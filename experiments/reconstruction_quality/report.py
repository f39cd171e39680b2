"""The numbers as Markdown, into the README beside them."""

import math
import re
from pathlib import Path
from typing import Any

from summary import KINDS, Tables, confusion, numbers

CHAINS = {"dmsim": "dmsim", "two_fold": "dmsim, 2-fold S1", "straxen": "straxen"}
TWINS = {"gap_100": "gap 100 ns", "no_split": "no splitting", "wide_merging": "gaps of 20 us joined"}
BEGIN, END = "<!-- numbers: written by run.py -->", "<!-- end of numbers -->"


def write_report(tables: Tables, config: dict[str, Any], out: Path) -> dict[str, dict[str, list[float]]]:
    """Tables into numbers.md and, where it has the marks, into README.md."""
    chains = [chain for chain in {**CHAINS, **TWINS} if any(key[1] == chain for key in tables)]
    found = {chain: numbers(tables, chain) for chain in chains if chain in CHAINS}
    found |= {chain: _of_twin(tables, chain) for chain in chains if chain in TWINS}
    text = "\n".join(
        [*_sizes(tables, config), "", *_side_by_side(found), "", *_twins(found), "", *_classes(tables)]
    )
    (out / "numbers.md").write_text(text + "\n")
    readme = out / "README.md"
    if readme.is_file() and BEGIN in (page := readme.read_text()):
        whole = f"{BEGIN}\n{text}\n{END}"
        readme.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: whole, page, flags=re.DOTALL))
    return {chain: {name: list(value) for name, value in rows.items()} for chain, rows in found.items()}


def _of_twin(tables: Tables, chain: str) -> dict[str, Any]:
    """Numbers of a chain that saw some samples only."""
    alone = {key: value for key, value in tables.items() if key[1] == chain}
    full = {(sample, chain): tables[sample, "dmsim"] for sample, name in tables if name == "dmsim"}
    out = numbers({**full, **alone}, chain)
    default = numbers(full, chain)
    return {name: value for name, value in out.items() if not _same(value, default[name])}


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one, other, strict=True))


def _sizes(tables: Tables, config: dict[str, Any]) -> list[str]:
    lines = ["| sample | what | events |", "|---|---|---|"]
    total = 0
    for name, sample in config["samples"].items():
        n = tables[name, "dmsim"]["events"]["event"].size
        total += n
        lines.append(f"| `{name}` | {sample['title']} | {n:,} |")
    return [*lines, f"| | together | {total:,} |"]


def _side_by_side(found: dict[str, dict[str, tuple[float, float]]]) -> list[str]:
    chains = [chain for chain in CHAINS if chain in found]
    lines = ["| | " + " | ".join(CHAINS[chain] for chain in chains) + " |", "|---" * (len(chains) + 1) + "|"]
    for name in found["dmsim"]:
        lines.append(f"| {name} | " + " | ".join(_cell(found[chain].get(name)) for chain in chains) + " |")
    return lines


def _twins(found: dict[str, dict[str, tuple[float, float]]]) -> list[str]:
    """Where a bad setting differs from the default by more than 5 standard errors."""
    lines = ["| bad setting | | default | with it |", "|---|---|---|---|"]
    for chain, title in TWINS.items():
        for name, value in found.get(chain, {}).items():
            default = found["dmsim"][name]
            if abs(value[0] - default[0]) > 5 * math.hypot(value[1], default[1]):
                lines.append(f"| {title} | {name} | {_cell(default)} | {_cell(value)} |")
    return lines


def _classes(tables: Tables) -> list[str]:
    """Peaks of the ER sample an event: what they are of, what they are taken for."""
    chains = [chain for chain in CHAINS if ("er", chain) in tables]
    n = tables["er", "dmsim"]["events"]["event"].size
    head = " | ".join(f"{CHAINS[c]}: S1 | S2 | unknown" for c in chains)
    lines = [f"| peaks an event, of | {head} |", "|---" * (1 + 3 * len(chains)) + "|"]
    found = {chain: confusion(tables, chain, ("er",)) / n for chain in chains}
    for row, kind in enumerate(KINDS):
        cells = " | ".join(f"{found[c][row, i]:.3f}" for c in chains for i in (1, 2, 0))
        lines.append(f"| {kind} | {cells} |")
    return lines


def _cell(value: tuple[float, float] | None) -> str:
    if value is None or math.isnan(value[0]):
        return ""
    places = min(max(1 - math.floor(math.log10(value[1])), 0), 4) if value[1] > 0 else 2
    return f"{value[0]:.{places}f} ± {value[1]:.{places}f}"
