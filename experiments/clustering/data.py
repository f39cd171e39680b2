"""Batches of simulated records with truth: the samples of the quality report, in the sizes of config.toml."""

import pickle
import sys
from pathlib import Path
from typing import Any

# behind our own folder: some files there have the same names
sys.path.append(str(Path(__file__).parents[1] / "reconstruction_quality"))

import samples  # pyright: ignore[reportMissingImports]

from dmsim.detector import Detector
from inference.parameters import get_leaf, set_leaf
from inference.tuning.clustering_samples import Batch, batches_of

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
    """The same, simulated once: they lie in `path` from then on."""
    if not path.exists():
        made = make(config, detector, seed, which)
        columns = {name: [(b.records, b.truth) for b in batches] for name, batches in made.items()}
        path.write_bytes(pickle.dumps(columns))
    return {
        name: [Batch(records, truth) for records, truth in batches]
        for name, batches in pickle.loads(path.read_bytes()).items()
    }


def shifted(detector: Detector, factors: dict[str, float]) -> Detector:
    """The same detector with some numbers multiplied."""
    for path, factor in factors.items():
        detector = set_leaf(detector, path, get_leaf(detector, path) * factor)
    return detector
