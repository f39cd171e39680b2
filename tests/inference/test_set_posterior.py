"""Sets of events for an amortized posterior: as the likelihood expects them, nothing lost unseen."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import dmsim
from dmsim import sources
from inference import Budget, Cached
from inference.embeddings import EventSet as DeepSets
from inference.embeddings import SetMeans
from inference.estimators import NPE
from inference.flows import Coupling
from inference.likelihood.population import Component, Population
from inference.likelihood.population_data import EventSet, Window
from inference.likelihood.population_response import Bins, Response
from inference.parameters import FreeParameters, set_leaf
from inference.population.amortized import fit_set_posterior, set_embedding
from inference.population.features import EventFeatures, event_features, signed
from inference.population.sets import EVENTS, VALID, SetSimulator

pytestmark = pytest.mark.quick_compile

WINDOW = Window.of((3, 90), (200, 8000), (4, 4))
N_SETS = 640


@pytest.fixture(scope="module")
def simulator():
    detector = dmsim.load_detector("xenonnt")
    deposits = sources.er_flat(
        jax.random.key(1), detector, n_events=2048, energy_max_kev=15.0, r_max_mm=600.0
    )
    response = Response.of(jax.random.key(2), detector, deposits)
    # so narrow that all sets are nearly of one truth
    rate = dist.TruncatedNormal(30.0, 3.0, low=0.0)
    free = FreeParameters.of(detector, ["se_gain"], relative_widths={"se_gain": 0.01})
    return SetSimulator.of(
        Population((Component.of("er", response, rate),), detector, free, WINDOW), n_places=24
    )


@pytest.fixture(scope="module")
def drawn(simulator):
    theta, sets = jax.jit(lambda key: simulator.draw(key, N_SETS))(jax.random.key(3))
    return np.asarray(theta), jax.tree.map(np.asarray, sets)


@pytest.fixture(scope="module")
def expected(simulator):
    population = simulator.population
    table = jax.jit(lambda: population.tables(population.detector)[0])()
    return np.asarray(table)


def test_sets_are_as_the_likelihood_expects(drawn, expected):
    theta, sets = drawn
    mean = theta[:, 1].sum() * expected
    events = sets.events[sets.valid]
    edges = np.asarray(WINDOW.cs1_edges), np.asarray(WINDOW.log_cs2_edges)

    def chi2(cs1, log_cs2):
        seen = np.histogram2d(cs1, log_cs2, bins=edges)[0]
        many = mean > 20
        # the deposits are common to both; quanta of the table's 2048 scatter as well
        variance = mean * (1 + theta[:, 1].sum() / 2048)
        return np.sum((seen - mean)[many] ** 2 / variance[many]), many.sum()

    value, m = chi2(*events.T)
    # 1e-5 quantile of chi-squared with m degrees of freedom is below m + 6 sqrt(2 m) for these m
    assert value < m + 6 * np.sqrt(2 * m)
    value, m = chi2(events[:, 0], events[:, 1] + np.log10(1.15))  # must fail: a gain a seventh off
    assert value > m + 6 * np.sqrt(2 * m)


def test_numbers_scatter_as_poisson_and_the_lost_are_counted(simulator, drawn, expected):
    theta, sets = drawn
    kept = sets.valid.sum(axis=1)
    number = kept + sets.n_lost  # nothing is lost before the window here
    mean = theta[:, 1] * expected.sum()
    # mean of squared pulls of 640 Poisson numbers: 1 +- 0.056; 4.4 standard deviations, 1e-5
    assert abs(np.mean((number - mean) ** 2 / mean) - 1) < 0.25
    assert kept.max() == simulator.n_places
    assert sets.n_lost.sum() > 0
    assert np.all((sets.n_lost > 0) <= (kept == simulator.n_places))
    # events come first, empty places are zero
    assert np.all(np.diff(sets.valid.astype(int), axis=1) <= 0)
    assert not sets.events[~sets.valid].any()
    # must fail: the numbers of cut sets do not scatter as Poisson's when a margin is missing
    tight = np.minimum(number, int(mean.mean()))
    assert abs(np.mean((tight - mean) ** 2 / mean) - 1) > 0.25


def test_features_hold_the_likelihood_of_an_event(simulator):
    """Log densities at a gain that made no table follow from two functions; without them they do not."""
    population, detector = simulator.population, simulator.population.detector
    features = event_features(jax.random.key(4), population, n_features=2, n_draws=12, n_bins=(6, 8))
    path = population.free.parameters[0].path
    gains = [1.0, 1.02]  # two standard deviations of the prior
    start = population.free.parameters[0].start
    response, bins = population.components[0].response, Bins(features.window)
    table = jax.jit(lambda gain: response(set_leaf(detector, path, start * gain), bins))
    low, high = (np.asarray(table(gain), float).reshape(-1) for gain in gains)
    many = low > 1e-3
    weight = low[many] / low[many].sum()
    ratio = np.log(high[many] / low[many])
    edges = [np.asarray(e) for e in (features.window.cs1_edges, features.window.log_cs2_edges)]
    middles = np.stack(np.meshgrid(*((e[1:] + e[:-1]) / 2 for e in edges), indexing="ij"), axis=-1)
    at = np.asarray(features(jnp.asarray(middles.reshape(-1, 2), jnp.float32)))[many]

    def left(functions):
        root = np.sqrt(weight)[:, None]
        solved = np.linalg.lstsq(root * functions, root[:, 0] * ratio, rcond=None)[0]
        return np.sqrt(weight @ (ratio - functions @ solved) ** 2)

    one = np.ones((len(at), 1))
    assert left(np.concatenate([one, at], axis=1)) < 0.1 * left(one)
    # a network trained on the one is wrong with the other
    assert features.sha256 != eqx.tree_at(lambda f: f.table, features, -features.table).sha256
    with pytest.raises(ValueError, match="n_features is 12, n_draws 12"):
        event_features(jax.random.key(4), population, n_features=12, n_draws=12)
    with pytest.raises(ValueError, match="together n_features or more"):
        event_features(jax.random.key(4), population, n_features=5, n_bins=(2, 2))


def test_signs_of_features_are_fixed():
    given = np.asarray([[0.6, -0.8], [0.8, 0.6], [-1.0, 0.0]])
    expected = [[-0.6, 0.8], [0.8, 0.6], [1.0, 0.0]]
    for sign in (1, -1):
        np.testing.assert_array_equal(signed(sign * given), expected)


def test_features_are_interpolated_between_bins():
    """A bilinear function of both coordinates comes out as it is, but at the rim, where it stays the same."""
    s1, s2 = (np.asarray(e) for e in (WINDOW.cs1_edges, WINDOW.log_cs2_edges))

    def function(x, y):
        return np.stack([x - 40 * y, (x - 50) * (y - 3)], axis=-1)

    middles = [(e[1:] + e[:-1]) / 2 for e in (s1, s2)]
    table = function(*np.meshgrid(*middles, indexing="ij"))
    features = EventFeatures(WINDOW, jnp.asarray(table, jnp.float32), np.zeros(2))
    low, high = np.asarray([(m[0], m[-1]) for m in middles]).T
    at = np.random.default_rng(1).uniform(low, high, size=(50, 2))
    seen = np.asarray(features(jnp.asarray(at, jnp.float32)))
    np.testing.assert_allclose(seen, function(*at.T), atol=1e-3)  # of numbers up to 100
    # must fail: the nearest middle instead
    nearest = np.stack([m[np.abs(a[:, None] - m).argmin(1)] for a, m in zip(at.T, middles, strict=True)])
    assert np.abs(seen - function(*nearest)).max() > 1
    rim = jnp.asarray([[s1[0], s2[-1]]], jnp.float32)
    np.testing.assert_allclose(features(rim)[0], table[0, -1], rtol=1e-5)


def test_places_follow_from_the_prior(simulator):
    free = SetSimulator.of(simulator.population)
    # 30 +- 3 events before any selection: 4096 draws reach about 41, and 5 roots more
    assert 64 <= free.n_deposits[0] <= 80
    assert 32 <= free.n_places <= free.n_deposits[0]
    with pytest.raises(ValueError, match="n_places is 0"):
        SetSimulator.of(simulator.population, n_places=0)


def test_measured_events_are_padded_or_refused(simulator):
    events = EventSet(np.asarray([10.0, 20.0, 500.0]), np.asarray([900.0, 1500.0, 1500.0]))
    x = simulator.padded(events)
    assert x[EVENTS].shape == (24, 2)
    assert x[VALID].sum() == 2  # one is outside of the window
    np.testing.assert_allclose(x[EVENTS][0], [10.0, np.log10(900.0)], rtol=1e-6)
    with pytest.raises(
        ValueError, match="25 events are inside of the window: this set posterior takes 1 to 24"
    ):
        simulator.padded(EventSet(np.full(25, 10.0), np.full(25, 900.0)))
    with pytest.raises(ValueError, match="0 events are inside"):
        simulator.padded(EventSet(np.asarray([500.0]), np.asarray([900.0])))


def test_features_of_events_are_beside_their_coordinates(simulator):
    featured = SetSimulator(
        simulator.population, simulator.n_deposits, simulator.n_places, lambda events: events[:, :1] + 1.0
    )
    assert (simulator.n_features, featured.n_features) == (0, 1)
    events = EventSet(np.asarray([10.0, 20.0]), np.asarray([900.0, 1500.0]))
    plain, x = simulator.padded(events), featured.padded(events)
    np.testing.assert_array_equal(x[EVENTS][:, :2], plain[EVENTS])
    np.testing.assert_allclose(x[EVENTS][:2, 2], [11.0, 21.0])
    assert not x[EVENTS][2:].any()  # empty places, though the feature of zeros is 1
    sets = jax.eval_shape(lambda key: featured(key, 3)[1], jax.random.key(10))
    assert sets[EVENTS].shape == (3, 24, 3)
    centre, scale = (getattr(set_embedding(featured, kind=SetMeans), name) for name in ("centre", "scale"))
    assert (len(centre), centre[2], scale[2]) == (3, 0.0, 1.0)


def test_a_posterior_takes_drawn_and_measured_sets(simulator, drawn):
    """A few steps on a drawn set; draws for a measured one lie in the prior's support."""
    theta, sets = drawn
    cached = Cached(theta, {EVENTS: sets.events, VALID: sets.valid})
    embedding = set_embedding(simulator, kind=DeepSets, width=8, depth=1, n_out=4)
    npe = NPE(simulator.prior, embedding, Coupling(n_layers=1, width=8, n_blocks=1))
    budget = Budget(N_SETS, n_passes=4, batch_size=64, n_validation=64, peak_rate=1e-2)
    post = npe.fit(jax.random.key(5), cached, budget).posterior
    x = simulator.padded(EventSet(np.full(5, 10.0), np.full(5, 900.0)))
    draws = post.sample(jax.random.key(6), x, 64)
    assert draws.shape == (64, 2)
    assert bool(jnp.all(simulator.prior.inside(draws)))


@pytest.mark.slow  # 60 CPU-s, most of them to compile the simulation into four programs
def test_training_simulates_its_sets(simulator):
    budget = Budget(128, batch_size=16, n_validation=32)
    found = fit_set_posterior(jax.random.key(7), simulator, budget)
    assert simulator.overflow(jax.random.key(9), 64).n_short > 0  # 24 places are too few on purpose
    x = simulator.padded(EventSet(np.full(5, 10.0), np.full(5, 900.0)))
    assert found.posterior.sample(jax.random.key(8), x, 8).shape == (8, 2)
