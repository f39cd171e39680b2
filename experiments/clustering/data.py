"""Batches of simulated records with truth: the samples of the quality report, in the sizes of config.toml."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

# behind our own folder: some files there have the same names
sys.path.append(str(Path(__file__).parents[1] / "reconstruction_quality"))

import numpy as np
import samples  # pyright: ignore[reportMissingImports]

from dmsim.detector import Detector
from dmsim.records import RawRecords
from inference.parameters import get_leaf, set_leaf
from inference.tuning.clustering_loss import truth_of
from inference.tuning.clustering_samples import Batch, batches_of
from inference.tuning.truth_matching import Light

_SEED_STEP = 1000  # seeds of the studies are below it


def make(config: dict[str, Any], detector: Detector, seed: int, which: str) -> dict[str, list[Batch]]:
    """Samples by name.

    Args:
        config: of config.toml.
        detector: that takes the data.
        seed: of everything random, below 1000.
        which: "batches" or "test": the key that says how many.
    """
    out = {}
    for number, (name, sample) in enumerate(config["samples"].items()):
        n, made = sample[which], {k: v for k, v in sample.items() if k not in ("batches", "test")}
        made["seed"] = _SEED_STEP * (number + 1) + seed
        per_batch = made.pop("events_per_batch", 1 << 20)
        if "chunk_s" in made:
            made["duration_s"] = n * made["chunk_s"]
        else:
            made["n_events"] = n * per_batch
        out[name] = batches_of(samples.batches_of(detector, made, events_per_batch=per_batch))
    return out


def kept(path: Path, config: dict[str, Any], detector: Detector, seed: int, which: str) -> dict:
    """The same, simulated once: they lie in `path`, an .npz, from then on."""
    if not path.exists():
        made = make(config, detector, seed, which)
        arrays = {
            f"{name}/{number}/{column}": values
            for name, batches in made.items()
            for number, batch in enumerate(batches)
            for column, values in _columns(batch).items()
        }
        np.savez(path, allow_pickle=False, **arrays)
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    with np.load(path, allow_pickle=False) as file:
        for place in file.files:
            name, number, column = place.split("/")
            found.setdefault(name, {}).setdefault(number, {})[column] = file[place]
    return {name: [_batch(columns) for columns in batches.values()] for name, batches in found.items()}


def _columns(batch: Batch) -> dict[str, np.ndarray]:
    """All that a batch is made of, by `part.column`."""
    light = batch.truth.light
    parts = {
        "records": {f.name: getattr(batch.records, f.name) for f in dataclasses.fields(RawRecords)},
        "light": {"time_ns": light.time_ns, "charge_pe": light.charge_pe, "owner": light.owner},
        "signals": light.signals,
        "events": light.events,
    }
    return {f"{part}.{name}": np.asarray(v) for part, table in parts.items() for name, v in table.items()}


def _batch(columns: dict[str, np.ndarray]) -> Batch:
    parts: dict[str, dict[str, Any]] = {"records": {}, "light": {}, "signals": {}, "events": {}}
    for place, values in columns.items():
        part, name = place.split(".")
        parts[part][name] = values
    records = parts["records"]
    for name in ("n_events", "sample_ns", "baseline_adc"):  # plain numbers, which programs are compiled for
        records[name] = int(records[name])
    light = Light(**parts["light"], signals=parts["signals"], events=parts["events"])
    return Batch(RawRecords(**records), truth_of(light))


def shifted(detector: Detector, factors: dict[str, float]) -> Detector:
    """The same detector with some numbers multiplied."""
    for path, factor in factors.items():
        detector = set_leaf(detector, path, get_leaf(detector, path) * factor)
    return detector
