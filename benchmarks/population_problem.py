"""The problem that `population.py` and `peer_emcee.py` solve: a calibration with six unknowns.

Electron recoils of a flat spectrum, as the ground-state betas of Pb-212 give it below 30 keV, in the fiducial
volume of xenonnt. Unknown: g1, the gain of an electron, the fluctuation of recombination, the work function,
the charge yield at low energy, and the number of decays.
"""

import jax
import numpy as np
import numpyro.distributions as dist

import dmsim
from dmsim import sources
from inference.likelihood.population import Component, Population
from inference.likelihood.population_data import EventSet, Window, event_set
from inference.likelihood.population_response import Response
from inference.parameters import FreeParameters

DETECTOR = "xenonnt"
SOURCE = {"energy_max_kev": 25.0, "r_max_mm": 600.0}
WINDOW = Window.of((3, 100), (200, 10_000), (10, 12))
N_DECAYS = 3000  # of the data; 1,300 are seen in the window
# prior widths over values, assumed: as a calibration of areas leaves them
WIDTHS = {
    "g1": 0.03,
    "se_gain": 0.03,
    "recombination": 0.2,
    "work_function": 0.05,
    "quanta.er_beta.m2": 0.1,
}
RATE_WIDTH = 0.3


def deposits(key, detector, n_events):
    return sources.er_flat(key, detector, n_events=n_events, **SOURCE)


def data(seed: int) -> EventSet:
    """Events of the preset; a coincidence that is missed loses the event."""
    detector = dmsim.load_detector(DETECTOR)
    one, two = jax.random.split(jax.random.key(1000 + seed))
    areas = dmsim.simulate_areas(two, detector, deposits(one, detector, N_DECAYS))
    kept = np.random.default_rng(seed).random(N_DECAYS) < np.asarray(areas.s1_acceptance)
    return event_set(np.asarray(areas.cs1_pe)[kept], np.asarray(areas.cs2_pe)[kept])


def population(seed: int, n_events: int) -> Population:
    """Model and priors; `n_events` are simulated."""
    detector = dmsim.load_detector(DETECTOR)
    one, two = jax.random.split(jax.random.key(2000 + seed))
    response = Response.of(two, detector, deposits(one, detector, n_events))
    free = FreeParameters.of(detector, list(WIDTHS), relative_widths=WIDTHS)
    rate = dist.TruncatedNormal(float(N_DECAYS), RATE_WIDTH * N_DECAYS, low=0.0)
    component = Component.of("decays", response, rate, start=float(N_DECAYS))
    return Population((component,), detector, free, WINDOW)
