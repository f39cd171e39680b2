"""CPU time an event of the event likelihood with its gradient, and of its Fisher information, in XENONnT.

Run it with `python -m benchmarks.event_likelihood`.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import time

import equinox as eqx
import jax
import jax.numpy as jnp

import dmsim
from dmsim.records import Interaction
from inference.likelihood.event import (
    EventParameters,
    event_data,
    expected_starts,
    fisher_information,
    log_likelihood,
)
from inference.likelihood.event_data import choose_windows

N_EVENTS, REPEATS = 32, 60


def cpu_us(function, *arguments) -> tuple[float, float]:
    """CPU-us an event of a call of N_EVENTS events, and CPU-s of its compilation."""
    begin = time.process_time()
    jax.block_until_ready(function(*arguments))
    compiled = time.process_time()
    for _ in range(REPEATS):
        jax.block_until_ready(function(*arguments))
    return (time.process_time() - compiled) / REPEATS / N_EVENTS * 1e6, compiled - begin


def main() -> None:
    """Print the table."""
    detector = dmsim.load_detector("xenonnt").without("all")
    place = jnp.linspace(-1.0, 1.0, N_EVENTS)
    guesses = EventParameters(
        energy_kev=jnp.full(N_EVENTS, 10.0),
        x_mm=300 * place,
        y_mm=200 * place**2,
        z_mm=-700 + 600 * place,
        time_ns=jnp.full(N_EVENTS, 100.0),
        interaction=Interaction.ER_BETA,
    )
    windows = choose_windows(detector, guesses)

    def made(guess):
        starts = expected_starts(detector, guess, windows)
        return event_data_of_expectation(detector, guess, windows, starts)

    data = eqx.filter_jit(jax.vmap(made))(guesses)
    value = eqx.filter_jit(jax.vmap(lambda p, d: log_likelihood(detector, p, d)))
    both = eqx.filter_jit(jax.vmap(jax.value_and_grad(lambda p, d: log_likelihood(detector, p, d))))
    fisher = eqx.filter_jit(jax.vmap(lambda p: fisher_information(detector, p, windows=windows)))
    print(f"{N_EVENTS} events at once, {detector.light.sensors.n_sensors} sensors, windows {windows}")
    for name, function, arguments in (
        ("log-likelihood", value, (guesses, data)),
        ("log-likelihood and gradient", both, (guesses, data)),
        ("Fisher information", fisher, (guesses,)),
    ):
        each, compilation = cpu_us(function, *arguments)
        print(f"{name:30s} {each:8.0f} CPU-us an event   compiled in {compilation:.1f} CPU-s")


def event_data_of_expectation(detector, guess, windows, starts):
    """Data equal to the expectation."""
    n, n_1, n_2 = detector.light.sensors.n_sensors, windows.s1.n_samples, windows.s2.n_samples
    empty = event_data(
        detector,
        guess,
        windows=windows,
        starts=starts,
        s1_sensor_pe=jnp.zeros(n),
        s1_sample_pe=jnp.zeros(n_1),
        s2_sensor_pe=jnp.zeros(n),
        s2_sample_pe=jnp.zeros(n_2),
    )
    there = empty.reference
    seen = (
        there.s1.pe * jnp.exp(there.s1.log_sensor),
        there.s1.pe * jnp.exp(there.s1.log_sample),
        there.s2.pe * jnp.exp(there.s2.log_sensor),
        there.s2.pe * jnp.exp(there.s2.log_sample),
    )
    return eqx.tree_at(
        lambda d: (d.s1_sensor_pe, d.s1_sample_pe, d.s2_sensor_pe, d.s2_sample_pe), empty, seen
    )


if __name__ == "__main__":
    main()
