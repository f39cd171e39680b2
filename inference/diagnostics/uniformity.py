"""Tests that numbers in (0, 1) are uniform: Kolmogorov and Smirnov's, and a band for the whole ECDF."""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

CRITICAL_5_PERCENT = 1.36  # of sqrt(N) times the largest deviation; Smirnov, Ann. Math. Stat. 19 (1948) 279


class Deviation(NamedTuple):
    """How far an ECDF lies from the diagonal."""

    largest: float
    p_value: float  # Kolmogorov and Smirnov's, exact
    n: int

    @property
    def limit(self) -> float:
        """Largest deviation that 95 % of uniform samples stay under."""
        return CRITICAL_5_PERCENT / np.sqrt(self.n)


def deviation(levels: Float[np.ndarray, "event"]) -> Deviation:
    """Largest distance of the levels' ECDF from the diagonal, and its p-value.

    Args:
        levels: in (0, 1), independent.
    """
    found = stats.kstest(np.asarray(levels, float), "uniform")
    return Deviation(float(found.statistic), float(found.pvalue), len(levels))


class Band(NamedTuple):
    """Limits of an ECDF's counts on a grid."""

    at: Float[np.ndarray, "grid"]
    low: Int[np.ndarray, "grid"]
    high: Int[np.ndarray, "grid"]
    n: int
    rate: float

    def holds(self, levels: Float[np.ndarray, "event"]) -> bool:
        """Whether the levels' ECDF stays inside of the band, limits included."""
        counts = np.searchsorted(np.sort(levels), self.at, side="right")
        return bool(np.all((self.low <= counts) & (counts <= self.high)))


def _inside(low, high, n: int, n_cells: int) -> float:
    """Probability that counts of n uniform numbers at the cells' ends stay within limits.

    A Poisson process has independent counts in the cells, and is the uniform sample where its total is n.
    """
    mean = n / n_cells
    jump = stats.poisson.pmf(np.arange(int(mean + 12 * np.sqrt(mean) + 20)), mean)
    chance, first = np.ones(1), 0
    for at_least, at_most in zip([*low, n], [*high, n], strict=True):
        reached = np.convolve(chance, jump)  # of counts first, first + 1, ...
        counts = first + np.arange(len(reached))
        kept = (counts >= at_least) & (counts <= at_most)
        if not kept.any():
            return 0.0
        chance, first = reached[kept], int(counts[kept][0])
    return float(chance[0] / stats.poisson.pmf(n, n))


@functools.lru_cache(maxsize=64)
def ecdf_band(n: int, rate: float, n_cells: int = 100) -> Band:
    """The band that a uniform sample's ECDF leaves, at any point of the grid, with at most this probability.

    Binomial intervals of one common level at each point; the level is found by bisection on the exact
    probability of staying inside.

    Args:
        n: numbers in the sample, >= 1.
        rate: of samples that leave the band, 0 to 1.
        n_cells: of the grid, > 1.

    Source: Saeilynoja, Buerkner and Vehtari, Stat. Comput. 32 (2022) 32, doi:10.1007/s11222-022-10090-6.
    """
    at = np.arange(1, n_cells) / n_cells

    def limits(level):
        low = stats.binom.ppf(level / 2, n, at).astype(int)
        return low, stats.binom.isf(level / 2, n, at).astype(int)

    # between one point's level (too narrow) and Bonferroni's (too wide)
    narrow, wide = np.log(rate), np.log(rate / (2 * n_cells))
    for _ in range(14):
        middle = (narrow + wide) / 2
        if 1 - _inside(*limits(np.exp(middle)), n, n_cells) > rate:
            narrow = middle
        else:
            wide = middle
    return Band(at, *limits(np.exp(wide)), n, rate)
