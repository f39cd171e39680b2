"""What is asked of the trained posterior: coverage, a report, and how near it is to the exact one."""

import time
from pathlib import Path
from typing import Any

import exact
import jax
import numpy as np

from inference.diagnostics.ranks import ranks
from inference.diagnostics.report import Report
from inference.estimators import Fit
from inference.events import SingleScatters, calibrate_events

LEVELS = (0.68, 0.95)
NAMES = ("energy", "radius", "x", "y", "z")


def same_training(path: Path, kept: dict[str, Any], made_with: str) -> dict[str, Any]:
    """What a kept training took.

    Raises:
        ValueError: if it is of another configuration.
    """
    if kept.get("made_with") != made_with:
        raise ValueError(f"{path} is of another configuration: remove it, or give another --out")
    return kept


def polar(theta: np.ndarray) -> np.ndarray:
    """Energy, radius, x, y, z of [..., parameter]."""
    radius = np.hypot(theta[..., 1], theta[..., 2])[..., None]
    return np.concatenate([theta[..., :1], radius, theta[..., 1:4]], axis=-1)


def central_coverage(key: Any, theta: np.ndarray, draws: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Share of truths in the central intervals of each parameter, and the ranks it is made of."""
    place = ranks(key, polar(theta), polar(draws))
    inside = {
        name: {str(level): float(np.mean(np.abs(place[:, i] - 0.5) < level / 2)) for level in LEVELS}
        for i, name in enumerate(NAMES)
    }
    return inside, place


def sample_chunks(key: Any, post: Any, x: np.ndarray, n: int, chunk: int = 250) -> tuple[np.ndarray, float]:
    """Draws of many events, and draws a CPU second once compiled."""
    chunk = min(chunk, len(x))
    found = np.empty((len(x), n, post.prior.n_parameters), np.float32)
    np.asarray(post.sample(key, x[:chunk], n))  # compiles
    begin = time.process_time()
    for first in range(0, len(x), chunk):
        at = min(first, len(x) - chunk)
        found[at : at + chunk] = post.sample(jax.random.fold_in(key, first), x[at : at + chunk], n)
    return found, found.shape[0] * n / (time.process_time() - begin)


def binned_coverage(place: np.ndarray, columns: dict[str, np.ndarray], n_bins: int = 6) -> dict[str, Any]:
    """Coverage of each parameter in bins of functions of the data."""
    out = {}
    for name, values in columns.items():
        edges = np.quantile(values, np.linspace(0, 1, n_bins + 1))
        bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n_bins - 1)
        inside = np.abs(place - 0.5)
        out[name] = {
            "edges": edges.tolist(),
            "n": [int(np.sum(bins == k)) for k in range(n_bins)],
            **{
                str(level): [
                    [float(np.mean(inside[bins == k, i] < level / 2)) for k in range(n_bins)]
                    for i in range(len(NAMES))
                ]
                for level in LEVELS
            },
        }
    return out


def diagnose(
    config: dict[str, Any], key: Any, events: SingleScatters, fit: Fit, draw: Any
) -> tuple[dict[str, Any], dict[str, np.ndarray], Report]:
    """The report, coverage of each parameter, and the same for events at the wall."""
    settings, post = config["diagnose"], fit.posterior
    keys = jax.random.split(key, 6)

    curves = {name: np.array(getattr(fit.history, name)) for name in ("training", "validation")}
    counts = {name: settings[name] for name in ("n_events", "n_draws")}
    report = calibrate_events(keys[0], events, post, **counts, history=curves)
    theta, columns = draw(keys[1], settings["n_test"])
    x = exact.summaries(events, columns)
    draws, rate = sample_chunks(keys[2], post, x, settings["test_draws"])
    coverage, place = central_coverage(keys[3], theta, draws)
    means = polar(draws.mean(axis=1))
    binned = binned_coverage(place, {"energy": means[:, 0], "radius": means[:, 1], "depth": -means[:, 4]})
    wall_theta, wall_columns = wall_events(keys[4], events, draw, settings)
    wall_draws, _ = sample_chunks(
        keys[5], post, exact.summaries(events, wall_columns), settings["test_draws"]
    )
    wall_coverage, _ = central_coverage(jax.random.fold_in(keys[3], 1), wall_theta, wall_draws)
    found = {
        "report": report.to_dict(),
        "coverage": coverage,
        "wall_coverage": wall_coverage,
        "binned": binned,
        "draws_per_cpu_s": rate,
        "n_wall": len(wall_theta),
    }
    return found, {"theta": theta, "columns": columns}, report


def wall_events(key, events: SingleScatters, draw, settings) -> tuple[np.ndarray, np.ndarray]:
    """Events that are reconstructed near or beyond the wall: a choice by data alone."""
    limit = settings["wall_radius"] * float(events.detector.geometry.radius_mm)
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    n = 0
    while n < settings["n_wall"]:
        theta, columns = draw(jax.random.fold_in(key, len(kept)), 16384)
        near = np.hypot(columns[:, 3], columns[:, 4]) > limit
        kept.append((theta[near], columns[near]))
        n += int(near.sum())
    theta, columns = (np.concatenate(part)[: settings["n_wall"]] for part in zip(*kept, strict=True))
    return theta, columns


def against_exact(
    config: dict[str, Any], key: Any, events: SingleScatters, post: Any, seen: np.ndarray
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Importance efficiencies of all test events, and the classifier test on the first of them."""
    settings = config["exact"]
    keys = jax.random.split(key, 3)
    cpu = time.process_time()
    weighed = exact.importance(keys[0], events, post, seen, n_draws=settings["importance_draws"])
    cpu_importance = time.process_time() - cpu
    n = settings["n_events"]
    share = None
    if events.n_kinds:
        # the share's own error must not be what the classifier sees
        # events of a whole chunk, so that nothing is compiled for fewer
        columns = seen[: max(n, 250)]
        share = exact.shares(
            keys[1], events, post, columns, n_draws=settings["importance_draws"], repeats=settings["repeats"]
        )[:n]
    cpu = time.process_time()
    told = exact.two_sample(
        keys[2], events, post, seen[:n], share,
        n_draws=settings["n_draws"], n_steps=settings["n_steps"], chains=settings["chains"],
    )  # fmt: skip
    efficiency, radius = weighed["efficiency"], np.hypot(seen[:, 3], seen[:, 4])
    wall = radius > config["diagnose"]["wall_radius"] * float(events.detector.geometry.radius_mm)
    accuracy = told["accuracy"]
    found = {
        "n_events": len(efficiency),
        "median_efficiency": float(np.median(efficiency)),
        "efficiency_quantiles": dict(
            zip(
                ("1%", "5%", "25%", "75%"),
                np.quantile(efficiency, [0.01, 0.05, 0.25, 0.75]).tolist(),
                strict=True,
            )
        ),
        "median_efficiency_wall": float(np.median(efficiency[wall])),
        "share_k_below_0.7": float(np.mean(weighed["pareto_k"] <= 0.7)),
        "median_evidence_error": float(np.median(weighed["log_evidence_error"])),
        "n_invalid": int(weighed["n_invalid"].sum()),
        "importance_cpu_s": cpu_importance,
        "c2st": {
            "n_events": len(accuracy),
            "mean": float(accuracy.mean()),
            "median": float(np.median(accuracy)),
            "95%": float(np.quantile(accuracy, 0.95)),
            "largest": float(accuracy.max()),
            "trusted": int(told["trusted"].sum()),
            "largest_r_hat": told["largest_r_hat"],
            "cpu_s": time.process_time() - cpu,
        },
    }
    if events.n_kinds:
        off = weighed["flow_share"] - weighed["exact_share"]
        found["kind_rms_difference"] = float(np.sqrt(np.mean(off**2)))
    told = {name: told[name] for name in ("accuracy", "trusted", "flow", "exact")}
    return found, {**weighed, **told}
