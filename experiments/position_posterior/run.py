"""Posterior of the place of S2s, beside the maximum likelihood of the true light response.

    python experiments/position_posterior/run.py --out RESULTS [--figure FILE] [--tiny]

Trains from patterns simulated in the training step, counts how often contours hold the truth, holds the
mean's error against the fit's on the same patterns, exports the program and measures it in a process that
only loads it. Writes results.json, places.npz and a figure.
"""

import argparse
import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.path import Path as Polygon

import dmsim
import inference
from dmsim.reconstruction.position import positions
from inference import position
from inference.position.outputs import LEVELS, Places
from inference.position.study import light_patterns

HERE = Path(__file__).parent
_BLOCK = 2048
_RATE = """
import sys, time
import numpy as np
from dmsim.io.exported import load_exported
program, area = load_exported(sys.argv[1]), np.load(sys.argv[2])
program.call(area[:2048])["mean_mm"].block_until_ready()
begin = time.process_time()
for first in range(0, len(area), 2048):
    program.call(area[first : first + 2048])["mean_mm"].block_until_ready()
print(len(area) / (time.process_time() - begin))
"""


class Study:
    """The detector, its patterns and what reads them."""

    def __init__(self, config: dict[str, Any]):
        self.config = config
        self.detector = dmsim.load_detector(config["detector"])
        self.radius_mm = float(self.detector.geometry.radius_mm)
        self.summary = position.position_summary(self.detector)
        self.prior = position.position_prior(self.detector)
        self._draw = jax.jit(self._patterns)
        self._places = eqx.filter_jit(position.places)

    def _patterns(self, key, low, high):
        keys = jax.random.split(key, 3)
        xy = self.prior.sample(keys[0], _BLOCK)
        light = jnp.exp(jax.random.uniform(keys[1], (_BLOCK,), xy.dtype, jnp.log(low), jnp.log(high)))
        return xy, light, light_patterns(keys[2], self.detector, xy, light)

    def patterns(self, seed: int, n: int, low: float, high: float) -> tuple[np.ndarray, ...]:
        """Places, mean light and areas, as of the prior."""
        keys = jax.random.split(jax.random.key(seed), -(-n // _BLOCK))
        parts = [jax.tree.map(np.asarray, self._draw(key, low, high)) for key in keys]
        return tuple(np.concatenate(part)[:n] for part in zip(*parts, strict=True))

    def train(self, seed: int) -> tuple[Any, float]:
        """A posterior, and the CPU-seconds that it took."""
        config, begin = self.config, time.process_time()
        budget = inference.Budget(
            config["n_simulations"], batch_size=config["batch_size"], peak_rate=config["peak_rate"]
        )
        simulate = position.position_simulator(self.detector, self.summary, top_pe=tuple(config["top_pe"]))
        fit = position.position_estimator(self.detector).fit(jax.random.key(seed), simulate, budget)
        return fit, time.process_time() - begin

    def places(self, posterior, area: np.ndarray) -> Places:
        """In blocks of one size."""
        padded = np.concatenate([area, np.zeros((-len(area) % _BLOCK, area.shape[1]), area.dtype)])
        parts = [
            jax.tree.map(np.asarray, self._places(posterior, self.summary, padded[i : i + _BLOCK]))
            for i in range(0, len(padded), _BLOCK)
        ]
        return Places(*(np.concatenate(part)[: len(area)] for part in zip(*parts, strict=True)))

    def coverage(self, found: Places, xy: np.ndarray, light: np.ndarray) -> dict[str, Any]:
        """Share of truths inside of the contours: of all, and in bins of what was found."""
        hit = np.array([[Polygon(polygon).contains_point(at) for polygon in each]
                        for each, at in zip(found.contour_mm, xy, strict=True)])  # fmt: skip
        r = np.hypot(*np.asarray(found.mean_mm).T) / self.radius_mm
        width = np.sqrt(np.trace(found.covariance_mm2, axis1=1, axis2=2) / 2)
        bins = {"all": np.ones(len(xy), bool)}
        for low, high in ((0, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1.01)):
            bins[f"found at {low} to {min(high, 1)} R"] = (r >= low) & (r < high)
        for low, high in ((0, 1), (1, 10), (10, 50), (50, 1e4)):
            name = f"width {low} to {high} mm" if high < 1e4 else f"width above {low} mm"
            bins[name] = (width >= low) & (width < high)
        bins["true place beyond 0.97 R"] = np.hypot(*xy.T) > 0.97 * self.radius_mm
        bins["true light below 50 PE"] = light < 50
        found_in = {}
        for name, take in bins.items():
            if (n := int(take.sum())) > 100:
                shares = {str(level): float(hit[take, i].mean()) for i, level in enumerate(LEVELS)}
                found_in[name] = {"n": n, **shares}
        return found_in

    def resolution(self, posteriors: list[Any], pe: float) -> dict[str, Any]:
        """Root mean square error of one axis: the fit's, and the posterior mean's for each training."""
        xy, _, area = self.patterns(1000 + int(pe), self.config["n_points"], pe, pe * 1.0001)
        fit = positions(self.detector, area)
        at = np.stack([fit.x_mm, fit.y_mm], axis=-1)
        lit = np.isfinite(at[:, 0])
        wall = lit & (np.hypot(*xy.T) > 0.95 * self.radius_mm)

        def rms(place: np.ndarray, take: np.ndarray) -> float:
            return float(np.sqrt(np.mean((place - xy)[take] ** 2)))

        means = [np.asarray(self.places(posterior, area).mean_mm) for posterior in posteriors]
        return {
            "top_pe": pe,
            "fit_mm": rms(at, lit),
            "mean_mm": [rms(mean, lit) for mean in means],
            "fit_wall_mm": rms(at, wall),
            "mean_wall_mm": [rms(mean, wall) for mean in means],
        }


def exported_rate(path: Path, area: np.ndarray) -> float:
    """Events a CPU-second of the exported program, compilation apart, in a process that only loads it."""
    patterns = path.with_name("patterns.npy")
    np.save(patterns, area)
    done = subprocess.run(
        [sys.executable, "-c", _RATE, str(path), str(patterns)], check=True, capture_output=True, text=True
    )
    patterns.unlink()
    return float(done.stdout)


def run(config: dict[str, Any], out: Path) -> dict[str, Any]:
    """All numbers of the figure."""
    study = Study(config)
    trained = [study.train(seed) for seed in config["seeds"]]
    posteriors = [fit.posterior for fit, _ in trained]
    xy, light, area = study.patterns(77, config["n_test"], *config["top_pe"])
    coverage = [study.coverage(study.places(posterior, area), xy, light) for posterior in posteriors]
    position.export_places(out / "places.npz", posteriors[0], study.detector)
    inference.save_posterior(out / "posterior.npz", trained[0][0], detector=study.detector)
    return {
        "config": config,
        "training_cpu_s": [seconds for _, seconds in trained],
        "loss": [fit.history.validation[-1] for fit, _ in trained],
        "coverage": coverage,
        "resolution": [study.resolution(posteriors, pe) for pe in config["points_pe"]],
        "events_per_cpu_s": exported_rate(out / "places.npz", area[: config["n_rate"]]),
        "example": example(study, posteriors[0]),
    }


def example(study: Study, posterior) -> list[dict[str, Any]]:
    """Contours of a few events: little light, much light, at the wall."""
    shown = []
    for seed, (pe, ring) in enumerate(((12.0, 0.3), (40.0, 0.6), (300.0, 0.8), (60.0, 0.985))):
        angle = 0.7 + 1.6 * seed
        xy = jnp.array([[np.cos(angle), np.sin(angle)]], jnp.float32) * ring * study.radius_mm
        area = np.asarray(light_patterns(jax.random.key(seed), study.detector, xy, jnp.full(1, pe, xy.dtype)))
        found, fit = study.places(posterior, area), positions(study.detector, area)
        shown.append(
            {
                "top_pe": pe,
                "true_mm": xy[0].tolist(),
                "mean_mm": found.mean_mm[0].tolist(),
                "fit_mm": [float(fit.x_mm[0]), float(fit.y_mm[0])],
                "contour_mm": found.contour_mm[0].tolist(),
            }
        )
    return shown


def figure(results: dict[str, Any], radius_mm: float) -> Figure:
    """Contours of events, resolution over the fit's, coverage."""
    drawing = Figure(figsize=(13, 4.3), layout="constrained")
    left, middle, right = drawing.subplots(1, 3)
    angle = np.linspace(0, 2 * np.pi, 200)
    left.plot(radius_mm * np.cos(angle), radius_mm * np.sin(angle), color="0.6", lw=1)
    for colour, event in zip(("#e6550d", "#756bb1", "#31a354", "#3182bd"), results["example"], strict=True):
        for polygon, style in zip(event["contour_mm"], ("-", ":"), strict=True):
            closed = np.array([*polygon, polygon[0]])
            left.plot(*closed.T, style, color=colour, lw=1.2)
        left.plot(*event["true_mm"], "*", color=colour, ms=9, label=f"{event['top_pe']:.0f} PE")
        left.plot(*event["fit_mm"], "x", color=colour, ms=6)
    left.set(aspect="equal", xlabel="x [mm]", ylabel="y [mm]", title="68 and 95 %; star: truth, cross: fit")
    left.legend(fontsize=8, frameon=False, loc="upper left")
    pe = [row["top_pe"] for row in results["resolution"]]
    for where, colour, label in (("", "#3182bd", "whole volume"), ("_wall", "#e6550d", "beyond 0.95 R")):
        ratio = np.array(
            [np.array(row[f"mean{where}_mm"]) / row[f"fit{where}_mm"] for row in results["resolution"]]
        )
        middle.plot(pe, ratio.mean(axis=1), "o-", color=colour, ms=4, lw=1, label=label)
        middle.fill_between(pe, ratio.min(axis=1), ratio.max(axis=1), color=colour, alpha=0.3, lw=0)
    middle.axhline(1, color="0.6", lw=1)
    middle.set(xscale="log", xlabel="mean light on top [PE]", ylabel="error of the mean over the fit's")
    middle.legend(fontsize=8, frameon=False)
    names = list(results["coverage"][0])
    for level, colour in zip(LEVELS, ("#31a354", "#756bb1"), strict=True):
        found = np.array([[each[name][str(level)] for name in names] for each in results["coverage"]])
        error = [np.sqrt(level * (1 - level) / results["coverage"][0][name]["n"]) for name in names]
        place = np.arange(len(names))
        right.errorbar(
            found.mean(axis=0), place, xerr=error, fmt="o", color=colour, ms=4, label=f"{level:.0%}"
        )
        right.axvline(level, color=colour, lw=0.8, ls=":")
        right.axvspan(level - 0.01, level + 0.01, color=colour, alpha=0.1, lw=0)
    right.set(yticks=np.arange(len(names)), yticklabels=names, xlabel="share of truths inside the contour")
    right.invert_yaxis()
    right.legend(fontsize=8, frameon=False)
    return drawing


def tiny(config: dict[str, Any]) -> dict[str, Any]:
    """The same study in a minute, to see that it runs."""
    return config | {
        "seeds": [1], "n_simulations": 40_000, "n_test": 2_000, "n_points": 300,
        "points_pe": [30.0, 1e3], "n_rate": 2_048,
    }  # fmt: skip


def main() -> None:
    """Write the results and the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "config.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and places.npz")
    parser.add_argument("--figure", type=Path, help="PNG file to write; default: in the folder")
    parser.add_argument("--tiny", action="store_true", help="little of all, to see that it runs")
    given = parser.parse_args()
    config = tomllib.loads(given.config.read_text())
    given.out.mkdir(parents=True, exist_ok=True)
    results = run(tiny(config) if given.tiny else config, given.out)
    (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    radius_mm = float(dmsim.load_detector(config["detector"]).geometry.radius_mm)
    figure(results, radius_mm).savefig(given.figure or given.out / "position.png", dpi=130)
    for row in results["resolution"]:
        print("  ".join(f"{name} {np.round(value, 3)}" for name, value in row.items()))
    for each in results["coverage"]:
        for name, row in each.items():
            print(f"{name}: {row}")
    print(f"events a CPU-s: {results['events_per_cpu_s']:.0f}; training CPU-s: {results['training_cpu_s']}")


if __name__ == "__main__":
    main()
