"""What is simulated: deposits of each sample of config.toml, and their records batch by batch with truth."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import dmsim
from dmsim.detector import Detector
from dmsim.pipeline.stream import iterate_stream_with_truth
from dmsim.pipeline.truth import iterate_records_with_truth
from dmsim.records import Deposits, RawRecords, Truth

SPACING_NS = 40_000_000  # of events of their own: no delayed electron comes after the next one
_IN_LOG = {"er": "er_beta", "nr": "nr", "photons": "photons", "electrons": "electrons"}


def deposits_of(detector: Detector, sample: dict[str, Any]) -> Deposits:
    """Deposits of a sample; of one with `duration_s`, of all its sources on the detector's clock."""
    key = jax.random.key(sample["seed"])
    if "duration_s" in sample:
        rates, options = sample["rates_hz"], sample.get("options", {})
        return dmsim.sources.mixture(key, detector, rates, sample["duration_s"], options=options).deposits
    n = sample["n_events"]
    clock = {"n_events": n, "rate_hz": 1e9 / SPACING_NS}
    if sample["source"] in _IN_LOG:
        return _flat_in_log(detector, sample)
    return dmsim.sources.named(sample["source"])(key, detector, **clock, **sample.get("options", {}))


def _flat_in_log(detector: Detector, sample: dict[str, Any]) -> Deposits:
    """One deposit an event, uniform in the volume and in the logarithm of its energy or its quanta."""
    n, rng = sample["n_events"], np.random.default_rng(sample["seed"])
    low, high = sample["range"]
    uniform = rng.uniform(size=(n, 4)).T  # a smaller sample of the same seed is the start of a larger one
    size = low * (high / low) ** uniform[0]
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)
    r_mm, angle = radius * np.sqrt(uniform[1]), 2 * np.pi * uniform[2]
    return dmsim.sources.deposits(
        detector,
        energy_kev=np.round(size) if sample["source"] in {"photons", "electrons"} else size,
        x_mm=r_mm * np.cos(angle),
        y_mm=r_mm * np.sin(angle),
        z_mm=-length * uniform[3],
        interaction=_IN_LOG[sample["source"]],
        event_time_ns=(1 + np.arange(n, dtype=np.int64)) * SPACING_NS,
    )


def batches_of(
    detector: Detector, sample: dict[str, Any], *, events_per_batch: int
) -> Iterator[tuple[RawRecords, Truth]]:
    """Records and photons of a sample, in bounded memory."""
    detector = detector.without(*sample.get("without", ()))
    key, deposits = jax.random.key(sample["seed"]), deposits_of(detector, sample)
    if "duration_s" in sample:
        options = {"chunk_ns": sample["chunk_s"] * 1e9, "depth": "photons"}
        return iterate_stream_with_truth(
            key, detector, deposits, events_per_batch=events_per_batch, **options
        )
    return iterate_records_with_truth(
        key, detector, deposits, depth="photons", events_per_batch=events_per_batch
    )
