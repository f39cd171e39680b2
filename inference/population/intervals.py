"""Intervals and significances of a signal's rate from t: asymptotic, and from toys.

Neyman's construction orders experiments by t: a rate is inside of the interval of an experiment if its t is
not above the level that a share of toys with that rate stay below (Feldman & Cousins, Phys. Rev. D 57 (1998)
3873, arXiv:physics/9711021, with nuisances profiled). The asymptotic interval takes Wilks' level, the
quantile of chi-squared with one degree of freedom.

The upper limit is one-sided: rates below the best one count as perfectly compatible (q_mu), so all that may
go wrong lies above, and its level is lower than that of the interval's upper end at the same confidence (1.64
and 2.71 at 90 %). Asymptotic levels need some signal events: without background and with none seen, t of s
events is 2 s, the exact 90 % limit of 2.3 events is at t = 4.6, and the asymptotic one is 0.8 events.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.stats import chi2, norm

from inference.population.profile import Fitted, Model, conditional, draw, fit_many, scan_many


class Interval(NamedTuple):
    """Ends of an interval of the signal's rate; nan where it reaches beyond the scan."""

    low: float
    high: float
    level: float


def asymptotic_level(confidence: float) -> float:
    """What t may be: the chi-squared quantile with one degree of freedom (Wilks)."""
    return float(chi2.ppf(confidence, 1))


def crossings(
    signals: Float[np.ndarray, "signal"],
    t: Float[np.ndarray, "signal"],
    level: Float[np.ndarray, "signal"] | float,
    confidence: float,
) -> Interval:
    """Where t comes down to its level and where it goes above it again, linear between the scan's points.

    Args:
        signals: ascending; the first is the least rate that is thought of.
        t: at each.
        level: that t may have, at each.
        confidence: of the interval, handed on.
    """
    below = np.asarray(t) <= level
    if not below.any():
        nearest = float(signals[np.argmin(t - level)])  # between two points of the scan
        return Interval(nearest, nearest, confidence)
    excess = np.asarray(t - level, float)

    def between(a, b):
        return float(signals[a] + (signals[b] - signals[a]) * excess[a] / (excess[a] - excess[b]))

    first, last = int(np.argmax(below)), int(len(below) - 1 - np.argmax(below[::-1]))
    low = float(signals[0]) if first == 0 else between(first - 1, first)
    high = float("nan") if last == len(below) - 1 else between(last, last + 1)
    return Interval(low, high, confidence)


class Discovery(NamedTuple):
    """Test of no signal: q0 and its significance."""

    q0: float
    z: float  # standard deviations, one-sided
    p_value: float


def discovery(t_at_zero: float) -> Discovery:
    """Asymptotic significance of a signal: Z = sqrt(q0), which is t(0) since the best rate is >= 0.

    Source: arXiv:1007.1727, eqs. 12 and 53.
    """
    z = float(np.sqrt(max(t_at_zero, 0.0)))
    return Discovery(float(t_at_zero), z, float(norm.sf(z)))


def upper_limit(
    signals: Float[np.ndarray, "signal"], t: Float[np.ndarray, "signal"], best: float, confidence: float
) -> float:
    """Asymptotic upper limit from q_mu: t above the best rate, 0 below it; nan if beyond the scan.

    Source: arXiv:1007.1727, eqs. 14 and 59: the level of q_mu is the square of the normal quantile.
    """
    q = one_sided(signals, t, best)
    return crossings(signals, q, float(norm.ppf(confidence) ** 2), confidence).high


def one_sided(
    signals: Float[np.ndarray, "..."], t: Float[np.ndarray, "..."], best: Float[np.ndarray, "..."] | float
) -> Float[np.ndarray, "..."]:
    """The statistic q_mu: t above the best rate, 0 below it (arXiv:1007.1727, eq. 14)."""
    return np.where(np.asarray(signals) >= best, t, 0.0)


def toy_levels(
    key: PRNGKeyArray,
    model: Model,
    truths: Float[Array, "signal parameter"],
    *,
    confidence: float,
    n_toys: int,
) -> Float[np.ndarray, "signal"]:
    """The level of t at each truth: what `confidence` of toys drawn there stay below.

    Args:
        key: of the toys.
        model: of the counts.
        truths: parameters, signal first, such as the `conditional` ones of the data.
        confidence: 0 to 1.
        n_toys: a truth.
    """
    return _levels(key, model, truths, confidence=confidence, n_toys=n_toys)[0]


def _levels(
    key: PRNGKeyArray,
    model: Model,
    truths: Float[Array, "signal parameter"],
    *,
    confidence: float,
    n_toys: int,
) -> tuple[Float[np.ndarray, "signal"], Float[np.ndarray, "signal"]]:
    """The levels of t, and of the one-sided q_mu, from the same toys."""
    two, one = [], []
    for number, truth in enumerate(truths):
        t, best = _fitted_toys(jax.random.fold_in(key, number), model, truth, n_toys=n_toys)
        two.append(np.quantile(t, confidence))
        one.append(np.quantile(one_sided(np.full(n_toys, float(truth[0])), t, best), confidence))
    return np.asarray(two), np.asarray(one)


def t_of_toys(
    key: PRNGKeyArray, model: Model, truth: Float[Array, "parameter"], *, n_toys: int
) -> Float[Array, "toy"]:
    """The statistic t at the true rate of toys drawn there."""
    return jnp.asarray(_fitted_toys(key, model, truth, n_toys=n_toys)[0])


def _fitted_toys(
    key: PRNGKeyArray, model: Model, truth: Float[Array, "parameter"], *, n_toys: int
) -> tuple[Float[np.ndarray, "toy"], Float[np.ndarray, "toy"]]:
    """The same, and each toy's best rate."""
    counts, aux = draw(key, model, truth, n_toys)
    best = fit_many(model, counts, aux)
    t = scan_many(model, counts, aux, best, truth[:1])[:, 0]
    return np.asarray(t), np.asarray(best.parameters[:, 0])


class SignalResult(NamedTuple):
    """What data say about a signal's rate."""

    best: Fitted
    signals: Float[np.ndarray, "signal"]
    t: Float[np.ndarray, "signal"]
    discovery: Discovery
    asymptotic: Interval
    toys: Interval | None
    levels: Float[np.ndarray, "signal"] | None  # of the toys
    upper: float  # one-sided, asymptotic
    toy_upper: float | None  # one-sided, from the toys
    events_per_unit: float  # of signal, expected in the bins at a rate of 1


def signal_intervals(
    key: PRNGKeyArray,
    model: Model,
    counts: Float[Array, "bin"],
    aux: Float[Array, "parameter"],
    signals: Float[np.ndarray, "signal"],
    *,
    confidence: float = 0.9,
    n_toys: int = 0,
    toy_model: Model | None = None,
) -> SignalResult:
    """Intervals of one experiment.

    Args:
        key: of the toys.
        model: of the counts.
        counts: of the experiment.
        aux: outcomes of its auxiliary measurements.
        signals: rates to scan, ascending from 0.
        confidence: of the intervals, 0 to 1.
        n_toys: at each rate for Neyman's construction; 0 for none.
        toy_model: of bins, from which toys are drawn and in which they are fitted, where `model` is of single
            events: t's law hardly depends on the bins. The model itself if not given.
    """
    best = fit_many(model, counts[None], aux[None])
    t = np.asarray(scan_many(model, counts[None], aux[None], best, jnp.asarray(signals, jnp.float32))[0])
    best = jax.tree.map(lambda a: a[0], best)
    levels = toys = toy_upper = None
    if n_toys:
        truths = conditional(model, counts, aux, jnp.asarray(signals, jnp.float32))
        levels, of_limit = _levels(key, toy_model or model, truths, confidence=confidence, n_toys=n_toys)
        toys = crossings(signals, t, levels, confidence)
        q = one_sided(signals, t, float(best.parameters[0]))
        toy_upper = crossings(signals, q, of_limit, confidence).high
    shapes = best.parameters[model.n_components :]
    of_signal = jnp.exp(model.log_templates(shapes).reshape(model.n_components, -1)[0])
    return SignalResult(
        best=best,
        signals=np.asarray(signals),
        t=t,
        discovery=discovery(float(t[0])),
        asymptotic=crossings(signals, t, asymptotic_level(confidence), confidence),
        toys=toys,
        levels=levels,
        upper=upper_limit(signals, t, float(best.parameters[0]), confidence),
        toy_upper=toy_upper,
        events_per_unit=float((model.is_number * of_signal).sum()),
    )
