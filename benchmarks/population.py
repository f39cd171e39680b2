"""Effective samples per CPU-second of a calibration's posterior in six unknowns, against emcee.

    python benchmarks/population.py [--seeds 3] [--peer-steps 150]

Ours: a smooth template from the differentiable simulator, its quadratic expansion, NUTS. Peer: emcee on a
histogram of simulated areas (`peer_emcee.py`), same simulator, data, window and priors. Each side's effective
samples are those of its slowest parameter. Our CPU-seconds count everything from the data to the draws: mode,
expansion, warm-up, sampling and the check against the model, with compilation and, apart, without; the peer's
count its sampling alone. Because the peer's chain is short, emcee also runs on our stand-in, which costs
nothing: its autocorrelation time over a long chain, with the measured cost of a histogram, is the peer's
rate when its histogram had no noise.
Prints Markdown and writes `--out`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from population_problem import data, population

from inference.likelihood.population import binned
from inference.population.fit import fit_population, log_posterior, stand_in

MUST, AIM = 5.0, 50.0
N_EVENTS = 40_960  # of our template


def ours(seed: int, n_events: int):
    """Fit twice: the second time everything is compiled."""
    likelihood = binned(population(seed, n_events), data(seed))
    begin = time.process_time()
    fit_population(jax.random.key(seed), likelihood)
    first = time.process_time() - begin
    begin = time.process_time()
    fit = fit_population(jax.random.key(seed), likelihood)
    again = time.process_time() - begin
    least = float(np.min(fit.chains.effective_size))
    figures = {
        "names": likelihood.population.names,
        "truth": [p.start for p in likelihood.population.parameters],
        "mean": fit.draws.mean(axis=0).tolist(),
        "standard_deviation": fit.draws.std(axis=0).tolist(),
        "n_in_window": float(likelihood.counts.sum()),
        "effective_samples": least,
        "cpu_s": first,
        "cpu_s_compiled": again,
        "effective_samples_per_cpu_s": least / first,
        "effective_samples_per_cpu_s_compiled": least / again,
        "stand_in_spread": fit.check.spread,
        "stand_in_efficiency": fit.check.efficiency,
        "trouble": fit.trouble(),
    }
    return fit, figures


def noiseless_steps(fit, n_walkers: int, n_steps: int) -> float:
    """Autocorrelation time of emcee's slowest parameter on our stand-in, in steps."""
    import emcee  # noqa: PLC0415

    likelihood = fit.likelihood
    predict = stand_in(fit.surrogate, len(likelihood.population.components))
    many = jax.jit(jax.vmap(lambda v: log_posterior(likelihood, predict, v)))
    sampler = emcee.EnsembleSampler(
        n_walkers,
        fit.mode.size,
        lambda x: np.nan_to_num(np.asarray(many(jnp.asarray(x, jnp.float32)), float), nan=-np.inf),
        vectorize=True,
    )
    rng = np.random.default_rng(0)
    start = rng.multivariate_normal(fit.mode, np.cov(fit.chains.flat.T), n_walkers)
    sampler.run_mcmc(start, n_steps)
    return float(np.max(sampler.get_autocorr_time(quiet=True)))


def peer(fit, seed: int, args) -> dict:
    """Run emcee in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.json"
        covariance = np.cov(fit.chains.flat.T).tolist()
        start.write_text(json.dumps({"mode": fit.mode.tolist(), "covariance": covariance}))
        command = [sys.executable, str(Path(__file__).with_name("peer_emcee.py")), "--seed", str(seed)]
        command += ["--steps", str(args.peer_steps), "--walkers", str(args.peer_walkers)]
        command += ["--events", str(args.peer_events), "--start", str(start)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def agreement(mine: dict, theirs: dict) -> list[dict]:
    """Differences of means in posterior standard deviations, and ratios of those."""
    rows = []
    columns = ("names", "mean", "standard_deviation")
    mine_rows, their_rows = (list(zip(*(side[c] for c in columns), strict=True)) for side in (mine, theirs))
    for (name, m1, s1), (_, m2, s2) in zip(mine_rows, their_rows, strict=True):
        rows.append({"name": name, "shift": (m2 - m1) / s1, "width_ratio": s2 / s1})
    return rows


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer-seeds", type=int, default=1, help="of these, with emcee too")
    parser.add_argument("--events", type=int, default=N_EVENTS)
    parser.add_argument("--peer-events", type=int, default=200_000)
    parser.add_argument("--peer-walkers", type=int, default=14)
    parser.add_argument("--peer-steps", type=int, default=150)
    parser.add_argument("--noiseless-steps", type=int, default=4000)
    parser.add_argument("--out", type=Path, help="JSON")
    args = parser.parse_args()
    results, worst = [], np.inf
    for seed in range(args.seeds):
        fit, mine = ours(seed, args.events)
        row: dict = {"seed": seed, "ours": mine}
        print(f"seed {seed}: {mine['effective_samples']:.0f} effective draws in {mine['cpu_s']:.1f} CPU-s, "
              f"{mine['cpu_s_compiled']:.1f} compiled: {mine['effective_samples_per_cpu_s']:.0f} and "
              f"{mine['effective_samples_per_cpu_s_compiled']:.0f} a CPU-s; stand-in off by "
              f"{mine['stand_in_spread']:.2f}; trouble {mine['trouble']}", flush=True)  # fmt: skip
        if seed < args.peer_seeds:
            theirs = peer(fit, seed, args)
            tau = noiseless_steps(fit, args.peer_walkers, args.noiseless_steps)
            cost = theirs["cpu_s"] / theirs["n_evaluations"]
            theirs["noiseless_autocorrelation_steps"] = tau
            theirs["noiseless_effective_samples_per_cpu_s"] = 1 / (tau * cost)
            best = max(theirs["effective_samples_per_cpu_s"], 1 / (tau * cost))
            ratio = mine["effective_samples_per_cpu_s"] / best
            worst = min(worst, ratio)
            row |= {"emcee": theirs, "agreement": agreement(mine, theirs), "ratio": ratio}
            print(f"  emcee: {theirs['effective_samples']:.0f} effective in {theirs['cpu_s']:.0f} CPU-s, "
                  f"{cost:.3f} CPU-s an evaluation, tau {max(theirs['autocorrelation_steps']):.0f} steps "
                  f"({tau:.0f} without noise); ours over the better of its rates: {ratio:.0f}",
                  flush=True)  # fmt: skip
            for r in row["agreement"]:
                print(
                    f"    {r['name']}: means differ by {r['shift']:+.2f} sd, widths x {r['width_ratio']:.2f}"
                )
        results.append(row)
        if args.out:
            args.out.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if worst >= MUST else 1


if __name__ == "__main__":
    sys.exit(main())
