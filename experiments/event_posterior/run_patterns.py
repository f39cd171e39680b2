"""Posterior of single events from light patterns, double scatters among them.

    python experiments/event_posterior/run_patterns.py --out RESULTS --figures experiments/event_posterior

Trained posteriors and finished stages are kept in RESULTS, a second call goes on from there.
"""

import argparse
import json
import shutil
import sys
import time
import tomllib
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import explained
import pattern_checks
import pattern_figures
from checks import same_training
from pattern_events import LABELS, PatternEvents

import dmsim
import inference
from inference import embeddings, flows
from inference.estimators import Cached, Fit, History
from inference.events import SingleScatters

HERE = Path(__file__).parent
_FEW = 12_288  # events of the pool that places, report and explanations take theirs from


def scaled(config: dict[str, Any], scale: float) -> dict[str, Any]:
    """The configuration with fewer events; to see that it runs."""
    if scale == 1:
        return config
    config = json.loads(json.dumps(config))
    for section, name, least in (
        ("training_set", "n_simulations", 8_192), ("budget", "n_validation", 512),
        ("diagnose", "n_pool", 4096), ("diagnose", "n_test", 500), ("diagnose", "n_wall", 500),
        ("diagnose", "n_doubles", 500), ("diagnose", "n_draws", 50), ("diagnose", "n_report", 300),
        ("diagnose", "report_draws", 100), ("exact", "n_events", 50), ("exact", "n_further", 50),
        ("exact", "n_draws", 64), ("places", "n_events", 300), ("explained", "n_events", 2),
    ):  # fmt: skip
        config[section][name] = max(least, int(config[section][name] * scale))
    config["seeds"] = config["seeds"][:1]
    return config


def pattern_events(config: dict[str, Any]) -> PatternEvents:
    """Events as the configuration has them."""
    given = config["events"]
    detector = dmsim.load_detector(config["detector"])
    areas = SingleScatters(
        detector, energy_kev=tuple(given["energy_kev"]), kinds=tuple(given["kinds"]),
        least_pe=tuple(given["least_pe"]),
    )  # fmt: skip
    doubles = {**config["doubles"], "share": tuple(config["doubles"]["share"])}
    proposal = {name: config["training_set"][name] for name in ("wall_share", "wall_from", "wall_weight")}
    return PatternEvents(areas, **doubles, **proposal)


def training_set(config: dict[str, Any], events: PatternEvents, path: Path) -> Cached:
    """What all trainings see, or the kept one.

    Raises:
        ValueError: for a kept one of another configuration.
    """
    made_with = json.dumps({name: config[name] for name in ("detector", "events", "doubles", "training_set")})
    if not path.exists():
        wanted = config["training_set"]
        key, n = jax.random.key(wanted["seed"]), wanted["n_simulations"]
        drawn = Cached.draw(key, events.simulate, n, chunk=wanted["chunk"])
        assert drawn.weight is not None
        np.savez(path, theta=drawn.theta, x=drawn.x, weight=drawn.weight, made_with=made_with)
    kept = np.load(path)
    if "made_with" not in kept or str(kept["made_with"]) != made_with:
        raise ValueError(f"{path} is of another configuration: remove it, or give another --out")
    return Cached(kept["theta"], kept["x"], weight=kept["weight"])


def train(
    config: dict[str, Any], events: PatternEvents, whole: Cached, seed: int, path: Path
) -> tuple[Fit, dict]:
    """A trained posterior, or the kept one, and what training took."""
    flow = flows.Anchored(**config["network"], n_kinds=len(LABELS), plane=(1, 2))
    npe = inference.NPE(events.prior, embeddings.Raw(), flow, **config["classifier"])
    training, validation = whole.split(config["budget"]["n_validation"])
    wanted = inference.Budget(len(training), **config["budget"])
    sections = ("detector", "events", "doubles", "training_set", "network", "classifier", "budget")
    made_with = json.dumps({**{name: config[name] for name in sections}, "seed": seed})
    if path.exists():
        kept = inference.load_posterior(path, detector=events.detector)
        fit = Fit(npe, kept.posterior, History(**cast(Any, kept.history)), wanted)
        return fit, same_training(path, kept.diagnostics.get("training", {}), made_with)
    wall, cpu = time.perf_counter(), time.process_time()
    fit = npe.fit(jax.random.key(seed), training, wanted, validation=validation)
    weights = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(fit.posterior.network))
    took = {
        "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall, "n_weights": weights,
        "validation": fit.history.validation[-1], "training": fit.history.training[-1],
        "made_with": made_with,
    }  # fmt: skip
    inference.save_posterior(path, fit, detector=events.detector, diagnostics={"training": took})
    print(f"training {seed}: {took}", flush=True)
    return fit, took


def study(config: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train, diagnose, compare; report and explanations of the first training."""
    events = pattern_events(config)
    cpu = time.process_time()
    whole = training_set(config, events, out / "training_set.npz")
    print(f"training set, {time.process_time() - cpu:.0f} CPU-s", flush=True)
    keys = jax.random.split(jax.random.key(config["seeds"][0] + 2000), 8)
    results = _kept(out, config)
    cpu = time.process_time()
    # what follows the checks of all trainings takes the pool's first events alone
    checked = len(results["seeds"]) == len(config["seeds"])
    n_pool = config["diagnose"]["n_pool"]
    pool = pattern_checks.draw_pool(keys[0], events, min(n_pool, _FEW) if checked else n_pool)
    print(f"test events, {time.process_time() - cpu:.0f} CPU-s", flush=True)
    posts = []
    for number, seed in enumerate(config["seeds"]):
        fit, took = train(config, events, whole, seed, out / f"patterns_{seed}.npz")
        posts.append(fit.posterior)
        if number == len(results["seeds"]):
            n_exact = config["exact"]["n_further" if number else "n_events"]
            found = _checked(keys, config, events, fit.posterior, pool, n_exact)
            results["seeds"].append({"training": took, **found})
            _keep(out, results)
        if number == 0 and "report" not in results:
            _report(config, out, keys[4], events, fit, pool, results)
    if "places" not in results:
        n = config["places"]["n_events"]
        results["places"] = pattern_checks.place_errors(keys[3], events, posts, pool, n)
        _keep(out, results)
    if "explained" not in results:
        cpu = time.process_time()
        path, n = out / "pattern_explained.png", config["explained"]["n_events"]
        of_label = explained.samplers(events, posts[0])
        results["explained"] = explained.explain(path, keys[5], events, posts[0], of_label, pool)
        results["survey"] = explained.survey(keys[6], events, posts[0], of_label, pool, n)
        print(f"explained, {time.process_time() - cpu:.0f} CPU-s: {results['survey']}", flush=True)
        _keep(out, results)
    return results


def _report(
    config: dict[str, Any], out: Path, key: Any, events: PatternEvents, fit: Fit, pool: Any, results: dict
) -> None:
    """Diagnostics of the first training, which travel with its file."""
    cpu = time.process_time()
    counts = config["diagnose"]["n_report"], config["diagnose"]["report_draws"]
    report = pattern_checks.report_of(key, events, fit, pool, *counts)
    print(f"{report}\nreport, {time.process_time() - cpu:.0f} CPU-s", flush=True)
    report.figure(out / "pattern_report.png")
    training = results["seeds"][0]["training"]
    inference.save_posterior(
        out / f"patterns_{config['seeds'][0]}.npz", fit, detector=events.detector,
        diagnostics={**report.to_dict(), "training": training},
    )  # fmt: skip
    results["report"] = report.to_dict()
    _keep(out, results)


def _kept(out: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What an earlier call with this configuration found."""
    path = out / "patterns.json"
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["config"] == json.loads(json.dumps(config)):
            return kept
    return {"config": config, "seeds": []}


def _checked(
    keys: Any, config: dict[str, Any], events: PatternEvents, post: Any, pool: Any, n_exact: int
) -> dict[str, Any]:
    """What is asked of every training's posterior."""
    exact, found = {**config["exact"], "n_events": n_exact}, {}
    for name, check in (
        ("efficiency", lambda: pattern_checks.efficiency(keys[1], events, post, pool, exact)),
        ("recognition", lambda: pattern_checks.recognition(post, pool)),
        ("reliability", lambda: pattern_checks.reliability(post, pool)),
        ("coverage", lambda: pattern_checks.coverage(keys[2], post, pool, config["diagnose"])),
    ):
        cpu = time.process_time()
        found[name] = check()
        print(f"{name}, {time.process_time() - cpu:.0f} CPU-s: {json.dumps(found[name])[:1500]}", flush=True)
    return found


def _keep(out: Path, results: dict[str, Any]) -> None:
    (out / "patterns.json").write_text(json.dumps(results, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the study and print what each row found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "patterns.toml")
    parser.add_argument(
        "--out", type=Path, default=Path("event_posterior_results"), help="folder for results"
    )
    parser.add_argument("--figures", type=Path, help="folder for PNG files; none are drawn if not given")
    parser.add_argument("--scale", type=float, default=1.0, help="of all counts; 0.01 shows that it runs")
    args = parser.parse_args(arguments)
    if not 0 < args.scale <= 1:
        parser.error(f"--scale is {args.scale}: must be above 0, and 1 at most")
    config = scaled(tomllib.loads(args.config.read_text()), args.scale)
    args.out.mkdir(parents=True, exist_ok=True)
    cpu = time.process_time()
    results = study(config, args.out)
    if args.figures is not None:
        args.figures.mkdir(parents=True, exist_ok=True)
        pattern_figures.draw(args.figures / "patterns.png", results)
        for name in ("pattern_report.png", "pattern_explained.png"):
            if (args.out / name).exists():
                shutil.copyfile(args.out / name, args.figures / name)
    print(f"{time.process_time() - cpu:.0f} CPU-s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
