"""Event by event from simulated events to an interval: consistent with bins, and no wider."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import dmsim
from dmsim import sources
from inference.likelihood.population import Component, Population, unbinned
from inference.likelihood.population_data import EventSet, Window, event_set
from inference.likelihood.population_response import Response
from inference.parameters import FreeParameters
from inference.population.intervals import signal_intervals
from inference.population.profile import draw
from inference.population.search import counts_of, search_model

pytestmark = pytest.mark.quick_compile

WINDOW = Window.of((3, 90), (200, 8000), (5, 6))
PLACES = 256  # of events; one compilation for all sets
# expected in the window; the signal has low energies, the background all
RATES = {"signal": 40.0, "background": 120.0}
ENERGIES_KEV = {"signal": 4.0, "background": 20.0}
SIGNALS = np.linspace(0, 120, 25)


@pytest.fixture(scope="module")
def population():
    detector = dmsim.load_detector("xenonnt")
    components = []
    for i, (name, top) in enumerate(ENERGIES_KEV.items()):
        one, two = jax.random.split(jax.random.key(i))
        deposits = sources.er_flat(one, detector, n_events=1024, energy_max_kev=top, r_max_mm=600.0)
        response = Response.of(two, detector, deposits)
        # rates count events before any selection; the start is near what the data below have
        rate = dist.Uniform(0.0, 2000.0)
        components.append(Component.of(name, response, rate, start=2 * RATES[name], unit="events"))
    free = FreeParameters.of(detector, ["g1"], relative_widths={"g1": 0.03})
    return Population(tuple(components), detector, free, WINDOW)


def events_of(name, n_seen):
    """The first events of the simulator that are inside of the window."""
    detector = dmsim.load_detector("xenonnt")
    source = {"n_events": 600, "energy_max_kev": ENERGIES_KEV[name], "r_max_mm": 600.0}
    deposits = sources.er_flat(jax.random.key(50 + len(name)), detector, **source)
    areas = dmsim.simulate_areas(jax.random.key(60 + len(name)), detector, deposits)
    seen = np.random.default_rng(7).random(600) < np.asarray(areas.s1_acceptance)
    inside = event_set(np.asarray(areas.cs1_pe)[seen], np.asarray(areas.cs2_pe)[seen]).inside(WINDOW)
    assert len(inside) >= n_seen
    return inside.cs1_pe[:n_seen], inside.cs2_pe[:n_seen]


@pytest.fixture(scope="module")
def events():
    parts = {name: events_of(name, int(n)) for name, n in RATES.items()}
    return {
        "both": EventSet(
            np.concatenate([s1 for s1, _ in parts.values()]), np.concatenate([s2 for _, s2 in parts.values()])
        ),
        "background": EventSet(parts["background"][0], parts["background"][1]),
    }


@pytest.fixture(scope="module")
def results(population, events):
    """Intervals in signal events in the window: of bins, of events, and of events without the signal."""
    found = {}
    for name, of, which in (
        ("binned", None, "both"),
        ("unbinned", PLACES, "both"),
        ("without signal", PLACES, "background"),
    ):
        model = search_model(population, events=events[which] if of else None, n_places=of)
        counts = jnp.asarray(counts_of(population, events[which], model))
        result = signal_intervals(
            jax.random.key(0), model, counts, model.nominal, SIGNALS * 3, confidence=0.9
        )
        found[name] = result, result.events_per_unit, model
    return found


def ends(result, per_unit):
    low, high = result.asymptotic.low * per_unit, result.asymptotic.high * per_unit
    return low, float(result.best.parameters[0]) * per_unit, high


def test_unbinned_intervals_are_those_of_bins_and_no_wider(results):
    (binned, per_bin, _), (single, per_event, _) = results["binned"], results["unbinned"]
    # at the best g1 of each, which differ a little
    assert per_event == pytest.approx(per_bin, rel=0.02)
    low_b, best_b, high_b = ends(binned, per_bin)
    low_e, best_e, high_e = ends(single, per_event)
    # of the same events: they differ by what the bins lose, a small part of the error
    assert abs(best_e - best_b) < 0.5 * (high_b - low_b) / 2
    assert high_e - low_e < 1.05 * (high_b - low_b)
    assert high_e - low_e > 2 * 1.645 * 0.9 * np.sqrt(RATES["signal"])  # not below a counting experiment's
    # a 90 % interval, widened by a half: outside of it in 1.4 % of cases; the seed is fixed
    assert abs(best_e - RATES["signal"]) < 1.5 * (high_e - low_e) / 2
    # all events are accounted for
    rates = np.asarray(single.best.parameters[:2])
    seen = np.exp(np.asarray(results["unbinned"][2].log_templates.value).reshape(2, -1)[:, -1])
    assert rates @ seen == pytest.approx(sum(RATES.values()), rel=0.02)
    # must fail: without the signal's events the interval holds no 40 of them
    low, _, high = ends(*results["without signal"][:2])
    assert low == 0.0
    assert high < RATES["signal"]


def test_an_expansion_at_events_is_the_likelihood(population, events, results):
    """Loss differences of the profile's model against those of the likelihood itself."""
    model = results["unbinned"][2]
    likelihood = unbinned(population, events["both"], n_places=PLACES)
    counts = jnp.asarray(counts_of(population, events["both"], model))
    prediction = likelihood.linearised(population.start()[:1])[0].reshape(2, -1)
    losses, logs = [], []
    for factor in (1.0, 1.7):
        parameters = model.nominal.at[0].multiply(factor)
        losses.append(float(model.loss(parameters, counts, model.nominal)))
        logs.append(float(likelihood.log_likelihood(prediction, parameters[:2])))
    # the likelihood has no constant of the auxiliary measurement of the rate, which is unknown: none here
    assert losses[1] - losses[0] == pytest.approx(logs[0] - logs[1], abs=2e-3)


def test_toys_need_bins(results):
    model = results["unbinned"][2]
    with pytest.raises(ValueError, match="toy experiments are drawn from bins"):
        draw(jax.random.key(0), model, model.nominal, 2)


def test_more_events_than_room(population, events):
    with pytest.raises(ValueError, match="160 events are inside of the window: there is room for 100"):
        unbinned(population, events["both"], n_places=100)
