"""Effective samples per CPU-second of a calibration's posterior in six unknowns, against emcee.

    python benchmarks/population.py [--seeds 3] [--peer-seeds 1]

Ours: a smooth template from the differentiable simulator, its quadratic expansion, NUTS. Peer: emcee on a
histogram of simulated areas (`peer_emcee.py`), same simulator, data, window and priors. Each side's effective
samples are those of its slowest parameter. Our CPU-seconds count everything from the data to the draws: mode,
expansion, warm-up, sampling and the check against the model, with compilation and, apart, without; the peer's
count its sampling alone. emcee also runs on our stand-in, which costs nothing: its autocorrelation time over
a long chain, with the measured cost of a histogram, is the peer's rate when its histogram had no noise, and
its moments there are those of the same posterior by another sampler. The first data set is fitted again with
other simulated events in the template, which says how far the template's own scatter moves a posterior.
Prints and writes `--out`.
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


def ours(seed: int, n_events: int, *, template: int | None = None):
    """Fit twice: the second time everything is compiled. `template` is the seed of the simulated events."""
    likelihood = binned(population(seed if template is None else template, n_events), data(seed))
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
        "effective_by_parameter": np.asarray(fit.chains.effective_size, float).tolist(),
        "cpu_s": first,
        "cpu_s_compiled": again,
        "effective_samples_per_cpu_s": least / first,
        "effective_samples_per_cpu_s_compiled": least / again,
        "stand_in_spread": fit.check.spread,
        "stand_in_efficiency": fit.check.efficiency,
        "trouble": fit.trouble(),
    }
    return fit, figures


def noiseless(fit, args) -> dict:
    """What emcee makes of our stand-in: autocorrelation times, in steps, and moments."""
    import emcee  # noqa: PLC0415
    from peer_emcee import MOVES  # noqa: PLC0415

    likelihood = fit.likelihood
    predict = stand_in(fit.surrogate, len(likelihood.population.components))
    many = jax.jit(jax.vmap(lambda v: log_posterior(likelihood, predict, v)))
    sampler = emcee.EnsembleSampler(
        args.peer_walkers,
        fit.mode.size,
        lambda x: np.nan_to_num(np.asarray(many(jnp.asarray(x, jnp.float32)), float), nan=-np.inf),
        vectorize=True,
        moves=MOVES[args.peer_moves],
    )
    rng = np.random.default_rng(0)
    start = rng.multivariate_normal(fit.mode, np.cov(fit.chains.flat.T), args.peer_walkers)
    sampler.run_mcmc(start, args.noiseless_steps)
    tau = np.asarray(sampler.get_autocorr_time(quiet=True))
    chain = np.asarray(sampler.get_chain(discard=args.noiseless_steps // 5, flat=True))
    values = np.asarray(jax.vmap(likelihood.population.values)(jnp.asarray(chain, jnp.float32)))
    return {
        "names": likelihood.population.names,
        "mean": values.mean(axis=0).tolist(),
        "standard_deviation": values.std(axis=0).tolist(),
        "effective_by_parameter": (len(chain) / tau).tolist(),
        "autocorrelation_steps": tau.tolist(),
    }


def peer(fit, seed: int, args) -> dict:
    """Run emcee in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.json"
        covariance = np.cov(fit.chains.flat.T).tolist()
        start.write_text(json.dumps({"mode": fit.mode.tolist(), "covariance": covariance}))
        command = [sys.executable, str(Path(__file__).with_name("peer_emcee.py")), "--seed", str(seed)]
        command += ["--taus", str(args.peer_taus), "--cpu-seconds", str(args.peer_cpu_seconds)]
        command += ["--walkers", str(args.peer_walkers)]
        command += ["--events", str(args.peer_events), "--start", str(start), "--moves", args.peer_moves]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def agreement(mine: dict, theirs: dict) -> list[dict]:
    """Differences of means in posterior standard deviations and ratios of those, with the chains' errors."""
    rows = []
    columns = ("names", "mean", "standard_deviation", "effective_by_parameter")
    mine_rows, their_rows = (list(zip(*(side[c] for c in columns), strict=True)) for side in (mine, theirs))
    for (name, m1, s1, n1), (_, m2, s2, n2) in zip(mine_rows, their_rows, strict=True):
        # of n independent normal draws: the mean's error is s / sqrt(n), the width's s / sqrt(2 n)
        shift_error = float(np.sqrt(1 / n1 + (s2 / s1) ** 2 / n2))
        ratio_error = float(s2 / s1 * np.sqrt(1 / (2 * n1) + 1 / (2 * n2)))
        row = {"shift": (m2 - m1) / s1, "shift_error": shift_error}
        rows.append({"name": name, **row, "width_ratio": s2 / s1, "width_ratio_error": ratio_error})
    return rows


def show(title: str, rows: list[dict]) -> None:
    """One line a parameter."""
    print(f"  {title}")
    for r in rows:
        print(f"    {r['name']}: means differ by {r['shift']:+.2f} +- {r['shift_error']:.2f} sd, widths x "
              f"{r['width_ratio']:.2f} +- {r['width_ratio_error']:.2f}", flush=True)  # fmt: skip


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer-seeds", type=int, default=1, help="of these, with emcee too")
    parser.add_argument("--events", type=int, default=N_EVENTS)
    parser.add_argument("--templates", type=int, default=3, help="other ones for the first data set")
    parser.add_argument("--peer-events", type=int, default=100_000)
    parser.add_argument("--peer-walkers", type=int, default=12)
    parser.add_argument("--peer-taus", type=float, default=50.0, help="autocorrelation times of its chain")
    parser.add_argument("--peer-cpu-seconds", type=float, default=2400.0, help="at most")
    parser.add_argument("--peer-moves", choices=("stretch", "de"), default="de")
    parser.add_argument("--noiseless-steps", type=int, default=10_000)
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
        if seed == 0:
            others = [ours(seed, args.events, template=100 + i)[1] for i in range(args.templates)]
            row["other_templates"] = others
            for i, other in enumerate(others):
                show(f"with other events in the template, {i + 1}", agreement(mine, other))
        if seed < args.peer_seeds:
            row["noiseless"] = noiseless(fit, args)
            row["agreement_noiseless"] = agreement(mine, row["noiseless"])
            show("emcee on our stand-in", row["agreement_noiseless"])
            theirs = peer(fit, seed, args)
            tau = max(row["noiseless"]["autocorrelation_steps"])
            cost = theirs["cpu_s"] / theirs["n_evaluations"]
            theirs["noiseless_effective_samples_per_cpu_s"] = 1 / (tau * cost)
            best = max(theirs["effective_samples_per_cpu_s"], 1 / (tau * cost))
            ratio = mine["effective_samples_per_cpu_s"] / best
            worst = min(worst, ratio)
            row |= {"emcee": theirs, "agreement": agreement(mine, theirs), "ratio": ratio}
            long = max(theirs["autocorrelation_steps"])
            taus = theirs["n_steps"] / long
            print(f"  emcee: {theirs['effective_samples']:.0f} effective in {theirs['cpu_s']:.0f} CPU-s, "
                  f"{cost:.3f} CPU-s an evaluation, tau {long:.0f} steps, {taus:.0f} of them "
                  f"({tau:.0f} steps without noise); ours over the better of its rates: {ratio:.0f}",
                  flush=True)  # fmt: skip
            show("emcee on histograms", row["agreement"])
        results.append(row)
        if args.out:
            args.out.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if worst >= MUST else 1


if __name__ == "__main__":
    sys.exit(main())
