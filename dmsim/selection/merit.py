"""Figures of merit of expected counts: what a selection is tuned for.

Signal, background and the background's error are expected events, weights included: numbers, or arrays of one
number a bin. Every function runs on NumPy and on JAX.
"""

from statistics import NormalDist
from typing import Any

from jaxtyping import Float

from dmsim.selection.arrays import log_sigmoid, namespace, repeat, stop_gradient

Count = Float[Any, "*bin"]

# assumed: below any count that a sample or a background model can show; keeps figures finite at no background
_LEAST_BACKGROUND = 1e-6
_NO_BACKGROUND = -1 + 1e-6  # relative change of a background, for the logarithm
_NEWTON_STEPS = 12  # from the limit without curvature; 8 suffice in float64 for 1e-6 to 1e6 events


def _log1p_curvature(x: Any) -> Any:
    """(log(1 + x) - x) / x^2, which is -1/2 at 0. Gradient: exact."""
    xp = namespace(x)
    near = xp.abs(x) < 0.1
    small, large = xp.where(near, x, 0.0), xp.where(near, 1.0, x)
    series = 0.0
    for power in range(15, 1, -1):  # the next term is 0.1^14 / 16 of the first
        series = series * small + (-1) ** (power + 1) / power
    return xp.where(near, series, (xp.log1p(large) - large) / large**2)


def _positive(background: Any) -> Any:
    return namespace(background).maximum(background, _LEAST_BACKGROUND)


def asimov_significance(signal: Count, background: Count, background_error: Count = 0.0) -> Count:
    """Median discovery significance of a counting experiment whose background is known to an error.

    Args:
        signal: expected events, >= 0.
        background: expected events; below 1e-6 it counts as 1e-6.
        background_error: standard deviation, in events; 0: known exactly.

    Gradient: exact, also at no signal.
    Source: Cowan, "Discovery sensitivity for a counting experiment with background uncertainty" (2012),
    eq. 20; without error Cowan et al., Eur. Phys. J. C 71 (2011) 1554 (arXiv:1007.1727), eq. 97.
    """
    xp = namespace(signal, background, background_error)
    s, b, variance = signal, _positive(background), background_error**2
    # eq. 20 is 2 [(s + b) log(1 + y) - b^2/V log(1 + x)] with y = s b / d, x = V s / (b (b + V)). Its terms
    # of first order in s cancel; what is left is written with the common factor s^2 taken out
    d = b * b + (s + b) * variance
    y, x = s * b / d, variance * s / (b * (b + variance))
    square = (b / d) * (b / (b + variance)) + (s + b) * (b / d) ** 2 * _log1p_curvature(y)
    square = square - variance / (b + variance) ** 2 * _log1p_curvature(x)
    return s * xp.sqrt(2 * square)


def binned_significance(signal: Count, background: Count, background_error: Count = 0.0) -> Float[Any, ""]:
    """Median discovery significance of a likelihood in bins: root of the sum of squared significances.

    The background's errors of the bins are independent of each other.

    Gradient: exact; 0 where there is no signal in any bin.
    Source: the log-likelihood ratios of independent bins add up; each as in `asimov_significance`.
    """
    xp = namespace(signal, background, background_error)
    square = xp.sum(asimov_significance(signal, background, background_error) ** 2)
    some = square > 0
    return xp.where(some, xp.sqrt(xp.where(some, square, 1.0)), 0.0)


def expected_upper_limit(
    background: Count, background_error: Count = 0.0, *, confidence: float = 0.9
) -> Count:
    """Median upper limit (CLs) on the signal's events if there is none.

    Asymptotic: for few background events it lies below the exact one (none expected: 1.35 in place of 2.30
    events at 90 %).

    Args:
        background: expected events; below 1e-6 it counts as 1e-6.
        background_error: standard deviation, in events.
        confidence: of the limit, between 0 and 1.

    Gradient: exact, that of the last Newton step.
    Source: Cowan et al., arXiv:1007.1727: q_mu of section 2.5 on the Asimov data of no signal; CLs at its
    median is twice the p-value of signal and background.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: must be between 0 and 1")
    sigmas = NormalDist().inv_cdf(1 - (1 - confidence) / 2)
    xp = namespace(background, background_error)
    b, variance = _positive(background), background_error**2

    def newton(s: Any, b: Any, variance: Any) -> Any:
        ratio = variance / b
        # background that fits best beside s, from a quadratic equation
        linear = (1 + ratio) * (b - s)
        root = xp.sqrt(linear**2 + 4 * (1 + ratio) * b * s)
        at = xp.where(linear > 0, (root + linear) / (2 * (1 + ratio)), 2 * b * s / (root + xp.abs(linear)))
        pull = at / b * (b / (s + at) - 1)  # (at - b) b / V
        excess = s / b + ratio * pull  # (s + at - b) / b
        change = xp.maximum(ratio * pull, _NO_BACKGROUND)  # (at - b) / b, > -1 but for rounding
        q = b * excess**2 * _log1p_curvature(excess) + variance * pull**2 * _log1p_curvature(change)
        root = xp.sqrt(-2 * q)
        return s - (root - sigmas) * root / (1 - b / (s + at))

    held = stop_gradient(b), stop_gradient(variance)
    # the root of q is concave in s: from below, no step goes too far
    start = sigmas * xp.sqrt(held[0] + held[1])
    return newton(repeat(_NEWTON_STEPS, lambda s: newton(s, *held), start), b, variance)


def limit_reach(
    signal: Count, background: Count, background_error: Count = 0.0, *, confidence: float = 0.9
) -> Count:
    """How many times weaker a signal the expected limit excludes: signal over `expected_upper_limit`.

    Gradient: exact.
    """
    return signal / expected_upper_limit(background, background_error, confidence=confidence)


def punzi(signal: Count, background: Count, background_error: Count = 0.0, *, n_sigma: float = 3.0) -> Count:
    """Punzi's figure, which needs no assumed signal strength: signal / (n_sigma / 2 + sqrt(background)).

    Args:
        signal: expected events, or the efficiency: the optimum is the same.
        background: expected events; below 1e-6 it counts as 1e-6.
        background_error: standard deviation, in events, added to the root in quadrature.
        n_sigma: of the discovery and of the exclusion.

    Gradient: exact.
    Source: Punzi, arXiv:physics/0308063.
    """
    xp = namespace(signal, background, background_error)
    return signal / (n_sigma / 2 + xp.sqrt(_positive(background) + background_error**2))


def purity(signal: Count, background: Count, background_error: Count = 0.0) -> Count:
    """Share of signal among what is kept, the background at one error above its expectation.

    Gradient: exact.
    """
    return signal / (signal + _positive(background) + background_error)


def purity_at_efficiency(
    signal_score: Float[Any, "signal"],
    signal_weights: Float[Any, "signal"],
    background_score: Float[Any, "background"],
    background_weights: Float[Any, "background"],
    *,
    efficiency: float,
    softness: float,
) -> Float[Any, ""]:
    """Purity behind the threshold on a score that keeps this share of the signal.

    The threshold is read softly. The score is any number that grows towards the signal, such as the smallest
    margin of a set of cuts.

    Args:
        signal_score: of each signal event.
        signal_weights: expected events that each stands for, >= 0.
        background_score: of each background event.
        background_weights: as of the signal.
        efficiency: of the signal, between 0 and 1.
        softness: of the threshold, > 0, unit of the score.

    Gradient: exact, the threshold's move included.
    """
    if not 0 < efficiency < 1:
        raise ValueError(f"efficiency is {efficiency}: must be between 0 and 1")
    xp = namespace(signal_score, signal_weights, background_score, background_weights)

    def kept(score: Any, weights: Any, threshold: Any) -> Any:
        return xp.sum(weights * xp.exp(log_sigmoid((score - threshold) / softness)))

    held, weights = stop_gradient(signal_score), stop_gradient(signal_weights)
    wanted = efficiency * xp.sum(weights)

    def halve(bounds: Any) -> Any:
        low, high = bounds
        middle = (low + high) / 2
        too_many = kept(held, weights, middle) > wanted
        return xp.where(too_many, middle, low), xp.where(too_many, high, middle)

    low, high = repeat(60, halve, (xp.min(held) - 40 * softness, xp.max(held) + 40 * softness))
    threshold = (low + high) / 2
    # one Newton step, whose value is 0 and whose gradient is that of the threshold
    passed = xp.exp(log_sigmoid((held - threshold) / softness))
    slope = -xp.sum(weights * passed * (1 - passed)) / softness
    miss = kept(signal_score, signal_weights, threshold) - efficiency * xp.sum(signal_weights)
    threshold = threshold - miss / slope
    signal = kept(signal_score, signal_weights, threshold)
    return purity(signal, kept(background_score, background_weights, threshold))


def background_error(
    background: Count, sum_of_squares: Count, *, one_event: float, relative_error: float = 0.0
) -> Count:
    """Error of a background that is expected from a finite sample.

    A cut tuned without it finds the places that the sample has left empty. The variance is the systematic
    one, the sum of squared weights (acceptances included) and that of one event more, so that the error stays
    above one event where the sample shows none.

    Args:
        background: expected events.
        sum_of_squares: of weight x acceptance over the sample's events.
        one_event: what one event of the sample stands for, >= 0.
        relative_error: systematic, of the background.

    Gradient: exact.
    Source: sum of squared weights, Barlow & Beeston, Comput. Phys. Commun. 77 (1993) 219, section 2. One
    event is the standard deviation of a flat prior's posterior where none was seen.
    """
    xp = namespace(background, sum_of_squares)
    return xp.sqrt((relative_error * background) ** 2 + sum_of_squares + one_event**2)
