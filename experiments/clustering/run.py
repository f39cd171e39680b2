"""Thresholds of the reconstruction by gradient and by scans, TPE and CMA-ES, on the same events.

    python experiments/clustering/run.py --out RESULTS --figure experiments/clustering/comparison.png

Needs the extra `studies`. Each seed is simulated, tuned and judged on its own; events and results are kept in
RESULTS, and a second call does what is missing. Table and figure are of all that are there.
"""

import argparse
import json
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import data
import searches
from report import draw, table_of

import dmsim
from dmsim.detector import Detector
from dmsim.reconstruction.settings import Settings, settings_from
from inference.tuning.clustering import tune_clustering
from inference.tuning.clustering_loss import count_by_event
from inference.tuning.clustering_parameters import LEAVES, parameters_of
from inference.tuning.clustering_result import Options, errors_as_dict
from inference.tuning.clustering_samples import Batch, added, found_by, hard_errors

HERE = Path(__file__).parent


class Judge:
    """Errors of settings on events that no method has seen, of the same and of another detector."""

    def __init__(self, config: dict[str, Any], detector: Detector, folder: Path):
        self.detector, self.n_draws = detector, config["n_bootstrap"]
        other = data.shifted(detector, config["shifted"])
        # what is reconstructed with stays the nominal detector: an analyst does not know of the shift
        self.tests = {
            name: _flat(data.kept(folder / f"test_{name}.npz", config, truth, config["test_seed"], "test"))
            for name, truth in (("nominal", detector), ("shifted", other))
        }

    def row(self, settings: Settings, **facts: Any) -> dict[str, Any]:
        """The numbers of one method."""
        out = dict(facts)
        for name, batches in self.tests.items():
            found = found_by(self.detector, batches, settings)
            counted = [count_by_event(b.truth, peaks) for b, peaks in zip(batches, found, strict=True)]
            errors = added([c.errors for c in counted])
            signals, wrong = (np.concatenate([getattr(c, n) for c in counted]) for n in ("signals", "wrong"))
            random = np.random.default_rng(1)  # the same draws for every method
            times = random.poisson(1.0, (self.n_draws, signals.size))
            draws = (times @ wrong) / (times @ signals)
            interval = np.quantile(draws, [0.16, 0.84]).tolist()
            out[name] = errors_as_dict(errors) | {"interval": interval, "draws": draws.tolist()}
        return out

    def per_signal(self, settings: Settings) -> float:
        """Errors a signal on the events of the same detector."""
        return float(added(hard_errors(self.detector, self.tests["nominal"], settings)).per_signal)


def _flat(samples: dict[str, list[Batch]]) -> list[Batch]:
    return [batch for batches in samples.values() for batch in batches]


METHODS = ("straxen-like", "defaults", "gradient", "scan once", "scan converged", "TPE", "CMA-ES")


class Seed:
    """Methods on one seed's events; numbers are kept one method at a time."""

    def __init__(self, config: dict[str, Any], seed: int, detector: Detector, judge: Judge, folder: Path):
        self.seed, self.detector, self.judge = seed, detector, judge
        self.config, self.budget = config, config["budget"]
        self.options = Options(**config["tuning"])
        self.path = folder / f"seed_{seed}.json"
        self.done = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.samples = data.kept(folder / f"seed_{seed}_events.npz", config, detector, seed, "batches")
        self.parameters = parameters_of(Settings(), LEAVES)

    def do(self, method: str) -> None:
        """What is asked for, if it is not there."""
        if method in self.done:
            return
        nothing = {"evaluations": 0, "cpu_s": 0.0}
        if method == "straxen-like":
            self._keep(method, settings_from(self.config["straxen_like"]), nothing)
        elif method == "defaults":
            self._keep(method, Settings(), nothing)
        elif method == "gradient":
            self._keep(method, *self._gradient())
        elif method.startswith("scan"):
            budget = self.budget
            results = searches.scan(self._loss(), budget["scan_points"], passes=budget["scan_passes"])
            self._searched("scan once", results[0])
            self._searched("scan converged", results[-1])
        else:
            budget, loss = self.budget, self._loss()
            common = {"patience": budget["patience"], "seed": self.seed}
            self._searched(
                method,
                searches.tpe(loss, most=budget["tpe_most"], reach=budget["tpe_reach"], **common)
                if method == "TPE"
                else searches.cma_es(loss, most=budget["cma_most"], step=budget["cma_step"], **common),
            )

    def follow(self) -> None:
        """Errors on the test events at each look of the gradient, which chose without them."""
        row = self.done.get("gradient")
        if row is None or "track" in row:
            return
        row["track"] = [
            (look["step"], look["cpu_s"], self.judge.per_signal(self._settings(look["values"])))
            for look in row["tuned"]["trajectory"]
        ]
        self._write()

    def _settings(self, values: list[float]) -> Settings:
        return self.parameters.frozen(self.parameters.of_values(np.array(values)))

    def _loss(self) -> searches.HardLoss:
        return searches.HardLoss(self.detector, self.parameters, _flat(self.samples), self.options.to_given)

    def _gradient(self) -> tuple[Settings, dict[str, Any]]:
        tuned = tune_clustering(
            jax.random.key(self.seed), self.detector, Settings(), self.samples, options=self.options,
            on_look=lambda x: print(f"{x.step}: {x.soft:.4f} {x.hard:.4f} {x.validation:.4f}", flush=True),
        )  # fmt: skip
        facts = {"evaluations": tuned.n_gradients, "cpu_s": tuned.cpu_s, "n_hard": tuned.n_hard}
        # the searches' loss, on all events that they see, at each look: beside their histories
        vectors = [self.parameters.of_values(look.values) for look in tuned.trajectory]
        loss = self._loss()
        facts["history"] = [
            (look.step, look.cpu_s, loss(vector))
            for look, vector in zip(tuned.trajectory, vectors, strict=True)
        ]
        facts["loss"] = loss(self.parameters.of_values(tuned.values))
        return tuned.settings, facts | {"tuned": tuned.as_dict()}

    def _searched(self, method: str, found: dict[str, Any]) -> None:
        self._keep(method, self.parameters.frozen(np.array(found["vector"])), found)

    def _keep(self, method: str, settings: Settings, facts: dict[str, Any]) -> None:
        row = self.judge.row(settings, **facts)
        self.done[method] = row
        numbers = [f"{row[test]['per_signal']:.4f}" for test in self.judge.tests]
        print(f"seed {self.seed}, {method}: {' '.join(numbers)}, {facts['evaluations']} evaluations, "
              f"{facts['cpu_s']:.0f} CPU-s", flush=True)  # fmt: skip
        self._write()

    def _write(self) -> None:
        self.path.write_text(json.dumps(self.done, indent=1) + "\n")


def tiny(config: dict[str, Any]) -> dict[str, Any]:
    """One seed, few events, few steps and trials."""
    few = {name: sample | {"batches": 2, "test": 1} for name, sample in config["samples"].items()}
    for sample in few.values():
        if "chunk_s" not in sample:
            sample["events_per_batch"] = 5
    budget = {"scan_points": [0.7], "scan_passes": 1, "patience": 2, "tpe_most": 3, "cma_most": 3}
    return config | {
        "seeds": config["seeds"][:1],
        "n_bootstrap": 20,
        "samples": few,
        "tuning": config["tuning"] | {"n_steps": 2, "steps_per_plan": 2},
        "budget": config["budget"] | budget,
    }


def main(arguments: list[str] | None = None) -> int:
    """Compare, draw and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "config.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder for one file a seed and the table")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    parser.add_argument("--seeds", type=int, nargs="*", help="those of the configuration if not given")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS, help="all if not given")
    parser.add_argument("--tiny", action="store_true", help="minutes: shows that it runs, and nothing else")
    args = parser.parse_args(arguments)
    config = tomllib.loads(args.config.read_text())
    if args.tiny:
        config = tiny(config)
    args.out.mkdir(parents=True, exist_ok=True)
    detector = dmsim.load_detector(config["detector"])
    begin = time.process_time()
    judge = Judge(config, detector, args.out)
    seeds = config["seeds"] if args.seeds is None else args.seeds
    studies = [Seed(config, seed, detector, judge, args.out) for seed in seeds]
    for method in args.methods:  # all seeds of one before the next: what is cut short is whole
        for study in studies:
            study.do(method)
    for study in studies:
        study.follow()
    print(f"{time.process_time() - begin:.0f} CPU-s", flush=True)
    paths = sorted(args.out.glob("seed_*.json"), key=lambda path: int(path.stem[5:]))
    results = {int(path.stem[5:]): json.loads(path.read_text()) for path in paths}
    text = table_of(results)
    (args.out / "table.md").write_text(text)
    print(text)
    if args.figure is not None:
        draw(results, args.figure)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
