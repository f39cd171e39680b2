"""Speed of `dmsim reconstruct`, strax files in, Parquet files out: CPU-seconds, memory, 2 workers against 1.

    python benchmarks/files.py
    python benchmarks/files.py --scale 0.1 --workers 1 --core 1 --strax PYTHON
    python benchmarks/files.py --workers 1 2 1 2 --chunks 30

Workload: that of benchmarks/reconstruct.py, in ten chunks of a strax folder (lz4). `all` counts a run from
its first import to its figure; `chunks` leaves out what a process does once: the second half of the chunks.
`steady` is the rate by the clock from when every worker has done its first chunk to the last chunk done: the
scaling with workers, start-up and compilation apart. It wants some ten chunks a worker (`--chunks`).
strax's row is files in, peaks out, without events (peer_strax_files.py). `--core` pins all processes to a
core; leave it out to compare workers.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from reconstruct_inputs import FILE

from dmsim.io.strax_folders import FolderWriter, endtime_ns

HERE = Path(__file__).parent


def write_run(folder: Path, raw: np.ndarray, n_chunks: int) -> Path:
    """The same records again and again, one copy a chunk."""
    writer = FolderWriter(
        folder, "run", "raw_records", raw.dtype, lineage={"raw_records": ["Benchmark", "0", {}]},
        provenance={}, compressor="lz4",
    )  # fmt: skip
    writer._metadata.pop("dmsim")  # as another program writes: no event numbers
    span = int(endtime_ns(raw).max()) + 10_000_000
    for chunk in range(n_chunks):
        part = raw.copy()
        part["time"] += chunk * span
        writer.write(part, start_ns=chunk * span, end_ns=(chunk + 1) * span)
    writer.close()
    return writer.folder


def run(records: Path, out: Path, n_workers: int, n_events: int) -> dict[str, float]:
    """One call of the command."""
    before, begin = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "dmsim.cli.main", "reconstruct", str(records), "-d", "xenonnt"]
    subprocess.run(
        [*command, "-o", str(out), "--workers", str(n_workers)], check=True, stdout=subprocess.DEVNULL
    )
    after = os.times()
    receipts = sorted((out / "chunks").glob("0*.json"), key=lambda path: path.stat().st_mtime_ns)
    chunks = [json.loads(path.read_text())["counts"] for path in receipts]
    late, done_ns = chunks[len(chunks) // 2 :], [path.stat().st_mtime_ns for path in receipts]
    steady_s = (done_ns[-1] - done_ns[n_workers - 1]) / 1e9
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    megabytes = sum(chunk["bytes"] for chunk in chunks) / 1e6
    return {
        "wall_s": time.perf_counter() - begin,
        "cpu_s": cpu,
        "mb": megabytes,
        "all_mb_per_cpu_s": megabytes / cpu,
        "chunks_mb_per_cpu_s": sum(c["bytes"] for c in late) / 1e6 / sum(c["cpu_seconds"] for c in late),
        "chunks_events_per_cpu_s": n_events * len(late) / len(chunks) / sum(c["cpu_seconds"] for c in late),
        "steady_mb_per_s": sum(chunk["bytes"] for chunk in chunks[n_workers:]) / 1e6 / steady_s,
        "memory_mb": max(chunk["memory_mb"] for chunk in chunks),
    }


def peer(python: str, records: Path, out: Path, known: dict[str, float]) -> dict[str, float]:
    """The same, as far as peaks, by strax."""
    options = [str(item) for name, value in known.items() for item in (f"--{name}", value)]
    command = [python, str(HERE / "peer_strax_files.py"), str(records), str(out), *options]
    figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {name: value for name, value in figures.items() if name != "version"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the 100 events a chunk")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--chunks", type=int, default=10, help="of the run, at least two a worker")
    parser.add_argument("--core", type=int, help="the one core to use")
    parser.add_argument("--strax", metavar="PYTHON", help="interpreter that has strax")
    args = parser.parse_args()
    if args.chunks < 2 * max(args.workers):
        parser.error(f"--chunks: {args.chunks} is fewer than two for each of {max(args.workers)} workers")
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n = max(round(100 * args.scale), 2)
        command = [sys.executable, str(HERE / "reconstruct_inputs.py"), name, "--distinct", str(n)]
        made = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        records = write_run(folder, np.load(folder / FILE), args.chunks)
        run(records, folder / "warm", 1, n * args.chunks)  # fills the caches of compiled kernels
        found = [
            (f"{workers} workers", run(records, folder / f"out{turn}", workers, n * args.chunks))
            for turn, workers in enumerate(args.workers)
        ]
        if args.strax:
            found.append(("strax", peer(args.strax, records, folder / "strax", made["detector"])))
        for what, figures in found:
            print(f"{what}:", json.dumps({k: round(v, 2) for k, v in figures.items()}))


if __name__ == "__main__":
    main()
