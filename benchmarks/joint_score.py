"""What the joint score is worth: held-out loss against simulations, with the term and without it.

    python -m benchmarks.joint_score [--seeds N] [--problems ...] [--weight W] [--out FILE.json]

Three simulators whose gradient in theta is known: a crescent with a hidden angle, quanta counts behind a
detection of 15 %, and the areas of `dmsim.simulate_areas` with the score of `inference.likelihood.areas`.
Each is fitted by the same network with no score, with the score of all latents, and with the mean of
that score over latents given what follows from them. Steps are equal for all, and a run's loss is the lowest
that 4,096 further events show after any of its epochs.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray

import dmsim
import inference
from dmsim.records import Interaction
from dmsim.sources.own import deposits as own_deposits
from inference import flows, priors
from inference.likelihood.areas import data_of, log_likelihood, skew_nodes

SIZES = (256, 512, 1024, 2048, 4096)
N_TEST, N_STEPS, BATCH = 4096, 1500, 128
FLOW = flows.Coupling(n_layers=3, width=32, n_blocks=1, n_bins=8)
RATE = 2e-3


@dataclass(frozen=True)
class Problem:
    """A prior, and `draw(key, n) -> (theta, x, scores by name)`."""

    prior: priors.Prior
    draw: Callable[[PRNGKeyArray, int], tuple[Any, Any, dict[str, Any]]]


def _uniform(*ends: tuple[str, float, float]) -> priors.Prior:
    return priors.Prior(*(priors.Scalar(name, "", dist.Uniform(low, high)) for name, low, high in ends))


CRESCENT = _uniform(("first", -1.0, 1.0), ("second", -1.0, 1.0))
NOISE, RADIUS, ROUND = 0.05, 0.3, 0.1


def _centre(theta: Array, angle: Array) -> Array:
    along, across = (theta[0] + theta[1]) / math.sqrt(2), (theta[1] - theta[0]) / math.sqrt(2)
    # a root in place of |.|, so that the score has no jump
    return jnp.stack(
        [RADIUS * jnp.cos(angle) - jnp.sqrt(along**2 + ROUND**2), RADIUS * jnp.sin(angle) + across]
    )


def _log_crescent(theta: Array, angle: Array, x: Array) -> Array:
    return -0.5 * jnp.sum((x - _centre(theta, angle)) ** 2) / NOISE**2


def crescent(key: PRNGKeyArray, n: int):
    """Two moons with smooth ends; the angle is the latent."""
    key_theta, key_angle, key_x = jax.random.split(key, 3)
    theta = CRESCENT.sample(key_theta, n)
    angle = jax.random.uniform(key_angle, (n,), minval=-math.pi / 2, maxval=math.pi / 2)
    x = jax.vmap(_centre)(theta, angle) + NOISE * jax.random.normal(key_x, (n, 2))
    nodes = math.pi * (jnp.arange(200) + 0.5) / 200 - math.pi / 2

    def summed(theta, x):
        return jax.nn.logsumexp(jax.vmap(_log_crescent, (None, 0, None))(theta, nodes, x))

    latent = jax.vmap(jax.grad(_log_crescent))(theta, angle, x)
    return theta, x, {"latents": latent, "mean over latents": jax.vmap(jax.grad(summed))(theta, x)}


COUNTS = _uniform(("energy_kev", 2.0, 20.0), ("charge_share", 0.3, 0.7))
# round numbers of a xenon chamber: quanta a keV, detection, charge of a photon and of an electron [PE]
PER_KEV, G1, SURVIVAL, SPE_WIDTH, GAIN = 73.0, 0.15, 0.9, 0.4, 30.0


def _quanta(theta: Array) -> Array:
    quanta = PER_KEV * theta[0]
    return jnp.stack([quanta * (1 - theta[1]), quanta * theta[1]])


def counts(key: PRNGKeyArray, n: int):
    """Poisson photons and electrons, of which binomial parts are seen."""
    keys = jax.random.split(key, 4)
    theta = COUNTS.sample(keys[0], n)
    mean = jax.vmap(_quanta)(theta)
    share = jnp.array([G1, SURVIVAL])
    made = jax.random.poisson(keys[1], mean).astype(float)
    seen = jax.random.binomial(keys[2], made, share)
    spread = jnp.array([SPE_WIDTH, 0.3]) * jnp.sqrt(seen)
    area = jnp.maximum(seen + spread * jax.random.normal(keys[3], (n, 2)), 0.1) * jnp.array([1.0, GAIN])

    def score(excess):
        """Of Poisson counts: (N / m - 1) dm / dtheta."""
        return jax.vmap(lambda theta, part: jax.vjp(_quanta, theta)[1](part)[0])(theta, excess / mean)

    # of a binomial part n the mean of N is n + (1 - p) m
    return (
        theta,
        jnp.log(area),
        {
            "latents": score(made - mean),
            "mean over latents": score(seen - share * mean),
        },
    )


AREAS = _uniform(("energy_kev", 2.0, 15.0))


def areas(key: PRNGKeyArray, n: int):
    """S1, S2 and drift time of electron recoils all over XENONnT's depth; the exact score."""
    detector = dmsim.load_detector("xenonnt")
    key_theta, key_z, key_x = jax.random.split(key, 3)
    theta = AREAS.sample(key_theta, n)
    z = np.asarray(jax.random.uniform(key_z, (n,), minval=-1300.0, maxval=-100.0))
    none = np.zeros(n)
    events = own_deposits(
        detector,
        interaction="er_beta",
        energy_kev=np.asarray(theta[:, 0]),
        x_mm=none + 200,
        y_mm=none - 100,
        z_mm=z,
        time_ns=none,
    )
    seen = dmsim.simulate_areas(key_x, detector, events)
    data, n_skew = data_of(detector, seen), skew_nodes(detector)
    kinds = (Interaction.named("er_beta"),)

    def total(energy):
        moved = replace(events, energy_kev=energy)
        return jnp.sum(log_likelihood(detector, moved, data, interactions=kinds, n_skew=n_skew))

    exact = jax.jit(jax.grad(total))(events.energy_kev)[:, None]
    x = jnp.stack([jnp.log(seen.s1_pe + 1), jnp.log(seen.s2_pe + 1), seen.drift_time_ns * 1e-6], axis=-1)
    return theta, x, {"mean over latents": exact}


PROBLEMS = {"crescent": Problem(CRESCENT, crescent), "counts": Problem(COUNTS, counts)}
PROBLEMS["areas"] = Problem(AREAS, areas)


class Again(eqx.Module):
    """Draws, with replacement, from the first `n` of a set; sizes are numbers, so that none compiles anew."""

    theta: Array
    x: Array
    score: Array | None
    n: Array

    def __call__(self, key: PRNGKeyArray, n: int):
        """A batch."""
        chosen = jax.random.randint(key, (n,), 0, self.n)
        return tuple(part[chosen] for part in (self.theta, self.x, self.score) if part is not None)


def study(name: str, seed: int, sizes: tuple[int, ...], weight: float, n_steps: int) -> list[dict[str, Any]]:
    """Rows of one problem and seed."""
    problem, most = PROBLEMS[name], max(sizes)
    theta, x, scores = problem.draw(jax.random.key(seed), most + N_TEST)
    rows = []
    for variant, score in {"none": None, **scores}.items():
        held = inference.Cached(*jax.tree.map(lambda part: np.asarray(part[most:]), (theta, x, score)))
        for n in sizes:
            source = Again(*jax.tree.map(lambda part: part[:most], (theta, x, score)), n=jnp.asarray(n))
            budget = inference.Budget(
                n_steps * BATCH,
                batch_size=BATCH,
                epoch_steps=100,
                peak_rate=RATE,
                averaging=0.99,
                joint_score=0.0 if score is None else weight,
            )
            cpu: list[float] = []
            fit = inference.NPE(problem.prior, flow=FLOW).fit(
                jax.random.key(seed),
                source,
                budget,
                validation=held,
                after_epoch=lambda _, cpu=cpu: cpu.append(time.process_time()),
            )
            rows.append(
                {
                    "problem": name,
                    "seed": seed,
                    "score": variant,
                    "n": n,
                    "nll": min(fit.history.validation),
                    "ms_a_step": 1e3 * (cpu[-1] - cpu[0]) / (100 * (len(cpu) - 1)),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def needed(sizes: list[int], losses: list[float], wanted: float) -> float:
    """Simulations at which the loss is the wanted one: straight lines in log n; infinite if it never is."""
    best = np.minimum.accumulate(losses)
    if wanted < best[-1]:
        return math.inf
    if wanted >= best[0]:
        return float(sizes[0])
    return float(np.exp(np.interp(-wanted, -best, np.log(sizes))))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: loss at each size, and how many times fewer simulations give what a size gives without."""
    sizes = sorted({row["n"] for row in rows})
    inner = sizes[1:-1]
    heads = [*(f"NLL at {n}" for n in sizes), *(f"{n} / needed" for n in inner), "CPU a step"]
    lines = [f"| simulator | score | {' | '.join(heads)} |", "|---|---" + "|---:" * len(heads) + "|"]
    for name in dict.fromkeys(row["problem"] for row in rows):
        here = [row for row in rows if row["problem"] == name]
        seeds = sorted({row["seed"] for row in here})

        def losses(seed, variant, here=here):
            found = {r["n"]: r["nll"] for r in here if (r["seed"], r["score"]) == (seed, variant)}
            return [found[n] for n in sizes]

        plain = np.mean([r["ms_a_step"] for r in here if r["score"] == "none"])
        for variant in dict.fromkeys(row["score"] for row in here):
            each = np.array([losses(seed, variant) for seed in seeds])
            cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(each.mean(axis=0), each.std(axis=0), strict=True)]
            for i, n in enumerate(inner, 1):
                wanted = [needed(sizes, losses(s, variant), losses(s, "none")[i]) for s in seeds]
                # the smallest size may do already
                gains = [f"{'> ' * (m <= sizes[0])}{n / m:.2f}" for m in wanted]
                cells.append("" if variant == "none" else ", ".join(gains))
            cells.append(f"{np.mean([r['ms_a_step'] for r in here if r['score'] == variant]) / plain:.2f}")
            lines.append(f"| {name} | {variant} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Print a line of JSON a fit, and the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    options.add_argument("--steps", type=int, default=N_STEPS)
    options.add_argument("--weight", type=float, default=1.0)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    rows: list[dict[str, Any]] = []
    for name in given.problems:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            rows += study(name, seed, tuple(given.sizes), given.weight, given.steps)
            if given.out:
                given.out.write_text(json.dumps(rows))
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
