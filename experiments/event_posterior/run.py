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
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import checks
import exact
import posterior_figures
import rows

import dmsim
import inference
from inference import embeddings, flows
from inference.estimators import Fit, History
from inference.events import SingleScatters

HERE = Path(__file__).parent


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
    config["exact"]["repeats"] = 1
    config["exact"]["chains"] = {"n_chains": 2, "n_warmup": 50, "n_samples": 100}
    return config


def simulator(events: SingleScatters) -> Any:
    """`simulate(key, n)` as estimators take it."""

    def simulate(key, n):
        return events.simulate(key, n)

    return simulate


def drawer(events: SingleScatters, *, chunk: int = 16384) -> Any:
    """`draw(key, n)`: parameters and observables as numpy arrays, compiled once."""
    compiled = jax.jit(lambda key: events.draw(key, chunk))

    def draw(key, n):
        parts = [
            jax.tree.map(np.asarray, compiled(jax.random.fold_in(key, i))) for i in range(-(-n // chunk))
        ]
        theta, columns = (np.concatenate(part)[:n] for part in zip(*parts, strict=True))
        if not np.asarray(events.seen(jnp.asarray(columns))).all():
            raise ValueError("too few of the drawn events are seen: raise `oversample`")
        return theta, columns

    return draw


def train(
    config: dict[str, Any],
    events: SingleScatters,
    simulate: Any,
    seed: int,
    budget: dict[str, Any],
    path: Path,
) -> tuple[Fit, dict]:
    """A trained posterior, or the kept one, and what training took.

    Trainings that share `simulate` share one compilation.
    """
    n_anchors = {"n_kinds": events.n_kinds, "plane": (1, 2)}
    npe = inference.NPE(events.prior, embeddings.Raw(), flows.Anchored(**config["network"], **n_anchors))
    wanted = inference.Budget(**budget)
    made_with = json.dumps({**events.to_json(), "network": config["network"], "budget": budget, "seed": seed})
    if path.exists():
        kept = inference.load_posterior(path, detector=events.detector)
        fit = Fit(npe, kept.posterior, History(**cast(Any, kept.history)), wanted)
        return fit, checks.same_training(path, kept.diagnostics.get("training", {}), made_with)
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
        "made_with": made_with,
    }
    inference.save_posterior(
        path, fit, detector=events.detector, diagnostics={"training": took}, events=events.to_json()
    )
    _say(f"training, {path.stem}", took)
    return fit, took


class Stages:
    """Results of finished stages in a folder, so that a second call goes on where the first one ended."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, name: str, make: Callable[[], tuple[dict, dict]]) -> tuple[dict, dict]:
        """Numbers and arrays of a stage: kept ones, or made and kept now."""
        numbers, arrays = self.folder / f"{name}.json", self.folder / f"{name}.npz"
        if numbers.exists() and arrays.exists():
            with np.load(arrays, allow_pickle=False) as kept:
                return json.loads(numbers.read_text()), dict(kept)
        wall, cpu = time.perf_counter(), time.process_time()
        found, made = make()
        found["cpu_s"] = time.process_time() - cpu
        found["wall_s"] = time.perf_counter() - wall
        np.savez(arrays, **made)
        numbers.write_text(json.dumps(found, indent=1) + "\n")
        _say(name, found)
        return found, made


def study(config: dict[str, Any], out: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Every stage; posteriors and results go to the folder."""
    stages, detector = Stages(out), dmsim.load_detector(config["detector"])
    events, high = SingleScatters(detector, **config["events"]), SingleScatters(detector, **config["high"])
    draw, first = drawer(events), config["seeds"][0]
    keys = jax.random.split(jax.random.key(first + 1000), 8)
    results: dict[str, Any] = {"config": config, "training": []}
    fits, simulate = [], simulator(events)
    for seed in config["seeds"]:
        fit, took = train(config, events, simulate, seed, config["budget"], out / f"posterior_{seed}.npz")
        fits.append(fit)
        results["training"].append(took)
    high_fit, results["training_high"] = train(
        config, high, simulator(high), first, config["high_budget"], out / "posterior_high.npz"
    )
    post = fits[0].posterior

    def diagnosed():
        found, arrays, report = checks.diagnose(config, keys[0], events, fits[0], draw)
        report.figure(out / "report.png")
        print(report)
        found["report"]["training"] = results["training"][0]
        path = out / f"posterior_{first}.npz"
        inference.save_posterior(
            path, fits[0], detector=detector, diagnostics=found["report"], events=events.to_json()
        )
        return found, arrays

    results["diagnosed"], test = stages("diagnosed", diagnosed)
    results["exact"], compared = stages(
        "exact", lambda: checks.against_exact(config, keys[1], events, post, test["columns"])
    )
    results["seeds"], _ = stages("seeds", lambda: (_of_seeds(config, keys[2], events, fits, test), {}))
    results["energy"], _ = stages(
        "energy", lambda: (_energies(config, keys[3], (events, post), (high, high_fit.posterior)), {})
    )
    results["discrimination"], _ = stages(
        "discrimination", lambda: (_discrimination(config, keys[4], events, fits, draw), {})
    )
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return results, {**test, **compared}


def _of_seeds(config, key, events, fits, test) -> dict[str, Any]:
    """Median efficiency of each training's posterior on a tenth of the test events."""
    few = test["columns"][: max(250, len(test["columns"]) // 10)]
    n_draws = config["exact"]["importance_draws"]
    found = [
        exact.importance(jax.random.fold_in(key, i), events, fit.posterior, few, n_draws=n_draws)
        for i, fit in enumerate(fits)
    ]
    return {"n_events": len(few), "median_efficiency": [float(np.median(f["efficiency"])) for f in found]}


def _energies(config, key, low, high) -> dict[str, Any]:
    """Energy resolution at every line."""
    settings = config["energy"]
    counts = {"n_events": settings["n_events"], "n_draws": settings["n_draws"]}
    lines = [(low, line) for line in settings["lines_kev"]] + [(high, settings["high_kev"])]
    found = [
        rows.energy_resolution(jax.random.fold_in(key, i), events, post, line, **counts)
        for i, ((events, post), line) in enumerate(lines)
    ]
    return {"lines": found}


def _discrimination(config, key, events, fits, draw) -> dict[str, Any]:
    options = dict(config["discrimination"])
    posts, trees = [fit.posterior for fit in fits], options.pop("trees")
    options["cs1_pe"] = tuple(options["cs1_pe"])
    return rows.discrimination(key, events, posts, draw, tree_options=trees, **options)


def _say(what: str, values: dict[str, Any]) -> None:
    print(f"{what}: {json.dumps(_short(values))}", flush=True)


def _short(value: Any) -> Any:
    """Numbers to four digits."""
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items() if name not in {"report", "binned"}}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value


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
    results, arrays = study(config, args.out)
    if args.figures is not None:
        posterior_figures.draw_all(args.figures, results, arrays)
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    word = "passed" if results["diagnosed"]["report"]["passed"] else "FAILED"
    print(f"{wall / 60:.1f} minutes, {cpu:.0f} CPU-s; report {word}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
