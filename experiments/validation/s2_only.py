"""Response matrices of XENON1T's S2-only search, calculated with the constants of dmsim's preset.

    DMSIM_DATA=... python experiments/validation/s2_only.py

prints for each released row (one recoil energy) how far the calculation is off in the bins of S2 area that
hold 90 % of the row's weight. A row is

    sum over n, depth of P(n electrons | energy) P(area | n, depth) P(width passes | area, depth) A(area)

- P(area | n, depth): attachment and extraction (binomial), gain and its spread (normal), from the preset.
- The selection keeps S2s of 835 to 1135 ns (all released events have such widths), which is a band of depth,
  with edges that are the softer the fewer the electrons. Central 50 % widths and their spread are drawn
  electron by electron: diffusion, transit of the gas gap and light's decay from the preset. The released
  rows have steps at 24 equal steps of log area: there the width's law is evaluated.
- A(area): all other acceptance, which is not released. One number a bin of area, the same for all energies
  and both kinds of recoil. It also takes up what our width's law lacks.
- P(n | energy): binomial or negative binomial; its mean and Fano factor are free in each row, because the
  release's yields are not NEST's. So this compares the detector's response, not yields.
- GAIN_SPREAD, WIDTH_SCALE, WIDTH_SPREAD below were fitted to the matrices.

No row has a scale of its own: its size is compared as well as its shape.
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.stats import binom, nbinom, norm

import dmsim
from dmsim.charge.transport import diffusion_mm

GAIN_SPREAD = 0.0938  # fitted; the S2 map over all radii has 7 %
WIDTH_SCALE = 1.167  # fitted: widths over those of the preset's constants
WIDTH_SPREAD = 1.14  # fitted: their spread over the drawn one
WIDTH_NS = (835.0, 1135.0)  # narrowest and widest of the released events: 835.6 and 1134.5 ns
AREA_STEPS = 25  # edges of the steps in the released rows, equal in log area from 90 to 3000 PE
N_MAX = 330  # electrons; the rows compared reach 200
N_DEPTHS = 40
FITTED = Path(__file__).with_name("s2_only_fitted.json")  # A, and mean and Fano factor of the electrons a row
ELECTRONS = np.array([3, 4, 5, 7, 10, 14, 20, 30, 50, 90])
# of 41 energies a kind: ER 0 has no two electrons; above these, most of the weight is beyond 3000 PE
ROWS = [("nr", i) for i in range(37)] + [("er", i) for i in range(1, 34)]


@dataclasses.dataclass
class Release:
    """The released matrices."""

    edges_pe: np.ndarray
    energy_kev: dict
    rows: dict
    bulk: dict  # bins of 90 % of the weight of a row, the fullest first

    @classmethod
    def read(cls, folder: Path) -> "Release":
        """From the release's folder."""
        bins = np.genfromtxt(folder / "s2_binning_info.csv", delimiter=",", names=True)
        energy, rows, bulk = {}, {}, {}
        for kind in ("nr", "er"):
            table = np.genfromtxt(folder / f"s2_response_{kind}.csv", delimiter=",", skip_header=1)
            for i, line in enumerate(table):
                row, order = line[3:], np.argsort(-line[3:])
                energy[kind, i], rows[kind, i] = line[0], row
                n_bulk = np.searchsorted(np.cumsum(row[order]), 0.9 * row.sum()) + 1
                bulk[kind, i] = np.isin(np.arange(row.size), order[:n_bulk])
        return cls(np.append(bins["start_pe"], bins["end_pe"][-1]), energy, rows, bulk)

    @property
    def centres_pe(self) -> np.ndarray:
        """Of the bins of area, in log."""
        return np.sqrt(self.edges_pe[1:] * self.edges_pe[:-1])


@dataclasses.dataclass
class Constants:
    """What the calculation takes from the preset, and the three fitted numbers."""

    gain_pe: float
    gain_relative: float  # spread of one electron's light
    survival_us: float
    extraction: float
    drift_us: float
    sigma_ns_per_sqrt_us: float
    gap_ns: float
    decay_ns: float
    late_share: float
    gain_spread: float = GAIN_SPREAD
    width_scale: float = WIDTH_SCALE
    width_spread: float = WIDTH_SPREAD
    width_follows_area: bool = True

    @classmethod
    def of(cls, detector) -> "Constants":
        """Those of a dmsim detector."""
        e, light, pmt = detector.electrons, detector.electroluminescence, detector.electronics
        double, spe = float(pmt.double_pe_probability), float(pmt.spe_width)
        photons, speed = float(light.se_gain_phd), float(e.drift_speed_mm_per_us)
        # variance a detected photon [phd^2]: number, double photoelectrons, amplitudes
        variance = float(light.se_fano) + double * (1 - double) / (1 + double) ** 2 + spe**2 / (1 + double)
        return cls(
            gain_pe=photons * (1 + double),
            gain_relative=(variance / photons) ** 0.5,
            survival_us=float(e.lifetime_us),
            extraction=float(e.extraction_efficiency),
            drift_us=float(detector.geometry.drift_length_mm) / speed,
            sigma_ns_per_sqrt_us=float(diffusion_mm(e.diffusion_longitudinal_cm2_per_s, 1e3)) / speed * 1e3,
            gap_ns=float(light.gap_transit_ns),
            decay_ns=float(light.triplet_lifetime_ns),
            late_share=1 - float(light.singlet_fraction),
        )

    def depths_us(self) -> np.ndarray:
        """Drift times of layers of equal volume."""
        return (np.arange(N_DEPTHS) + 0.5) / N_DEPTHS * self.drift_us


def drawn_widths(constants: Constants):
    """Mean log and relative spread of S2 widths: drift times [us], then tables (time, ELECTRONS)."""
    rng = np.random.default_rng(1)
    times = np.linspace(10.0, constants.drift_us, 13)
    mean, spread = np.zeros((2, times.size, ELECTRONS.size))
    for j, electrons in enumerate(ELECTRONS):
        for i, time in enumerate(times):
            n_s2, photons = (300 if electrons < 30 else 120), round(constants.gain_pe)
            arrival = rng.normal(0, constants.sigma_ns_per_sqrt_us * time**0.5, (n_s2, electrons, 1))
            shape = (n_s2, electrons, photons)
            late = rng.exponential(constants.decay_ns, shape) * (rng.random(shape) < constants.late_share)
            times_ns = arrival + constants.gap_ns * rng.random(shape) + late
            low, high = np.quantile(times_ns.reshape(n_s2, -1), [0.25, 0.75], axis=1)
            mean[i, j], spread[i, j] = np.log(high - low).mean(), np.log(high - low).std()
    return times, mean, spread


def width_passes(constants: Constants, centres_pe: np.ndarray, widths) -> np.ndarray:
    """Probability (depth, area) that the width is accepted."""
    times, *tables = widths
    steps = np.geomspace(90.0, 3000.0, AREA_STEPS)
    step = np.clip(np.searchsorted(steps, centres_pe) - 1, 0, AREA_STEPS - 2)
    electrons = np.sqrt(steps[1:] * steps[:-1])[step] / constants.gain_pe
    if not constants.width_follows_area:
        electrons = np.full_like(electrons, 20.0)

    def at(table):
        rows = np.array([np.interp(np.log(electrons), np.log(ELECTRONS), row) for row in table])
        return np.array([np.interp(constants.depths_us(), times, column) for column in rows.T]).T

    mean, spread = (at(table) for table in tables)
    beyond = np.sqrt(ELECTRONS[-1] / np.maximum(electrons, ELECTRONS[-1]))
    width, relative = constants.width_scale * np.exp(mean), constants.width_spread * spread * beyond
    low, high = (norm.cdf((bound / width - 1) / relative) for bound in WIDTH_NS)
    return high - low


def response(constants: Constants, release: Release, widths) -> np.ndarray:
    """Probability (electrons at the deposit, bin of area) with the width's cut, without A."""
    arrived, produced = np.arange(1, N_MAX)[:, None], np.arange(N_MAX)[:, None]
    spread = np.sqrt(constants.gain_relative**2 * arrived + (constants.gain_spread * arrived) ** 2)
    area = np.diff(norm.cdf((release.edges_pe / constants.gain_pe - arrived) / spread), axis=1)
    total = np.zeros((N_MAX, release.centres_pe.size))
    passes = width_passes(constants, release.centres_pe, widths)
    for time, weight in zip(constants.depths_us(), passes, strict=True):
        p = constants.extraction * np.exp(-time / constants.survival_us)
        total += binom.pmf(arrived.T, produced, p) @ (area * weight) / N_DEPTHS
    return total


def electrons(mean: float, fano: float) -> np.ndarray:
    """Law of the number of electrons at the deposit."""
    n = np.arange(N_MAX)
    if fano >= 0.999:
        return nbinom.pmf(n, mean / (fano - 1 + 1e-6), 1 / (fano + 1e-6))
    tries = mean / (1 - fano)  # between two whole numbers of tries, their mixture
    low, part = int(tries), tries % 1
    p = min(1.0, mean / tries)
    return (1 - part) * binom.pmf(n, low, p) + part * binom.pmf(n, low + 1, p)


@dataclasses.dataclass
class Fit:
    """The free numbers."""

    laws: dict  # log of mean and Fano factor of the electrons, a row
    acceptance: np.ndarray  # A, a bin of area

    @classmethod
    def read(cls) -> "Fit":
        """As kept beside this file."""
        kept = json.loads(FITTED.read_text())
        laws = {key: np.log(kept[key[0]][str(key[1])]) for key in ROWS}
        return cls(laws, np.array(kept["acceptance"]))

    def write(self) -> None:
        """Keep them beside this file."""
        kept = {"acceptance": [float(f"{a:.5g}") for a in self.acceptance], "nr": {}, "er": {}}
        for (kind, i), law in self.laws.items():
            kept[kind][str(i)] = [float(f"{value:.5g}") for value in np.exp(np.clip(law, -9, 6))]
        FITTED.write_text(
            json.dumps(kept, indent=None, separators=(", ", ": ")).replace("}, ", "},\n") + "\n"
        )

    def deviations(self, table: np.ndarray, release: Release) -> dict:
        """Calculated over released, less one, in the bins of 90 % of each row's weight."""
        rows = {key: electrons(*np.exp(law)) @ (table * self.acceptance) for key, law in self.laws.items()}
        return {
            key: row[release.bulk[key]] / release.rows[key][release.bulk[key]] - 1
            for key, row in rows.items()
        }


def fit_row(table, released, bulk, law):
    """Law of a row's electrons, from the ratios to the released row in its bulk."""

    def misfit(law):
        row = (electrons(*np.exp(np.clip(law, -9, 6))) @ table)[bulk] / released[bulk]
        return np.mean(np.clip(row - 1, -1, 3) ** 2)

    simplex = [law, law + [0.03, 0.0], law + [0.0, 0.2]]
    options = {"maxiter": 60, "xatol": 2e-3, "fatol": 1e-6, "initial_simplex": simplex}
    return minimize(misfit, law, method="Nelder-Mead", options=options).x


def fit(table: np.ndarray, release: Release, start: Fit, learn=("nr", "er"), n_rounds=20) -> Fit:
    """Rows' laws of electrons, and A from the rows of the kinds in `learn`, in turn."""
    laws, acceptance = dict(start.laws), start.acceptance
    for _ in range(n_rounds):
        shift, n = np.zeros((2, acceptance.size))
        for key in ROWS:
            bulk = release.bulk[key]
            laws[key] = fit_row(table * acceptance, release.rows[key], bulk, laws[key])
            if key[0] in learn:
                row = electrons(*np.exp(laws[key])) @ (table * acceptance)
                shift[bulk] += np.log(release.rows[key][bulk] / row[bulk])
                n[bulk] += 1
        acceptance = acceptance * np.exp(shift / np.maximum(n, 1))
    return Fit(laws, acceptance)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=0, help="refit the free numbers, this often, and keep them"
    )
    rounds = parser.parse_args().rounds
    release = Release.read(Path(os.environ["DMSIM_DATA"]) / "release" / "xenon1t_s2only")
    constants = Constants.of(dmsim.load_detector("xenon1t"))
    table, found = response(constants, release, drawn_widths(constants)), Fit.read()
    if rounds:
        found = fit(table, release, found, n_rounds=rounds)
        found.write()
    off = found.deviations(table, release)
    for key in ROWS:
        (mean, fano), row = np.exp(found.laws[key]), off[key]
        print(
            f"{key[0]} {release.energy_kev[key]:7.3f} keV  {mean:6.1f} electrons, Fano {fano:4.2f}  "
            f"off by {np.abs(row).max():.3f} at most, {np.sqrt(np.mean(row**2)):.3f} rms"
        )
    print(sum(np.abs(row).max() < 0.1 for row in off.values()), "of", len(ROWS), "rows within 10 %")


if __name__ == "__main__":
    main()
