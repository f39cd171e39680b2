"""Are these data of the kind the estimator was trained on? A kernel two-sample test on summaries.

The maximum mean discrepancy over several widths of a Gaussian kernel, each in units of its standard deviation
under exchange of labels; the largest counts. Exchanges give its law, so that the alarm's rate is exact.

Source: Gretton et al., JMLR 13 (2012) 723; on embeddings of simulation-based inference: Schmitt et al.,
arXiv:2112.08866; several widths: Schrab et al., arXiv:2110.15073.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from inference.diagnostics.check import Check, need_rows

RATE = 0.01  # of false alarms
LARGEST = 2000  # rows of either kind: the kernel matrix of both takes 64 MB in single precision
_WIDTHS = (0.25, 0.5, 1.0, 2.0)  # of the kernel, in medians of the distances


class Mismatch(NamedTuple):
    """Outcome of the test."""

    statistic: float  # largest discrepancy over the widths, in standard deviations of exchanged labels
    threshold: float  # exceeded by exchanged labels at the stated rate
    p_value: float
    null: Float[np.ndarray, "exchange"]
    rate: float

    @property
    def alarm(self) -> bool:
        """Whether the data are of another kind than the simulation."""
        return self.p_value <= self.rate


def _kernels(rows: np.ndarray) -> list[np.ndarray]:
    squares = np.sum(rows**2, axis=1)
    distance = np.maximum(squares[:, None] + squares[None, :] - 2 * rows @ rows.T, 0)
    middle = np.median(distance[np.triu_indices(len(rows), 1)])
    found = []
    for width in _WIDTHS:
        kernel = np.exp(-distance / (2 * width**2 * max(middle, 1e-12)))
        np.fill_diagonal(kernel, 0)  # the unbiased estimate leaves out a row with itself
        found.append(kernel)
    return found


def mismatch(
    key: PRNGKeyArray,
    simulated: Float[np.ndarray, "simulated feature"],
    observed: Float[np.ndarray, "observed feature"],
    *,
    n_exchanges: int = 499,
    rate: float = RATE,
) -> Mismatch:
    """Test whether observed events could be simulated ones.

    Args:
        key: of the exchanges, and of the choice of 2,000 rows where there are more.
        simulated: summaries (the embedding) of simulated events.
        observed: of observed events, 10 at least.
        n_exchanges: the smallest p-value is 1 / (n_exchanges + 1).
        rate: of false alarms, at least that.

    Raises:
        ValueError: if the shapes do not fit, a number is not finite, there are too few rows, or the rate is
            out of reach.
    """
    need_rows("simulated", simulated, (None, None))
    need_rows("observed", observed, (None, simulated.shape[1]))
    if min(len(simulated), len(observed)) < 10:
        raise ValueError(
            f"{len(simulated)} simulated and {len(observed)} observed events: must be 10 of each"
        )
    if rate * (n_exchanges + 1) < 1:
        raise ValueError(
            f"rate is {rate}: {n_exchanges} exchanges reach {1 / (n_exchanges + 1):.2g} at least"
        )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    kept = [rng.permutation(len(rows))[:LARGEST] for rows in (simulated, observed)]
    simulated, observed = (np.asarray(r, float)[k] for r, k in zip((simulated, observed), kept, strict=True))
    centre, spread = simulated.mean(axis=0), simulated.std(axis=0)
    rows = (np.concatenate([simulated, observed]) - centre) / np.where(spread > 0, spread, 1)
    n, m = len(simulated), len(observed)
    labels = np.zeros((n_exchanges + 1, n + m), np.float32)  # 1 for simulated
    labels[0, :n] = 1
    for row in labels[1:]:
        row[rng.permutation(n + m)[:n]] = 1
    scores = []
    for kernel in _kernels(rows.astype(np.float32)):
        towards = labels @ kernel
        inside = np.sum(towards * labels, axis=1, dtype=float)
        between = np.sum(towards * (1 - labels), axis=1, dtype=float)
        outside = kernel.sum(dtype=float) - inside - 2 * between
        values = inside / (n * (n - 1)) + outside / (m * (m - 1)) - 2 * between / (n * m)
        # unit and centre from all labellings alike, the observed one among them: exchange stays exact
        scores.append((values - values.mean()) / max(values.std(), 1e-30))
    largest = np.max(scores, axis=0)
    threshold = np.sort(largest)[::-1][max(int(rate * (n_exchanges + 1)) - 1, 0)]
    p_value = float(np.mean(largest >= largest[0]))
    return Mismatch(float(largest[0]), float(threshold), p_value, largest[1:], rate)


def check_mismatch(found: Mismatch) -> Check:
    """Passes where there is no alarm."""
    words = (
        f"p of the data being simulated; discrepancy {found.statistic:.2f}, threshold {found.threshold:.2f}"
    )
    # p equal to the rate alarms
    low = float(np.nextafter(found.rate, 1))
    return Check.within("mismatch", found.p_value, low=low, rate=found.rate, detail=words)
