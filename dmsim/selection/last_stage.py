"""Gradient of hard cuts whose variable is smeared by a normal distribution last of all.

Given what precedes the last stage, the probability to pass is known in closed form and smooth in thresholds
and parameters: no softness is needed, and nothing is biased.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr as numpy_ndtr

from dmsim.selection.arrays import namespace, stop_gradient
from dmsim.selection.cut import AbstractCut
from dmsim.selection.quantities import Columns


def pass_probability(cut: AbstractCut, events: Columns, sigma: Any) -> Float[Any, "event"]:
    """Probability that an event passes a cut once its variable is smeared.

    Args:
        cut: one or two sides.
        events: columns before the last stage: the cut's variable is the mean of what is measured.
        sigma: standard deviation of the last stage, > 0, unit of the variable; one, or one an event.

    Gradient: exact, in thresholds, columns and sigma. Curves that follow the smeared variable itself are
    taken at its mean.
    """
    return interval_probability([margin / sigma for margin in cut.margins(events)])


def interval_probability(distances: Sequence[Float[Any, "event"]]) -> Float[Any, "event"]:
    """Probability that a standard normal number lies within one or two thresholds at these distances.

    Args:
        distances: of the mean from each threshold, in standard deviations, > 0 inside; two are those of a
            lower and an upper one.

    Gradient: exact.
    """
    if len(distances) == 1:
        return _ndtr(distances[0])
    inner, outer = distances
    xp = namespace(inner, outer)
    # the smaller distance decides which tails are subtracted: never two numbers close to 1
    near, far = xp.minimum(inner, outer), xp.maximum(inner, outer)
    return xp.maximum(_ndtr(near) - _ndtr(-far), 0.0)


def hard_with_gradient(passed: Any, probability: Float[Any, "event"]) -> Float[Any, "event"]:
    """1 where an event passed, else 0, with the gradient of the probability that it would.

    Over the last stage's draws its mean is the probability, and the mean gradient that of the probability: a
    figure linear in it has no bias. What else it is multiplied with must not depend on the last stage.

    Args:
        passed: hard reading of the smeared variable, 0 and 1 or bool.
        probability: to pass, given what precedes the last stage.

    Gradient: conditional (exact in expectation).
    Source: Fu & Hu, "Conditional Monte Carlo" (1997), chapter 1.
    """
    xp = namespace(probability)
    value = xp.asarray(passed).astype(probability.dtype)
    return value + (probability - stop_gradient(probability))


def _ndtr(x: Any) -> Any:
    if namespace(x) is np:
        return numpy_ndtr(x)
    import jax  # noqa: PLC0415 - it is there already

    return jax.scipy.special.ndtr(x)
