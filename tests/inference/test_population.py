"""Populations: tables against drawn areas, gradients against differences, densities against bins, a fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import dmsim
from dmsim import sources
from inference.likelihood.population import Component, Population, binned, draw_events, unbinned
from inference.likelihood.population_data import EventSet, Window, event_set, read_events
from inference.likelihood.population_response import Bins, Pairing, Points, Response
from inference.parameters import FreeParameters
from inference.population.fit import find_mode

pytestmark = pytest.mark.quick_compile

N_EVENTS = 4096
NAMES = ["g1", "se_gain", "recombination", "work_function"]
WINDOW = Window.of((3, 90), (200, 8000), (8, 12))
SOURCE = {"energy_max_kev": 20.0, "r_max_mm": 600.0}


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("xenonnt")


@pytest.fixture(scope="module")
def response(detector):
    deposits = sources.er_flat(jax.random.key(1), detector, n_events=N_EVENTS, **SOURCE)
    return Response.of(jax.random.key(2), detector, deposits)


@pytest.fixture(scope="module")
def free(detector):
    return FreeParameters.of(detector, NAMES)


@pytest.fixture(scope="module")
def table():
    return eqx.filter_jit(lambda response, detector: response(detector, Bins(WINDOW)))


def areas_of(detector, n, *, calibration=None):
    deposits = sources.er_flat(jax.random.key(3), detector, n_events=n, **SOURCE)
    return dmsim.simulate_areas(jax.random.key(4), detector, deposits, calibration=calibration)


def test_table_is_that_of_drawn_areas(detector, response, table):
    n = 30_000
    expected = np.asarray(table(response, detector)) * n

    def chi2(areas):
        edges = [np.asarray(WINDOW.cs1_edges), np.asarray(WINDOW.log_cs2_edges)]
        y = np.log10(np.maximum(np.asarray(areas.cs2_pe), 1e-3))
        seen = np.histogram2d(
            np.asarray(areas.cs1_pe), y, bins=edges, weights=np.asarray(areas.s1_acceptance)
        )
        many = expected > 20
        # a table scatters no more than a histogram of as many events
        variance = expected * (1 + n / N_EVENTS)
        return np.sum((seen[0] - expected)[many] ** 2 / variance[many]), many.sum()

    # 1e-5 quantile of chi-squared with m degrees of freedom is below m + 6 sqrt(2 m) for these m
    value, m = chi2(areas_of(detector, n))
    assert value < m + 6 * np.sqrt(2 * m)
    # must fail: charge gain a seventh off
    off = eqx.tree_at(
        lambda d: d.electroluminescence.se_gain_phd, detector, detector.electroluminescence.se_gain_phd * 1.15
    )
    value, m = chi2(areas_of(off, n, calibration=detector))
    assert value > m + 6 * np.sqrt(2 * m)


def test_gradient_is_that_of_differences(detector, response, table, free):
    """With common random numbers; only quanta are drawn, whose roundings leave some noise in differences."""
    start = free.pack(detector)

    @eqx.filter_jit
    def along(response, direction):
        return jax.jvp(lambda v: table(response, free.unpack(v, detector)), (start,), (direction,))

    value, _ = along(response, jnp.eye(len(free))[0])
    scale = np.sqrt(np.maximum(np.asarray(value), 1e-6)).ravel()
    # slope and relative rms, by parameter: photons and electrons are exact given the quanta
    bounds = {"g1": 0.01, "se_gain": 0.01, "recombination": 0.12, "work_function": 0.12}
    for i, name in enumerate(free.names):
        step = 0.1 * jnp.eye(len(free))[i]
        _, gradient = along(response, jnp.eye(len(free))[i])
        up, down = (np.asarray(table(response, free.unpack(start + s, detector))) for s in (step, -step))
        difference = ((up - down) / 0.2).ravel() / scale
        gradient = np.asarray(gradient).ravel() / scale
        assert gradient @ difference / (difference @ difference) == pytest.approx(1, abs=bounds[name])
        assert np.linalg.norm(gradient - difference) < 2 * bounds[name] * np.linalg.norm(difference)


def test_density_integrates_to_bins(detector, response, table):
    expected = np.asarray(table(response, detector))
    i, j = np.unravel_index(np.argmax(expected), expected.shape)
    s1 = np.linspace(*WINDOW.cs1_edges[i : i + 2], 41)
    y = np.linspace(*WINDOW.log_cs2_edges[j : j + 2], 41)
    grid = np.meshgrid((s1[1:] + s1[:-1]) / 2, (y[1:] + y[:-1]) / 2, indexing="ij")
    points = Points.of(grid[0].ravel(), grid[1].ravel())
    density = eqx.filter_jit(lambda r, d: r(d, points))(response, detector)
    integral = float(density.mean()) * (s1[-1] - s1[0]) * (y[-1] - y[0])
    assert integral == pytest.approx(expected[i, j], rel=2e-3)


@pytest.fixture(scope="module")
def population(detector, response, free):
    rate = dist.TruncatedNormal(3000.0, 1000.0, low=0.0)
    return Population((Component.of("er", response, rate),), detector, free, WINDOW)


def test_mode_recovers_what_was_simulated(detector, population):
    true = eqx.tree_at(
        lambda d: (d.light.g1_phd_per_photon, d.electroluminescence.se_gain_phd),
        detector,
        (detector.light.g1_phd_per_photon * 1.05, detector.electroluminescence.se_gain_phd * 0.9),
    )
    areas = areas_of(true, 3000, calibration=detector)
    kept = np.random.default_rng(5).random(3000) < np.asarray(areas.s1_acceptance)
    events = event_set(np.asarray(areas.cs1_pe)[kept], np.asarray(areas.cs2_pe)[kept])
    likelihood = binned(population, events)
    mode, covariance, found = find_mode(likelihood, on_progress=lambda *_: None)
    assert found
    truth = [p.start for p in population.parameters]
    truth[0], truth[1] = truth[0] * 1.05, truth[1] * 0.9
    at = [float(p.transform.inv(jnp.asarray(v))) for p, v in zip(population.parameters, truth, strict=True)]

    def distance(vector):
        off = np.asarray(mode, float) - np.asarray(vector, float)
        return off @ np.linalg.solve(np.asarray(covariance, float), off)

    # 36 is the 1e-6 quantile of chi-squared with 5 degrees of freedom; the model's own scatter adds to the
    # data's at most as if it were a histogram: 1 + 1300 / 1800
    assert distance(at) < 36 * 1.7
    assert distance(population.start()) > 36 * 1.7  # must fail: as if the detector had not been changed


def test_unbinned_sees_what_binned_sees(population):
    """Differences of log likelihoods between two rates: the same when only the rate moves."""
    events = EventSet(np.asarray([10.0, 20.0, 40.0, 41.0]), np.asarray([900.0, 1500.0, 2500.0, 2400.0]))
    vector = population.start()
    shifted = vector.at[-1].add(0.5)
    one, two = (make(population, events) for make in (binned, unbinned))

    @eqx.filter_jit
    def difference(likelihood):
        leaves, rates = population.split(vector)
        prediction = likelihood.predict(leaves)
        other = population.split(shifted)[1]
        return likelihood.log_likelihood(prediction, other) - likelihood.log_likelihood(prediction, rates)

    assert float(difference(one)) == pytest.approx(float(difference(two)), rel=1e-3)


def test_pairing_is_a_product(detector):
    lone = [
        Response.of(jax.random.key(i), detector, source(jax.random.key(i), detector, n_events=512))
        for i, source in ((8, sources.isolated_s1), (9, sources.isolated_s2))
    ]
    value = np.asarray(eqx.filter_jit(lambda p, d: p(d, Bins(WINDOW)))(Pairing(*lone), detector))
    assert np.linalg.matrix_rank(value, tol=1e-6 * value.max()) == 1
    assert 0 < value.sum() < 1


def test_toys_have_the_expected_counts():
    tables = np.full((2, 3, 4), 1 / 24)
    drawn = draw_events(np.random.default_rng(0), tables, [4000.0, 8000.0])
    # 12 bins of mean 500: the sum is 6000 +- 77; 5 standard deviations, 6e-7
    assert abs(drawn.sum() - 6000) < 5 * np.sqrt(6000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: event_set(np.ones(3), np.ones(4)), "one number an event"),
        (lambda: event_set(np.asarray([1.0, -2.0]), np.ones(2)), "cs1_pe is -2 PE in row 1"),
        (lambda: event_set(np.ones(2), np.asarray([np.inf, 1.0])), "cs2_pe is inf PE"),
        (lambda: event_set(np.asarray([np.nan]), np.ones(1)), "none of 1 events has both"),
        (lambda: Window.of((5, 5), (100, 1000), (2, 2)), "is empty"),
        (lambda: Window((0.0, 0.0), (1.0, 2.0)), "ascending"),
        (lambda: read_events("/no/such/folder"), "no such file or folder"),
        (lambda: Component.of("x", None, dist.Normal(1.0, 1.0)), "negative rate"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_one_message(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_events_without_a_signal_are_counted():
    events = event_set(np.asarray([10.0, np.nan, 0.0, 30.0]), np.asarray([1e3, 1e3, 1e3, np.nan]))
    assert len(events) == 1
    assert events.n_without == 3


def test_no_event_in_the_window(population):
    with pytest.raises(ValueError, match="none of 1 events is inside of the window"):
        binned(population, EventSet(np.asarray([500.0]), np.asarray([1e3])))


def test_several_deposits_are_refused(detector):
    deposits = sources.rn220(jax.random.key(1), detector, n_events=4)
    with pytest.raises(ValueError, match="single deposits"):
        Response.of(jax.random.key(2), detector, deposits)
