"""What is learned from the detector: parameters, likelihoods, samplers, fits, amortized posteriors.

Names are loaded when they are first used, so that a command can print its help without JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference import embeddings as embeddings
    from inference import flows as flows
    from inference import priors as priors
    from inference.diagnostics.report import calibrate as calibrate
    from inference.estimators import FMPE as FMPE
    from inference.estimators import NLE as NLE
    from inference.estimators import NPE as NPE
    from inference.estimators import NRE as NRE
    from inference.estimators import Budget as Budget
    from inference.estimators import Cached as Cached
    from inference.estimators import fit_truncated as fit_truncated
    from inference.estimators.files import load_posterior as load_posterior
    from inference.estimators.files import save_posterior as save_posterior

_ESTIMATORS = ("FMPE", "NLE", "NPE", "NRE", "Budget", "Cached", "fit_truncated")
_HOME_OF = {
    **dict.fromkeys(_ESTIMATORS, "inference.estimators"),
    "calibrate": "inference.diagnostics.report",
    "load_posterior": "inference.estimators.files",
    "save_posterior": "inference.estimators.files",
}
_SUBPACKAGES = ("embeddings", "flows", "priors")


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"inference.{name}")
    if name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'inference' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF, *_SUBPACKAGES})
