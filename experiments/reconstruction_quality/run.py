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


def measure(config: dict[str, Any], peer: Chain | None, *, scale: float, only: list[str] | None = None):
    """Tables of every sample and chain."""
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
        start = time.perf_counter()
        batches = batches_of(detector, sample | scaled, events_per_batch=config["events_per_batch"])
        for records, truth in batches:
            light = light_of(truth, rules, sample_ns=records.sample_ns)
            for chain in wanted:
                parts[chain].append(match(light, chains[chain](records), rules))
        for chain, found in parts.items():
            tables[name, chain] = _joined(found)
        n_events = tables[name, wanted[0]]["events"]["event"].size
        print(f"{name}: {n_events} events, {time.perf_counter() - start:.0f} s", flush=True)
    return tables


def _joined(parts: list[dict[str, dict[str, np.ndarray]]]) -> dict[str, dict[str, np.ndarray]]:
    return {
        table: {column: np.concatenate([p[table][column] for p in parts]) for column in parts[0][table]}
        for table in parts[0]
    }


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
    parser.add_argument("--sample", action="append", help="only this one; may be repeated; nothing is drawn")
    parser.add_argument("--tables", type=Path, help="npz to keep the tables in")
    parser.add_argument("--draw-only", action="store_true", help="from the tables of an earlier run")
    args = parser.parse_args()
    if not 0 < args.scale <= 100:
        parser.error(f"--scale is {args.scale}: must be above 0 and at most 100")
    if args.draw_only and args.tables is None:
        parser.error("--draw-only needs --tables")
    with args.config.open("rb") as file:
        config = tomllib.load(file)
    if args.draw_only:
        tables, version = load(args.tables), PEER
    else:
        if args.peer_python is None:
            print("straxen is left out: give --peer-python, an interpreter that has it", file=sys.stderr)
            version, holder = "", nullcontext()
        else:
            holder = Straxen(args.peer_python, dmsim.load_detector(config["detector"]))
            version = holder.version
            print(version)
        with holder as peer:
            tables = measure(config, peer, scale=args.scale, only=args.sample)
        if args.tables is not None:
            args.tables.parent.mkdir(parents=True, exist_ok=True)
            save(tables, args.tables)
    if args.sample is None:
        args.out.mkdir(parents=True, exist_ok=True)
        figures.draw_all(tables, args.out / "figures")
        numbers = write_report(tables, config, args.out)
        (args.out / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n")
        print(f"figures and numbers are in {args.out}" + (f"; {version}" if version else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
