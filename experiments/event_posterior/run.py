"""Posterior of single events, trained, diagnosed, applied and held against the exact one.

    python experiments/event_posterior/run.py --out RESULTS --figures experiments/event_posterior

Needs the extra `studies`. Trained posteriors are kept in RESULTS, a second call takes them from there.
"""

import argparse
import json
import math
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import exact
import figures
import rows
from events import Events

import dmsim
import inference
from inference import embeddings, flows
from inference.diagnostics.ranks import ranks
from inference.diagnostics.report import Report
from inference.estimators import Fit, History

HERE = Path(__file__).parent
LEVELS = (0.68, 0.95)


def scaled(config: dict[str, Any], scale: float) -> dict[str, Any]:
    """The configuration with fewer events, draws and steps; for tests, and to see that it runs."""
    if scale == 1:
        return config
    config = json.loads(json.dumps(config))

    def less(section, name, least):
        config[section][name] = max(least, int(config[section][name] * scale))

    for section in ("budget", "high_budget"):
        less(section, "n_simulations", 20_480)
        less(section, "n_validation", 1024)
        config[section]["epoch_steps"] = 10
    for section, name, least in (
        ("diagnose", "n_events", 400), ("diagnose", "n_draws", 100), ("diagnose", "n_test", 400),
        ("diagnose", "n_wall", 400), ("diagnose", "test_draws", 100), ("exact", "importance_draws", 64),
        ("exact", "n_events", 4), ("exact", "n_draws", 200), ("exact", "n_steps", 50),
        ("energy", "n_events", 400), ("energy", "n_draws", 50),
        ("discrimination", "n_train", 4000), ("discrimination", "n_test", 4000),
    ):  # fmt: skip
        less(section, name, least)
    config["discrimination"]["trees"]["max_iter"] = 20
    config["discrimination"]["n_bins"] = 4
    config["exact"]["chains"] = {"n_chains": 2, "n_warmup": 50, "n_samples": 100}
    return config


def simulator(events: Events) -> Any:
    """`simulate(key, n)` as estimators take it."""

    def simulate(key, n):
        return events.simulate(key, n)

    return simulate


def drawer(events: Events, *, chunk: int = 16384) -> Any:
    """`draw(key, n)`: parameters and observables as numpy arrays, compiled once."""
    compiled = jax.jit(lambda key: events.draw(key, chunk))

    def draw(key, n):
        parts = [
            jax.tree.map(np.asarray, compiled(jax.random.fold_in(key, i))) for i in range(-(-n // chunk))
        ]
        theta, columns = (np.concatenate(part)[:n] for part in zip(*parts, strict=True))
        if not np.asarray(events.seen(columns)).all():
            raise ValueError("too few of the drawn events are seen: raise `oversample`")
        return theta, columns

    return draw


def train(
    config: dict[str, Any], events: Events, simulate: Any, seed: int, budget: dict[str, Any], path: Path
) -> tuple[Fit, dict]:
    """A trained posterior, or the kept one, and what training took.

    Trainings that share `simulate` share one compilation.
    """
    n_anchors = {"n_kinds": events.n_kinds, "plane": (1, 2)}
    npe = inference.NPE(events.prior, embeddings.Raw(), flows.Anchored(**config["network"], **n_anchors))
    wanted = inference.Budget(**budget)
    if path.exists():
        kept = inference.load_posterior(path, detector=events.detector)
        return Fit(npe, kept.posterior, History(**kept.history), wanted), kept.diagnostics.get("training", {})
    wall, cpu = time.perf_counter(), time.process_time()
    fit = npe.fit(jax.random.key(seed), simulate, wanted)
    weights = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(fit.posterior.network))
    took = {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "n_weights": weights,
        "n_simulations": budget["n_simulations"],
        "n_steps": fit.history.steps[-1],
        "validation": fit.history.validation[-1],
    }
    inference.save_posterior(path, fit, detector=events.detector, diagnostics={"training": took})
    return fit, took


def polar(theta: np.ndarray) -> np.ndarray:
    """Energy, radius, x, y, z of [..., parameter]."""
    radius = np.hypot(theta[..., 1], theta[..., 2])[..., None]
    return np.concatenate([theta[..., :1], radius, theta[..., 1:4]], axis=-1)


NAMES = ("energy", "radius", "x", "y", "z")


def central_coverage(key: Any, theta: np.ndarray, draws: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Share of truths in the central intervals of each parameter, and the ranks it is made of."""
    place = ranks(key, polar(theta), polar(draws))
    inside = {
        name: {str(level): float(np.mean(np.abs(place[:, i] - 0.5) < level / 2)) for level in LEVELS}
        for i, name in enumerate(NAMES)
    }
    return inside, place


def sample_chunks(key: Any, post: Any, x: np.ndarray, n: int, chunk: int = 250) -> tuple[np.ndarray, float]:
    """Draws of many events, and draws a CPU second once compiled."""
    chunk = min(chunk, len(x))
    found = np.empty((len(x), n, post.prior.n_parameters), np.float32)
    np.asarray(post.sample(key, x[:chunk], n))  # compiles
    begin = time.process_time()
    for first in range(0, len(x), chunk):
        at = min(first, len(x) - chunk)
        found[at : at + chunk] = post.sample(jax.random.fold_in(key, first), x[at : at + chunk], n)
    return found, found.shape[0] * n / (time.process_time() - begin)


def binned_coverage(place: np.ndarray, columns: dict[str, np.ndarray], n_bins: int = 6) -> dict[str, Any]:
    """Coverage of each parameter in bins of functions of the data."""
    out = {}
    for name, values in columns.items():
        edges = np.quantile(values, np.linspace(0, 1, n_bins + 1))
        bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n_bins - 1)
        inside = np.abs(place - 0.5)
        out[name] = {
            "edges": edges.tolist(),
            "n": [int(np.sum(bins == k)) for k in range(n_bins)],
            **{
                str(level): [
                    [float(np.mean(inside[bins == k, i] < level / 2)) for k in range(n_bins)]
                    for i in range(len(NAMES))
                ]
                for level in LEVELS
            },
        }
    return out


def diagnose(
    config: dict[str, Any], key: Any, events: Events, fit: Fit, draw: Any
) -> tuple[dict, Report, dict]:
    """The report, coverage of each parameter, and the same for events at the wall."""
    settings, post = config["diagnose"], fit.posterior
    keys = jax.random.split(key, 6)

    def columns_of(x, means):
        del x
        return {"energy": means[:, 0], "radius": np.hypot(means[:, 1], means[:, 2]), "depth": -means[:, 3]}

    report = inference.calibrate(
        keys[0],
        post,
        lambda key, n: _with_summary(events, draw(key, n)),
        n_events=settings["n_events"],
        n_draws=settings["n_draws"],
        columns=columns_of,
        history={"training": np.array(fit.history.training), "validation": np.array(fit.history.validation)},
    )
    theta, columns = draw(keys[1], settings["n_test"])
    x = exact.summaries(events, columns)
    draws, rate = sample_chunks(keys[2], post, x, settings["test_draws"])
    coverage, place = central_coverage(keys[3], theta, draws)
    means = polar(draws.mean(axis=1))
    binned = binned_coverage(place, {"energy": means[:, 0], "radius": means[:, 1], "depth": -means[:, 4]})
    wall_theta, wall_columns = wall_events(keys[4], events, draw, settings)
    wall_draws, _ = sample_chunks(
        keys[5], post, exact.summaries(events, wall_columns), settings["test_draws"]
    )
    wall_coverage, _ = central_coverage(jax.random.fold_in(keys[3], 1), wall_theta, wall_draws)
    found = {
        "report": report.to_dict(),
        "coverage": coverage,
        "wall_coverage": wall_coverage,
        "binned": binned,
        "draws_per_cpu_s": rate,
        "n_wall": len(wall_theta),
    }
    return found, report, {"theta": theta, "columns": columns}


def _with_summary(events: Events, drawn):
    theta, columns = drawn
    return theta, exact.summaries(events, columns)


def wall_events(key, events: Events, draw, settings) -> tuple[np.ndarray, np.ndarray]:
    """Events that are reconstructed near or beyond the wall: a choice by data alone."""
    limit = settings["wall_radius"] * float(events.detector.geometry.radius_mm)
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    n = 0
    while n < settings["n_wall"]:
        theta, columns = draw(jax.random.fold_in(key, len(kept)), 16384)
        near = np.hypot(columns[:, 3], columns[:, 4]) > limit
        kept.append((theta[near], columns[near]))
        n += int(near.sum())
    theta, columns = (np.concatenate(part)[: settings["n_wall"]] for part in zip(*kept, strict=True))
    return theta, columns


def against_exact(
    config: dict[str, Any], key: Any, events: Events, post: Any, test: dict
) -> tuple[dict, dict, dict]:
    """Importance efficiencies of all test events, and the classifier test on the first of them."""
    settings = config["exact"]
    keys = jax.random.split(key, 3)
    cpu = time.process_time()
    weighed = exact.importance(keys[0], events, post, test["columns"], n_draws=settings["importance_draws"])
    cpu_importance = time.process_time() - cpu
    n = settings["n_events"]
    share = None
    if events.n_kinds:
        # the share's own error must not be what the classifier sees
        few = exact.importance(
            keys[1], events, post, test["columns"][:n], n_draws=16 * settings["importance_draws"], chunk=25
        )
        share = few["exact_share"]
    cpu = time.process_time()
    told = exact.two_sample(
        keys[2], events, post, test["columns"][:n], share,
        n_draws=settings["n_draws"], n_steps=settings["n_steps"], chains=settings["chains"],
    )  # fmt: skip
    efficiency, radius = weighed["efficiency"], np.hypot(test["columns"][:, 3], test["columns"][:, 4])
    wall = radius > config["diagnose"]["wall_radius"] * float(events.detector.geometry.radius_mm)
    accuracy = told["accuracy"]
    found = {
        "n_events": len(efficiency),
        "median_efficiency": float(np.median(efficiency)),
        "efficiency_quantiles": dict(
            zip(
                ("1%", "5%", "25%", "75%"),
                np.quantile(efficiency, [0.01, 0.05, 0.25, 0.75]).tolist(),
                strict=True,
            )
        ),
        "median_efficiency_wall": float(np.median(efficiency[wall])),
        "share_k_below_0.7": float(np.mean(weighed["pareto_k"] <= 0.7)),
        "median_evidence_error": float(np.median(weighed["log_evidence_error"])),
        "n_invalid": int(weighed["n_invalid"].sum()),
        "importance_cpu_s": cpu_importance,
        "c2st": {
            "n_events": len(accuracy),
            "mean": float(accuracy.mean()),
            "median": float(np.median(accuracy)),
            "95%": float(np.quantile(accuracy, 0.95)),
            "largest": float(accuracy.max()),
            "trusted": int(told["trusted"].sum()),
            "largest_r_hat": told["largest_r_hat"],
            "cpu_s": time.process_time() - cpu,
        },
    }
    if events.n_kinds:
        off = weighed["flow_share"] - weighed["exact_share"]
        found["kind_rms_difference"] = float(np.sqrt(np.mean(off**2)))
    return found, weighed, told


def study(config: dict[str, Any], out: Path, figures_to: Path | None) -> dict[str, Any]:
    """Everything; posteriors, results and figures go to their folders."""
    detector = dmsim.load_detector(config["detector"])
    events, high = Events(detector, **config["events"]), Events(detector, **config["high"])
    draw = drawer(events)
    key = jax.random.key(config["seeds"][0] + 1000)
    keys = jax.random.split(key, 8)
    results: dict[str, Any] = {"config": config, "training": []}
    fits, simulate = [], simulator(events)
    for seed in config["seeds"]:
        fit, took = train(config, events, simulate, seed, config["budget"], out / f"posterior_{seed}.npz")
        fits.append(fit)
        results["training"].append(took)
        _say(f"training, seed {seed}", took)
    high_fit, took = train(
        config, high, simulator(high), config["seeds"][0], config["high_budget"], out / "posterior_high.npz"
    )
    results["training_high"] = took
    _say("training, high energies", took)

    results["diagnosed"], report, test = diagnose(config, keys[0], events, fits[0], draw)
    diagnostics = {**report.to_dict(), "training": results["training"][0]}
    inference.save_posterior(
        out / f"posterior_{config['seeds'][0]}.npz", fits[0], detector=detector, diagnostics=diagnostics
    )
    print(report)
    results["exact"], weighed, told = against_exact(config, keys[1], events, fits[0].posterior, test)
    _say("exact", results["exact"])
    results["seeds"] = []
    for number, fit in enumerate(fits):
        again = exact.importance(
            jax.random.fold_in(keys[2], number),
            events,
            fit.posterior,
            test["columns"][: len(test["columns"]) // 5],
            n_draws=config["exact"]["importance_draws"],
        )
        results["seeds"].append({"median_efficiency": float(np.median(again["efficiency"]))})
    settings = config["energy"]
    counts = {"n_events": settings["n_events"], "n_draws": settings["n_draws"]}
    results["energy"] = [
        rows.energy_resolution(jax.random.fold_in(keys[3], i), which, post, line, **counts)
        for i, (which, post, line) in enumerate(
            [(events, fits[0].posterior, line) for line in settings["lines_kev"]]
            + [(high, high_fit.posterior, settings["high_kev"])]
        )
    ]
    for row in results["energy"]:
        _say(f"energy {row['energy_kev']} keV", row)
    options = {name: value for name, value in config["discrimination"].items() if name != "trees"}
    options["cs1_pe"] = tuple(options["cs1_pe"])
    results["discrimination"] = rows.discrimination(
        keys[4],
        events,
        [fit.posterior for fit in fits],
        draw,
        tree_options=config["discrimination"]["trees"],
        **options,
    )
    for row in results["discrimination"]["seeds"]:
        _say("discrimination", {n: row[n]["leakage"] for n in ("posterior", "cut", "trees")})
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    report.write(out / "report.json")
    if figures_to is not None:
        figures.draw_all(figures_to, results, report, weighed, told, test)
    return results


def _say(what: str, values: dict[str, Any]) -> None:
    shown = {k: round(v, 4) if isinstance(v, float) and math.isfinite(v) else v for k, v in values.items()}
    print(f"{what}: {shown}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the study and print what each row found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "config.toml")
    parser.add_argument(
        "--out", type=Path, default=Path("event_posterior_results"), help="folder for results"
    )
    parser.add_argument("--figures", type=Path, help="folder for PNG files; none are drawn if not given")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="of all counts; 0.01 is a minute that shows it runs"
    )
    args = parser.parse_args(arguments)
    if not 0 < args.scale <= 1:
        parser.error(f"--scale is {args.scale}: must be above 0, and 1 at most")
    config = scaled(tomllib.loads(args.config.read_text()), args.scale)
    args.out.mkdir(parents=True, exist_ok=True)
    begin, cpu = time.perf_counter(), time.process_time()
    results = study(config, args.out, args.figures)
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    word = "passed" if results["diagnosed"]["report"]["passed"] else "FAILED"
    print(f"{wall / 60:.1f} minutes, {cpu:.0f} CPU-s; report {word}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
