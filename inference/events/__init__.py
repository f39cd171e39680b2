"""Single events as inference takes them: prior, simulator, exact likelihood, and what a network sees."""

from inference.events.calibrated import Whitened, calibrate_events
from inference.events.refined import weigh_draws
from inference.events.single import KINDS, OBSERVABLES, SingleScatters, deposits_of, event_model
from inference.events.summary import cut_quantiles

__all__ = [
    "KINDS",
    "OBSERVABLES",
    "SingleScatters",
    "Whitened",
    "calibrate_events",
    "cut_quantiles",
    "deposits_of",
    "event_model",
    "weigh_draws",
]
