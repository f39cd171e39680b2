"""Cuts for a WIMP search, tuned by gradient and by everything else, on the same events.

    python experiments/cut_optimization/run.py --out RESULTS --figure comparison.png

Needs the extra `studies`. Each seed is simulated, tuned and judged on its own and kept in RESULTS;
a second call does what is missing. Table and figure are of all that are there.
"""

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import cut_sets
import rivals
import samples
from report import draw, table_of

import dmsim
from dmsim.selection.merit import asimov_significance
from inference.tuning import Objective, Settings, tune
from inference.tuning.acceptance import hard
from inference.tuning.climb import starts
from inference.tuning.figures import bootstrap
from inference.tuning.problem import Part, Problem
from inference.tuning.samples import Samples, join
from inference.tuning.vector import side_margins

HERE = Path(__file__).parent
_CURVES = 30  # parameters: trees are set beside the largest set alone


class Judge:
    """Held-out figures of a selection: as simulated, and with other detectors."""

    def __init__(self, problem: Problem, tests: dict[str, Part], data: Samples, seed: int, n_draws: int):
        self.problem, self.tests, self.data, self.seed, self.n_draws = problem, tests, data, seed, n_draws

    def row(self, passes, **facts: Any) -> dict[str, Any]:
        """The numbers of one method; `passes(table)` says which events it selects."""
        evaluator, out = self.problem.evaluator, dict(facts)
        for name, part in self.tests.items():
            passed = passes(part.table)
            found = evaluator.hard_of(passed, part.table, part.bins, penalised=False)
            if name != "nominal":
                out[name] = float(found.value)
                continue
            random = np.random.default_rng(self.seed)
            draws = bootstrap(random, evaluator, part.table, [passed], [[]], n_draws=self.n_draws)
            out["figure"] = float(found.value)
            out["low"], out["high"] = np.quantile(draws[0], [0.16, 0.84]).tolist()
            out["kept"] = dict(zip(evaluator.names, np.asarray(found.kept).tolist(), strict=True))
        both = self.problem.both
        out["tuning_figure"] = float(
            evaluator.hard_of(passes(both.table), both.table, both.bins, penalised=True).value
        )
        return out


def compare(
    config: dict[str, Any],
    seed: int,
    *,
    settings: dict[str, Settings],
    sets: list[str],
    known: dict[str, Any],
) -> dict[str, dict[str, Any]]:
    """Methods that are not known yet, on one seed's events: set -> method -> numbers."""
    detector = dmsim.load_detector(config["detector"])
    expected, n = config["expected"], config["n_test"]
    data = samples.make(seed, config["n_tuning"], expected, detector, detector)
    tests = {"nominal": samples.make(seed + 500, n, expected, detector, detector)}
    for name, factors in config["shifted"].items():
        other = samples.shifted(detector, factors)
        tests[name] = samples.make(seed + 500, n // 2, expected, detector, other)
    reference = samples.nuclear_recoils(7, detector)
    objective = Objective(asimov_significance, background_error=config["background_error"])
    out: dict[str, dict[str, Any]] = {}
    for name in sets:
        cuts = cut_sets.SETS[name](detector, reference)
        random = np.random.default_rng(seed)
        problem = Problem(random, cuts, data, objective, (), Settings(), tests["nominal"])
        parts = {t: Part(join(s, problem.cuts), problem.evaluator) for t, s in tests.items()}
        judge = Judge(problem, parts, tests["nominal"], seed, config["n_bootstrap"])
        rows = dict(known.get(name, {}))
        for method, row in _methods(config["budget"], seed, problem, judge, data, rows, settings).items():
            rows.setdefault(method, row())
        out[name] = rows
        print(f"seed {seed}, {name}: " + ", ".join(f"{m} {r['figure']:.3f}" for m, r in out[name].items()))
        sys.stdout.flush()
    return out


def _methods(budget, seed, problem, judge, data, rows, settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """How each row that is missing is made; some use rows before them."""
    vector = problem.vector

    def figure():
        return rivals.HardFigure(problem.evaluator, vector, problem.both.table)

    def passes(values):
        cuts = vector.rebuild(np.asarray(values, float))
        return lambda table: np.asarray(hard(side_margins(cuts, table.columns)))

    def of_search(search):
        return judge.row(
            passes(search.values),
            evaluations=search.n_evaluations,
            cpu_s=search.cpu_s,
            history=search.history,
            ended=search.ended,
        )

    low, high = rivals.ranges(vector, problem.both.table)

    def scan(n_passes):
        share = np.linspace(0, 1, budget["scan_points"])
        grid = [a + (b - a) * share for a, b in zip(low, high, strict=True)]
        return of_search(list(rivals.scan(figure(), grid, passes=n_passes))[-1])

    def trees():
        tuning, validation, both = (p.table for p in (problem.tuning, problem.validation, problem.both))
        select, cpu_s = rivals.trees(tuning, validation, both, problem.evaluator)
        return judge.row(select, evaluations=0, cpu_s=cpu_s)

    def by_gradient(chosen):
        return lambda: _gradient(seed, problem, judge, data, rows["scan converged"], chosen)

    # where the gradient starts: from the defaults, at the ends of the ranges, TPE and CMA-ES got stuck
    start = np.asarray(vector.values(starts(problem, np.random.default_rng(seed))[0]))
    ways = {"first": start, "low": low, "high": high, "seed": seed}
    every: dict[str, Callable[[], dict[str, Any]]] = {
        "none": lambda: judge.row(lambda table: np.ones(len(table), bool), evaluations=0, cpu_s=0.0),
        "defaults": lambda: judge.row(passes(vector.origin), evaluations=0, cpu_s=0.0),
        "scan once": lambda: scan(1),
        "scan converged": lambda: scan(budget["scan_passes"]),
        "TPE": lambda: of_search(rivals.tpe(figure(), **ways, **budget["tpe"])),
        "CMA-ES": lambda: of_search(rivals.cma_es(figure(), **ways, **budget["cma_es"])),
    }
    every |= {method: by_gradient(chosen) for method, chosen in settings.items()}
    if len(vector) > _CURVES:
        every["boosted trees"] = trees
    return {method: row for method, row in every.items() if method not in rows}


def _gradient(seed, problem, judge, data, scan, settings) -> dict[str, Any]:
    tuned = tune(
        jax.random.key(seed),
        problem.cuts,
        data,
        problem.evaluator.objective,
        held_out=judge.data,
        settings=settings,
    )
    cuts = problem.vector.rebuild(tuned.values)
    row = judge.row(
        lambda table: np.asarray(hard(side_margins(cuts, table.columns))),
        evaluations=tuned.n_gradients,
        cpu_s=tuned.cpu_s,
        soft_hard_gap=tuned.held_out.soft_hard_gap,
        improved=tuned.improved,
        parameters=dict(zip(tuned.names, tuned.values.tolist(), strict=True)),
    )
    return row | _reached(problem, tuned, scan)


def _reached(problem, tuned, scan) -> dict[str, Any]:
    """When the gradient's hard cuts first were as good as the converged scan, on tuned and other events."""
    tracks = [tuned.trajectory]
    if tuned.trajectory_on_all is not None:
        tracks.append(tuned.trajectory_on_all)
    figures = {
        "history": rivals.HardFigure(problem.evaluator, problem.vector, problem.both.table),
        "history_held_out": rivals.HardFigure(
            problem.evaluator, problem.vector, problem.held_out.table, penalised=False
        ),
    }
    goals = {"history": scan["tuning_figure"], "history_held_out": scan["figure"]}
    out: dict[str, Any] = {"setup_cpu_s": float(tracks[0].cpu_s[0, 0])}
    for name, figure in figures.items():
        before, history = 0, []
        for track in tracks:  # one start after the other
            for start, n_steps in enumerate(track.n_steps):
                for look in np.flatnonzero(track.step <= n_steps):
                    values = track.values[look, start].astype(float)
                    spent = before + int(track.step[look]), float(track.cpu_s[look, start])
                    history.append((*spent, figure(values)))
                before += int(n_steps)
        first = next((h for h in history if h[2] >= goals[name]), None)
        out[name] = history
        out[name.replace("history", "reached_scan")] = (
            None if first is None else {"evaluations": first[0], "cpu_s": first[1]}
        )
    return out


def main(arguments: list[str] | None = None) -> int:
    """Compare, draw and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "config.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder for one file a seed and the table")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    parser.add_argument("--seeds", type=int, nargs="*", help="those of the configuration if not given")
    parser.add_argument("--sets", nargs="*", choices=list(cut_sets.SETS), help="all if not given")
    parser.add_argument("--again", nargs="*", default=[], metavar="METHOD", help="though it is known")
    parser.add_argument("--tiny", action="store_true", help="a minute: shows that it runs, and nothing else")
    args = parser.parse_args(arguments)
    config = tomllib.loads(args.config.read_text())
    settings = {method: Settings(**given) for method, given in config["tuning"].items()}
    if args.tiny:
        config |= {"n_tuning": 400, "n_test": 800, "n_bootstrap": 20, "seeds": [1]}
        config["budget"] = {
            "scan_points": 3,
            "scan_passes": 1,
            "tpe": {"patience": 5, "most_cpu_s": 0.2},
            "cma_es": {"tolerance": 1e-4, "most_cpu_s": 0.2},
        }
        settings = {"gradient": Settings(n_steps=20, n_starts=1, n_bootstrap=10)}
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds or config["seeds"]:
        path = args.out / f"seed_{seed}.json"
        done = json.loads(path.read_text()) if path.exists() else {}
        sets = args.sets or list(cut_sets.SETS)
        known = {
            name: {m: row for m, row in rows.items() if m not in args.again} for name, rows in done.items()
        }
        if any(set(settings) - set(known.get(name, {})) or args.again for name in sets):
            begin = time.process_time()
            done |= compare(config, seed, settings=settings, sets=sets, known=known)
            path.write_text(json.dumps(done, indent=1) + "\n")
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
