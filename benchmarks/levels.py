"""Events per CPU-second at each level, on one pinned core, with compilation apart.

    python benchmarks/levels.py --out benchmarks/levels.json

Each workload is run on a few batches with different keys. The first pass over all of them
compiles; further passes, with the same keys and therefore the same shapes, are what is timed. Deposits are
made beforehand. Prints a Markdown table and writes the figures, with versions, as JSON.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

import dmsim

WORKLOADS = {  # title -> source call, as (function name in dmsim.sources, options)
    "10 keV ER": ("mono", {"energy_kev": 10.0, "interaction": "er_beta"}),
    "41.5 keV Kr-83m": ("kr83m", {}),
}
BATCH = {"quanta": 50_000, "areas": 50_000, "hits": 200, "records": 50, "reconstruct": 50}
N_BATCHES = 3
MIN_CPU_S = 1.0  # passes are repeated until they have taken this long together


def measure(call: Callable[[Any], Any], inputs: Sequence[Any]) -> dict[str, float]:
    """Wall and CPU time of one pass over the inputs, and what the first pass took beyond it."""

    def one_pass() -> None:
        for item in inputs:
            jax.block_until_ready(call(item))

    start_wall, start_cpu = time.perf_counter(), time.process_time()
    one_pass()
    first_wall, first_cpu = time.perf_counter() - start_wall, time.process_time() - start_cpu

    n_passes, start_wall, start_cpu = 0, time.perf_counter(), time.process_time()
    while time.process_time() - start_cpu < MIN_CPU_S:
        one_pass()
        n_passes += 1
    wall = (time.perf_counter() - start_wall) / n_passes
    cpu = (time.process_time() - start_cpu) / n_passes
    compilation = {"compile_wall_s": first_wall - wall, "compile_cpu_s": first_cpu - cpu}
    return {"wall_s": wall, "cpu_s": cpu, "n_passes": n_passes, **compilation}


def run(detector_name: str, scale: float) -> list[dict[str, Any]]:
    """All workloads at all levels, one row each."""
    detector = dmsim.load_detector(detector_name)
    simulators = {
        "quanta": dmsim.simulate_quanta,
        "areas": dmsim.simulate_areas,
        "hits": dmsim.simulate_hits,
        "records": dmsim.simulate_records,
    }
    rows = []
    for title, (source, options) in WORKLOADS.items():
        keys = jax.random.split(jax.random.key(1), N_BATCHES)
        for level, n_full in BATCH.items():
            n_events = max(int(n_full * scale), 1)
            make = getattr(dmsim.sources, source)
            batches = [(key, make(key, detector, n_events=n_events, **options)) for key in keys]
            if level == "reconstruct":
                inputs = [dmsim.simulate_records(key, detector, deposits) for key, deposits in batches]
                figures = measure(lambda records: dmsim.reconstruct(detector, records), inputs)
            else:
                simulate = simulators[level]
                figures = measure(lambda batch, f=simulate: f(batch[0], detector, batch[1]), batches)
            total = n_events * N_BATCHES
            row = {"workload": title, "level": level, "n_events": total, **figures}
            row["events_per_cpu_s"] = total / figures["cpu_s"]
            row["events_per_wall_s"] = total / figures["wall_s"]
            rows.append(row)
            print(f"{title}, {level}: {row['events_per_cpu_s']:.4g} events per CPU-second", flush=True)
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| workload | level | events | events per CPU-s | events per s | compilation [CPU-s] |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['workload']} | {r['level']} | {r['n_events']} | {r['events_per_cpu_s']:.3g} "
        f"| {r['events_per_wall_s']:.3g} | {r['compile_cpu_s']:.1f} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, pin the core (JAX starts its threads at first use), run, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--detector", default="xenonnt")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="the one core to use")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of events")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})

    rows = run(args.detector, args.scale)
    print("\n" + markdown(rows))
    if args.out:
        about = {"dmsim": dmsim.__version__, "jax": jax.__version__, "detector": args.detector, "cores": 1}
        args.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
