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
from inference.tuning.figures import bootstrap
from inference.tuning.problem import Part, Problem
from inference.tuning.samples import join
from inference.tuning.vector import side_margins

HERE = Path(__file__).parent


class Judge:
    """Held-out figures of a selection: as simulated, and with other detectors."""

    def __init__(self, problem: Problem, tests: dict[str, Part], seed: int, n_draws: int):
        self.problem, self.tests, self.seed, self.n_draws = problem, tests, seed, n_draws

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
    settings: Settings,
    only: list[str] | None = None,
    known: dict[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """All methods on one seed's events: set -> method -> numbers. Only the gradient if others are known."""
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
    for name, make in cut_sets.SETS.items():
        if only is not None and name not in only:
            continue
        cuts = make(detector, reference)
        random = np.random.default_rng(seed)
        problem = Problem(random, cuts, data, objective, (), settings, tests["nominal"])
        parts = {t: Part(join(s, problem.cuts), problem.evaluator) for t, s in tests.items()}
        judge = Judge(problem, parts, seed, config["n_bootstrap"])
        if known is not None:
            row = _gradient(seed, problem, judge, data, tests["nominal"], known[name])
            out[name] = known[name] | {"gradient": row}
            continue
        out[name] = _methods(config, name, seed, problem, judge, data, tests["nominal"])
        print(f"seed {seed}, {name}: " + ", ".join(f"{m} {r['figure']:.3f}" for m, r in out[name].items()))
        sys.stdout.flush()
    return out


def _methods(config, name, seed, problem, judge, data, test) -> dict[str, Any]:
    budget, vector = config["budget"], problem.vector

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

    rows = {"none": judge.row(lambda table: np.ones(len(table), bool), evaluations=0, cpu_s=0.0)}
    rows["defaults"] = judge.row(passes(vector.origin), evaluations=0, cpu_s=0.0)

    low, high = rivals.ranges(vector, problem.both.table)
    share = np.linspace(0, 1, budget["scan_points"])
    grid = [a + (b - a) * share for a, b in zip(low, high, strict=True)]
    passes_done = list(rivals.scan(figure(), grid, passes=budget["scan_passes"]))
    rows["scan once"], rows["scan converged"] = of_search(passes_done[0]), of_search(passes_done[-1])
    rows["TPE"] = of_search(rivals.tpe(figure(), low, high, seed=seed, **budget["tpe"]))
    rows["CMA-ES"] = of_search(rivals.cma_es(figure(), low, high, seed=seed, **budget["cma_es"]))
    rows["gradient"] = _gradient(seed, problem, judge, data, test, rows)
    if name == "curves":
        parts = (part.table for part in (problem.tuning, problem.validation, problem.both))
        select, cpu_s = rivals.trees(*parts, problem.evaluator)
        rows["boosted trees"] = judge.row(select, evaluations=0, cpu_s=cpu_s)
    return rows


def _gradient(seed, problem, judge, data, test, rows) -> dict[str, Any]:
    tuned = tune(
        jax.random.key(seed),
        problem.cuts,
        data,
        problem.evaluator.objective,
        held_out=test,
        settings=problem.settings,
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
    return row | _reached(problem, tuned, rows["scan converged"])


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
    parser.add_argument("--gradient-again", action="store_true", help="only it, where the others are known")
    parser.add_argument("--tiny", action="store_true", help="seconds: shows that it runs, and nothing else")
    args = parser.parse_args(arguments)
    config = tomllib.loads(args.config.read_text())
    settings = Settings(**config["tuning"])
    if args.tiny:
        config |= {"n_tuning": 400, "n_test": 800, "n_bootstrap": 20, "seeds": [1]}
        config["budget"] = {
            "scan_points": 3,
            "scan_passes": 1,
            "tpe": {"patience": 5, "most_cpu_s": 0.2},
            "cma_es": {"tolerance": 1e-4, "most_cpu_s": 0.2},
        }
        settings = Settings(n_steps=20, n_starts=1, n_bootstrap=10)
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds or config["seeds"]:
        path = args.out / f"seed_{seed}.json"
        done = json.loads(path.read_text()) if path.exists() else {}
        again = args.gradient_again
        wanted = [s for s in args.sets or cut_sets.SETS if (s in done) == again]
        if wanted:
            begin = time.process_time()
            done |= compare(config, seed, settings=settings, only=wanted, known=done if again else None)
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
