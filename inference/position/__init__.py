"""Where an S2 was, as a posterior of its light pattern: fast enough for every peak of a run."""

from inference.position.anchor import PositionSummary, position_summary
from inference.position.export import export_places
from inference.position.outputs import Places, places
from inference.position.study import position_estimator, position_prior, position_simulator

__all__ = [
    "Places",
    "export_places",
    "PositionSummary",
    "places",
    "position_estimator",
    "position_prior",
    "position_simulator",
    "position_summary",
]
