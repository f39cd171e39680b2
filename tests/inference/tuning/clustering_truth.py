"""Records by hand with their truth, for the checks of tuning of the reconstruction."""

import dataclasses

import numpy as np
from synthetic_records import records_of, s1, s2

from dmsim.records import Signal
from inference.tuning.clustering_loss import truth_of
from inference.tuning.clustering_samples import Batch
from inference.tuning.truth_matching import Light, Rules, neighbours

SPACING_NS = 100_000_000
S1, S2 = Signal.S1, Signal.S2


def light_by_hand(signals, late=()):
    """Photons of true signals (event, kind, times [ns from the event's start]) and of late light."""
    times = [np.asarray(t, float) for _, _, t in signals]
    start = np.array([event for event, _, _ in signals]) * SPACING_NS
    n = len(signals)
    columns = {
        "event": np.array([event for event, _, _ in signals]),
        "kind": np.array([int(kind) for _, kind, _ in signals]),
        "n_photons": np.array([t.size for t in times]),
        "charge_pe": np.array([float(t.size) for t in times]),
        "mean_ns": np.array([t.mean() for t in times]),
        "spread_ns": np.array([t.std() for t in times]),
        "n_electrons": np.array([t.size / 30 for t in times]),
        "start_ns": start,
    }
    columns |= {name: np.zeros(n) for name in ("x_gas_mm", "y_gas_mm", "z_mm")}
    columns |= neighbours(columns, Rules())
    at = [np.floor(t).astype(np.int64) + begin for t, begin in zip(times, start, strict=True)]
    at += [np.asarray(t, np.int64) + event * SPACING_NS for event, _, t in late]
    owner = [np.full(t.size, i) for i, t in enumerate(times)]
    owner += [np.full(len(t), -int(kind)) for _, kind, t in late]
    time = np.concatenate(at)
    n_events = int(columns["event"].max()) + 1
    events = {"event": np.arange(n_events), "energy_kev": np.ones(n_events)}
    return Light(time, np.ones(time.size), np.concatenate(owner), columns, events)


def batch(detector, seed):
    """Four events: lone signals, two S2s that may be joined, an S1 with a tail, small S2s."""
    random = np.random.default_rng(seed)
    photons, signals = [], []

    def put(event, kind, rows):
        photons.extend(rows)
        signals.append((event, kind, [row[2] for row in rows]))

    put(0, S1, s1(random, 0, 20_000, 60))
    put(0, S2, s2(random, detector, 0, 500_000, 400, 100.0, 50.0, 500.0))
    put(0, S2, s2(random, detector, 0, 504_000, 300, 100.0, 50.0, 500.0))
    put(1, S1, s1(random, 1, 10_000, 30) + s1(random, 1, 10_800, 8))
    put(1, S2, s2(random, detector, 1, 800_000, 90, -100.0, 50.0, 1500.0))
    put(2, S1, s1(random, 2, 5_000, 4))
    put(2, S2, s2(random, detector, 2, 300_000, 60, 0.0, 0.0, 1200.0))
    put(3, S2, s2(random, detector, 3, 100_000, 30, 0.0, 0.0, 600.0))
    records = records_of(detector, photons, n_events=4, seed=seed)
    records = dataclasses.replace(
        records, event_time_ns=np.arange(4, dtype=np.int64) * SPACING_NS, data=records.data.astype(np.int16)
    )
    return Batch(records, truth_of(light_by_hand(signals)))
