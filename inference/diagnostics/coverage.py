"""Expected coverage: the share of a posterior that is more probable, or nearer, than the truth is uniform.

Two levels of each event. The density's says which highest-density region just holds the truth; TARP's which
ball around a reference does, and needs draws alone. Both are tested by Kolmogorov and Smirnov on the levels
of the events, which a p-value of binned coverage is not: it forgets that the bins of one ECDF go together.

A posterior that ignores the data, the prior itself, has the right coverage: `c2st.check_pairs` refuses it.

Source: Hermans et al., arXiv:2110.06581; TARP: Lemos et al., arXiv:2302.03026.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from inference.diagnostics.check import Check, need_rows
from inference.diagnostics.uniformity import Deviation, deviation

RATE = 0.05  # of false positives: what 1.36 / sqrt(N) means
BINNED_RATE = 0.01  # over all bins of all columns together


def _level(key, below, level, n_draws: int):
    """A rank as in `ranks.ranks`: uniform between its step's ends."""
    return (below + (level + 1) * np.asarray(jax.random.uniform(key, below.shape))) / (n_draws + 1)


def density_levels(
    key: PRNGKeyArray, at_truth: Float[np.ndarray, "event"], at_draws: Float[np.ndarray, "event draw"]
) -> Float[np.ndarray, "event"]:
    """Mass of the highest-density region that ends at the truth.

    Args:
        key: spreads the ranks.
        at_truth: log-density of the posterior at the truth; minus infinity outside of the support.
        at_draws: at draws of the same posterior.

    Returns:
        In (0, 1); uniform if the posterior is right; near 1 where the truth is in its tail.

    Raises:
        ValueError: if the shapes do not fit, or a draw's density is not finite, or a truth's is no number.
    """
    need_rows("log-density at draws", at_draws, (len(at_truth), None))
    if np.isnan(at_truth).any():
        raise ValueError(f"log-density is NaN at {int(np.isnan(at_truth).sum())} of {len(at_truth)} truths")
    truth = np.asarray(at_truth)[:, None]
    above, same = np.sum(at_draws > truth, axis=1), np.sum(at_draws == truth, axis=1)
    return _level(key, above, same, at_draws.shape[1])


def tarp_levels(
    key: PRNGKeyArray,
    theta: Float[np.ndarray, "event parameter"],
    draws: Float[np.ndarray, "event draw parameter"],
    *,
    references: Float[np.ndarray, "event parameter"] | None = None,
) -> Float[np.ndarray, "event"]:
    """Share of the posterior nearer to a reference point than the truth is.

    Distances are in standard deviations of each event's posterior.

    Args:
        key: spreads the ranks.
        theta: truths.
        draws: of the posterior.
        references: a point an event, which may depend on the data and not on the truth. The last draw if not
            given, which is then not counted: near the posterior the test sees its width, from far away, as
            with references over the prior, only its place along one direction.

    Returns:
        In (0, 1); uniform if the posterior is right.

    Raises:
        ValueError: if the shapes do not fit.
    """
    need_rows("theta", theta, (None, None))
    need_rows("draws", draws, (theta.shape[0], None, theta.shape[1]))
    if references is None:
        draws, references = draws[:, :-1], draws[:, -1]
    need_rows("references", references, theta.shape)
    # truth and draws together, so that the unit treats them alike and the level stays exactly uniform
    every = np.concatenate([draws, np.asarray(theta)[:, None]], axis=1)
    scale = every.std(axis=1, keepdims=True)
    distance = np.sum(
        ((every - np.asarray(references)[:, None]) / np.where(scale > 0, scale, 1)) ** 2, axis=-1
    )
    of_draws, of_truth = distance[:, :-1], distance[:, -1:]
    below, same = np.sum(of_draws < of_truth, axis=1), np.sum(of_draws == of_truth, axis=1)
    return _level(key, below, same, draws.shape[1])


def check_levels(name: str, levels: Float[np.ndarray, "event"]) -> Check:
    """Largest deviation from the diagonal under 1.36 / sqrt(N): a right posterior fails in 5 % of cases."""
    found = deviation(levels)
    words = f"largest deviation of coverage from nominal, {found.n} events, p {found.p_value:.3g}"
    return Check.within(name, found.largest, high=found.limit, rate=RATE, detail=words)


class Bin(NamedTuple):
    """Coverage of the events in one bin of one column."""

    column: str
    low: float
    high: float
    found: Deviation
    inside_68: float  # share of the truths in the 68.3 % region
    inside_95: float


def binned(
    levels: Float[np.ndarray, "event"], columns: Mapping[str, Float[np.ndarray, "event"]], *, n_bins: int = 4
) -> list[Bin]:
    """The levels of the events in bins of equal content.

    Args:
        levels: of any of the two kinds.
        columns: name to a value an event: functions of the data, such as the posterior's mean. In bins of the
            truth itself no posterior covers as it says: at the prior's end all truths lie on one side.
        n_bins: of each column.

    Raises:
        ValueError: if a column has not one finite value an event, or there are too few events.
    """
    if len(levels) < 20 * n_bins:
        raise ValueError(f"{len(levels)} events in {n_bins} bins: must be 20 a bin at least")
    found = []
    for name, column in columns.items():
        need_rows(f"column {name}", column, (len(levels),))
        edges = np.quantile(column, np.linspace(0, 1, n_bins + 1))
        place = np.clip(np.searchsorted(edges, column, side="right") - 1, 0, n_bins - 1)
        for k in range(n_bins):
            mine = levels[place == k]
            if len(mine):  # a column of few values leaves bins empty
                inside = [float(np.mean(mine < level)) for level in (0.6827, 0.9545)]  # one and two sigma
                found.append(Bin(name, float(edges[k]), float(edges[k + 1]), deviation(mine), *inside))
    return found


def check_bins(name: str, bins: list[Bin]) -> list[Check]:
    """The smallest p-value of a column's bins; a right posterior fails in 1 % of cases, over all columns."""
    columns = list(dict.fromkeys(each.column for each in bins))
    rate = BINNED_RATE / max(len(columns), 1)
    checks = []
    for column in columns:
        mine = [each for each in bins if each.column == column]
        worst = min(mine, key=lambda each: each.found.p_value)
        words = (
            f"smallest p of {len(mine)} bins, at {worst.low:.3g} to {worst.high:.3g}: of "
            f"{worst.found.n} truths {worst.inside_68:.1%} and {worst.inside_95:.1%} in 68 and 95 % regions"
        )
        at_least = rate / len(mine)
        checks.append(
            Check.within(f"{name} in {column}", worst.found.p_value, low=at_least, rate=rate, detail=words)
        )
    return checks
