"""Stage "sets": an amortized posterior of whole sets of events, beside the likelihood's own.

Trains a network on sets that are simulated inside of the training loop, tests it on sets whose truth is
known, and holds it against NUTS on the unbinned likelihood.
"""

import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import dmsim
import inference
from inference import embeddings
from inference.diagnostics.c2st import c2st
from inference.likelihood.population import PopulationLikelihood, unbinned
from inference.likelihood.population_data import EventSet
from inference.population.amortized import SetFit, fit_set_posterior, set_embedding
from inference.population.config import checked_config, make_population
from inference.population.fit import fit_population, stand_in
from inference.population.sets import EVENTS, VALID, SetSimulator
from inference.sampling.surrogate import Quadratic

LEVELS = (0.68, 0.9)


def summary(x: dict[str, Any]) -> jax.Array:
    """Number, means, spreads and correlation of the events: what a classifier may look at."""
    events, there = jnp.asarray(x[EVENTS]), jnp.asarray(x[VALID])[..., None]
    n = jnp.maximum(there.sum(axis=1), 1)
    mean = events.sum(axis=1) / n
    away = jnp.where(there, events - mean[:, None], 0.0)
    spread = jnp.sqrt((away**2).sum(axis=1) / n)
    product = (away[..., :1] * away[..., 1:]).sum(axis=1) / n
    return jnp.concatenate([n.astype(mean.dtype), mean, spread, product], axis=1)


def train(
    key: Any, simulator: SetSimulator, config: dict[str, Any], out: Path
) -> dict[str, tuple[SetFit, float]]:
    """Each network with the same sets, and its CPU-seconds."""
    found = {}
    for name, options in config["networks"].items():
        embedding = set_embedding(simulator, kind=embeddings.KINDS[name], **options)
        begin = time.process_time()
        trained = fit_set_posterior(
            key,
            simulator,
            inference.Budget(**config["budget"]),
            embedding=embedding,
            checkpoint=out / f"{name}.checkpoint",
        )
        found[name] = trained, time.process_time() - begin
        loss = trained.fit.history.validation[-1]
        print(f"{name}: held-out loss {loss:.3f} nats a set, {found[name][1]:.0f} CPU-s", flush=True)
    return found


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


@eqx.filter_jit
def _log_posterior(
    likelihood: PopulationLikelihood, surrogate: Quadratic, theta: jax.Array, log_prior: jax.Array
) -> jax.Array:
    """The likelihood's posterior of physical parameters, by the stand-in."""
    population = likelihood.population
    predict = stand_in(surrogate, len(population.components))

    def one(values):
        vector = jnp.stack([p.transform.inv(values[i]) for i, p in enumerate(population.parameters)])
        leaves, rates = population.split(vector)
        return likelihood.log_likelihood(predict(leaves), rates)

    return jax.vmap(one)(theta) + log_prior


def against_likelihood(
    key: Any, simulator: SetSimulator, post: Any, held: inference.Cached, config: dict[str, Any]
) -> list[dict]:
    """The trained posterior beside NUTS, set by set."""
    population, rows, n = simulator.population, [], config["exact"]["n_draws"]
    for number in range(config["exact"]["n_sets"]):
        keys = jax.random.split(jax.random.fold_in(key, number), 3)
        seen = np.asarray(held.x[EVENTS][number], float)[held.x[VALID][number]]
        events = EventSet(seen[:, 0], 10 ** seen[:, 1])
        begin = time.process_time()
        likelihood = unbinned(population, events, n_places=simulator.n_places)
        fit = fit_population(keys[0], likelihood, n_samples=config["exact"]["n_samples"], n_check=8)
        cpu_exact = time.process_time() - begin
        one = simulator.padded(events)
        post.sample(keys[1], one, n)  # compiles
        begin = time.process_time()
        draws = np.asarray(post.sample(keys[1], one, n))
        cpu = time.process_time() - begin
        exact = fit.draws[:: max(len(fit.draws) // n, 1)][:n]
        log_q = post.log_prob(draws, one)
        log_p = _log_posterior(
            likelihood, fit.surrogate, jnp.asarray(draws), simulator.prior.log_prob(jnp.asarray(draws))
        )
        off = np.asarray(log_p, float) - np.asarray(log_q, float)
        weight = np.exp(off - off.max())
        told = c2st(keys[2], draws[: len(exact)], exact)
        row = {
            "n_events": len(events),
            "truth": held.theta[number].tolist(),
            "shift": ((draws.mean(axis=0) - fit.draws.mean(axis=0)) / fit.draws.std(axis=0)).tolist(),
            "width_ratio": (draws.std(axis=0) / fit.draws.std(axis=0)).tolist(),
            "efficiency": float(weight.sum() ** 2 / (len(weight) * (weight**2).sum())),
            "c2st": told.value,
            "stand_in_spread": fit.check.spread,
            "trouble": fit.trouble(),
            "least_effective": float(np.min(fit.chains.effective_size)),
            "cpu_s": cpu,
            "cpu_s_likelihood": cpu_exact,
        }
        rows.append(row)
        print(
            f"set {number}: {row['n_events']} events, shifts {np.round(row['shift'], 2)}, widths x "
            f"{np.round(row['width_ratio'], 2)}, efficiency {row['efficiency']:.2f}, C2ST {row['c2st']:.3f}, "
            f"{cpu_exact:.1f} CPU-s for NUTS, {cpu:.2f} here; trouble {row['trouble']}",
            flush=True,
        )
    return rows


def study(config: dict[str, Any], out: Path) -> dict[str, Any]:
    """All of it; the better posterior is kept as set_posterior.npz."""
    begin = time.process_time()
    keys = jax.random.split(jax.random.key(config["seed"]), 6)
    detector = dmsim.load_detector(config["detector"])
    population = make_population(keys[0], detector, checked_config(config["population"]))
    simulator = SetSimulator.of(population)
    trained = train(keys[1], simulator, config, out)
    best = min(trained, key=lambda name: trained[name][0].fit.history.validation[-1])
    fitted = trained[best][0]
    post = fitted.posterior
    # drawn once, of the size that is compiled already
    held = inference.Cached.draw(keys[2], simulator, config["n_held"])
    report = inference.calibrate(
        keys[3],
        post,
        lambda _, n: (jnp.asarray(held.theta[-n:]), jax.tree.map(lambda part: part[-n:], held.x)),
        n_events=config["n_calibration"],
        n_draws=config["n_draws"],
        summary=summary,
    )
    print(report, flush=True)
    diagnostics = report.to_dict()
    inference.save_posterior(
        out / "set_posterior.npz", fitted.fit, detector=detector, diagnostics=diagnostics
    )
    results = {
        "names": population.names,
        "units": [p.unit for p in population.parameters],
        "n_places": simulator.n_places,
        "n_deposits": simulator.n_deposits,
        "networks": {
            name: {
                "held_out_loss": each.fit.history.validation[-1],
                "cpu_s": cpu,
                "overflow": each.overflow._asdict(),
            }
            for name, (each, cpu) in trained.items()
        },
        "best": best,
        "report": report.to_dict(),
        "n_held": len(held),
        "coverage": coverage(keys[4], post, held, config["n_draws"]),
        "sets": against_likelihood(keys[5], simulator, post, held, config),
    }
    report.figure(out / "set_report.png")
    return {**results, "cpu_s": time.process_time() - begin}


def figure_of(results: dict[str, Any]) -> Figure:
    """Shifts and widths against the likelihood's posterior, and coverage."""
    names, rows = results["names"], results["sets"]
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, key, line, label in (
        (axes[0], "shift", 0.0, "difference of means [sd]"),
        (axes[1], "width_ratio", 1.0, "ratio of standard deviations"),
    ):
        values = np.asarray([row[key] for row in rows])
        spread = np.linspace(-0.2, 0.2, len(rows))
        for i in range(len(names)):
            ax.plot(i + spread, values[:, i], "o", markersize=4, color="#1f5a96")
        ax.axhline(line, color="black", linewidth=0.8)
        ax.set_xticks(range(len(names)), names, rotation=30)
        ax.set_ylabel(label)
    n = results["n_held"]
    width = 0.25
    for j, level in enumerate(LEVELS):
        error = 2 * np.sqrt(level * (1 - level) / n)
        axes[2].axhspan(level - error, level + error, color="0.9", label="2 sigma" if not j else None)
        for label, mark, color in (("posterior", "s", "#1f5a96"), ("twin", "x", "#b0653a")):
            shares = results["coverage"][f"{label} {level}"]
            x = np.arange(len(names)) + (width if label == "twin" else -width) / 2
            said = {"posterior": "as trained", "twin": "1.3 times as wide"}[label]
            axes[2].plot(x, shares, mark, color=color, markersize=5, label=said if not j else None)
    axes[2].set_xticks(range(len(names)), names, rotation=30)
    axes[2].set_ylabel("truths in 68 and 90 % intervals")
    axes[2].legend(frameon=False, fontsize=8, loc="center right", bbox_to_anchor=(1.0, 0.27))
    return figure
