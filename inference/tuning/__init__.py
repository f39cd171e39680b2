"""Cuts tuned by gradient: `tune(key, cuts, samples, objective, constraints) -> TunedCuts`.

`objective.py` says what is maximised, `constraints.py` what must be obeyed, `samples.py` on which events;
`tune.py` climbs, `restore.py` brings hard cuts to what is asked for, `result.py` is what comes back;
`simulator.py` lets events move with the detector. `clustering.py` tunes thresholds of the reconstruction.
Nothing here is imported by dmsim.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.tuning.clustering import tune_clustering as tune_clustering
    from inference.tuning.constraints import Bounds as Bounds
    from inference.tuning.constraints import Efficiency as Efficiency
    from inference.tuning.constraints import MaxBackground as MaxBackground
    from inference.tuning.constraints import MinEfficiency as MinEfficiency
    from inference.tuning.objective import Objective as Objective
    from inference.tuning.result import Settings as Settings
    from inference.tuning.result import TunedCuts as TunedCuts
    from inference.tuning.samples import Sample as Sample
    from inference.tuning.tune import tune as tune

_HOME_OF = {
    **dict.fromkeys(("Bounds", "Efficiency", "MaxBackground", "MinEfficiency"), "constraints"),
    "Objective": "objective",
    "Settings": "result",
    "TunedCuts": "result",
    "Sample": "samples",
    "tune": "tune",
    "tune_clustering": "clustering",
}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(import_module(f"inference.tuning.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'inference.tuning' has no attribute {name!r}")
