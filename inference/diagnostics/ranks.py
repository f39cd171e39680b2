"""Simulation-based calibration: ranks of the truth among draws of its own posterior are uniform.

Source: Talts et al., arXiv:1804.06788.
"""

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from inference.diagnostics.check import Check, need_rows
from inference.diagnostics.uniformity import deviation, ecdf_band

RATE = 0.01  # of false positives over all dimensions together, of each of the two tests


def ranks(
    key: PRNGKeyArray,
    theta: Float[np.ndarray, "event parameter"],
    draws: Float[np.ndarray, "event draw parameter"],
) -> Float[np.ndarray, "event parameter"]:
    """Each truth's rank among its draws, spread over its step: exactly uniform if the posterior is exact.

    Ranks take n + 1 values, and parameters that are counts tie with their draws: a uniform number decides
    between, so that tests for continuous laws hold without approximation.

    Args:
        key: of the spread.
        theta: truths that made the data.
        draws: of the posterior given that data.

    Returns:
        In (0, 1).

    Raises:
        ValueError: if the shapes do not fit, or a number is not finite.
    """
    need_rows("theta", theta, (None, None))
    need_rows("draws", draws, (theta.shape[0], None, theta.shape[1]))
    truth = np.asarray(theta)[:, None, :]
    below = np.sum(draws < truth, axis=1)
    level = np.sum(draws == truth, axis=1) + 1
    return (below + level * np.asarray(jax.random.uniform(key, theta.shape))) / (draws.shape[1] + 1)


def check_ranks(levels: Float[np.ndarray, "event parameter"], names: tuple[str, ...]) -> list[Check]:
    """KS and the simultaneous band in each dimension; either refuses a right one in 0.01/D of cases."""
    n, d = levels.shape
    found, rate = [], RATE / d
    band = ecdf_band(n, rate)
    for name, column in zip(names, levels.T, strict=True):
        p = deviation(column).p_value
        found.append(
            Check.within(f"sbc {name}", p, low=rate, rate=rate, detail=f"p of uniform ranks, {n} events")
        )
        counts = np.searchsorted(np.sort(column), band.at, side="right")
        outside = int(np.sum((counts < band.low) | (counts > band.high)))
        words = f"points of the ECDF outside of its {1 - rate:.2%} band, of {len(band.at)}"
        found.append(Check.within(f"sbc band {name}", outside, high=0, rate=rate, detail=words))
    return found
