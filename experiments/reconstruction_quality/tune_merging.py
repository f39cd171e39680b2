"""How the knots of `merging` were chosen: on samples with seeds that the report does not use.

    python experiments/reconstruction_quality/tune_merging.py

Joining more keeps lone S2s whole, joining less leaves the S2s of two sites apart. For each candidate it
prints how many of either there are; "nothing joined" is what splitting alone leaves to be had.
"""

import argparse
import sys
import tomllib

import summary
from run import HERE, measure

SEED_SHIFT = 1000
N_EVENTS = {"scatter_low": 700, "charge": 1000, "nr": 500, "er": 200}
# log10 of the area of the smaller piece [PE], largest gap [ns]
KNOTS = (1.5, 1.84, 2.18, 2.4)
GAPS = (2.84e4, 1.5e4, 7e3, 3e3)
CANDIDATES = {
    "nothing joined": {"max_duration_ns": 0.0},
    "up to 250 PE": {"log10_area": KNOTS, "gap_ns": GAPS},
    "up to 315 PE": {"log10_area": (*KNOTS, 2.5), "gap_ns": (*GAPS, 1e3)},
    "up to 400 PE": {"log10_area": (*KNOTS, 2.6), "gap_ns": (*GAPS, 1e3)},
    "up to 500 PE": {"log10_area": (*KNOTS, 2.7), "gap_ns": (*GAPS, 850.0)},
    "up to 800 PE": {"log10_area": (*KNOTS, 2.6, 2.9), "gap_ns": (*GAPS, 1.5e3, 700.0)},
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


def row(tables, chain: str) -> list[float]:
    """Pairs that are apart, by separation, and lone S2s that are split, by electrons [%]."""
    pairs = summary.true_signals(tables, chain, summary.S2, ("scatter_low",))
    own = pairs["found"] & ~pairs["merged"]
    lone = summary.true_signals(tables, chain, summary.S2)
    lone = summary.chosen(lone, lone["lone"])
    out = [
        own[(pairs["gap"] >= low) & (pairs["gap"] < high)].mean() for low, high in ((2, 4), (4, 6), (6, 10))
    ]
    out += [
        lone["split"][(lone["n_electrons"] >= low) & (lone["n_electrons"] < high)].mean()
        for low, high in ((5, 10), (10, 20), (20, 50), (50, 300), (5, 300))
    ]
    return [100 * float(share) for share in out]


def main() -> int:
    """Simulate, reconstruct with each candidate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="times the events")
    args = parser.parse_args()
    with (HERE / "config.toml").open("rb") as file:
        config = training(tomllib.load(file), args.scale)
    tables = measure(config, None, scale=1.0)
    print("| merging | apart at 2-4 | 4-6 | 6-10 spreads | split of 5-9 | 10-19 | 20-49 | 50-299 e | all |")
    print("|---" * 9 + "|")
    for name in CANDIDATES:
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in row(tables, name)) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
