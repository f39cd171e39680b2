"""Quality of the reconstruction on simulated truth, beside straxen's on the same records.

    python experiments/reconstruction_quality/run.py --peer-python ~/straxen/bin/python

Simulates the samples of config.toml, reconstructs them with each of its chains, matches what is found with
what was simulated, and writes figures and tables into --out. Without --peer-python straxen is left out.
"""

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import figures
import numpy as np
from chains import Straxen, ours
from matching import Found, Rules, light_of, match
from report import write_report
from samples import batches_of

import dmsim
from dmsim.detector import Detector
from dmsim.reconstruction.settings import settings_from
from dmsim.records import RawRecords

HERE = Path(__file__).parent
PEER = "straxen"
Chain = Callable[[RawRecords], Found]


def chains_of(config: dict[str, Any], detector: Detector, peer: Chain | None) -> dict[str, Chain]:
    """The chains by name, the peer last."""
    out: dict[str, Chain] = {}
    for name, options in config["chains"].items():
        values = {section: table for section, table in options.items() if section != "samples"}
        settings = settings_from(values, where=f"chain {name}")
        out[name] = lambda records, settings=settings: ours(detector, records, settings)
    return out | ({} if peer is None else {PEER: peer})


def measure(
    config: dict[str, Any],
    peer: Chain | None,
    *,
    scale: float,
    only: list[str] | None = None,
    keep: Callable[[Any], None] = lambda _: None,
):
    """Tables of every sample and chain; says how long each chain took on this process's CPU.

    Args:
        config: of config.toml.
        peer: another chain, if there is one.
        scale: times the events of the configuration.
        only: samples, all if None.
        keep: is given the tables after each sample.
    """
    detector, rules = dmsim.load_detector(config["detector"]), Rules(**config["rules"])
    chains = chains_of(config, detector, peer)
    tables = {}
    for name, sample in config["samples"].items():
        if only is not None and name not in only:
            continue
        wanted = [c for c in chains if name in config["chains"].get(c, {}).get("samples", [name])]
        scaled = {
            key: type(sample[key])(max(sample[key] * scale, 1e-3 if key == "duration_s" else 1))
            for key in ("n_events", "duration_s")
            if key in sample
        }
        parts = {chain: [] for chain in wanted}
        cpu_s = dict.fromkeys(wanted, 0.0)
        start, start_cpu = time.perf_counter(), time.process_time()
        batches = batches_of(detector, sample | scaled, events_per_batch=config["events_per_batch"])
        for records, truth in batches:
            light = light_of(truth, rules, sample_ns=records.sample_ns)
            for chain in wanted:
                begin = time.process_time()
                found = chains[chain](records)
                cpu_s[chain] += time.process_time() - begin
                parts[chain].append(match(light, found, rules))
        for chain, found in parts.items():
            tables[name, chain] = _joined(found)
        n_events = tables[name, wanted[0]]["events"]["event"].size
        all_cpu_s = time.process_time() - start_cpu
        chain_cpu = ", ".join(f"{chain} {seconds:.0f}" for chain, seconds in cpu_s.items())
        spent = f"{time.perf_counter() - start:.0f} s, {all_cpu_s:.0f} CPU-s ({chain_cpu})"
        print(f"{name}: {n_events} events, {spent}", flush=True)
        keep(tables)
    return tables


def _joined(parts: list[dict[str, dict[str, np.ndarray]]]) -> dict[str, dict[str, np.ndarray]]:
    return {
        table: {column: np.concatenate([p[table][column] for p in parts]) for column in parts[0][table]}
        for table in parts[0]
    }


def with_peer_only(tables):
    """The peer's tables."""
    return {key: value for key, value in tables.items() if key[1] == PEER}


def same_truth(kept, tables):
    """Tables of an earlier run, of the samples of this one.

    Raises:
        ValueError: if they are not of the same simulation.
    """
    kept = {key: value for key, value in kept.items() if (key[0], "dmsim") in tables}
    for (sample, _), found in kept.items():
        now, then = (t["signals"]["charge_pe"] for t in (tables[sample, "dmsim"], found))
        if not np.array_equal(now, then):
            raise ValueError(f"tables of {sample} are of another simulation: run without --keep-peer")
    return kept


def save(tables, path: Path) -> None:
    """All tables in one file."""
    np.savez_compressed(
        path,
        **{
            "/".join((*key, table, name)): column
            for key, of_chain in tables.items()
            for table, columns in of_chain.items()
            for name, column in columns.items()
        },
    )


def load(path: Path):
    """Tables that `save` wrote."""
    tables: dict[tuple[str, str], dict[str, dict[str, np.ndarray]]] = {}
    with np.load(path) as file:
        for key in file.files:
            sample, chain, table, column = key.split("/")
            tables.setdefault((sample, chain), {}).setdefault(table, {})[column] = file[key]
    return tables


def main() -> int:
    """Simulate, measure, draw and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "config.toml")
    parser.add_argument(
        "--out", type=Path, default=HERE, help="figures and numbers; default beside this file"
    )
    parser.add_argument(
        "--peer-python", help="interpreter that has straxen 4.1; without it straxen is left out"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="times the events of config.toml")
    parser.add_argument("--sample", action="append", help="only this one, into --tables; may be repeated")
    parser.add_argument("--tables", type=Path, help="npz to keep the tables in")
    parser.add_argument(
        "--keep-peer", action="store_true", help="take straxen's tables from --tables, of an earlier run"
    )
    parser.add_argument("--draw-only", action="store_true", help="from the tables of an earlier run")
    args = parser.parse_args()
    if not 0 < args.scale <= 100:
        parser.error(f"--scale is {args.scale}: must be above 0 and at most 100")
    if (args.draw_only or args.keep_peer) and args.tables is None:
        parser.error("--draw-only and --keep-peer need --tables")
    if args.sample is not None and (args.tables is None or not args.tables.is_file()):
        parser.error("--sample needs --tables, of an earlier run")
    with args.config.open("rb") as file:
        config = tomllib.load(file)
    if args.draw_only:
        tables, version = load(args.tables), PEER
    else:
        kept = with_peer_only(load(args.tables)) if args.keep_peer else {}
        if args.keep_peer:
            version, holder = f"{PEER} as of {args.tables}", nullcontext()
        elif args.peer_python is None:
            print("straxen is left out: give --peer-python, an interpreter that has it", file=sys.stderr)
            version, holder = "", nullcontext()
        else:
            holder = Straxen(args.peer_python, dmsim.load_detector(config["detector"]))
            version = holder.version
            print(version)
        old = {} if args.sample is None else load(args.tables)

        def keep(tables):
            if args.tables is not None:
                args.tables.parent.mkdir(parents=True, exist_ok=True)
                save(old | tables | same_truth(kept, tables), args.tables)

        with holder as peer:
            tables = measure(config, peer, scale=args.scale, only=args.sample, keep=keep)
        tables = old | tables | same_truth(kept, tables)
    if all((sample, "dmsim") in tables for sample in config["samples"]):
        args.out.mkdir(parents=True, exist_ok=True)
        figures.draw_all(tables, args.out / "figures")
        numbers = write_report(tables, config, args.out)
        (args.out / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n")
        print(f"figures and numbers are in {args.out}" + (f"; {version}" if version else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
