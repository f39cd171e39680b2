"""Estimators of posteriors from simulations: `NPE(prior, embedding, flow).fit(key, simulate, budget)`."""

from inference.estimators.base import AbstractEstimator, Fit
from inference.estimators.data import Cached, Layout
from inference.estimators.fmpe import FMPE
from inference.estimators.npe import NPE
from inference.estimators.posterior import AbstractPosterior, DirectPosterior
from inference.estimators.refine import Refined
from inference.estimators.training import Budget, History

__all__ = [
    "FMPE",
    "NPE",
    "AbstractEstimator",
    "AbstractPosterior",
    "Budget",
    "Cached",
    "DirectPosterior",
    "Fit",
    "History",
    "Layout",
    "Refined",
]
