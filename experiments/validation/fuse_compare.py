"""dmsim beside fuse: the same deposits and constants, reconstructed by the same code.

    python fuse_compare.py --fuse ~/fuse/bin/python --out tables --figures ../../docs/images

fuse's records come from `fuse_chain.py`, ours from `simulate_records` with another key; both are
reconstructed by `dmsim.reconstruct`. Writes what was measured of fuse, quantiles of each quantity, so that a
test can hold ours against them where fuse is not installed, and a figure.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import fuse_inputs
import jax
import matplotlib as mpl
import numpy as np
from scipy import stats

import dmsim
from dmsim.detector import Detector
from dmsim.records import Deposits, RawRecords

mpl.use("Agg")
import matplotlib.pyplot as plt

N_EVENTS = 1000
CASES: dict[str, dict[str, Any]] = {
    "deep": {"energy_kev": 10.0, "x_mm": 100.0, "y_mm": -50.0, "z_mm": -1000.0, "interaction": "er_beta"},
    "shallow": {"energy_kev": 25.0, "x_mm": -300.0, "y_mm": 200.0, "z_mm": -150.0, "interaction": "nr"},
}
QUANTITIES = {
    "s1_pe": "S1 area [PE]",
    "s2_pe": "S2 area [PE]",
    "s1_width_ns": "S1 width, central 50 % [ns]",
    "s2_width_ns": "S2 width, central 50 % [ns]",
    "s1_top": "S1 top fraction",
    "s2_top": "S2 top fraction",
    "drift_time_us": "drift time [us]",
}
N_QUANTILES = 20


def deposits_of(case: str, detector: Detector, n_events: int) -> Deposits:
    """The same deposit in every event."""
    options = {**CASES[case]}
    energy = np.full(n_events, options.pop("energy_kev"))
    return dmsim.sources.deposits(detector, energy_kev=energy, **options)


def measure(detector: Detector, records: RawRecords) -> dict[str, np.ndarray]:
    """What the reconstruction sees of the events that have an S1 and an S2."""
    peaks, events = dmsim.reconstruct(detector, records)
    both = (events.s1_peak >= 0) & (events.s2_peak >= 0)
    found = {
        "s1_pe": events.s1_pe,
        "s2_pe": events.s2_pe,
        "s1_width_ns": peaks.width_50_ns[events.s1_peak],
        "s2_width_ns": events.s2_width_50_ns,
        "s1_top": events.s1_area_fraction_top,
        "s2_top": events.s2_area_fraction_top,
        "drift_time_us": events.drift_time_ns / 1e3,
    }
    return {name: np.asarray(values, np.float64)[both] for name, values in found.items()}


def simulate(detector: Detector, deposits: Deposits, *, seed: int) -> dict[str, np.ndarray]:
    """Ours, measured batch by batch."""
    parts = [
        measure(detector, part)
        for part in dmsim.iterate_records(jax.random.key(seed), detector, deposits, events_per_batch=100)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in QUANTITIES}


def from_fuse(
    detector: Detector, deposits: Deposits, *, python: str, folder: Path, seed: int
) -> dict[str, np.ndarray]:
    """fuse's, measured by the same code."""
    fuse_inputs.write(folder, detector, deposits, seed=seed, spacing_ns=fuse_inputs.SPACING_NS)
    script = Path(__file__).with_name("fuse_chain.py")
    saved = folder / "records.npz"
    done = subprocess.run(
        [python, str(script), str(folder), "--records", str(saved)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    if done.returncode:
        raise RuntimeError(f"fuse failed: {done.stderr.strip()[-500:]}")
    found = measure(detector, to_records(detector, np.load(saved), len(deposits)))
    # fuse counts the time of luminescence from its mean, we from the electron's entry into the gas
    found["drift_time_us"] += float(detector.electroluminescence.gap_transit_ns) / 2e3
    return found


def to_records(detector: Detector, rows: Any, n_events: int) -> RawRecords:
    """Columns of strax as our records."""
    spacing = fuse_inputs.SPACING_NS
    time = rows["time"]
    event = (time + spacing // 2) // spacing - 1
    start = (time - (event + 1) * spacing) // detector.electronics.sample_ns
    order = np.lexsort((rows["channel"], start, event))
    columns = {name: rows[name].astype(np.int32)[order] for name in ("channel", "length", "pulse_length")}
    return RawRecords(
        event=event.astype(np.int32)[order],
        start_sample=start.astype(np.int32)[order],
        record_i=rows["record_i"].astype(np.int32)[order],
        data=rows["data"].astype(np.float32)[order],
        valid=np.ones(order.size, bool),
        n_overflow=np.zeros((), np.int32),
        first_event=np.zeros((), np.int32),
        event_time_ns=(1 + np.arange(n_events, dtype=np.int64)) * spacing,
        n_events=n_events,
        sample_ns=detector.electronics.sample_ns,
        baseline_adc=detector.electronics.baseline_adc,
        **columns,
    )


def draw(results: dict[str, dict[str, dict[str, np.ndarray]]], path: Path) -> None:
    """Cumulative distributions, a row a case."""
    figure, axes = plt.subplots(len(results), len(QUANTITIES), figsize=(17, 5.5), layout="constrained")
    for row, (case, sides) in zip(axes, results.items(), strict=True):
        for place, (name, label) in zip(row, QUANTITIES.items(), strict=True):
            for side, color in (("fuse", "black"), ("dmsim", "tab:orange")):
                values = np.sort(sides[side][name])
                place.plot(values, np.linspace(0, 1, values.size), color=color, label=side, lw=1.2)
            both = [sides[side][name] for side in ("fuse", "dmsim")]
            place.set_title(f"{case}: p = {stats.ks_2samp(*both).pvalue:.2g}", fontsize=9)
            place.set_xlabel(label)
    axes[0, 0].set_ylabel("cumulative share of events")
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run both, write quantiles and the figure, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fuse", required=True, metavar="PYTHON", help="interpreter that has fuse")
    parser.add_argument("--events", type=int, default=N_EVENTS)
    parser.add_argument("--out", type=Path, default=Path("tables"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.figures.mkdir(parents=True, exist_ok=True)

    detector = fuse_inputs.shared_detector()
    results, levels = {}, np.linspace(0, 1, N_QUANTILES + 1)
    rows = []
    for case in CASES:
        deposits = deposits_of(case, detector, args.events)
        with tempfile.TemporaryDirectory() as folder:
            theirs = from_fuse(detector, deposits, python=args.fuse, folder=Path(folder), seed=11)
        ours = simulate(detector, deposits, seed=12)
        results[case] = {"fuse": theirs, "dmsim": ours}
        for name in QUANTITIES:
            values = theirs[name]
            rows.append([case, name, values.size, *(f"{q:.6g}" for q in np.quantile(values, levels))])
            p_value = stats.ks_2samp(values, ours[name]).pvalue
            sys.stdout.write(
                f"{case:8s} {name:14s} fuse {values.mean():10.4g} +- {values.std():8.3g} ({values.size})   "
                f"dmsim {ours[name].mean():10.4g} +- {ours[name].std():8.3g} ({ours[name].size})   "
                f"p {p_value:.3g}\n"
            )
    with (args.out / "fuse_quantiles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "quantity", "n_events", *(f"q{level:.2f}" for level in levels)])
        writer.writerows(rows)
    draw(results, args.figures / "validation_fuse.png")


if __name__ == "__main__":
    main()
