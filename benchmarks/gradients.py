"""Cost of a gradient: value and gradient in every float of the detector (reverse mode), over the forward run.

    python benchmarks/gradients.py
    python benchmarks/gradients.py --out gradients.json

Each level runs forward and with its gradient in fresh processes on the same core, one after the other, in
several pairs: the median of each is given, of the ratio that of the pairs and their range. What the first
pass of the first process takes beyond a later one is compilation. Memory is what a further process, which
finds the compiled programs in a cache, needs at its peak beyond what it had with the detector loaded. Prints
a Markdown table, and what it says of costs that do not depend on the number of events.
"""

import argparse
import json
import os
import statistics
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


def collect(core: int, n_pairs: int) -> dict[str, dict[str, Any]]:
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
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            caches = {"forward": one, "gradient": other}
            pairs = [
                {mode: worker(level, mode, cache=cache) for mode, cache in caches.items()}
                for _ in range(n_pairs)
            ]
            once = {mode: worker(level, mode, "--once", cache=cache) for mode, cache in caches.items()}
        results[level] = {
            # the first pair's processes compiled
            mode: pairs[0][mode] | once[mode] | {"cpu_s": statistics.median(p[mode]["cpu_s"] for p in pairs)}
            for mode in caches
        }
        results[level]["ratios"] = [p["gradient"]["cpu_s"] / p["forward"]["cpu_s"] for p in pairs]
    return results


def without_events_cpu_s(results: dict[str, dict[str, Any]], level: str, mode: str) -> float:
    """What a pass takes whatever the number of events: a line through both numbers of them."""
    few, many = N_EVENTS[level], N_EVENTS[f"{level}, many"]
    low, high = (results[name][mode]["cpu_s"] for name in (level, f"{level}, many"))
    return max((low * many - high * few) / (many - few), 0.0)


def table(results: dict[str, dict[str, Any]]) -> str:
    """The figures in Markdown."""
    titles = (
        "level",
        "events",
        "forward [CPU-s]",
        "value and gradient [CPU-s]",
        "ratio (of pairs)",
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
            _ratio(modes["ratios"]),
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
    for level in ("areas", "hits"):
        fixed = {mode: without_events_cpu_s(results, level, mode) for mode in ("forward", "gradient")}
        lines.append(
            f"By both numbers of events, {fixed['forward']:.3f} CPU-s of a forward run of {level} and "
            f"{fixed['gradient']:.3f} of its gradient do not depend on how many events there are."
        )
    return "\n".join(lines)


def _ratio(ratios: list[float]) -> str:
    """Median and range."""
    middle = f"{statistics.median(ratios):.1f}"
    return middle if len(ratios) == 1 else f"{middle} ({min(ratios):.1f} to {max(ratios):.1f})"


def main() -> None:
    """Parse the command line, run, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the one core to use")
    parser.add_argument("--pairs", type=int, default=3, help="forward runs and gradients of each level")
    parser.add_argument("--only", nargs=2, metavar=("LEVEL", "MODE"), help="one measurement, as JSON")
    parser.add_argument("--once", action="store_true", help="with --only: one pass, for its memory")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    if args.only:
        os.sched_setaffinity(0, {args.core})
        level, mode = args.only
        report(**run(level, mode, once=args.once))
        return
    if args.pairs < 1:
        parser.error(f"--pairs is {args.pairs}: must be at least 1")
    results = collect(args.core, args.pairs)
    print(table(results))
    if args.out:
        about = {"dmsim": dmsim.__version__, "jax": jax.__version__, "cores": 1}
        args.out.write_text(json.dumps({"about": about, "levels": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
