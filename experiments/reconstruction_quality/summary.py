"""Numbers of the report, from the tables of matching: fractions with binomial errors, biases and spreads."""

from typing import Any

import numpy as np
from event_matching import Columns
from matching import KINDS

from dmsim.records import Signal

S1, S2 = int(Signal.S1), int(Signal.S2)
Tables = dict[tuple[str, str], dict[str, Columns]]  # (sample, chain) -> signals, peaks, events, built
SIZE = {S1: "n_photons", S2: "n_electrons"}
# samples whose deposits stand alone in the detector: splitting, area and position are measured on them
SINGLE = {S1: ("er", "nr", "light"), S2: ("er", "nr", "charge")}
STREAMS = ("pile_up",)
EVENTS = ("er", "nr", "kr83m", "scatter", "scatter_low", "pile_up")


def wilson(n_yes: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fraction and the ends of its 68 % interval (Wilson, JASA 22 (1927) 209); NaN where n is 0."""
    n = np.asarray(n, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = n_yes / n
        middle = (p + 1 / (2 * n)) / (1 + 1 / n)
        half = np.sqrt(p * (1 - p) / n + 1 / (4 * n**2)) / (1 + 1 / n)
    return p, middle - half, middle + half


def pooled(tables: Tables, chain: str, samples: tuple[str, ...], table: str) -> Columns:
    """A table of one chain with the rows of several samples; of those that are there."""
    parts = [tables[sample, chain][table] for sample in samples if (sample, chain) in tables]
    if not parts:
        return {}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def true_signals(tables: Tables, chain: str, kind: int, samples: tuple[str, ...] | None = None) -> Columns:
    """True signals of one kind; by default those of deposits that stand alone."""
    table = pooled(tables, chain, SINGLE[kind] if samples is None else samples, "signals")
    return chosen(table, table["kind"] == kind) if table else {}


def chosen(table: Columns, rows: np.ndarray) -> Columns:
    """Some rows of a table."""
    return {name: column[rows] for name, column in table.items()}


def efficiency(signals: Columns, kind: int, edges: np.ndarray) -> dict[str, np.ndarray]:
    """Found, and found as what it is, in bins of size [photons or electrons]."""
    size = signals[SIZE[kind]]
    n = np.histogram(size, edges)[0]
    found = np.histogram(size[signals["found"]], edges)[0]
    right = np.histogram(size[signals["found"] & (signals["class"] == kind)], edges)[0]
    return {"n": n, "found": found, "right": right}


def quantiles(values: np.ndarray, place: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Median, 16 % and 84 % quantile of values in bins of place; NaN with fewer than 20."""
    bins = np.digitize(place, edges) - 1
    rows = [values[(bins == i) & np.isfinite(values)] for i in range(len(edges) - 1)]
    return np.array([np.quantile(v, [0.5, 0.16, 0.84]) if v.size >= 20 else [np.nan] * 3 for v in rows]).T


def well_found(signals: Columns, kind: int) -> Columns:
    """Lone, whole, and taken for what they are: those whose area and place are held against truth."""
    rows = signals["lone"] & signals["found"] & ~signals["split"] & ~signals["merged"]
    return chosen(signals, rows & (signals["class"] == kind))


def area_residual(signals: Columns, against: str = "charge_pe") -> np.ndarray:
    """Area over the charge of the signal's own photons (or "light_pe": all light in its peak), minus 1."""
    return signals["area_pe"] / signals[against] - 1


def xy_residual_mm(signals: Columns) -> np.ndarray:
    """Distance of the S2's position from where its electrons reach the gas, on average."""
    return np.hypot(signals["x_mm"] - signals["x_gas_mm"], signals["y_mm"] - signals["y_gas_mm"])


def confusion(tables: Tables, chain: str, samples: tuple[str, ...]) -> np.ndarray:
    """Peaks by what they are of (`KINDS`) and what they are taken for: unknown, S1, S2."""
    peaks = pooled(tables, chain, samples, "peaks")
    out = np.zeros((len(KINDS), 3), int)
    np.add.at(out, (peaks["of"], np.clip(peaks["class"], 0, 2)), 1)
    return out


def fakes_per_event(tables: Tables, chain: str, sample: str) -> dict[str, float]:
    """S1s that are no S1's main peak, and S2s that are neither an S2's main peak nor delayed electrons."""
    peaks, n = tables[sample, chain]["peaks"], tables[sample, chain]["events"]["event"].size
    s1 = (peaks["class"] == S1) & (peaks["of"] != KINDS.index("S1"))
    s2 = (peaks["class"] == S2) & ~np.isin(peaks["of"], [KINDS.index("S2"), KINDS.index("delayed electrons")])
    return {"s1": s1.sum() / n, "s2": s2.sum() / n}


def has_both(events: Columns) -> np.ndarray:
    """Events that can be found: an S1 of at least 3 photons, and an S2 above the trigger's 240 PE."""
    return (events["s1_n_photons"] >= 3) & (events["s2_charge_pe"] >= 250)


def numbers(tables: Tables, chain: str) -> dict[str, Any]:
    """What the tables of the report show of one chain, as (value, error or None)."""
    out: dict[str, Any] = {}
    for kind, steps in ((S1, (3, 4, 6, 10, 20)), (S2, (1, 2, 3, 5, 10))):
        signals = true_signals(tables, chain, kind)
        size = signals[SIZE[kind]]
        unit = "photons" if kind == S1 else "electrons"
        for low in steps:
            high = low + 1 if low < 10 else 2 * low
            rows = (size >= low) & (size < high)
            named = f"{low}" if high == low + 1 else f"{low} to {high - 1}"
            good = signals["found"] & (signals["class"] == kind)
            out[f"S{kind} of {named} {unit}: found as S{kind} [%]"] = _percent(good[rows])
        lone = chosen(signals, signals["lone"] & (size >= 5))
        out[f"S{kind} from 5 {unit}: found as any peak [%]"] = _percent(lone["found"])
        out[f"S{kind} from 5 {unit}: split [%]"] = _percent(lone["split"])
        out[f"S{kind} from 5 {unit}, found, not as S{kind} [%]"] = _percent(
            lone["class"][lone["found"]] != kind
        )
        good = well_found(signals, kind)
        for low, high in ((10, 30), (30, 100), (100, 1000)) if kind == S1 else ((3e2, 3e3), (3e3, 1e5)):
            sized = chosen(good, (good["charge_pe"] >= low) & (good["charge_pe"] < high))
            name = f"S{kind} of {low:g} to {high:g} PE: area"
            out[f"{name} against its own light, bias [%]"] = _median(100 * area_residual(sized))
            out[f"{name} against its own light, spread [%]"] = _spread(100 * area_residual(sized))
            integral = 100 * area_residual(sized, "light_pe")
            out[f"{name} against all light in it, bias [%]"] = _median(integral)
            out[f"{name} against all light in it, spread [%]"] = _spread(integral)
        if kind == S2 and chain != "straxen":  # whose networks are not public
            for low, high in ((100, 1000), (1000, 1e4), (1e4, 1e5)):
                rows = (good["charge_pe"] >= low) & (good["charge_pe"] < high)
                residual = xy_residual_mm(good)[rows]
                out[f"S2 of {low:g} to {high:g} PE: 68 % of xy within [mm]"] = _quantile(residual, 0.68)
    out |= _pairs(tables, chain)
    for sample in ("er", "pile_up"):
        if (sample, chain) in tables:
            for name, value in fakes_per_event(tables, chain, sample).items():
                n = tables[sample, chain]["events"]["event"].size
                out[f"{sample}: false {name.upper()}s an event"] = (value, np.sqrt(value / n))
    return out | _events(tables, chain)


def _pairs(tables: Tables, chain: str) -> dict[str, Any]:
    """Of two signals of one kind: whether each is in a peak of its own."""
    out: dict[str, Any] = {}
    if ("kr83m", chain) in tables:
        signals = true_signals(tables, chain, S1, ("kr83m",))
        for low, high in ((200, 400), (400, 1000)):
            rows = (signals["gap_ns"] >= low) & (signals["gap_ns"] < high)
            resolved = signals["found"] & ~signals["merged"]
            out[f"Kr-83m S1s {low} to {high} ns apart: resolved [%]"] = _percent(resolved[rows])
    for sample in ("scatter", "scatter_low"):
        if (sample, chain) not in tables:
            continue
        signals = true_signals(tables, chain, S2, (sample,))
        for low, high in ((2, 4), (4, 6), (6, 10)):
            rows = (signals["gap"] >= low) & (signals["gap"] < high)
            resolved = signals["found"] & ~signals["merged"]
            out[f"{sample}: S2s {low} to {high} spreads apart: resolved [%]"] = _percent(resolved[rows])
    if ("pile_up", chain) in tables:
        signals = tables["pile_up", chain]["signals"]
        out["pile-up: signals wrongly merged [%]"] = _percent(signals["wrongly_merged"])
    return out


def _events(tables: Tables, chain: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for sample in EVENTS:
        if (sample, chain) not in tables:
            continue
        events, built = tables[sample, chain]["events"], tables[sample, chain]["built"]
        both = built["both"]
        out[f"{sample}: events with the right S1 and S2 [%]"] = _percent(events["right"][has_both(events)])
        out[f"{sample}: built pairs that are pure [%]"] = _percent(built["pure"][both])
        if sample in ("er", "nr"):
            residual = (built["z_mm"] - built["z_true_mm"])[built["right"]]
            out[f"{sample}: z, bias [mm]"] = _median(residual)
            out[f"{sample}: z, spread [mm]"] = _spread(residual)
    return out


def _percent(yes: np.ndarray) -> tuple[float, float]:
    p, low, high = wilson(np.array([np.sum(yes)]), np.array([np.size(yes)]))
    return 100 * float(p[0]), 50 * float(high[0] - low[0])


def _median(values: np.ndarray) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    # of the median of a normal
    return _quantile(values, 0.5)[0], 1.25 * _spread(values)[0] / np.sqrt(max(values.size, 1))


def _spread(values: np.ndarray) -> tuple[float, float]:
    """Half the central 68 %, with the error of a normal's."""
    low, high = _quantile(values, 0.16)[0], _quantile(values, 0.84)[0]
    return (high - low) / 2, (high - low) / 2 / np.sqrt(max(values.size, 1))


def _quantile(values: np.ndarray, level: float) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if values.size < 5:
        return np.nan, np.nan
    found = float(np.quantile(values, level))
    return found, found * 0.7 / np.sqrt(values.size)
