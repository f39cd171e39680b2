"""Pulls: distance of the truth from the posterior's mean in posterior standard deviations."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from inference.diagnostics.check import Check, need_rows

RATE = 0.01  # of false positives over means and widths of all dimensions, where the sample decides
LARGEST_MEAN = 0.05
LARGEST_WIDTH_ERROR = 0.03


class Pulls(NamedTuple):
    """Mean and width of the pulls of each parameter, with their standard errors."""

    values: Float[np.ndarray, "event parameter"]
    mean: Float[np.ndarray, "parameter"]
    mean_error: Float[np.ndarray, "parameter"]
    width: Float[np.ndarray, "parameter"]
    width_error: Float[np.ndarray, "parameter"]


def pulls(
    theta: Float[np.ndarray, "event parameter"], draws: Float[np.ndarray, "event draw parameter"]
) -> Pulls:
    """(truth - mean) / standard deviation of each event: mean 0 and mean square 1 if the posterior is right.

    That holds whatever the posterior's shape. The widening by the noise of mean and standard deviation of n
    draws is taken out: (1 + 1/n)(n - 1)/(n - 3) in the variance, that of Student's t (exact for normals).

    Args:
        theta: truths.
        draws: of the posterior, more than 3.

    Raises:
        ValueError: if the shapes do not fit, there are too few draws, or all draws of an event are equal.
    """
    need_rows("theta", theta, (None, None))
    need_rows("draws", draws, (theta.shape[0], None, theta.shape[1]))
    n = draws.shape[1]
    if n <= 3:
        raise ValueError(f"{n} draws: must be 4 at least")
    spread = draws.std(axis=1, ddof=1)
    if not np.all(spread > 0):
        raise ValueError(f"posterior of {int(np.sum(np.any(spread <= 0, axis=1)))} events is a single point")
    values = (np.asarray(theta) - draws.mean(axis=1)) / spread / np.sqrt((1 + 1 / n) * (n - 1) / (n - 3))
    squares = values**2
    width = np.sqrt(squares.mean(axis=0))
    events = np.sqrt(len(values))
    return Pulls(
        values=values,
        mean=values.mean(axis=0),
        mean_error=values.std(axis=0) / events,
        width=width,
        width_error=squares.std(axis=0) / events / (2 * width),
    )


def check_pulls(found: Pulls, names: tuple[str, ...]) -> list[Check]:
    """|mean| < 0.05 and width 0.97 to 1.03, or what the sample can tell where that is wider.

    A right posterior fails in 1 % of cases at most over all of them: from 10,000 events on, the limits are
    those stated; 1,000 events tell means to 0.1 and widths to 0.07.
    """
    sigmas = float(stats.norm.isf(RATE / (4 * len(names))))  # two sides of a mean and of a width each
    n, checks = len(found.values), []
    for i, name in enumerate(names):
        error = float(found.mean_error[i])
        limit = max(LARGEST_MEAN, sigmas * error)
        words = f"mean of {n} pulls, +- {error:.2g}"
        rate = RATE / (2 * len(names))
        checks.append(
            Check.within(f"pull mean {name}", found.mean[i], low=-limit, high=limit, rate=rate, detail=words)
        )
        error = float(found.width_error[i])
        limit = max(LARGEST_WIDTH_ERROR, sigmas * error)
        words = f"width of {n} pulls, +- {error:.2g}"
        checks.append(
            Check.within(
                f"pull width {name}", found.width[i], low=1 - limit, high=1 + limit, rate=rate, detail=words
            )
        )
    return checks
