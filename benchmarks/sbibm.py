"""Amortized posteriors on four tasks of the sbi benchmark, beside sbi's own NPE.

    python -m benchmarks.sbibm --references FOLDER [--peer PYTHON] [--tasks ...] [--out FOLDER]

FOLDER is sbibm/tasks of the unzipped sbibm wheel; PYTHON an interpreter with sbi. Both train on the same
pairs with a neural spline flow of 5 layers, width 50 and 10 bins, in batches of 200, on one core. With --out,
each side of each task and seed is kept in a file, and a run that was stopped goes on.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import inference
from benchmarks.c2st import c2st
from benchmarks.sbibm_tasks import TASKS, Task
from inference import flows, priors
from inference.estimators.training import weights_of

N_TEST, N_DRAWS, N_MANY = 2000, 4000, 1000
# chosen on other seeds
PASSES, PATIENCE, RATE, GAIN = 200, 20, 5e-3, 0.2
MANY, PASSES_OF_MANY = 50_000, 40


def _both(key: str) -> dict[str, str]:
    return {"ours": key, "sbi": key}


# a figure's keys, and how ours stands against sbi's
WHAT = {
    "C2ST": (_both("c2st"), lambda ours, sbi: ours - sbi),
    "test NLL": (_both("test_nll"), lambda ours, sbi: ours - sbi),
    "steps a CPU-s": (_both("steps_per_cpu_s"), lambda ours, sbi: ours / sbi),
    "CPU-s to sbi's best NLL": (
        {"ours": "cpu_s_to_peer_nll", "sbi": "best_cpu_s"},
        lambda ours, sbi: sbi / ours,
    ),
    "draws a CPU-s": (_both("draws_per_cpu_s"), lambda ours, sbi: ours / sbi),
}


def pairs(task: Task, seed: int, n: int) -> tuple[inference.Cached, inference.Cached]:
    """Training and test pairs."""
    drawn = inference.Cached.draw(jax.random.key(seed), priors.joint(task.prior, task.observe), n + N_TEST)
    return drawn.split(N_TEST)


def ours(
    task: Task,
    training: inference.Cached,
    test: inference.Cached,
    observations: Any,
    seed: int,
    *,
    weight_decay: float = 0.0,
    n_passes: int | None = None,
    **sizes: Any,
):
    """Figures of our NPE, its flow of these sizes, and draws for the observations."""
    n_passes = n_passes or (PASSES if len(training) < MANY else PASSES_OF_MANY)
    training, held = training.split(len(training) // 10)  # as sbi does
    budget = inference.Budget(
        len(training),
        n_passes=n_passes,
        batch_size=200,
        peak_rate=RATE,
        patience=PATIENCE,
        weight_decay=weight_decay,
    )
    npe = inference.NPE(task.prior, flow=flows.Coupling(**{"gain": GAIN, **sizes}))
    cpu: list[float] = []
    first = time.process_time()
    fit = npe.fit(
        jax.random.key(seed),
        training,
        budget,
        validation=held,
        after_epoch=lambda _: cpu.append(time.process_time() - first),
    )
    steps = np.diff([0, *fit.history.steps])
    post = fit.posterior
    test_nll = float(-jnp.mean(post.log_prob(jnp.asarray(test.theta)[:, None], test.x)))
    # the same network's loss on both sets tells what the held-out one is worth on the test's
    on_test = np.array(fit.history.validation) + test_nll - min(fit.history.validation)
    draws = np.asarray(post.sample(jax.random.key(seed + 100), observations, N_DRAWS))
    many = test.x[:N_MANY]
    post.sample(jax.random.key(1), many, 100).block_until_ready()
    start = time.process_time()
    for i in range(3):
        post.sample(jax.random.key(i), many, 100).block_until_ready()
    batched = (time.process_time() - start) / 3
    return {
        "n_parameters": int(weights_of(post.network)[0].size),
        # the first epoch compiles
        "steps_per_cpu_s": float(steps[1:].sum() / (cpu[-1] - cpu[0])),
        "train_cpu_s": cpu[-1],
        "best_cpu_s": cpu[int(np.argmin(on_test))],
        "cpu_s": cpu,
        "nll": on_test.tolist(),
        "test_nll": test_nll,
        "draws_per_cpu_s": 100 * len(many) / batched,
    }, draws


def peer(
    interpreter: str, task: Task, training, test, observations, seed: int, max_epochs: int | None
) -> tuple[dict[str, Any], np.ndarray]:
    """The same of sbi."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "set.npz", Path(folder) / "draws.npz"
        bound = np.full(task.n_parameters, task.bound)
        np.savez(
            source,
            theta=training.theta,
            x=training.x,
            test_theta=test.theta,
            test_x=test.x,
            low=-bound,
            high=bound,
            observations=observations,
            many_x=test.x[:N_MANY],
        )
        worker = Path(__file__).with_name("peer_sbi.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        subprocess.run(
            [
                interpreter,
                str(worker),
                str(source),
                str(target),
                str(seed),
                *([str(max_epochs)] * bool(max_epochs)),
            ],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
            cwd=folder,  # sbi writes logs where it runs
        )
        made = np.load(target)
        return json.loads(str(made["figures"])), made["draws"]


def kept(file: Path | None, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file holds, or what is made now and then lies there."""
    if file and file.exists():
        return json.loads(file.read_text())
    made = make()
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".part")
        partial.write_text(json.dumps(made))
        partial.replace(file)
    return made


def compare(name: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One task and seed: figures of each side that is asked for."""
    task = TASKS[name]
    known = [task.references(given.references, i) for i in range(1, given.observations + 1)]
    observations = np.stack([x for x, _ in known])

    def side(who: str) -> dict[str, Any]:
        training, test = pairs(task, seed, given.simulations)
        if who == "ours":
            figures, draws = ours(
                task, training, test, jnp.asarray(observations), seed, weight_decay=given.weight_decay
            )
        else:
            figures, draws = peer(given.peer, task, training, test, observations, seed, given.peer_epochs)
        figures["c2st"] = [c2st(ref[:N_DRAWS], d) for (_, ref), d in zip(known, draws, strict=True)]
        return figures

    result: dict[str, Any] = {"task": name, "seed": seed}
    for who in given.sides:
        file = given.out / f"{name}-{given.simulations}-{seed}-{who}.json" if given.out else None
        result[who] = kept(file, lambda who=who: side(who))
        print(json.dumps({"task": name, "seed": seed, "side": who, **brief(result[who])}), flush=True)
    if len(given.sides) > 1:
        ours_at = zip(result["ours"]["cpu_s"], result["ours"]["nll"], strict=True)
        reached = [cpu for cpu, nll in ours_at if nll <= result["sbi"]["test_nll"]]
        result["ours"]["cpu_s_to_peer_nll"] = reached[0] if reached else None
    return result


def brief(figures: dict[str, Any]) -> dict[str, Any]:
    """Without what goes epoch by epoch; C2ST as its mean."""
    shown = {key: value for key, value in figures.items() if not isinstance(value, list)}
    return {**shown, "c2st": float(np.mean(figures["c2st"]))}


def main() -> None:
    """Print a line of JSON a task, seed and side, and the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--references", type=Path, required=True)
    options.add_argument("--peer", help="an interpreter with sbi")
    options.add_argument("--out", type=Path, help="keep what is done here")
    options.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    options.add_argument(
        "--sides", nargs="+", choices=("ours", "sbi"), help="default: ours, and sbi with --peer"
    )
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--peer-epochs", type=int, help="stop sbi after so many at the latest")
    options.add_argument("--weight-decay", type=float, default=0.0, help="of ours")
    options.add_argument("--observations", type=int, default=10)
    options.add_argument("--simulations", type=int, default=10_000)
    given = options.parse_args()
    given.sides = given.sides or (["ours", "sbi"] if given.peer else ["ours"])
    rows = [
        compare(name, seed, given)
        for seed in range(given.first_seed, given.first_seed + given.seeds)
        for name in given.tasks
    ]
    print("\n".join(table(rows)))


def _spread(values: list[float]) -> str:
    """Mean, and lowest to highest."""
    if not values:
        return "-"
    low, mean, high = (f"{value:.3g}" for value in (min(values), np.mean(values), max(values)))
    return f"{mean} ({low} to {high})" if len(values) > 1 else mean


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown lines: means over seeds and their range; C2ST is a mean over observations before."""
    sides = [who for who in ("ours", "sbi") if who in rows[0]]
    heads = [*sides, "ours against sbi's"] if len(sides) > 1 else sides
    lines = [f"| | task | {' | '.join(heads)} |", "|---|---" + "|---:" * len(heads) + "|"]
    for what, (keys, against) in WHAT.items():
        for name in dict.fromkeys(row["task"] for row in rows):
            here = [row for row in rows if row["task"] == name]
            found = [
                [np.mean(row[who][keys[who]]) if row[who].get(keys[who]) else np.nan for row in here]
                for who in sides
            ]
            cells = [_spread([float(v) for v in values if np.isfinite(v)]) for values in found]
            if len(sides) > 1:
                each = against(*map(np.array, found))
                cells.append(_spread([float(v) for v in each if np.isfinite(v)]))
            lines.append(f"| {what} | {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
