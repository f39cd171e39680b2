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


def compare(
    config: dict[str, Any],
    seed: int,
    detector: Detector,
    judge: Judge,
    options: Options,
    *,
    only_gradient: bool,
) -> dict[str, Any]:
    """All methods on one seed's events."""
    straxen_like = settings_from(config["straxen_like"])
    given = Settings()
    rows: dict[str, Any] = {
        "straxen-like": judge.row(straxen_like, evaluations=0, cpu_s=0.0),
        "defaults": judge.row(given, evaluations=0, cpu_s=0.0),
    }
    samples = data.make(config, detector, seed, "batches")
    batches, budget = _flat(samples), config["budget"]
    tuned = tune_clustering(
        jax.random.key(seed), detector, given, samples, options=options,
        on_look=lambda x: print(f"{x.step}: {x.soft:.4f} {x.hard:.4f} {x.validation:.4f}", flush=True),
    )  # fmt: skip
    rows["gradient"] = judge.row(
        tuned.settings, evaluations=tuned.n_gradients, cpu_s=tuned.cpu_s, n_hard=tuned.n_hard,
        tuned=tuned.as_dict(),
    )  # fmt: skip
    print(f"gradient {rows['gradient']['nominal']['per_signal']:.4f}: {tuned.message}", flush=True)
    if only_gradient:
        return rows
    parameters = parameters_of(given, LEAVES)

    def search(name, found):
        vector = np.array(found.pop("vector"))
        rows[name] = judge.row(parameters.frozen(vector), **found)
        print(f"{name} {rows[name]['nominal']['per_signal']:.4f}", found, flush=True)

    def loss():
        return searches.HardLoss(detector, parameters, batches, options.to_given)

    passes = list(searches.scan(loss(), budget["scan_points"], passes=budget["scan_passes"]))
    search("scan once", passes[0])
    search("scan converged", dict(passes[-1]))
    search("TPE", searches.tpe(loss(), trials=budget["tpe_trials"], reach=budget["tpe_reach"], seed=seed))
    search("CMA-ES", searches.cma_es(loss(), evaluations=budget["cma_evaluations"], seed=seed))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Compare, draw and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "config.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder for one file a seed and the table")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    parser.add_argument("--seeds", type=int, nargs="*", help="those of the configuration if not given")
    parser.add_argument("--only-gradient", action="store_true", help="leave the searches out: minutes a seed")
    args = parser.parse_args(arguments)
    config = tomllib.loads(args.config.read_text())
    options = Options(**config["tuning"])
    args.out.mkdir(parents=True, exist_ok=True)
    detector = dmsim.load_detector(config["detector"])
    wanted = [s for s in args.seeds or config["seeds"] if not (args.out / f"seed_{s}.json").exists()]
    judge = Judge(config, detector) if wanted else None
    for seed in wanted:
        assert judge is not None
        begin = time.process_time()
        rows = compare(config, seed, detector, judge, options, only_gradient=args.only_gradient)
        (args.out / f"seed_{seed}.json").write_text(json.dumps(rows, indent=1) + "\n")
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
