"""Populations of events: python run.py --out RESULTS [--stage sets] [--figure FILE] [--tiny].

Stage "coverage": intervals on a WIMP cross section. Draws experiments from templates of the differentiable
simulator, finds asymptotic and toy-based intervals of the signal's rate by the profile likelihood, and counts
how often they hold the truth. Writes results.json and a figure. Exit status 1 if a coverage that is claimed
is off, or the twin's is not.

Stage "sets": an amortized posterior of whole sets of events, see `set_posterior.py`. Writes sets.json, the
trained posterior and figures. Exit status 1 if its diagnostics fail. "sets-model" repeats its last part.
"""

import argparse
import json
import sys
import time
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import set_posterior
from matplotlib.figure import Figure

import dmsim
from inference.population.config import checked_config, make_population
from inference.population.intervals import asymptotic_level, crossings, discovery, upper_limit
from inference.population.profile import Model, draw, fit_many, scan_many
from inference.population.search import search_model

HERE = Path(__file__).parent
_BATCH = 250  # experiments at a time: memory


def t_at_truth(key, model: Model, truth, n_toys: int) -> np.ndarray:
    """The statistic t at the true rate of experiments drawn there."""
    parts = []
    for i, n in enumerate(_sizes(n_toys)):
        counts, aux = draw(jax.random.fold_in(key, i), model, truth, n)
        parts.append(np.asarray(scan_many(model, counts, aux, fit_many(model, counts, aux), truth[:1])[:, 0]))
    return np.concatenate(parts)


def _sizes(n: int) -> list[int]:
    return [min(_BATCH, n - i) for i in range(0, n, _BATCH)]


def in_events(model: Model) -> tuple[Model, float]:
    """The model with its signal's rate in events in the window, and how many events its unit was."""
    alone = jnp.zeros_like(model.nominal).at[0].set(1.0)
    alone = alone.at[model.n_components :].set(model.nominal[model.n_components :])
    per_unit = float(model.expected(alone).sum())
    quadratic = model.log_templates
    n_bins = quadratic.value.shape[0] // model.n_components
    shift = jnp.zeros(model.n_components).at[0].set(-np.log(per_unit))
    quadratic = type(quadratic)(
        quadratic.centre, quadratic.value + jnp.repeat(shift, n_bins), quadratic.jacobian, quadratic.hessian
    )
    nominal = model.nominal.at[0].set(model.nominal[0] * per_unit)
    return Model(quadratic, model.aux_width, nominal, model.n_components), per_unit


def shifted(model: Model, truth, by: float):
    """A truth whose nuisances lie off their nominal values."""
    width = jnp.where(jnp.isfinite(model.aux_width), model.aux_width, 0.0)
    moved = jnp.maximum(
        truth + by * width, jnp.where(jnp.arange(len(truth)) < model.n_components, 0.0, -jnp.inf)
    )
    return moved.at[0].set(truth[0])


def level_error(t: np.ndarray, confidence: float) -> float:
    """Half of what lies between the quantiles of t one standard deviation of a share off."""
    off = np.sqrt(confidence * (1 - confidence) / len(t))
    low, high = np.quantile(t, [confidence - off, min(confidence + off, 1.0)])
    return float((high - low) / 2)


def coverage(key, model: Model, config: dict) -> list[dict]:
    """Shares of experiments whose interval holds the truth, at each true signal."""
    n, confidence = config["n_toys"], config["confidence"]
    rows = []
    for i, signal in enumerate(config["signals"]):
        keys = jax.random.split(jax.random.fold_in(key, i), 3)
        truth = model.nominal.at[0].set(signal)
        drawn = t_at_truth(keys[0], model, truth, config["n_level_toys"])
        level = np.quantile(drawn, confidence)
        row: dict = {
            "signal": signal, "level": float(level), "asymptotic_level": asymptotic_level(confidence),
            "level_error": level_error(drawn, confidence),
        }  # fmt: skip
        truths = {"nominal": (keys[1], truth)}
        if signal in config["shifted"]:
            truths["shifted"] = keys[2], shifted(model, truth, config["shift"])
        for name, (k, at) in truths.items():
            t = t_at_truth(k, model, at, n)
            row[name] = {
                "asymptotic": float(np.mean(t <= asymptotic_level(confidence))),
                "toys": float(np.mean(t <= level)),
            }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def intervals(key, model: Model, config: dict, signal: float) -> dict:
    """Intervals of experiments by scanning t: lengths, coverage, and that of the scaled twin."""
    signals = np.linspace(config["scan"][0], config["scan"][1], int(config["scan"][2]))
    truth = model.nominal.at[0].set(signal)
    ends, best_of, limits, z = [], [], [], []
    for i, n in enumerate(_sizes(config["n_scans"])):
        counts, aux = draw(jax.random.fold_in(key, i), model, truth, n)
        best = fit_many(model, counts, aux)
        t = np.asarray(scan_many(model, counts, aux, best, jnp.asarray(signals, jnp.float32)))
        for row, rate in zip(t, np.asarray(best.parameters[:, 0]), strict=True):
            found = crossings(signals, row, asymptotic_level(config["confidence"]), config["confidence"])
            ends.append((found.low, found.high))
            best_of.append(rate)
            limits.append(upper_limit(signals, row, float(rate), config["confidence"]))
            z.append(discovery(float(row[0])).z)
    low, high = np.asarray(ends).T
    best = np.asarray(best_of)
    scale = config["scale"]

    def held(factor):
        return float(
            np.mean((best - factor * (best - low) <= signal) & (signal <= best + factor * (high - best)))
        )

    return {
        "signal": signal,
        "beyond_scan": int(np.sum(np.isnan(high))),
        "coverage": held(1.0),
        "coverage_of_twin": held(scale),
        "median_length": float(np.nanmedian(high - low)),
        "mean_best": float(best.mean()),
        "spread_best": float(best.std()),
        "median_upper_limit": float(np.nanmedian(limits)),
        "median_z": float(np.median(z)),
    }


def figure_of(results: dict) -> Figure:
    """Coverage against the true signal."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    rows, n = results["coverage"], results["n_toys"]
    sigma = np.sqrt(results["confidence"] * (1 - results["confidence"]) / n)
    axes.axhspan(
        results["confidence"] - 2 * sigma, results["confidence"] + 2 * sigma, color="0.9", label="2 sigma"
    )
    axes.axhline(results["confidence"], color="black", linewidth=0.8)
    styles = {"asymptotic": ("#b0653a", "o"), "toys": ("#1f5a96", "s")}
    for i, (kind, (color, marker)) in enumerate(styles.items()):
        for j, (truth, fill) in enumerate((("nominal", color), ("shifted", "white"))):
            shown = [(r["signal"], r[truth][kind]) for r in rows if truth in r]
            x, y = np.asarray(shown).T
            axes.errorbar(
                x + 0.35 * (2 * i + j - 1.5), y, sigma, fmt=marker, color=color, markerfacecolor=fill,
                markersize=5, label=f"{kind}, nuisances {truth}",
            )  # fmt: skip
    twin = results["intervals"]
    axes.plot(twin["signal"], twin["coverage_of_twin"], "x", color="black", label="intervals scaled by 0.75")
    axes.set_xlabel("true WIMP events in the window")
    axes.set_ylabel("share of intervals that hold the truth")
    axes.legend(frameon=False, fontsize=8)
    return figure


def judged(results: dict) -> list[str]:
    """What is not as claimed: toy-based intervals everywhere, asymptotic ones from 10 events on."""
    wrong = []
    confidence, n = results["confidence"], results["n_toys"]
    bound = 2 * np.sqrt(confidence * (1 - confidence) / n)  # 0.027 for 90 % of 500
    for row in results["coverage"]:
        if abs(row["nominal"]["toys"] - confidence) > bound:
            # the level's own toys scatter as well, which the bound leaves out
            error = np.sqrt(confidence * (1 - confidence) / results["n_level_toys"])
            share = row["nominal"]["toys"]
            wrong.append(
                f"toys at {row['signal']:g}: {share:.3f}, of which the level explains +- {error:.3f}"
            )
        if row["signal"] >= 10 and abs(row["nominal"]["asymptotic"] - confidence) > bound:
            wrong.append(f"asymptotic at {row['signal']:g}: {row['nominal']['asymptotic']:.3f}")
    if abs(results["intervals"]["coverage_of_twin"] - confidence) <= 2 * np.sqrt(
        confidence * (1 - confidence) / results["n_scans"]
    ):
        wrong.append(f"the twin passes: {results['intervals']['coverage_of_twin']:.3f}")
    return wrong


def study(config: dict) -> dict:
    """All of it."""
    begin = time.process_time()
    key_model, key_toys, key_scan = jax.random.split(jax.random.key(config["seed"]), 3)
    detector = dmsim.load_detector(config["detector"])
    population = make_population(key_model, detector, checked_config(config["population"]))
    model, per_unit = in_events(search_model(population))
    results = {
        "confidence": config["confidence"],
        "n_toys": config["n_toys"],
        "n_level_toys": config["n_level_toys"],
        "n_scans": config["n_scans"],
        "signal_events_per_1e-47_cm2": per_unit,
        "expected": dict(
            zip([c.name for c in population.components], np.asarray(model.nominal).tolist(), strict=False)
        ),
        "coverage": coverage(key_toys, model, config),
        "intervals": intervals(key_scan, model, config, 10.0),
    }
    return {**results, "cpu_s": time.process_time() - begin}


def sets(args: argparse.Namespace, config: dict) -> int:
    """The stage of whole sets."""
    if args.tiny:
        config |= config["tiny"]
    if args.stage == "sets-model":
        rows = set_posterior.again(config, args.out)
        (args.out / "sets_model.json").write_text(json.dumps(rows, indent=1) + "\n")
        return 0

    def write(results: dict) -> None:
        (args.out / "sets.json").write_text(json.dumps(results, indent=1) + "\n")

    results = set_posterior.study(config, args.out, write)
    set_posterior.figure_of(results).savefig(args.figure or args.out / "sets.png", dpi=150)
    return 0 if results["report"]["passed"] or args.tiny else 1


def main() -> int:
    """Run and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--stage", choices=("coverage", "sets", "sets-model"), default="coverage")
    parser.add_argument("--config", type=Path, default=HERE / "config.toml")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    config = tomllib.loads(args.config.read_text())
    args.out.mkdir(parents=True, exist_ok=True)
    if args.stage != "coverage":
        return sets(args, config["sets"])
    if args.tiny:
        config |= config["tiny"]
    results = study(config)
    (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    figure_of(results).savefig(args.figure or args.out / "coverage.png", dpi=150)
    for row in results["coverage"]:
        for truth in (name for name in ("nominal", "shifted") if name in row):
            print(
                f"{row['signal']:5g} events, nuisances {truth}: asymptotic {row[truth]['asymptotic']:.3f}, "
                f"toys {row[truth]['toys']:.3f} (level {row['level']:.2f} +- {row['level_error']:.2f})"
            )
    print(json.dumps(results["intervals"]))
    wrong = judged(results)
    for line in wrong:
        print(f"not as claimed: {line}")
    return 1 if wrong and not args.tiny else 0


if __name__ == "__main__":
    sys.exit(main())
