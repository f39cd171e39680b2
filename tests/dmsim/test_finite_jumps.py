"""Finite jumps against closed forms, and through the areas level where S1 must reach a threshold.

False positives: 4.9 standard errors, 1e-6 a comparison, 5 comparisons, fixed seeds.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import batches, relax, rng
from dmsim.finite_jumps import derivative
from dmsim.pipeline import levels
from dmsim.records import Interaction

SIGMAS = 4.9
N = 60_000
KEYS = rng.fold(rng.words_of(jax.random.key(11)), jnp.arange(N))


def two_counts(parameters):
    """Whether at least 3 of Poisson(mean) photons are seen, each with probability p."""
    mean, p = parameters
    u, v = rng.uniform_pair(KEYS, 0, 0, dtype=jnp.float32)
    photons = relax.poisson(u, jnp.full(N, mean))
    return (relax.binomial(v, photons, p) >= 3).astype(jnp.float32)


def test_a_threshold_on_a_count_has_the_derivative_of_its_probability():
    point = (jnp.float32(9.0), jnp.float32(0.3))
    for direction, exact in (
        ((9.0, 0.0), 2.7 * stats.poisson.pmf(2, 2.7)),
        ((0.0, 0.3), 2.7 * stats.poisson.pmf(2, 2.7)),
    ):
        tangent = tuple(jnp.float32(x) for x in direction)
        found = derivative(two_counts, point, tangent, event=jnp.arange(N), n_events=N)
        total = np.asarray(found.total, np.float64)
        error = total.std() / np.sqrt(N)
        assert abs(total.mean() - exact) < SIGMAS * error
        assert abs(1.1 * total.mean() - exact) > SIGMAS * error  # ten per cent off is refused
        assert not np.asarray(found.pathwise).any()


def test_several_deposits_of_an_event_jump_in_turn():
    n_events = N // 3
    event = jnp.arange(N) // 3

    def product(p):
        u, _ = rng.uniform_pair(KEYS, 0, 0, dtype=jnp.float32)
        counts = relax.binomial(u, jnp.full(N, 4.0), p)
        return jnp.exp(jax.ops.segment_sum(jnp.log1p(counts), event, num_segments=n_events))

    p = 0.3
    found = derivative(product, jnp.float32(p), jnp.float32(1.0), event=event, n_events=n_events)
    total = np.asarray(found.total, np.float64)
    exact = 3 * (1 + 4 * p) ** 2 * 4  # the mean of the product is that of (1 + count), cubed
    assert abs(total.mean() - exact) < SIGMAS * total.std() / np.sqrt(n_events)


def test_through_the_areas_level_at_three_photoelectrons():
    detector = dmsim.load_detector("xenonnt")
    n, step = 20_000, 0.02
    key = jax.random.key(3)
    deposits = batches.padded(dmsim.sources.mono(key, detector, n_events=n, energy_kev=4.0, interaction="nr"))

    def found_s1(g1):
        ours = replace(detector, light=replace(detector.light, g1_phd_per_photon=g1))
        words = rng.words_of(key)
        quanta = levels._jitted_quanta.__wrapped__(words, ours, deposits, (Interaction.NR,))
        areas = levels._areas.__wrapped__(words, ours, deposits, quanta, detector)
        return jax.nn.sigmoid((areas.s1_pe - 3.0) / 0.2)

    g1 = detector.light.g1_phd_per_photon
    found = derivative(found_s1, g1, g1, event=deposits.event, n_events=n)
    total = np.asarray(found.total, np.float64)
    compiled = jax.jit(found_s1)
    reference = np.asarray(compiled(g1 * (1 + step)) - compiled(g1 * (1 - step)), np.float64) / (2 * step)
    error = np.hypot(total.std(), reference.std()) / np.sqrt(n)
    assert abs(total.mean() - reference.mean()) < SIGMAS * error
    assert abs(1.2 * total.mean() - reference.mean()) > SIGMAS * error


def test_a_draw_that_is_not_one_a_deposit_is_named():
    def evaluate(p):
        return relax.binomial(jnp.full((2, 3), 0.5), 4.0, p).sum(axis=1)

    with pytest.raises(ValueError, match="one count a deposit"):
        derivative(evaluate, jnp.float32(0.5), jnp.float32(1.0), event=jnp.arange(2), n_events=2)
