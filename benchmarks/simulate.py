"""Speed of the simulator beside its peers, in CPU-seconds on one pinned core, compilation apart.

    python benchmarks/simulate.py
    python benchmarks/simulate.py --fuse ~/fuse/bin/python --flamedisx ... --appletree ... --nestpy ... \
        --out speed.json --figure scaling.png

Every workload and every peer runs in a process of its own on the same core, one after the other, so that
ratios hold on a busy machine, too. A peer is run by the interpreter that it is installed in and left out
with a line when none is given. Deposits are made beforehand; passes end with `block_until_ready`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
VALIDATION = HERE.parent / "experiments" / "validation"
PEERS = ("fuse", "flamedisx", "appletree", "nestpy")
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")}
_FIRST_CALL = """
import jax, dmsim
detector = dmsim.load_detector("xenonnt")
key = jax.random.key(1)
deposits = dmsim.sources.mono(key, detector, n_events=20, energy_kev=10.0, interaction="er_beta")
jax.block_until_ready(dmsim.{call}(key, detector, deposits).{leaf})
"""
_LOADED = "import dmsim; dmsim.simulate_records, dmsim.reconstruct, dmsim.sources.mono, dmsim.load_detector"


class Runner:
    """Runs processes on one core and keeps what they say."""

    def __init__(self, core: int, interpreters: dict[str, str | None]):
        self.core, self.interpreters = core, interpreters

    def run(self, command: Sequence[str], **environment: str) -> subprocess.CompletedProcess:
        """One process, pinned before it starts."""
        return subprocess.run(
            command,
            env={**os.environ, **_QUIET, **environment},
            preexec_fn=lambda: os.sched_setaffinity(0, {self.core}),
            capture_output=True,
            text=True,
            check=False,
        )

    def worker(self, name: str, command: Sequence[str], **environment: str) -> dict[str, Any] | None:
        """The JSON that a worker prints last, or None and a line that says why."""
        say(f"running {name} ...")
        done = self.run(command, **environment)
        try:
            return json.loads(done.stdout.strip().splitlines()[-1])
        except (IndexError, ValueError):
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
            say(f"{name}: failed: {reason}")
            return None

    def ours(self, workload: str) -> dict[str, Any] | None:
        """A workload of `ours.py`."""
        return self.worker(workload, [sys.executable, str(HERE / "ours.py"), workload])

    def peer(self, name: str, script: str, *arguments: str, **environment: str) -> dict[str, Any] | None:
        """A peer's script in its interpreter, if there is one."""
        interpreter = self.interpreters[name]
        if not interpreter:
            say(f"{name}: left out, no interpreter given (--{name})")
            return None
        return self.worker(name, [interpreter, script, *arguments], **environment)

    def startup_s(self, command: Sequence[str], *, times: int = 5, **environment: str) -> float:
        """CPU-seconds of a whole process, the least of several (the first fills the file cache)."""
        spent = []
        for _ in range(times):
            before = os.times()
            done = self.run(command, **environment)
            after = os.times()
            if done.returncode:
                raise RuntimeError(f"{command} failed: {done.stderr.strip()[-300:]}")
            spent.append(
                after.children_user + after.children_system - before.children_user - before.children_system
            )
        return min(spent)


def say(line: str) -> None:
    """Progress, apart from the table."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def startup(runner: Runner) -> dict[str, float]:
    """Processes from start to end."""
    python = [sys.executable, "-c"]
    dmsim_command = str(Path(sys.executable).with_name("dmsim"))
    figures = {
        "import_jax_equinox": runner.startup_s([*python, "import jax, equinox"]),
        "import_dmsim": runner.startup_s([*python, "import dmsim"]),
        "every_name": runner.startup_s([*python, _LOADED]),
        "help": runner.startup_s([dmsim_command, "--help"]),
    }
    for level, leaf in (("simulate_areas", "s1_pe"), ("simulate_records", "data")):
        script = _FIRST_CALL.format(call=level, leaf=leaf)
        with tempfile.TemporaryDirectory() as cache:
            settings = {
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
            }
            say(f"running first {level} ...")
            figures[f"{level}_cold"] = runner.startup_s([*python, script], times=1, **settings)
            figures[f"{level}_cached"] = runner.startup_s([*python, script], times=3, **settings)
    return figures


def fuse(runner: Runner, n_events: int) -> dict[str, Any] | None:
    """Records of fuse for the same deposits, from files that our interpreter writes."""
    if not runner.interpreters["fuse"]:
        return runner.peer("fuse", "")
    with tempfile.TemporaryDirectory() as folder:
        writer = [sys.executable, str(VALIDATION / "fuse_inputs.py"), folder, "--events", str(n_events)]
        done = runner.run(writer)
        if done.returncode:
            say(f"fuse: no inputs: {done.stderr.strip()[-300:]}")
            return None
        figures = runner.peer("fuse", str(VALIDATION / "fuse_chain.py"), folder, "--repeat", "4")
    if figures is None:
        return None
    cpu = sorted(figures["cpu_s"][1:])[1]  # the first compiles; median of three
    return {
        **figures,
        "events_per_cpu_s": n_events / cpu,
        "kb_per_event": figures["mb"] * 1e3 / n_events,
        "us_per_photon": cpu / figures["n_photons"] * 1e6,
        "photons_per_event": figures["n_photons"] / n_events,
    }


def collect(runner: Runner, chosen: Sequence[str]) -> dict[str, Any]:
    """All figures, by name."""
    results: dict[str, Any] = {}
    if "areas" in chosen:
        results["areas"] = runner.ours("areas")
        script = str(HERE / "peer_flamedisx.py")
        results["flamedisx"] = runner.peer("flamedisx", script)
        results["flamedisx nest"] = runner.peer("flamedisx", script, "nest")
        script = str(HERE / "peer_appletree.py")
        results["appletree exact"] = runner.peer("appletree", script)
        results["appletree hybrid"] = runner.peer("appletree", script, APPLETREE_USE_HYBRID="1")
        results["nestpy"] = runner.peer("nestpy", str(HERE / "peer_nestpy.py"))
    if "records" in chosen:
        results["records"] = runner.ours("records")
        results["fuse"] = fuse(runner, 200)
        results["records_full"] = runner.ours("records_full")
        results["records_s2"] = runner.ours("records_s2")
    if "hits" in chosen:
        results["hits_s1"] = runner.ours("hits_s1")
    if "startup" in chosen:
        results["startup"] = startup(runner)
    if "scaling" in chosen:
        results["scaling"] = runner.ours("scaling")
    return results


def number(value: float | None) -> str:
    """Three digits, without an exponent where that is short."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(results: dict[str, Any]) -> str:
    """Markdown: workload, ours, peers, ratio, must."""
    rows: list[tuple[str, str, str, str, str]] = []

    def value(name, key):
        found = results.get(name)
        return found.get(key) if found else None

    ours, key = value("areas", "events_per_cpu_s"), "events_per_cpu_s"
    if ours:
        rows.append(("areas, 10 keV ER, events per CPU-s", number(ours), "", "", "3.5e5, aim 1e6"))
        for peer in ("flamedisx", "flamedisx nest", "appletree exact", "appletree hybrid", "nestpy"):
            theirs = value(peer, key)
            if theirs:
                rows.append(("", "", f"{peer}: {number(theirs)}", f"{ours / theirs:.1f}", ""))
    ours, theirs = value("records", key), value("fuse", key)
    if ours:
        size = (
            f"{value('records', 'photons_per_event'):.0f} photons, {value('records', 'kb_per_event'):.0f} kB"
        )
        peer = (
            f"fuse: {number(theirs)} ({value('fuse', 'photons_per_event'):.0f} photons, "
            f"{value('fuse', 'kb_per_event'):.0f} kB)"
            if theirs
            else ""
        )
        ratio = f"{ours / theirs:.1f}" if theirs else ""
        what = f"records, 10 keV ER, xenonnt, events per CPU-s ({size})"
        rows.append((what, number(ours), peer, ratio, "10 x, aim 30 x"))
    ours = value("records_full", key)
    if ours:
        what = "the same with everything that the preset has"
        rows.append((what, number(ours), "", "", ""))
    ours, theirs = value("records_s2", "us_per_photon"), value("fuse", "us_per_photon")
    if ours:
        peer = f"fuse (10 keV): {number(theirs)}" if theirs else ""
        ratio = f"{theirs / ours:.1f}" if theirs else ""
        rows.append(("records, S2 of 1e5 PE, us a photon", number(ours), peer, ratio, "8 x, aim 20 x"))
    ours = value("hits_s1", "us_per_event")
    if ours:
        rows.append(("hits, S1 of 100 PE, us an event", number(ours), "", "", "25, aim 10"))
    begin = results.get("startup")
    if begin:
        peer = f"import jax, equinox: {number(begin['import_jax_equinox'])}"
        for what, name in (
            ("import dmsim", "import_dmsim"),
            ("import dmsim and every name's home", "every_name"),
        ):
            ratio = f"{begin[name] / begin['import_jax_equinox']:.2f} of it"
            rows.append((f"{what}, CPU-s", number(begin[name]), peer, ratio, "1.2, aim 1.05"))
        rows.append(("dmsim --help, CPU-s", number(begin["help"]), "", "", "0.5, aim 0.2"))
        for level in ("areas", "records"):
            cold, cached = begin[f"simulate_{level}_cold"], begin[f"simulate_{level}_cached"]
            what = f"process with one simulate_{level}, cold / compile cache, CPU-s"
            rows.append((what, f"{number(cold)} / {number(cached)}", "", "", "30 / 5, aim 15 / 2"))
    memory = [
        (name, found["peak_memory_mb"])
        for name, found in results.items()
        if found and "peak_memory_mb" in found
    ]
    lines = ["| workload | dmsim | peer | ratio | must |", "|---|---:|---:|---:|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", "Peak memory [MB]: " + ", ".join(f"{name} {peak:.0f}" for name, peak in memory)]
    return "\n".join(lines)


def draw_scaling(rows: Sequence[dict[str, float]], path: Path) -> str:
    """CPU time of an event against its photons; returns the power law in words."""
    import matplotlib as mpl  # noqa: PLC0415 (figures are optional)
    import numpy as np  # noqa: PLC0415

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    photons = np.array([row["photons"] for row in rows])
    seconds = np.array([row["cpu_s_per_event"] for row in rows])
    power = np.polyfit(np.log(photons), np.log(seconds), 1)[0]
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.loglog(photons, seconds * 1e3, "o-", color="tab:blue", label=f"measured, as n^{power:.2f}")
    axes.loglog(photons, photons * seconds[-1] / photons[-1] * 1e3, color="0.6", label="proportional")
    axes.set_xlabel("detected photons an event")
    axes.set_ylabel("CPU time an event [ms]")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    cost = seconds / photons * 1e6
    span = f"{photons.min():.0f} to {photons.max():.0f} photons an event"
    return f"records, {span}: as n^{power:.2f}, from {cost[0]:.2f} to {cost[-1]:.2f} us a photon"


def main() -> None:
    """Parse the command line, run, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the one core to use")
    for peer in PEERS:
        parser.add_argument(f"--{peer}", metavar="PYTHON", help=f"interpreter that has {peer}")
    groups = ("areas", "records", "hits", "startup", "scaling")
    parser.add_argument("--only", nargs="+", choices=groups, default=groups)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--figure", type=Path, help="figure of the scaling with photons")
    args = parser.parse_args()

    started = time.perf_counter()
    results = collect(Runner(args.core, {peer: getattr(args, peer) for peer in PEERS}), args.only)
    print(table(results))
    if results.get("scaling") and args.figure:
        print("\n" + draw_scaling(results["scaling"]["rows"], args.figure))
    print(f"\n{platform.machine()}, core {args.core}, {time.perf_counter() - started:.0f} s")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
