"""Trained posteriors of whole sets beside the likelihood: by NUTS, and by weights of the model itself."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import inference
from inference.diagnostics.c2st import c2st
from inference.likelihood.population import PopulationLikelihood, unbinned
from inference.likelihood.population_data import EventSet
from inference.population.fit import PopulationFit, fit_population, stand_in
from inference.population.sets import EVENTS, VALID, SetSimulator
from inference.sampling.importance import Refined, weigh
from inference.sampling.surrogate import Quadratic


@eqx.filter_jit
def _log_likelihood(
    likelihood: PopulationLikelihood, surrogate: Quadratic | None, theta: jax.Array
) -> jax.Array:
    """The log likelihood of physical parameters, by the stand-in or else by the model's own templates."""
    population = likelihood.population
    predict = likelihood.predict if surrogate is None else stand_in(surrogate, len(population.components))

    def one(values):
        vector = jnp.stack([p.transform.inv(values[i]) for i, p in enumerate(population.parameters)])
        leaves, rates = population.split(vector)
        return likelihood.log_likelihood(predict(leaves), rates)

    return jax.lax.map(one, theta)


def _weighed(
    post: Any, x: Any, draws: jax.Array, likelihood: PopulationLikelihood, surrogate: Quadratic | None,
    simulator: SetSimulator,
) -> Refined:  # fmt: skip
    """Draws of a trained posterior with the weights that make them draws of the likelihood's."""
    log_density = _log_likelihood(likelihood, surrogate, draws) + simulator.prior.log_prob(draws)
    return weigh(draws, post.log_prob(draws, x), log_density)


def against_likelihood(
    key: Any, simulator: SetSimulator, posts: list[Any], held: inference.Cached, config: dict[str, Any]
) -> list[dict]:
    """Trained posteriors beside NUTS, set by set."""
    population, rows, n = simulator.population, [], config["exact"]["n_draws"]
    for number in range(config["exact"]["n_sets"]):
        keys = jax.random.split(jax.random.fold_in(key, number), 3)
        events = events_of(held, number)
        begin = time.process_time()
        likelihood = unbinned(population, events, n_places=simulator.n_places)
        fit = fit_population(keys[0], likelihood, n_samples=config["exact"]["n_samples"], n_check=8)
        cpu_exact = time.process_time() - begin
        exact = fit.draws[:: max(len(fit.draws) // n, 1)][:n]
        for seed, post in enumerate(posts):
            row = {
                "set": number,
                "seed": seed,
                "n_events": len(events),
                "truth": held.theta[number].tolist(),
                **beside(keys[1:], post, simulator.padded(events), fit, exact, simulator),
                "stand_in_spread": fit.check.spread,
                "trouble": fit.trouble(),
                "least_effective": float(np.min(fit.chains.effective_size)),
                "cpu_s_likelihood": cpu_exact,
            }
            rows.append(row)
            print(
                f"set {number}, seed {seed}: {row['n_events']} events, shifts {np.round(row['shift'], 2)}, "
                f"widths x {np.round(row['width_ratio'], 2)}, efficiency {row['efficiency']:.2f}, C2ST "
                f"{row['c2st']:.3f}, {cpu_exact:.1f} CPU-s for NUTS, {row['cpu_s']:.2f} here; trouble "
                f"{row['trouble']}",
                flush=True,
            )
    return rows


def beside(
    keys: Any, post: Any, x: Any, fit: PopulationFit, exact: np.ndarray, simulator: SetSimulator
) -> dict[str, Any]:
    """Draws of a trained posterior beside those of NUTS."""
    n = len(exact)
    post.sample(keys[0], x, n)  # compiles
    begin = time.process_time()
    draws = np.asarray(post.sample(keys[0], x, n))
    cpu = time.process_time() - begin
    refined = _weighed(post, x, jnp.asarray(draws), fit.likelihood, fit.surrogate, simulator)
    return {
        "shift": ((draws.mean(axis=0) - fit.draws.mean(axis=0)) / fit.draws.std(axis=0)).tolist(),
        "width_ratio": (draws.std(axis=0) / fit.draws.std(axis=0)).tolist(),
        "efficiency": float(refined.efficiency),
        "pareto_k": float(refined.pareto_k),
        "c2st": c2st(keys[1], draws, exact).value,
        "cpu_s": cpu,
    }


def against_model(
    key: Any, simulator: SetSimulator, post: Any, held: inference.Cached, config: dict[str, Any]
) -> list[dict]:
    """Draws of a trained posterior reweighted to the likelihood itself, without a stand-in."""
    rows = []
    for number in range(config["exact"]["n_sets"]):
        events = events_of(held, number)
        likelihood = unbinned(simulator.population, events, n_places=simulator.n_places)
        x = simulator.padded(events)
        draws = post.sample(jax.random.fold_in(key, number), x, config["exact"]["n_model"])
        refined = _weighed(post, x, draws, likelihood, None, simulator)
        mean, width = refined.mean(), refined.std()
        row = {
            "set": number,
            "truth": held.theta[number].tolist(),
            "efficiency": float(refined.efficiency),
            "pareto_k": float(refined.pareto_k),
            "shift": ((draws.mean(axis=0) - mean) / width).tolist(),
            "width_ratio": (draws.std(axis=0) / width).tolist(),
        }
        rows.append(row)
        print(
            f"set {number}, {len(events)} events, weighted by the model: efficiency {row['efficiency']:.2f}, "
            f"Pareto k {row['pareto_k']:.2f}, shifts {np.round(row['shift'], 2)}, "
            f"widths x {np.round(row['width_ratio'], 2)}",
            flush=True,
        )
    return rows


def events_of(held: inference.Cached, number: int) -> EventSet:
    """A set as if it had been measured."""
    seen = np.asarray(held.x[EVENTS][number, :, :2], float)[held.x[VALID][number]]
    return EventSet(seen[:, 0], 10 ** seen[:, 1])
