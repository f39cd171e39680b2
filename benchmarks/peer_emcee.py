"""A histogram likelihood sampled by emcee, in the manner of appletree.

    python benchmarks/peer_emcee.py --seed 0 --walkers 12 --taus 50 --start START.json

Each evaluation simulates all events anew with the walker's detector, fills a histogram, and takes the Poisson
probability of the data's; there is no gradient. Simulator, constants, data, window and priors are those of
`population.py`. The random numbers are held fixed, and walkers start from a normal about the mode that the
other sampler has found, so that nothing is spent on burning in: both favour this side.
Needs `pip install emcee`.
"""

import argparse
import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import emcee
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from population_problem import WINDOW, data, deposits, population
from timing import report

import dmsim

MOVES = {
    "stretch": None,  # emcee's own choice
    # the snooker move of emcee 3.1.6, often mixed in, takes a wrong power of distances (emcee's pull request
    # 531): with a fifth of its moves a normal distribution in six dimensions came out 6 % too narrow
    "de": [(emcee.moves.DEMove(), 1.0)],
}
_STEPS_BETWEEN = 50  # estimates of the autocorrelation time
_EDGES = [np.asarray(WINDOW.cs1_edges), np.asarray(WINDOW.log_cs2_edges)]


class HistogramPosterior:
    """Log posterior of the population's vector from a histogram of simulated areas."""

    def __init__(self, seed: int, n_events: int):
        """The problem of a seed, with so many events an evaluation."""
        # the model's own response is not used; its parameters and priors are
        self.population = population(seed, 512)
        self.counts = data(seed).histogram(WINDOW)
        self.key = jax.random.key(3000 + seed)
        self.deposits = deposits(jax.random.key(4000 + seed), self.population.detector, n_events)
        self.n_events = n_events
        self.n_calls = 0
        self._prior = eqx.filter_jit(lambda p, v: (p.log_prior(v), p.values(v)))

    def __call__(self, vector: np.ndarray) -> float:
        """One evaluation."""
        self.n_calls += 1
        population = self.population
        log_prior, values = self._prior(population, jnp.asarray(vector, jnp.float32))
        if not np.isfinite(log_prior):
            return -np.inf
        calibration = population.detector
        detector = population.free.unpack(jnp.asarray(vector[:-1], jnp.float32), calibration)
        areas = dmsim.simulate_areas(self.key, detector, self.deposits, calibration=calibration)
        y = np.log10(np.maximum(np.asarray(areas.cs2_pe), 1e-3))
        weights = np.asarray(areas.s1_acceptance, float)
        seen = np.histogram2d(np.asarray(areas.cs1_pe), y, bins=_EDGES, weights=weights)[0]
        expected = np.maximum(float(values[-1]) * seen / self.n_events, 1e-5)
        return float(np.sum(self.counts * np.log(expected)) - expected.sum() + log_prior)


def main() -> int:
    """Sample, print one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--events", type=int, default=100_000, help="an evaluation")
    parser.add_argument("--walkers", type=int, default=12)
    parser.add_argument("--taus", type=float, default=50.0, help="autocorrelation times, at which it ends")
    parser.add_argument("--steps", type=int, default=4000, help="at most")
    parser.add_argument("--cpu-seconds", type=float, default=2400.0, help="after which the chain ends")
    parser.add_argument("--moves", choices=MOVES, default="de")
    parser.add_argument("--start", type=Path, required=True, help="JSON with mode and covariance")
    args = parser.parse_args()
    posterior = HistogramPosterior(args.seed, args.events)
    start = json.loads(args.start.read_text())
    rng = np.random.default_rng(args.seed)
    walkers = rng.multivariate_normal(start["mode"], start["covariance"], args.walkers)
    sampler = emcee.EnsembleSampler(args.walkers, walkers.shape[1], posterior, moves=MOVES[args.moves])
    for _ in range(2):
        posterior(walkers[0])  # compiles
    posterior.n_calls = 0
    begin = time.process_time()
    with suppress(KeyboardInterrupt):  # what there is by then is reported
        for _ in sampler.sample(walkers, iterations=args.steps, progress=sys.stderr.isatty()):
            if time.process_time() - begin > args.cpu_seconds:
                break
            # emcee's documentation on autocorrelation: the estimate is to be trusted from 50 of them on
            if sampler.iteration % _STEPS_BETWEEN == 0:
                tau = np.max(sampler.get_autocorr_time(tol=0))
                print(f"{sampler.iteration} steps, tau {tau:.1f}", file=sys.stderr, flush=True)
                if sampler.iteration > args.taus * tau:
                    break
    cpu_s = time.process_time() - begin
    n_steps = sampler.iteration
    tau = sampler.get_autocorr_time(quiet=True)
    chain = np.asarray(sampler.get_chain(discard=n_steps // 5, flat=True))
    effective = len(chain) / np.asarray(tau)
    values = np.asarray(jax.vmap(posterior.population.values)(jnp.asarray(chain, jnp.float32)))
    report(
        names=posterior.population.names,
        mean=values.mean(axis=0).tolist(),
        standard_deviation=values.std(axis=0).tolist(),
        effective_by_parameter=effective.tolist(),
        n_events=args.events,
        n_steps=n_steps,
        autocorrelation_steps=np.asarray(tau).tolist(),
        acceptance=float(np.mean(sampler.acceptance_fraction)),
        cpu_s=cpu_s,
        n_evaluations=posterior.n_calls,
        effective_samples=float(args.walkers * n_steps / np.max(tau)),
        effective_samples_per_cpu_s=float(args.walkers * n_steps / np.max(tau) / cpu_s),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
