"""How well the place of an S2 is known: python run.py --out RESULTS [--figure FILE] [--tiny].

Draws light patterns from the model, fits them, and holds the errors against the Cramer-Rao bound of the same
model; fits S2s of simulated records. Writes results.json and a figure.
"""

import argparse
import json
import tomllib
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import dmsim
from dmsim.reconstruction.charge_model import charge_model
from dmsim.reconstruction.light_table import top_shares
from dmsim.reconstruction.position import position_bound_mm2, position_log_likelihood, positions
from dmsim.records import Signal

HERE = Path(__file__).parent
CORE = 0.683  # share of a normal law within one standard deviation


def draw(random: np.random.Generator, detector, xy_mm: np.ndarray, top_pe: float) -> np.ndarray:
    """Areas [pattern, sensor] of the model: photons, their charge, and noise of the sensors that are lit."""
    electronics = detector.electronics
    place = jnp.asarray(xy_mm, jnp.float32)
    share = eqx.filter_jit(top_shares)(detector.light, detector.geometry, place)
    photons = random.poisson(top_pe / charge_model(detector).photon_pe * np.asarray(share, np.float64))
    n = photons + random.binomial(photons, float(electronics.double_pe_probability))
    charge = n + float(electronics.spe_width) * np.sqrt(n) * random.normal(size=n.shape)
    samples = electronics.zle_samples_before + electronics.pulse_samples + electronics.zle_samples_after
    noise = float(electronics.noise_adc) * np.sqrt(samples) / float(electronics.adc_per_pe)
    area = np.zeros((len(xy_mm), detector.light.sensors.n_sensors))
    area[:, : n.shape[1]] = np.maximum(charge, 0) + noise * (n > 0) * random.normal(size=n.shape)
    return area


def places(random: np.random.Generator, n: int, inner_mm: float, outer_mm: float) -> np.ndarray:
    """Uniform over a ring."""
    r = np.sqrt(random.uniform(inner_mm**2, outer_mm**2, n))
    angle = random.uniform(0, 2 * np.pi, n)
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=-1)


def without(detector, dead: list[int]):
    """The detector with these sensors dead."""
    if not dead:
        return detector
    efficiency = detector.light.sensors.efficiency.at[np.array(dead)].set(0.0)
    return eqx.tree_at(lambda d: d.light.sensors.efficiency, detector, efficiency)


@eqx.filter_jit
def _bounds(detector, charge, top_pe, xy_mm):
    return jax.vmap(lambda xy: position_bound_mm2(detector, top_pe, xy, charge=charge))(xy_mm)


def bound_of(detector, top_pe: float, xy_mm: np.ndarray) -> float:
    """Cramer-Rao bound [mm] of one axis: root mean square over the places and both axes."""
    place = jnp.asarray(xy_mm, jnp.float32)
    bound = np.asarray(_bounds(detector, charge_model(detector), jnp.float32(top_pe), place))
    return float(np.sqrt(np.trace(bound, axis1=1, axis2=2).mean() / 2))


def point(random: np.random.Generator, detector, ring: tuple[float, float], top_pe: float, n: int) -> dict:
    """Errors of n fits, and the bound. One axis: the mean over x and y."""
    radius = float(detector.geometry.radius_mm)
    xy = places(random, n, ring[0] * radius, ring[1] * radius)
    found = positions(detector, draw(random, detector, xy, top_pe))
    known = np.isfinite(found.x_mm)
    error = (np.stack([found.x_mm, found.y_mm], axis=-1) - xy)[known]
    said = np.stack([found.x_error_mm, found.y_error_mm], axis=-1)[known]
    pull = error / said
    outward = np.sum(error * xy[known], axis=1) / np.hypot(*xy[known].T)
    return {
        "top_pe": top_pe,
        "located": float(known.mean()),
        "bound_mm": bound_of(detector, top_pe, xy),
        "rms_mm": float(np.sqrt(np.mean(error**2))),
        "core_mm": float(np.quantile(np.abs(error), CORE)),
        "outward_bias_mm": float(outward.mean()),
        "pull_rms": float(np.sqrt(np.mean(pull**2))),
        "pull_core": float(np.quantile(np.abs(pull), CORE)),
        "misfit_mean": float(found.xy_misfit[known].mean()),
        "misfit_spread": float(found.xy_misfit[known].std()),
    }


def best_possible(random: np.random.Generator, detector, top_pe: float, n: int, step_mm: float) -> dict:
    """Error of the posterior mean for light uniform over the volume, and of the fit to the same patterns.

    No estimate has a smaller mean square error over the volume, biased or not.
    """
    radius = float(detector.geometry.radius_mm)
    axis = np.arange(-radius + step_mm / 2, radius, step_mm)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    grid = jnp.asarray(grid[np.hypot(*grid.T) < radius], jnp.float32)

    @jax.jit
    def mean(area):
        value = jax.vmap(lambda xy: position_log_likelihood(detector, area, xy))(grid)
        return jax.nn.softmax(value) @ grid

    xy = places(random, n, 0.0, radius)
    area = draw(random, detector, xy, top_pe)
    posterior = np.stack([np.asarray(mean(one)) for one in area.astype(np.float32)])
    found = positions(detector, area)
    lit = np.isfinite(found.x_mm)
    fit = np.stack([found.x_mm, found.y_mm], axis=-1)
    return {
        "top_pe": top_pe,
        "bound_mm": bound_of(detector, top_pe, xy[lit]),
        "best_rms_mm": float(np.sqrt(np.mean((posterior - xy)[lit] ** 2))),
        "fit_rms_mm": float(np.sqrt(np.mean((fit - xy)[lit] ** 2))),
    }


def chain(detector, n_electrons: int, n_events: int, seed: int) -> dict:
    """S2s of a number of electrons through records and the whole reconstruction, without other signals."""
    quiet = detector.without("photoionisation", "delayed_electrons", "afterpulses", "dark_counts")
    keys = jax.random.split(jax.random.key(seed), 2)
    deposits = dmsim.sources.mono(
        keys[0], quiet, n_events=n_events, energy_kev=float(n_electrons), interaction="electrons"
    )
    deposits = eqx.tree_at(lambda d: d.z_mm, deposits, jnp.full_like(deposits.z_mm, -1.0))
    peaks, events = dmsim.reconstruct(quiet, dmsim.simulate_records(keys[1], quiet, deposits))
    known = np.isfinite(events.x_observed_mm)
    xy = np.stack([np.asarray(deposits.x_mm), np.asarray(deposits.y_mm)], axis=-1)[known]
    found = np.stack([events.x_observed_mm, events.y_observed_mm], axis=-1)[known]
    said = np.stack([events.x_error_mm, events.y_error_mm], axis=-1)[known]
    top = peaks.area_top_pe[peaks.signal == int(Signal.S2)]
    top_pe = float(np.median(top)) if top.size else float("nan")
    inner = np.hypot(*xy.T) < 0.95 * float(detector.geometry.radius_mm)
    error, pull = (found - xy)[inner], ((found - xy) / said)[inner]
    return {
        "n_electrons": n_electrons,
        "top_pe": top_pe,
        "located": float(known.mean()),
        "bound_mm": bound_of(quiet, top_pe, xy[inner]),
        "rms_mm": float(np.sqrt(np.mean(error**2))),
        "core_mm": float(np.quantile(np.abs(error), CORE)),
        "pull_core": float(np.quantile(np.abs(pull), CORE)),
    }


def study(config: dict) -> dict:
    """Every number of the figure."""
    detector = dmsim.load_detector(config["detector"])
    random = np.random.default_rng(config["seed"])
    cases = {}
    for name, case in config["cases"].items():
        ours = without(detector, case["dead"])
        cases[name] = [
            point(random, ours, tuple(case["ring"]), top_pe, config["n_patterns"])
            for top_pe in config["top_pe"]
        ]
    best, through = config["best"], config["chain"]
    return {
        "config": config,
        "cases": cases,
        "best": [
            best_possible(random, detector, top_pe, best["n_patterns"], best["step_mm"])
            for top_pe in best["top_pe"]
        ],
        "chain": [
            chain(detector, n, through["n_events"], config["seed"] + n) for n in through["n_electrons"]
        ],
    }


def figure(results: dict) -> Figure:
    """Resolution and its ratio to the bound, over the light on top."""
    drawing = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    colours = dict(zip(results["cases"], ("#3182bd", "#31a354", "#e6550d", "#756bb1"), strict=False))
    for name, rows in results["cases"].items():
        pe = [row["top_pe"] for row in rows]
        left.plot(pe, [row["bound_mm"] for row in rows], color=colours[name], lw=1)
        left.plot(pe, [row["rms_mm"] for row in rows], "o", color=colours[name], ms=4, label=name)
        ratio = [row["rms_mm"] / row["bound_mm"] for row in rows]
        core = [row["core_mm"] / row["bound_mm"] for row in rows]
        right.plot(pe, ratio, "o-", color=colours[name], ms=4, lw=1, label=f"{name}: rms")
        right.plot(pe, core, "--", color=colours[name], lw=1, label=f"{name}: central 68 %")
    left.plot(
        [row["top_pe"] for row in results["chain"]], [row["rms_mm"] for row in results["chain"]],
        "kx", label="through records, r < 0.95 R",
    )  # fmt: skip
    pe = np.array(results["config"]["top_pe"])
    left.plot(pe, 152.2 / np.sqrt(pe / 0.748) + 0.36, ":", color="0.5", label="straxen's, S2 = top / 0.748")
    left.set(xscale="log", yscale="log", xlabel="mean light on top [PE]", ylabel="error of one axis [mm]",
             title="points: fits; lines: Cramér-Rao bound")  # fmt: skip
    right.plot(
        [row["top_pe"] for row in results["best"]],
        [row["best_rms_mm"] / row["bound_mm"] for row in results["best"]],
        "k^", ms=5, label="volume: best of any estimate",
    )  # fmt: skip
    right.axhspan(0.9, 1.1, color="0.9")
    right.set(xscale="log", xlabel="mean light on top [PE]", ylabel="error over bound", ylim=(0.5, 2.5))
    for axes in (left, right):
        axes.legend(fontsize=7, frameon=False)
    return drawing


def tiny(config: dict) -> dict:
    """The same study in seconds, to see that it runs."""
    return config | {
        "n_patterns": 50, "top_pe": [30.0, 1000.0],
        "best": config["best"] | {"top_pe": [30.0], "n_patterns": 5, "step_mm": 60.0},
        "chain": config["chain"] | {"n_electrons": [40], "n_events": 6},
    }  # fmt: skip


def main() -> None:
    """Write the results and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=HERE / "config.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json")
    parser.add_argument("--figure", type=Path, help="PNG file to write; default: in the folder")
    parser.add_argument("--tiny", action="store_true", help="few patterns, to see that it runs")
    given = parser.parse_args()
    config = tomllib.loads(given.config.read_text())
    results = study(tiny(config) if given.tiny else config)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    figure(results).savefig(given.figure or given.out / "resolution.png", dpi=130)
    for name, rows in {**results["cases"], "best": results["best"], "chain": results["chain"]}.items():
        for row in rows:
            print(name, "  ".join(f"{key} {value:.4g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
