"""Bring hard cuts to what the constraints ask for, by bisection."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array

from inference.tuning.constraints import Efficiency, MaxBackground, allowed, limits_of
from inference.tuning.problem import Problem

_FARTHEST = 4.0  # spreads of the signal
_ROUNDS = 6  # constraints may pull against each other


def restore(problem: Problem, vector: Array) -> Array:
    """The vector, moved as little as possible until hard cuts obey the constraints.

    The constraint that is broken most moves it along its own opening, then the next.
    Works on all events but the held-out ones. Where it cannot be done the nearest try comes back.

    Gradient: none.
    """
    for _ in range(_ROUNDS):
        broken = problem.broken(vector)
        worst = None
        for number, constraint in enumerate(limits_of(problem.constraints)):
            size = abs(broken[number]) if isinstance(constraint, Efficiency) else broken[number]
            if size > allowed(constraint) and (worst is None or size > worst[0]):
                worst = size, number, constraint
        if worst is None:
            break
        _, number, constraint = worst
        direction = problem.opening(vector, number)

        def at(distance: float, start=vector, direction=direction) -> Array:
            return problem.vector.project(start + distance * direction)

        def excess(distance: float, number=number, at=at) -> float:
            return problem.broken(at(distance))[number]

        vector = at(_bisect(excess, constraint, allowed(constraint)))
    return vector


def _bisect(excess: Callable[[float], float], constraint, tolerance: float) -> float:
    """Where the excess changes its sign; the obeying side of it."""
    value = excess(0.0)
    rises = isinstance(constraint, Efficiency | MaxBackground)  # with opening; that of a minimum falls
    outwards = -1.0 if (value > 0) == rises else 1.0
    step, near, far = 0.05, 0.0, 0.0
    while abs(far) < _FARTHEST:
        far = outwards * step
        if np.sign(excess(far)) != np.sign(value):
            break
        near, step = far, 2 * step
    else:
        return far
    for _ in range(30):
        middle = (near + far) / 2
        here = excess(middle)
        if np.sign(here) == np.sign(value):
            near = middle
        else:
            far = middle
        if tolerance and abs(here) < tolerance / 3:
            return middle
        if abs(far - near) < 1e-4 and not tolerance:
            break
    return far
