"""Our side of each workload, one at a time in a process of its own.

    python benchmarks/ours.py records

Prints one line of JSON. `simulate.py` runs all of them, pinned to a core, beside the peers.
"""

import argparse
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from timing import measure, report

import dmsim
from dmsim.detector import Detector
from dmsim.records import Deposits, Signal

# what the peer's figure leaves out, so that both do the same work
_OFF = ("gas_gap", "photoionisation", "delayed_electrons", "afterpulses", "dark_counts", "noise")


def bare(name: str = "xenonnt") -> Detector:
    """The preset without afterpulses, delayed electrons and the like; white noise stays."""
    detector = dmsim.load_detector(name)
    without = getattr(detector, "without", None)
    present = [table for table in _OFF if getattr(detector, table, None) is not None]
    return without(*present) if without and present else detector


def at_center(detector: Detector, energy_kev: float, n_events: int) -> Deposits:
    """The same deposit in the middle of the detector, n times."""
    return dmsim.sources.deposits(
        detector,
        energy_kev=np.full(n_events, energy_kev),
        x_mm=0.0,
        y_mm=0.0,
        z_mm=-0.5 * float(detector.geometry.drift_length_mm),
        interaction="er_beta",
    )


def energy_for(detector: Detector, area: str, wanted_pe: float) -> float:
    """Energy [keV] whose mean area is this, by bisection in the logarithm."""
    low, high = 0.05, 2e4
    for _ in range(20):
        middle = (low * high) ** 0.5
        mean = np.mean(getattr(simulate_areas(0, detector, at_center(detector, middle, 256)), area))
        low, high = (middle, high) if mean < wanted_pe else (low, middle)
    return (low * high) ** 0.5


def simulate_areas(seed: int, detector: Detector, deposits: Deposits):
    """Areas, done."""
    return jax.block_until_ready(dmsim.simulate_areas(jax.random.key(seed), detector, deposits))


def simulate_records(seed: int, detector: Detector, deposits: Deposits) -> tuple[int, int, int]:
    """Events, samples and records of one pass, batch by batch as a user's loop would take them."""
    n_records = n_samples = 0
    for part in dmsim.iterate_records(jax.random.key(seed), detector, deposits):
        data = jax.block_until_ready(part.data)
        n_records += data.shape[0]
        n_samples += int(np.sum(part.length))
    return deposits.n_events, n_samples, n_records


def photons(detector: Detector, deposits: Deposits, signal: Signal | None = None) -> float:
    """Detected photons an event, mean of a few."""
    hits = dmsim.simulate_hits(jax.random.key(1), detector, deposits)
    kept = np.asarray(hits.valid) & ((np.asarray(hits.signal) == signal) if signal else True)
    return float(kept.sum() / deposits.n_events)


def areas() -> dict[str, Any]:
    """Areas of 10 keV electron recoils."""
    n, detector = 100_000, bare()
    deposits = dmsim.sources.mono(
        jax.random.key(1), detector, n_events=n, energy_kev=10.0, interaction="er_beta"
    )
    figures = measure(lambda: simulate_areas(2, detector, deposits))
    return {**figures, "n_events": n, "events_per_cpu_s": n / figures["cpu_s"]}


def records(detector: Detector | None = None) -> dict[str, Any]:
    """Records of 10 keV electron recoils, without what the peer's figure leaves out."""
    n, detector = 400, detector or bare()
    deposits = dmsim.sources.mono(
        jax.random.key(1), detector, n_events=n, energy_kev=10.0, interaction="er_beta"
    )
    few = dmsim.sources.mono(jax.random.key(1), detector, n_events=50, energy_kev=10.0, interaction="er_beta")
    _, n_samples, n_records = simulate_records(2, detector, deposits)
    figures = measure(lambda: simulate_records(2, detector, deposits), min_passes=5)
    row = 24 + 2 * detector.electronics.samples_per_record  # bytes of a raw record in strax's layout
    return {
        **figures,
        "n_events": n,
        "events_per_cpu_s": n / figures["cpu_s"],
        "photons_per_event": photons(detector, few),
        "kb_per_event": n_records * row / n / 1e3,
        "samples_per_event": n_samples / n,
    }


def records_full() -> dict[str, Any]:
    """The same with everything that the preset has."""
    return records(dmsim.load_detector("xenonnt"))


def records_s2() -> dict[str, Any]:
    """Records of an S2 of 1e5 PE: cost a photon."""
    detector = bare()
    deposits = at_center(detector, energy_for(detector, "s2_pe", 1e5), 8)
    count = photons(detector, deposits)
    figures = measure(lambda: simulate_records(2, detector, deposits))
    n = deposits.n_events
    return {
        **figures,
        "n_events": n,
        "photons_per_event": count,
        "us_per_photon": figures["cpu_s"] / n / count * 1e6,
    }


def hits_s1() -> dict[str, Any]:
    """Hits of an S1 of 100 PE; no electron is extracted."""
    detector = eqx.tree_at(lambda d: d.electrons.extraction_efficiency, bare(), jnp.float32(0.0))
    deposits = at_center(detector, energy_for(detector, "s1_pe", 100.0), 2000)
    figures = measure(
        lambda: jax.block_until_ready(dmsim.simulate_hits(jax.random.key(2), detector, deposits))
    )
    n = deposits.n_events
    return {
        **figures,
        "n_events": n,
        "photons_per_event": photons(detector, deposits),
        "us_per_event": figures["cpu_s"] / n * 1e6,
    }


def scaling() -> dict[str, Any]:
    """Records against detected photons an event, 1e2 to 1e6."""
    detector, rows = bare(), []
    for wanted in np.geomspace(1e2, 1e6, 9):
        energy = energy_for(detector, "s2_pe", wanted * 1.2)  # about: S1 and double PE on top
        n = int(np.clip(2e5 / wanted, 2, 400))
        deposits = at_center(detector, energy, n)
        count = photons(detector, deposits)
        figures = measure(lambda d=deposits: simulate_records(2, detector, d), min_cpu_s=0.5)
        rows.append({"photons": count, "cpu_s_per_event": figures["cpu_s"] / n, "n_events": n})
    return {"rows": rows}


WORKLOADS: dict[str, Callable[[], dict[str, Any]]] = {
    workload.__name__: workload for workload in (areas, records, records_full, records_s2, hits_s1, scaling)
}


def main() -> None:
    """Run one workload."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workload", choices=WORKLOADS)
    report(**WORKLOADS[parser.parse_args().workload]())


if __name__ == "__main__":
    main()
