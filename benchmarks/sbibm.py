"""Amortized posteriors on four tasks of the sbi benchmark, beside sbi's own NPE.

    python -m benchmarks.sbibm --references FOLDER [--peer PYTHON] [--tasks ...] [--peer-epochs N]

FOLDER is sbibm/tasks of the unzipped sbibm wheel; PYTHON an interpreter with sbi. Both train on the same
pairs with a neural spline flow of 5 layers, width 50 and 10 bins, in batches of 200, on one core.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import argparse
import json
import subprocess
import tempfile
import time
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
PASSES = 60
WHAT = ("C2ST", "test NLL", "steps a CPU-s", "CPU-s to sbi's NLL", "draws a CPU-s")


def pairs(task: Task, seed: int, n: int) -> tuple[inference.Cached, inference.Cached]:
    """Training and test pairs."""
    drawn = inference.Cached.draw(jax.random.key(seed), priors.joint(task.prior, task.observe), n + N_TEST)
    return drawn.split(N_TEST)


def ours(
    task: Task, training: inference.Cached, test: inference.Cached, observations: Any, seed: int, **sizes: Any
):
    """Figures of our NPE, and draws for the observations."""
    budget = inference.Budget(
        len(training), n_passes=sizes.pop("n_passes", PASSES), batch_size=200, **sizes.pop("budget", {})
    )
    npe = inference.NPE(task.prior, flow=flows.Coupling(**sizes))
    cpu: list[float] = []
    first = time.process_time()
    fit = npe.fit(
        jax.random.key(seed),
        training,
        budget,
        validation=test,
        after_epoch=lambda _: cpu.append(time.process_time() - first),
    )
    steps = np.diff([0, *fit.history.steps])
    post = fit.posterior
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
        "cpu_s": cpu,
        "nll": fit.history.validation,
        "test_nll": fit.history.validation[-1],
        "draws_per_cpu_s": 100 * len(many) / batched,
    }, draws


def peer(
    interpreter: str, task: Task, training, test, observations, seed: int, epochs: list[int] | None
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
        done = subprocess.run(
            [interpreter, str(worker), str(source), str(target), str(seed), *map(str, epochs or ())],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
            cwd=folder,  # sbi writes logs where it runs
        )
        return json.loads(done.stdout.splitlines()[-1]), np.load(target)["draws"]


def compare(
    task: Task,
    folder: Path,
    interpreter: str | None,
    seed: int,
    n: int,
    n_observations: int,
    peer_epochs: int | None,
) -> dict[str, Any]:
    """One task and seed: figures of both."""
    training, test = pairs(task, seed, n)
    known = [task.references(folder, i) for i in range(1, n_observations + 1)]
    observations = np.stack([x for x, _ in known])
    figures, draws = ours(task, training, test, jnp.asarray(observations), seed)
    result: dict[str, Any] = {"task": task.name, "seed": seed, "ours": figures}
    figures["c2st"] = [c2st(ref[:N_DRAWS], d) for (_, ref), d in zip(known, draws, strict=True)]
    if interpreter:
        epochs = [peer_epochs] if peer_epochs else None
        theirs, draws = peer(interpreter, task, training, test, observations, seed, epochs)
        if peer_epochs:  # stopped early: only its speeds mean anything
            theirs = {key: theirs[key] for key in ("n_parameters", "steps_per_cpu_s", "draws_per_cpu_s")}
        else:
            theirs["c2st"] = [c2st(ref[:N_DRAWS], d) for (_, ref), d in zip(known, draws, strict=True)]
            ours_at = zip(figures["cpu_s"], figures["nll"], strict=True)
            reached = [cpu for cpu, nll in ours_at if nll <= theirs["test_nll"]]
            figures["cpu_s_to_peer_nll"] = reached[0] if reached else None
        result["sbi"] = theirs
    return result


def main() -> None:
    """Print the table, and a line of JSON a task and seed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--references", type=Path, required=True)
    options.add_argument("--peer")
    options.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--peer-epochs", type=int, help="stop sbi after so many, to measure its speed alone")
    options.add_argument("--observations", type=int, default=10)
    options.add_argument("--simulations", type=int, default=10_000)
    given = options.parse_args()
    rows = []
    for name in given.tasks:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            sizes = (given.simulations, given.observations, given.peer_epochs)
            rows.append(compare(TASKS[name], given.references, given.peer, seed, *sizes))
            print(json.dumps(rows[-1]), flush=True)
    print("\n".join(table(rows)))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown lines: mean over seeds and observations."""
    lines = [
        f"| task | {' | '.join(f'{what}, ours / sbi' for what in WHAT)} |",
        "|---" * (len(WHAT) + 1) + "|",
    ]
    for name in dict.fromkeys(row["task"] for row in rows):
        here = [row for row in rows if row["task"] == name]

        def mean(key: str, who: str, here=here) -> str:
            values = [np.mean(row[who][key]) for row in here if who in row and row[who].get(key) is not None]
            return f"{np.mean(values):.4g}" if values else "-"

        cells = [
            f"{mean(key, 'ours')} / {mean(key, 'sbi')}" for key in ("c2st", "test_nll", "steps_per_cpu_s")
        ]
        cells.append(f"{mean('cpu_s_to_peer_nll', 'ours')} / {mean('best_cpu_s', 'sbi')}")
        cells.append(f"{mean('draws_per_cpu_s', 'ours')} / {mean('draws_per_cpu_s', 'sbi')}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
