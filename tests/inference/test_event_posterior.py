"""NUTS on many problems at once, and on events of 41.5 keV, where the normal approximation holds."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import dmsim
from dmsim.records import Interaction
from dmsim.sources.own import deposits as own_deposits
from inference.likelihood.event import PARAMETERS, EventParameters
from inference.likelihood.event_data import data_from_hits
from inference.priors import Disc, Prior, Scalar
from inference.sampling.event_posterior import EventDensity, laplace, sample_events
from inference.sampling.many import ManyDraws, sample_many

MEANS = jnp.array([[0.0, 3.0], [-2.0, 1.0], [10.0, 10.0]])
ROOT = jnp.linalg.cholesky(jnp.array([[1.0, 0.9], [0.9, 2.0]]))
TRUE = (41.5, 9.0, -4.5, -30.0, 33.0)  # keV, mm, mm, mm, ns: the energy of Kr-83m's two lines


@pytest.fixture(scope="module")
def draws():
    def log_density(v, mean):
        return -0.5 * jnp.sum(jax.scipy.linalg.solve_triangular(ROOT, v - mean, lower=True) ** 2)

    # roots half as large again as they should be: the step adapts
    given = jnp.broadcast_to(1.5 * ROOT, (3, 2, 2))
    return ManyDraws.of(*sample_many(jax.random.key(0), log_density, MEANS, MEANS + 0.3, given), ("a", "b"))


def consistent(found, means):
    """Six means within 4.9 standard errors: false-positive rate 6e-6."""
    error = np.sqrt(np.diag(ROOT @ ROOT.T) / found.effective_size)
    return bool(np.all(np.abs(found.flat.mean(axis=1) - means) < 4.9 * error))


def test_known_normals(draws):
    assert draws.trouble() == []
    assert consistent(draws, MEANS)
    assert not consistent(draws, MEANS + 0.5)  # must fail
    for each in draws.flat:
        np.testing.assert_allclose(np.cov(each.T), ROOT @ ROOT.T, rtol=0.25)


def test_chains_that_disagree_are_named(draws):
    moved = np.array(draws.draws)
    moved[1, 0] += 3.0
    found = ManyDraws.of(moved, np.zeros(moved.shape[:3], bool), draws.names)
    assert list(found.trusted()) == [True, False, True]
    assert found.trouble()[0].startswith("1 of 3 problems (1): r-hat up to ")


def prior(names=("z_mm",)):
    laws = {"z_mm": dist.Uniform(-50.0, -10.0), "drift": dist.Uniform(0.0, 1.0)}
    return Prior(
        Scalar("energy_kev", "keV", dist.Uniform(20.0, 80.0)),
        Disc(("x_mm", "y_mm"), "mm", radius=24.0),
        *(Scalar(name, "mm", laws[name]) for name in names),
        Scalar("time_ns", "ns", dist.Uniform(-500.0, 500.0)),
    )


def simulated(n):
    detector = dmsim.load_detector("xams").without("all")
    columns = {name: np.full(n, value) for name, value in zip(PARAMETERS, TRUE, strict=True)}
    hits = dmsim.simulate_hits(
        jax.random.key(31), detector, own_deposits(detector, interaction="er_beta", **columns)
    )
    empty = EventParameters(*jnp.zeros(5), interaction=Interaction.ER_BETA)
    guesses = empty.at(jnp.tile(jnp.array(TRUE), (n, 1)))
    return detector, data_from_hits(detector, hits, guesses), guesses


def test_an_event_has_no_other_parameter():
    with pytest.raises(ValueError, match="prior has drift: an event has energy_kev, x_mm"):
        EventDensity(dmsim.load_detector("xams"), prior(("z_mm", "drift")))


@pytest.mark.slow  # compiling NUTS on the likelihood of an event takes minutes
def test_events_agree_with_the_normal_approximation():
    """At 41.5 keV in xams: widths to 10 %, means to a quarter of the width; pulls as they should be.

    16 events: pull means within 4.5 and widths within 0.4 to 1.8, false-positive rate below 1e-4 over all.
    """
    n = 16
    detector, data, guesses = simulated(n)
    density = EventDensity(detector, prior())
    found, around = sample_events(jax.random.key(1), density, data, guesses), laplace(density, data, guesses)
    assert found.trusted().mean() >= 0.9
    width = np.sqrt(np.diagonal(np.asarray(around.covariance), axis1=1, axis2=2))
    ratio = found.flat.std(axis=1) / width
    assert np.all(np.abs(ratio.mean(axis=0) - 1) < 0.1)
    shift = (found.flat.mean(axis=1) - np.asarray(around.mode)) / width
    assert np.all(np.abs(shift.mean(axis=0)) < 0.25)
    pulls = (np.array(TRUE) - found.flat.mean(axis=1)) / found.flat.std(axis=1)
    assert np.all(np.abs(pulls.mean(axis=0)) * np.sqrt(n) < 4.5)
    assert np.all((pulls.std(axis=0) > 0.4) & (pulls.std(axis=0) < 1.8))
    # must fail: a normal approximation 1.3 times as wide
    assert not np.all(np.abs(ratio.mean(axis=0) / 1.3 - 1) < 0.1)
