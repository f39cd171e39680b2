"""Shares, quantiles and intervals of weighted events."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import betaincinv


def weighted_quantiles(
    values: Float[np.ndarray, "event"],
    weights: Float[np.ndarray, "event"],
    levels: Sequence[float] | Float[np.ndarray, "level"],
) -> Float[np.ndarray, "level"]:
    """Values below which these shares of the weight lie, interpolated between events."""
    order = np.argsort(values)
    summed = np.cumsum(weights[order])
    # each event's weight lies half below and half above it
    return np.interp(np.asarray(levels), (summed - weights[order] / 2) / summed[-1], values[order])


def effective_events(weights: Float[np.ndarray, "event"]) -> float:
    """Number of equal events with the same relative error: (sum of w)^2 / sum of w^2 (Kish 1965)."""
    squares = float(np.sum(weights**2))
    return float(np.sum(weights)) ** 2 / squares if squares > 0 else 0.0


def effective_trials(good: Bool[np.ndarray, "event"], weights: Float[np.ndarray, "event"]) -> float:
    """Number of equal events whose share that passes would have the same variance.

    The variance of sum w_pass / sum w is, to first order, ((1 - e)^2 sum w_pass^2 + e^2 sum w_fail^2) /
    (sum w)^2, that of n equal events e (1 - e) / n. With equal weights n is the number of events, also where
    all or none pass.
    """
    total, share = float(np.sum(weights)), float(np.sum(weights[good]) / np.sum(weights))
    spread = (1 - share) ** 2 * np.sum(weights[good] ** 2) + share**2 * np.sum(weights[~good] ** 2)
    if not 0 < share < 1 or spread == 0:
        return effective_events(weights)
    return share * (1 - share) * total**2 / float(spread)


def efficiency_interval(passed: float, total: float, confidence: float) -> tuple[float, float]:
    """Clopper-Pearson interval of a share.

    It covers at least `confidence` for whole numbers. For weighted events, effective numbers go in, which
    need not be whole: the coverage is approximate then.

    Args:
        passed: 0 to total.
        total: 0 or more; 0 gives (0, 1).
        confidence: 0 to 1.

    Source: Clopper & Pearson, Biometrika 26 (1934) 404, in terms of the beta distribution.
    """
    if total <= 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    failed = total - passed
    low = float(betaincinv(passed, failed + 1, tail)) if passed > 0 else 0.0
    high = float(betaincinv(passed + 1, failed, 1 - tail)) if failed > 0 else 1.0
    return low, high
