"""Cost of a gradient: value and gradient in every float of the detector (reverse mode), over the forward run.

    python benchmarks/gradients.py
    python benchmarks/gradients.py --out gradients.json

Each level runs forward and with its gradient in fresh processes on the same core, one after the other. What
the first pass takes beyond a later one is compilation. Memory is what a further process, which finds the
compiled programs in a cache, needs at its peak beyond what it had with the detector loaded. Prints a Markdown
table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from timing import measure, peak_memory_mb, report

import dmsim
from dmsim.detector import Detector
from dmsim.records import Deposits

N_EVENTS = {"areas": 20_000, "areas, many": 200_000, "hits": 50, "hits, many": 400, "records": 50}
MUST = {"areas": 4, "areas, many": 4, "hits": 4, "hits, many": 4, "records": 6}
ENERGY_KEV = 10.0


def of_areas(key: jax.Array, detector: Detector, deposits: Deposits) -> tuple[jax.Array, Any]:
    """Sum of the logarithms of both areas, and the areas."""
    out = dmsim.simulate_areas(key, detector, deposits)
    return jnp.sum(jnp.log(jnp.maximum(out.s1_pe, 1.0)) + jnp.log(jnp.maximum(out.s2_pe, 1.0))), out


def of_hits(key: jax.Array, detector: Detector, deposits: Deposits) -> tuple[jax.Array, Any]:
    """Charge that fades within a drift time, and the hits."""
    out = dmsim.simulate_hits(key, detector, deposits)
    fading = jnp.exp(-jnp.maximum(out.time_ns, 0.0) / 1e6)
    return jnp.sum(out.charge_pe * out.weight * fading), out


def of_records(key: jax.Array, detector: Detector, deposits: Deposits) -> tuple[jax.Array, Any]:
    """Sum of squared samples below the baseline, later ones in a record counting more, and the records."""
    out = dmsim.simulate_records(key, detector, deposits)
    n_samples = out.data.shape[1]
    used = np.arange(n_samples) < np.asarray(out.length)[:, None]
    weights = jnp.asarray(used * (1 + np.arange(n_samples) / n_samples), out.data.dtype)
    return jnp.sum((out.data - out.baseline_adc) ** 2 * weights), out


LOSSES: dict[str, Callable] = {
    "areas": of_areas,
    "areas, many": of_areas,
    "hits": of_hits,
    "hits, many": of_hits,
    "records": of_records,
}


def run(level: str, mode: str, *, once: bool = False) -> dict[str, Any]:
    """One level, forward or with its gradient, in this process; once for its memory, else for its time."""
    detector, key = dmsim.load_detector("xenonnt"), jax.random.key(1)
    deposits = dmsim.sources.mono(
        key, detector, n_events=N_EVENTS[level], energy_kev=ENERGY_KEV, interaction="er_beta"
    )
    loss = LOSSES[level]

    def forward() -> Any:
        value, out = loss(key, detector, deposits)
        value.block_until_ready()
        return out

    def with_gradient(function: Callable[[Detector], jax.Array]) -> Any:
        return jax.block_until_ready(eqx.filter_value_and_grad(function)(detector))

    def gradient() -> Any:
        return with_gradient(lambda d: loss(key, d, deposits)[0])

    call = forward if mode == "forward" else gradient
    if once:
        before = peak_memory_mb()
        out = call()
        figures = {"memory_mb": peak_memory_mb() - before}
        if mode == "forward":
            arrays = [x for x in jax.tree.leaves(out) if eqx.is_array_like(x)]
            figures["output_mb"] = sum(np.asarray(x).nbytes for x in arrays) / 2**20
        return figures
    figures = measure(call)
    figures["compile_cpu_s"] = figures["first_cpu_s"] - figures["cpu_s"]
    if mode == "gradient":  # what JAX takes for any function of so many leaves
        bare = measure(lambda: with_gradient(lambda d: 2 * d.light.g1_phd_per_photon), min_cpu_s=0.5)
        figures["bare_cpu_s"] = bare["cpu_s"]
    return figures


def collect(core: int) -> dict[str, dict[str, Any]]:
    """All levels and modes, each in processes of its own."""

    def worker(level: str, mode: str, *options: str, cache: str) -> dict[str, Any]:
        sys.stderr.write(f"running {level}, {mode} {' '.join(options)}...\n")
        environment = {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        }
        done = subprocess.run(
            [sys.executable, __file__, "--core", str(core), "--only", level, mode, *options],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{level}, {mode}: {done.stderr.strip()[-2000:]}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    results: dict[str, dict[str, Any]] = {}
    for level in LOSSES:
        results[level] = {}
        for mode in ("forward", "gradient"):
            with tempfile.TemporaryDirectory() as cache:
                timed = worker(level, mode, cache=cache)
                results[level][mode] = {**timed, **worker(level, mode, "--once", cache=cache)}
    return results


def table(results: dict[str, dict[str, Any]]) -> str:
    """The figures in Markdown."""
    titles = (
        "level",
        "events",
        "forward [CPU-s]",
        "value and gradient [CPU-s]",
        "ratio",
        "must",
        "output [MB]",
        "memory, forward / gradient [MB]",
        "over output",
        "compilation, forward / gradient [CPU-s]",
    )
    lines = ["| " + " | ".join(titles) + " |", "|---" + "|---:" * (len(titles) - 1) + "|"]
    for level, modes in results.items():
        forward, gradient = modes["forward"], modes["gradient"]
        output = forward["output_mb"]
        cells = (
            level.split(",")[0],
            f"{N_EVENTS[level]:,}",
            f"{forward['cpu_s']:.3f}",
            f"{gradient['cpu_s']:.3f}",
            f"{gradient['cpu_s'] / forward['cpu_s']:.1f}",
            f"{MUST[level]}",
            f"{output:.1f}",
            f"{forward['memory_mb']:.0f} / {gradient['memory_mb']:.0f}",
            f"{forward['memory_mb'] / output:.0f} / {gradient['memory_mb'] / output:.0f}",
            f"{forward['compile_cpu_s']:.1f} / {gradient['compile_cpu_s']:.1f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    bare = min(modes["gradient"]["bare_cpu_s"] for modes in results.values())
    lines.append(
        f"\nThe gradient of 2 g1 in as many leaves takes {bare:.3f} CPU-s: the part that is JAX's own."
    )
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, run, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the one core to use")
    parser.add_argument("--only", nargs=2, metavar=("LEVEL", "MODE"), help="one measurement, as JSON")
    parser.add_argument("--once", action="store_true", help="with --only: one pass, for its memory")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    if args.only:
        os.sched_setaffinity(0, {args.core})
        level, mode = args.only
        report(**run(level, mode, once=args.once))
        return
    results = collect(args.core)
    print(table(results))
    if args.out:
        about = {"dmsim": dmsim.__version__, "jax": jax.__version__, "cores": 1}
        args.out.write_text(json.dumps({"about": about, "levels": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
