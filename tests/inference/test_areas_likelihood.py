"""The likelihood of areas, drift time and place is that of `simulate_areas`."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import charge
from dmsim.records import Interaction
from dmsim.sources.own import deposits as own_deposits
from inference.likelihood.areas import area_data, data_of, log_likelihood, skew_nodes

pytestmark = pytest.mark.quick_compile

N = 2000


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("xenonnt")


def deposits(detector, n, energy_kev, interaction, z_mm=-700.0):
    x, y, z, time, energy = (np.full(n, value) for value in (200.0, -100.0, z_mm, 0.0, energy_kev))
    return own_deposits(
        detector, interaction=interaction, energy_kev=energy, x_mm=x, y_mm=y, z_mm=z, time_ns=time
    )


def scores(detector, energy_kev, interaction):
    """d log p / d log E, d log p / d x and d log p / d z of simulated events, over their errors.

    At the truth, and at an energy 3 % too high.
    """
    events = deposits(detector, N, energy_kev, interaction)
    areas = dmsim.simulate_areas(jax.random.key(5), detector, events)
    seen = np.asarray(areas.s2_pe) > 0
    data = data_of(detector, areas)
    kinds = (Interaction.named(interaction),)

    def total(moved):
        energy, x, z = moved
        there = replace(
            events,
            energy_kev=events.energy_kev * jnp.exp(energy),
            x_mm=events.x_mm + x,
            z_mm=events.z_mm + z,
        )
        value = log_likelihood(detector, there, data, interactions=kinds, n_skew=skew_nodes(detector))
        return jnp.sum(value)

    slopes = jax.jit(jax.grad(total))
    for energy in (0.0, np.log(1.03)):
        found = np.asarray(slopes(jnp.zeros((3, N)).at[0].set(energy)), float)[:, seen]
        yield found.mean(axis=1) / found.std(axis=1) * np.sqrt(seen.sum())


@pytest.mark.parametrize(
    ("name", "energy_kev", "interaction"), [("xenonnt", 10.0, "er_beta"), ("lz", 40.0, "nr")]
)
def test_scores_average_to_zero(name, energy_kev, interaction):
    """Six means within 4.5 standard errors: false-positive rate 4e-5. Recombination is skewed in lz."""
    at_truth, too_high = scores(dmsim.load_detector(name), energy_kev, interaction)
    assert np.max(np.abs(at_truth)) < 4.5
    assert abs(too_high[0]) > 4.5  # must fail


def test_density_of_s1_and_s2_adds_up_to_one(detector):
    """At 5 keV, where a handful of photons is counted: a sum over a grid of areas to 2 %."""
    s1, s2 = np.linspace(0.25, 40, 160), np.linspace(50, 1500, 140)
    a, b = (each.ravel() for each in np.meshgrid(s1, s2))
    n = len(a)
    way = detector.electrons.drift_time_ns(jnp.asarray(-700.0))
    place = (jnp.full(n, float(way)), jnp.full(n, 200.0), jnp.full(n, -100.0))
    data = area_data(detector, jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32), *place)
    same = deposits(detector, n, 5.0, "nr")
    value = np.asarray(
        jax.jit(lambda: log_likelihood(detector, same, data, interactions=(Interaction.NR,), n_skew=1))()
    )
    gain = 25.554 * 1.219
    # take out the density of place and time at their means

    drift = charge.drift(detector, same)
    electrons = np.maximum(b / gain, 1)
    resolution = detector.resolution
    xy = (float(resolution.xy_mm_sqrt_pe) / np.sqrt(b) + float(resolution.xy_floor_mm)) ** 2
    xy = xy + np.asarray(drift.spread_mm) ** 2 / electrons
    in_time = np.asarray(drift.time_spread_ns) ** 2 / electrons + 1e-4
    value = value + np.log(2 * np.pi * xy) + 0.5 * np.log(2 * np.pi * in_time)
    step = (s1[1] - s1[0]) * (s2[1] - s2[0])
    nothing = float(stats.poisson.pmf(0, 5.0))  # the atom of no photon at all is not on the grid
    assert 1 - 0.02 - nothing < np.sum(np.exp(value)) * step < 1.02


def test_nodes_of_the_skewness_follow_the_field(detector):
    assert skew_nodes(detector) == 1  # 23 V/cm
    assert skew_nodes(dmsim.load_detector("lz")) == 24
