"""Estimators of posteriors from simulations: `NPE(prior, embedding, flow).fit(key, simulate, budget)`."""

from inference.estimators.base import AbstractEstimator, Fit
from inference.estimators.data import Cached, Layout
from inference.estimators.files import Loaded, load_posterior, save_posterior
from inference.estimators.fmpe import FMPE
from inference.estimators.nle import NLE
from inference.estimators.npe import NPE
from inference.estimators.nre import NRE
from inference.estimators.parquet import draw_parquet, iterate_cached, read_cached, write_cached
from inference.estimators.posterior import AbstractPosterior, DirectPosterior
from inference.estimators.sampled import SampledPosterior
from inference.estimators.sequential import Round, fit_truncated
from inference.estimators.training import Budget, History

__all__ = [
    "FMPE",
    "NLE",
    "NPE",
    "NRE",
    "AbstractEstimator",
    "AbstractPosterior",
    "Budget",
    "Cached",
    "DirectPosterior",
    "Fit",
    "History",
    "Layout",
    "Loaded",
    "Round",
    "SampledPosterior",
    "draw_parquet",
    "fit_truncated",
    "iterate_cached",
    "load_posterior",
    "read_cached",
    "save_posterior",
    "write_cached",
]
