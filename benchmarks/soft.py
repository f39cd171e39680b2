"""Cost of the soft reading: value and gradient over the forward run, in CPU-seconds.

    python benchmarks/soft.py

`clustering`: expectations of 100,000 hits, gradient in times, areas and threshold. `chain`: records of a few
simulated events on a fixed plan, gradient in every sample and every float of the settings. Prints a Markdown
table.
"""

import argparse
import sys

import jax
import jax.numpy as jnp
import numpy as np
from timing import measure

import dmsim
from dmsim.reconstruction import Settings, soft

N_HITS = 100_000
MUST = 6.0


def clustering():
    """Forward, and value and gradient, of a loss on expected clusters."""
    random = np.random.default_rng(1)
    time = jnp.asarray(np.cumsum(random.exponential(400.0, N_HITS)), jnp.float32)
    area = jnp.asarray(random.uniform(0.5, 2.0, N_HITS), jnp.float32)

    def loss(time, area, threshold):
        expected = soft.cluster_expectations(time, area, threshold)
        return expected.number + jnp.sqrt(expected.sum_of_squared_areas) + jnp.mean(expected.area_of_cluster)

    at = (time, area, jnp.asarray(700.0))
    return jax.jit(loss), jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))), at


def chain(n_events: int):
    """The same of the mean S1, S2, drift time and numbers of the events."""
    detector = dmsim.load_detector("xenonnt").without("all")
    key = jax.random.key(3)
    deposits = dmsim.sources.mono(key, detector, n_events=n_events, energy_kev=3.0, interaction="er_beta")
    records = dmsim.simulate_records(key, detector, deposits)
    settings = Settings().resolved(detector)
    plan = soft.plan(detector, records, settings=settings)
    places = soft.places_of(plan, detector, records.data, settings=settings)

    def loss(data, settings):
        peaks, events = soft.evaluate(plan, detector, data, settings=settings, places=places)
        found = jnp.nan_to_num(events.s1_pe + events.s2_pe + 1e-3 * events.drift_time_ns)
        return jnp.sum(found) + jnp.sum(peaks.probability * peaks.area_pe) + jnp.sum(events.n_s1)

    at = (jnp.asarray(records.data), settings)
    return jax.jit(loss), jax.jit(jax.value_and_grad(loss, argnums=(0, 1))), at


def main() -> int:
    """Measure both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=3, help="of the chain (3)")
    events = parser.parse_args().events
    rows = ["| workload | forward [ms] | value and gradient [ms] | ratio | must |", "|---|---|---|---|---|"]
    worst = 0.0
    for name, (forward, both, at) in (
        (f"clustering, {N_HITS:,} hits", clustering()),
        (f"chain, {events} events", chain(events)),
    ):
        one, two = (
            measure(lambda f=f, at=at: jax.block_until_ready(f(*at)), min_cpu_s=1.0)["cpu_s"]
            for f in (forward, both)
        )
        worst = max(worst, two / one)
        rows.append(f"| {name} | {one * 1e3:.1f} | {two * 1e3:.1f} | {two / one:.1f} | {MUST:g} |")
    sys.stdout.write("\n".join(rows) + "\n")
    return 0 if worst <= MUST else 1


if __name__ == "__main__":
    sys.exit(main())
