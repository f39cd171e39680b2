"""How the knots of `merging` were chosen: on samples with seeds that the report does not use.

    python experiments/reconstruction_quality/tune_merging.py

Joining more keeps lone S2s whole, joining less leaves the S2s of two sites apart. For each candidate it
prints how many of either there are; "nothing" is what splitting alone leaves to be had.
"""

import argparse
import sys
import tomllib

import numpy as np
import summary
from run import HERE, measure

SEED_SHIFT = 1000
N_EVENTS = {"scatter_low": 700, "charge": 1000, "nr": 500, "er": 200}
# log10 of the area of the smaller piece [PE], largest gap [ns]
KNOTS = (1.5, 1.84, 2.18, 2.4)
GAPS = (2.84e4, 1.5e4, 7e3, 3e3)
CANDIDATES = {
    "nothing": {"max_duration_ns": 0.0},
    "250 PE": {"log10_area": KNOTS, "gap_ns": GAPS},
    "315 PE": {"log10_area": (*KNOTS, 2.5), "gap_ns": (*GAPS, 1e3)},
    "400 PE": {"log10_area": (*KNOTS, 2.6), "gap_ns": (*GAPS, 1e3)},
    "500 PE": {"log10_area": (*KNOTS, 2.7), "gap_ns": (*GAPS, 850.0)},
    "800 PE": {"log10_area": (*KNOTS, 2.6, 2.9), "gap_ns": (*GAPS, 1.5e3, 700.0)},
    "400 PE, gaps of 60 %": {"log10_area": (*KNOTS, 2.6), "gap_ns": (*(0.6 * g for g in GAPS), 1e3)},
}


def training(config, scale: float):
    """The configuration with other seeds, fewer samples, and the candidates for chains."""
    samples = {
        name: config["samples"][name]
        | {"seed": config["samples"][name]["seed"] + SEED_SHIFT, "n_events": max(int(n * scale), 1)}
        for name, n in N_EVENTS.items()
    }
    chains = {name: {"merging": values} for name, values in CANDIDATES.items()}
    return config | {"samples": samples, "chains": chains}


def chosen_by(tables, chain: str) -> list[np.ndarray]:
    """Whether each signal counts, of each column: pairs apart by separation, lone S2s split by electrons."""
    pairs = summary.true_signals(tables, chain, summary.S2, ("scatter_low",))
    own = pairs["found"] & ~pairs["merged"]
    lone = summary.true_signals(tables, chain, summary.S2)
    lone = summary.chosen(lone, lone["lone"])
    out = [own[(pairs["gap"] >= low) & (pairs["gap"] < high)] for low, high in ((2, 4), (4, 6), (6, 10))]
    out += [
        lone["split"][(lone["n_electrons"] >= low) & (lone["n_electrons"] < high)]
        for low, high in ((5, 10), (10, 20), (20, 50), (50, 300), (5, 300))
    ]
    return out


def main() -> int:
    """Simulate, reconstruct with each candidate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="times the events")
    args = parser.parse_args()
    with (HERE / "config.toml").open("rb") as file:
        config = training(tomllib.load(file), args.scale)
    tables = measure(config, None, scale=1.0)
    print(
        "| joined up to, of the smaller piece | S2s apart [%] at 2 to 4 spreads | 4 to 6 | 6 to 10 "
        "| lone S2s split [%] of 5 to 9 electrons | 10 to 19 | 20 to 49 | 50 to 299 | all |"
    )
    print("|---" * 9 + "|")
    for name in CANDIDATES:
        cells = [f"{100 * yes.mean():.1f}" for yes in chosen_by(tables, name)]
        print(f"| {name} | " + " | ".join(cells) + " |")
    any_chain = next(iter(CANDIDATES))
    print("| of how many | " + " | ".join(str(yes.size) for yes in chosen_by(tables, any_chain)) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
