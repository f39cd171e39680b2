"""Stage "sets": an amortized posterior of whole sets of events, beside the likelihood's own.

Compares networks at equal numbers of sets, trains the kept one from several seeds on sets that are simulated
inside of the training loop, tests it on sets whose truth is known, and holds it against NUTS on the unbinned
likelihood.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from set_reference import against_likelihood, against_model

import dmsim
import inference
from inference import embeddings
from inference.estimators import Fit
from inference.population.amortized import fit_set_posterior, set_embedding
from inference.population.config import checked_config, make_population
from inference.population.features import EventFeatures, event_features
from inference.population.sets import EVENTS, VALID, Overflow, SetSimulator

LEVELS = (0.68, 0.9)


def summary(x: dict[str, Any]) -> jax.Array:
    """Number, means, spreads and correlation of the events: what a classifier may look at."""
    events, there = jnp.asarray(x[EVENTS])[..., :2], jnp.asarray(x[VALID])[..., None]
    n = jnp.maximum(there.sum(axis=1), 1)
    mean = events.sum(axis=1) / n
    away = jnp.where(there, events - mean[:, None], 0.0)
    spread = jnp.sqrt((away**2).sum(axis=1) / n)
    product = (away[..., :1] * away[..., 1:]).sum(axis=1) / n
    return jnp.concatenate([n.astype(mean.dtype), mean, spread, product], axis=1)


def coordinates(x: dict[str, Any]) -> dict[str, Any]:
    """Sets without the features of their events."""
    return {**x, EVENTS: x[EVENTS][..., :2]}


def train(
    key: Any,
    simulator: SetSimulator,
    network: dict[str, Any],
    budget: inference.Budget,
    held: inference.Cached,
    checkpoint: Path,
) -> tuple[Fit, dict[str, Any]]:
    """A network of the config, and its figures."""
    options = dict(network)
    kind, featured = embeddings.KINDS[options.pop("kind")], options.pop("features", True)
    if not featured:
        simulator = SetSimulator(simulator.population, simulator.n_deposits, simulator.n_places)
        held = inference.Cached(held.theta, coordinates(held.x))
    begin = time.process_time()
    fit = fit_set_posterior(
        key, simulator, budget, embedding=set_embedding(simulator, kind=kind, **options), validation=held,
        checkpoint=checkpoint,
    )  # fmt: skip
    cpu = time.process_time() - begin
    loss = fit.history.validation
    print(f"{checkpoint.stem}, {budget.n_simulations} sets: held-out loss {loss[-1]:.3f} nats a set, "
          f"{cpu:.0f} CPU-s", flush=True)  # fmt: skip
    return fit, {
        "n_sets": budget.n_simulations,
        "steps": fit.history.steps,
        "held_out_loss": loss,
        "cpu_s": cpu,
    }


def coverage(key: Any, post: Any, held: inference.Cached, n_draws: int) -> dict[str, Any]:
    """Share of truths in central intervals of each parameter, and in those of a twin 1.3 times as wide."""
    theta, draws = held.theta, np.asarray(post.sample(key, held.x, n_draws))
    middle = np.median(draws, axis=1, keepdims=True)
    shares = {}
    for label, factor in (("posterior", 1.0), ("twin", 1.3)):
        wide = middle + factor * (draws - middle)
        for level in LEVELS:
            low, high = np.quantile(wide, [(1 - level) / 2, (1 + level) / 2], axis=1)
            shares[f"{label} {level}"] = np.mean((low <= theta) & (theta <= high), axis=0).tolist()
    print(f"shares of truths in central intervals: {shares}", flush=True)
    return shares


def drawn(keys: Any, simulator: SetSimulator, n: int) -> tuple[list[inference.Cached], dict[str, int]]:
    """As many sets for each key, and what they lose for want of places."""
    draw = jax.jit(lambda key: simulator.draw(key, n))
    parts = [jax.tree.map(np.asarray, draw(key)) for key in keys]
    lost = np.concatenate([part.n_lost for _, part in parts])
    sets = [inference.Cached(theta, {EVENTS: part.events, VALID: part.valid}) for theta, part in parts]
    return sets, Overflow(len(lost), int((lost > 0).sum()), int(lost.sum()))._asdict()


def prepared(config: dict[str, Any]) -> tuple[Any, Any, SetSimulator, list[inference.Cached], dict[str, int]]:
    """Keys, detector, simulator, sets with known truth, and what they lose."""
    keys = jax.random.split(jax.random.key(config["seed"]), 8)
    detector = dmsim.load_detector(config["detector"])
    population = make_population(keys[0], detector, checked_config(config["population"]))
    features = event_features(keys[6], population, **config["features"])
    simulator = SetSimulator.of(population, features=features)
    sets, overflow = drawn(jax.random.split(keys[2]), simulator, config["n_held"])
    return keys, detector, simulator, sets, overflow


def compare_features(path: Path, diagnostics: dict[str, Any], features: EventFeatures) -> None:
    """Refuse other features than a posterior was trained on, whose network would take them in silence."""
    kept = diagnostics.get("features_sha256")
    if kept != features.sha256:
        raise SystemExit(
            f"{path}: trained on features with SHA-256 {kept}, those made here have {features.sha256}: "
            "train it again here (--stage sets)"
        )


def again(config: dict[str, Any], out: Path) -> list[dict]:
    """The last part alone, with the posterior that a whole run has left."""
    keys, detector, simulator, (_, held), _ = prepared(config)
    path = out / "set_posterior.npz"
    loaded = inference.load_posterior(path, detector=detector)
    assert isinstance(simulator.features, EventFeatures)
    compare_features(path, loaded.diagnostics, simulator.features)
    return against_model(keys[7], simulator, loaded.posterior, held, config)


def study(config: dict[str, Any], out: Path, write: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """All of it, `write` called after each part; set_posterior.npz has the first seed's posterior."""
    begin = time.process_time()
    keys, detector, simulator, (validation, held), overflow = prepared(config)
    population, features = simulator.population, simulator.features
    assert isinstance(features, EventFeatures)
    results: dict[str, Any] = {
        "names": population.names,
        "units": [p.unit for p in population.parameters],
        "n_places": simulator.n_places,
        "n_deposits": simulator.n_deposits,
        "overflow": overflow,
        "n_held": len(held),
        "n_draws": config["n_draws"],
        # spread of the log likelihood of a set of the mean size by what the features leave out
        "nats_left_out": float(
            np.linalg.norm(features.nats[simulator.n_features :]) * np.sqrt(held.x[VALID].sum(axis=1).mean())
        ),
        "kept": config["kept"]["network"],
        "seeds": [],
    }

    def done(**part: Any) -> None:
        results.update(part, cpu_s=time.process_time() - begin)
        write(results)

    networks, posts = config["networks"], []
    for seed, n_sets in enumerate(config["kept"]["n_simulations"]):
        fit, figures = train(
            jax.random.fold_in(keys[1], seed), simulator, networks[results["kept"]],
            inference.Budget(n_sets, **config["budget"]), validation, out / f"kept_{seed}.checkpoint",
        )  # fmt: skip
        posts.append(fit.posterior)
        done(seeds=[*results["seeds"], figures])
        if seed:
            continue
        report = inference.calibrate(
            keys[3],
            fit.posterior,
            lambda _, n: (jnp.asarray(held.theta[-n:]), jax.tree.map(lambda part: part[-n:], held.x)),
            n_events=config["n_calibration"],
            n_draws=config["n_draws"],
            summary=summary,
        )
        print(report, flush=True)
        report.figure(out / "set_report.png")
        inference.save_posterior(
            out / "set_posterior.npz", fit, detector=detector,
            diagnostics={**report.to_dict(), "features_sha256": features.sha256},
        )  # fmt: skip
        shares = coverage(keys[4], fit.posterior, held, config["n_draws"])
        done(report=report.to_dict(), coverage=shares)
    done(sets=against_likelihood(keys[5], simulator, posts, held, config))
    compared = {}
    for name, network in networks.items():
        budget = inference.Budget(**{**config["budget"], **config["compared"]})
        compared[name] = train(
            keys[1], simulator, network, budget, validation, out / f"{name}.checkpoint"
        )[1]  # fmt: skip
        done(compared=compared)
    done(model=against_model(keys[7], simulator, posts[0], held, config))
    return results


def figure_of(results: dict[str, Any]) -> Figure:
    """Shifts and widths against the likelihood's posterior, and coverage."""
    names, rows = results["names"], results["sets"]
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, key, line, label in (
        (axes[0], "shift", 0.0, "means: network - NUTS [sd]"),
        (axes[1], "width_ratio", 1.0, "standard deviations: network / NUTS"),
    ):
        for seed in sorted({row["seed"] for row in rows}):
            values = np.asarray([row[key] for row in rows if row["seed"] == seed])
            place = np.arange(len(names))[:, None] + np.linspace(-0.25, 0.25, len(values))
            ax.plot(
                place.ravel(), values.T.ravel(), ("o", "s", "^")[seed % 3], markersize=4, color="#1f5a96",
                markerfacecolor="none" if seed else "#1f5a96", label=f"seed {seed}",
            )  # fmt: skip
        ax.axhline(line, color="black", linewidth=0.8)
        ax.set_xticks(range(len(names)), names, rotation=30)
        ax.set_ylabel(label)
    axes[0].legend(frameon=False, fontsize=8)
    n = results["n_held"]
    width = 0.25
    for j, level in enumerate(LEVELS):
        # of quantiles of so many draws; their truth is one draw more
        expected = level * (results["n_draws"] - 1) / (results["n_draws"] + 1)
        error = 2 * np.sqrt(expected * (1 - expected) / n)
        axes[2].axhspan(expected - error, expected + error, color="0.9", label="2 sigma" if not j else None)
        for label, mark, color in (("posterior", "s", "#1f5a96"), ("twin", "x", "#b0653a")):
            shares = results["coverage"][f"{label} {level}"]
            x = np.arange(len(names)) + (width if label == "twin" else -width) / 2
            said = {"posterior": "as trained", "twin": "1.3 times as wide"}[label]
            axes[2].plot(x, shares, mark, color=color, markersize=5, label=said if not j else None)
    axes[2].set_xticks(range(len(names)), names, rotation=30)
    axes[2].set_ylabel("truths in 68 and 90 % intervals")
    axes[2].legend(frameon=False, fontsize=8, loc="center right", bbox_to_anchor=(1.0, 0.27))
    return figure
