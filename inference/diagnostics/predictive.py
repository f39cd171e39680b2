"""Posterior predictive: data simulated from draws of the posterior look like the data it came from."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy import stats

from inference.diagnostics.check import Check, need_rows

RATE = 0.01  # of false positives, over all summaries together
_EXTREME = 0.05  # share of events whose summary lies in the tails, both counted


def predictive_levels(
    key: PRNGKeyArray,
    draws: Float[np.ndarray, "event draw parameter"],
    observed: Float[np.ndarray, "event summary"],
    simulate: Callable[[PRNGKeyArray, Float[Any, "row parameter"]], Float[Any, "row summary"]],
) -> Float[np.ndarray, "event summary"]:
    """Level of each observed summary among those of replicated events.

    Args:
        key: of the simulation and of ties.
        draws: of each event's posterior.
        observed: summaries of the data that these posteriors came from.
        simulate: (key, parameters) -> summaries of one event a row.

    Returns:
        In (0, 1). Data that were used twice, to fit and to compare, draw the levels towards 1/2.

    Raises:
        ValueError: if the shapes do not fit, or a number is not finite.

    Source: Gelman, Meng and Stern, Stat. Sinica 6 (1996) 733.
    """
    need_rows("draws", draws, (None, None, None))
    need_rows("observed", observed, (draws.shape[0], None))
    key_simulate, key_ties = jax.random.split(key)
    again = np.asarray(simulate(key_simulate, draws.reshape(-1, draws.shape[2])))
    again = again.reshape(*draws.shape[:2], -1)
    need_rows("simulated summaries", again, (*draws.shape[:2], observed.shape[1]))
    there = np.asarray(observed)[:, None]
    below, same = np.sum(again < there, axis=1), np.sum(again == there, axis=1)
    spread = np.asarray(jax.random.uniform(key_ties, below.shape))
    return (below + (same + 1) * spread) / (draws.shape[1] + 1)


def check_predictive(levels: Float[np.ndarray, "event summary"], names: tuple[str, ...]) -> list[Check]:
    """No more events in the outer 5 % than chance puts there: a right posterior fails in about 1 % of cases.

    The limit is the binomial one of uniform levels. Those of a right posterior are less spread, and as a rule
    fail less; their tails can hold twice the uniform's at most (Meng, Ann. Stat. 22 (1994) 1142).
    """
    n, rate, checks = len(levels), RATE / len(names), []
    for name, column in zip(names, levels.T, strict=True):
        share = float(np.mean((column < _EXTREME / 2) | (column > 1 - _EXTREME / 2)))
        limit = float(stats.binom.isf(rate, n, _EXTREME)) / n
        words = f"share of {n} events in the outer {_EXTREME:.0%} of their predictions"
        checks.append(Check.within(f"predictive {name}", share, high=limit, rate=rate, detail=words))
    return checks
