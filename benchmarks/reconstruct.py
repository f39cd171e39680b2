"""Speed of the reconstruction beside strax's, in CPU-seconds on one pinned core, compilation apart.

    python benchmarks/reconstruct.py
    python benchmarks/reconstruct.py --scale 0.02 --strax ~/straxen/bin/python --out speed.json

Workload: 1000 events with an S1 of 100 PE and an S2 of 1e4 PE in the 494 sensors of xenonnt; a tenth of them
is simulated and read ten times, as ten chunks. strax takes the same array, in a process of its own on the
same core, right after ours, so that ratios hold on a busy machine, too. Its interpreter is this one unless
`--strax` names another.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulate import HERE, Runner, number, say

N_CHUNKS = 10
_FIRST_PEAKS = """
import numpy as np
import dmsim
from dmsim.reconstruction.peaks import peaks_of
from dmsim.reconstruction.tables import record_table_from_columns
detector = dmsim.load_detector("xenonnt")
raw = np.load({path!r})[:2000]
columns = (raw[name] for name in ("time", "channel", "length", "record_i", "data"))
table = record_table_from_columns(*columns, dt=10, baseline_adc=16000, n_sensors=494)
peaks_of(detector, table)
"""


class Workload:
    """The inputs on disk and who works on them."""

    def __init__(self, runner: Runner, folder: Path, *, scale: float, strax: str):
        self.runner, self.folder, self.strax = runner, folder, strax
        self.n_distinct = max(round(1000 / N_CHUNKS * scale), 2)
        script = str(HERE / "reconstruct_inputs.py")
        command = [sys.executable, script, str(folder), "--distinct", str(self.n_distinct)]
        made = runner.worker("simulation of the records", command)
        if made is None:
            raise SystemExit("no records, nothing to measure")
        self.n_events = self.n_distinct * N_CHUNKS
        self.mb = made["n_records"] * made["record_bytes"] * N_CHUNKS / 1e6
        self.detector = made["detector"]
        self.records_per_event = made["n_records"] / self.n_distinct

    def rates(self, figures: dict[str, Any] | None) -> dict[str, Any] | None:
        """With MB and events a CPU-second."""
        if figures is None:
            return None
        cpu = figures["cpu_s"]
        return {**figures, "mb_per_cpu_s": self.mb / cpu, "events_per_cpu_s": self.n_events / cpu}

    def ours(self, backend: str) -> dict[str, Any] | None:
        """Raw records -> peaks."""
        script = str(HERE / "ours_reconstruct.py")
        arguments = [str(self.folder), "--copies", str(N_CHUNKS), "--backend", backend]
        return self.rates(self.runner.worker(f"dmsim ({backend})", [sys.executable, script, *arguments]))

    def peer(self) -> dict[str, Any] | None:
        """The same by strax."""
        arguments = {"copies": N_CHUNKS, **self.detector}
        flat = [str(item) for name, value in arguments.items() for item in (f"--{name}", value)]
        script = str(HERE / "peer_strax.py")
        return self.rates(self.runner.worker("strax", [self.strax, script, str(self.folder), *flat]))

    def startup(self) -> dict[str, float]:
        """A process that imports and reconstructs one event, with an empty and with a warm cache."""
        script = _FIRST_PEAKS.format(path=str(self.folder / "raw_records.npy"))
        with tempfile.TemporaryDirectory() as cache:
            settings = {
                "NUMBA_CACHE_DIR": f"{cache}/numba",
                "JAX_COMPILATION_CACHE_DIR": f"{cache}/jax",
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
            }
            say("running a first process ...")
            command = [sys.executable, "-c", script]
            cold = self.runner.startup_s(command, times=1, **settings)
            return {"cold": cold, "warm": self.runner.startup_s(command, times=3, **settings)}


# what is measured, by name; each gets the workload and returns its figures
MEASUREMENTS: dict[str, Callable[[Workload], Any]] = {
    "peaks": lambda work: work.ours("host"),
    "peaks_strax": lambda work: work.peer(),
    "peaks_xla": lambda work: work.ours("xla"),
    "startup": lambda work: work.startup(),
}


def table(work: Workload, results: dict[str, Any]) -> str:
    """Markdown: workload, ours, strax, ratio, must and aim."""
    rows: list[tuple[str, str, str, str, str]] = []
    ours, peer = results.get("peaks"), results.get("peaks_strax")
    if ours:
        size = f"{work.n_events} events of {work.records_per_event:.0f} records, {work.mb:.0f} MB"
        what = f"raw records -> peaks, {size}"
        for key, unit, must in (
            ("mb_per_cpu_s", "MB", "46, aim 100"),
            ("events_per_cpu_s", "events", "85, aim 100"),
        ):
            ratio = f"{ours[key] / peer[key]:.1f}" if peer else ""
            theirs = number(peer[key]) if peer else ""
            rows.append((f"{what}: {unit} a CPU-s", number(ours[key]), theirs, ratio, must))
    if results.get("peaks_xla"):
        figure = number(results["peaks_xla"]["mb_per_cpu_s"])
        rows.append(("the same with XLA for the dense steps: MB a CPU-s", figure, "", "", ""))
    begin = results.get("startup")
    if begin:
        jit = f"first pass: {number(peer['first_cpu_s'])}" if peer else ""
        rows.append(
            ("process with one event, warm caches, CPU-s", number(begin["warm"]), jit, "", "8, aim 3")
        )
        rows.append(("process with one event, empty caches, CPU-s", number(begin["cold"]), "", "", ""))
    head = ["| workload | dmsim | strax | ratio | must |", "|---|---:|---:|---:|---|"]
    found = {name: f for name, f in results.items() if isinstance(f, dict) and "n_peaks" in f}
    peaks = ", ".join(f"{name} {f['n_peaks']}" for name, f in found.items())
    memory = ", ".join(f"{name} {f['peak_memory_mb']:.0f}" for name, f in found.items())
    lines = [*head, *("| " + " | ".join(row) + " |" for row in rows)]
    return "\n".join([*lines, "", f"Peaks found: {peaks}. Peak memory [MB]: {memory}"])


def main() -> None:
    """Parse the command line, run, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the one core to use")
    parser.add_argument(
        "--strax", metavar="PYTHON", default=sys.executable, help="interpreter that has strax"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of events")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=tuple(MEASUREMENTS))
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        work = Workload(Runner(args.core, {}), Path(folder), scale=args.scale, strax=args.strax)
        results = {name: MEASUREMENTS[name](work) for name in args.only}
        print(table(work, results))
    print(f"\n{platform.machine()}, core {args.core}, {time.perf_counter() - started:.0f} s")
    if args.out:
        sizes = {"n_events": work.n_events, "mb": work.mb, "records_per_event": work.records_per_event}
        args.out.write_text(json.dumps({"workload": sizes, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
