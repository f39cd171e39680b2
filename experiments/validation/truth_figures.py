"""Figures of docs/physics/validation.md that need no other simulator: combined energy and S1 factor.

    python experiments/validation/truth_figures.py --figures docs/images

With DMSIM_DATA set, XENONnT's released efficiencies are drawn beside the simulated S1 factor.
"""

import argparse
import csv
import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

import dmsim

mpl.use("Agg")
import matplotlib.pyplot as plt

LINES = {"lz": (2614.5, 0.67), "xenon1t": (2457.8, 0.80)}  # keV, published resolution in %
P_HIT = 0.1088


def combined_energy(name: str, energy_kev: float, n_events: int) -> np.ndarray:
    """S1/g1 + S2/g2 of a gamma line in units of its mean."""
    detector, key = dmsim.load_detector(name), jax.random.key(34)
    deposits = dmsim.sources.mono(
        key, detector, n_events=n_events, energy_kev=energy_kev, interaction="er_gamma"
    )
    areas = dmsim.simulate_areas(key, detector, deposits)
    quanta = areas.cs1_pe / detector.g1_pe_per_photon + areas.cs2_pe / detector.g2_pe_per_electron
    return np.asarray(quanta, np.float64) / float(quanta.mean())


def two_or_three(mu: np.ndarray) -> np.ndarray:
    """Probability of 2 or 3 from a Poisson of mean mu."""
    return np.exp(-mu) * (mu**2 / 2 + mu**3 / 6)


def simulated_factor(means: np.ndarray, n_events: int) -> np.ndarray:
    """Share of simulated S1s in XENONnT's centre with 2 or 3 detected photons."""
    detector, z_mm = dmsim.load_detector("xenonnt"), -743.25
    relative = detector.light.s1_relative_yield(detector.geometry, *map(jnp.float32, (0.0, 0.0, z_mm)))
    detector = eqx.tree_at(lambda d: d.light.g1_phd_per_photon, detector, P_HIT / relative)
    late = [name for name in ("afterpulses", "dark_counts") if getattr(detector, name) is not None]
    detector = detector.without(*late) if late else detector
    photons = np.random.default_rng(35).poisson(np.repeat(means, n_events))
    deposits = dmsim.sources.deposits(
        detector, energy_kev=photons, x_mm=0.0, y_mm=0.0, z_mm=z_mm, interaction="photons"
    )
    hits = dmsim.simulate_hits(jax.random.key(36), detector, deposits)
    number = np.bincount(np.asarray(hits.event)[np.asarray(hits.valid)], minlength=photons.size)
    return np.isin(number[: photons.size], (2, 3)).reshape(means.size, n_events).mean(1)


def released_factor() -> tuple[np.ndarray, np.ndarray] | None:
    """Photons and efficiency over its charge part, each row of the basis scaled to the law."""
    folder = os.environ.get("DMSIM_DATA")
    if not folder:
        return None
    path = Path(folder) / "release" / "xenonnt_lightwimp_sr0" / "efficiency_basis_sr0.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    energy, ly, qy, eff = (np.array([float(r[k]) for r in rows]) for k in ("E_keVnr", "Ly", "Qy", "eff"))
    found = []
    for e in np.unique(energy):
        for q in range(3, 11):
            row = (energy == e) & (qy == q)
            row &= eff > 0.02 * eff[row].max()
            law = two_or_three(P_HIT * e * ly[row])
            scale = np.exp(np.mean(np.log(law / eff[row])))
            found.append((e * ly[row], eff[row] * scale))
    photons, factor = (np.concatenate(column) for column in zip(*found, strict=True))
    return photons, factor


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    parser.add_argument("--events", type=int, default=40_000)
    args = parser.parse_args()
    args.figures.mkdir(parents=True, exist_ok=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")

    for (name, (energy, published)), color in zip(LINES.items(), ("tab:blue", "tab:orange"), strict=True):
        values = combined_energy(name, energy, args.events)
        bins = np.linspace(0.96, 1.04, 81)
        label = f"{name}, {energy:.0f} keV: {100 * values.std():.3f} %"
        left.hist(values, bins, density=True, histtype="step", color=color, label=label)
        sigma = published / 100
        law = np.exp(-(((bins - 1) / sigma) ** 2) / 2) / sigma / np.sqrt(2 * np.pi)
        left.plot(bins, law, color=color, ls=":", label=f"published {published:.2f} %")
    left.set_xlabel("combined energy / mean")
    left.set_ylabel("density of events")
    left.legend(frameon=False, fontsize=8, loc="upper left")
    left.set_ylim(0, 90)

    released = released_factor()
    if released is not None:
        right.plot(*released, ".", color="0.7", ms=3, label="XENONnT release, rows scaled")
    grid = np.linspace(0, 52, 200)
    right.plot(grid, two_or_three(P_HIT * grid), color="black", label="Poisson, p_hit = 0.1088")
    means = np.array([3, 5, 7, 10, 15, 20, 25, 30, 35, 40, 50])
    factor = simulated_factor(means, args.events // 4)
    right.plot(means, factor, "o", color="tab:orange", ms=4, label="simulated")
    right.set_xlabel("mean photons of the S1")
    right.set_ylabel("share with 2 or 3 hits")
    right.legend(frameon=False, fontsize=8)
    figure.savefig(args.figures / "validation_truth.png", dpi=130)


if __name__ == "__main__":
    main()
