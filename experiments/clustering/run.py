"""Thresholds of the reconstruction by gradient and by scans, TPE and CMA-ES, on the same events.

    python experiments/clustering/run.py --out RESULTS --figure experiments/clustering/comparison.png

Needs the extra `studies`. Each seed is simulated, tuned and judged on its own and kept in RESULTS; a second
call does what is missing. Table and figure are of all that are there.
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

    def __init__(self, config: dict[str, Any], detector: Detector):
        self.detector, self.n_draws = detector, config["n_bootstrap"]
        other = data.shifted(detector, config["shifted"])
        seed = config["test_seed"]
        # what is reconstructed with stays the nominal detector: an analyst does not know of the shift
        self.tests = {
            "nominal": _flat(data.make(config, detector, seed, "test")),
            "shifted": _flat(data.make(config, other, seed, "test")),
        }

    def row(self, settings: Settings, **facts: Any) -> dict[str, Any]:
        """The numbers of one method."""
        out = dict(facts)
        for name, batches in self.tests.items():
            errors = added(hard_errors(self.detector, batches, settings))
            events = [count_by_event(b.truth, found_by(self.detector, b.records, settings)) for b in batches]
            signals, wrong = (np.concatenate(x) for x in zip(*events, strict=True))
            random = np.random.default_rng(1)  # the same draws for every method
            times = random.poisson(1.0, (self.n_draws, signals.size))
            draws = (times @ wrong) / (times @ signals)
            interval = np.quantile(draws, [0.16, 0.84]).tolist()
            out[name] = errors_as_dict(errors) | {"interval": interval, "draws": draws.tolist()}
        return out


def _flat(samples: dict[str, list[Batch]]) -> list[Batch]:
    return [batch for batches in samples.values() for batch in batches]


METHODS = ("straxen-like", "defaults", "gradient", "scan once", "TPE", "CMA-ES", "scan converged")


def compare(
    config: dict[str, Any], seed: int, detector: Detector, judge: Judge, wanted: list[str], done: dict,
    path: Path,
) -> None:  # fmt: skip
    """Methods that are not done yet, on one seed's events; kept one by one."""
    options, given, budget = Options(**config["tuning"]), Settings(), config["budget"]
    samples = data.make(config, detector, seed, "batches")
    parameters = parameters_of(given, LEAVES)

    def gradient():
        tuned = tune_clustering(
            jax.random.key(seed), detector, given, samples, options=options,
            on_look=lambda x: print(f"{x.step}: {x.soft:.4f} {x.hard:.4f} {x.validation:.4f}", flush=True),
        )  # fmt: skip
        facts = {"evaluations": tuned.n_gradients, "cpu_s": tuned.cpu_s, "n_hard": tuned.n_hard}
        return tuned.settings, facts | {"tuned": tuned.as_dict()}

    def searched(search):
        loss = searches.HardLoss(detector, parameters, _flat(samples), options.to_given)
        found = search(loss)
        return parameters.frozen(np.array(found["vector"])), found

    def scans(passes):
        return lambda loss: list(searches.scan(loss, budget["scan_points"], passes=passes))[-1]

    def tpe(loss):
        return searches.tpe(loss, trials=budget["tpe_trials"], reach=budget["tpe_reach"], seed=seed)

    def cma_es(loss):
        return searches.cma_es(loss, evaluations=budget["cma_evaluations"], seed=seed)

    nothing = {"evaluations": 0, "cpu_s": 0.0}
    make = {
        "straxen-like": lambda: (settings_from(config["straxen_like"]), nothing),
        "defaults": lambda: (given, nothing),
        "gradient": gradient,
        "scan once": lambda: searched(scans(1)),
        "scan converged": lambda: searched(scans(budget["scan_passes"])),
        "TPE": lambda: searched(tpe),
        "CMA-ES": lambda: searched(cma_es),
    }
    for name in wanted:
        if name in done:
            continue
        settings, facts = make[name]()
        done[name] = judge.row(settings, **facts)
        numbers = [f"{done[name][test]['per_signal']:.4f}" for test in judge.tests]
        print(f"seed {seed}, {name}: {' '.join(numbers)}, {facts['cpu_s']:.0f} CPU-s", flush=True)
        path.write_text(json.dumps(done, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Compare, draw and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "config.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder for one file a seed and the table")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    parser.add_argument("--seeds", type=int, nargs="*", help="those of the configuration if not given")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS, help="all if not given")
    args = parser.parse_args(arguments)
    config = tomllib.loads(args.config.read_text())
    args.out.mkdir(parents=True, exist_ok=True)
    detector = dmsim.load_detector(config["detector"])
    judge = None
    for seed in config["seeds"] if args.seeds is None else args.seeds:
        path = args.out / f"seed_{seed}.json"
        done = json.loads(path.read_text()) if path.exists() else {}
        if set(args.methods) <= set(done):
            continue
        judge = judge or Judge(config, detector)
        begin = time.process_time()
        compare(config, seed, detector, judge, list(args.methods), done, path)
        print(f"seed {seed}: {time.process_time() - begin:.0f} CPU-s", flush=True)
    results = [json.loads(p.read_text()) for p in sorted(args.out.glob("seed_*.json"))]
    text = table_of(results)
    (args.out / "table.md").write_text(text)
    print(text)
    if args.figure is not None:
        draw(results, args.figure)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
