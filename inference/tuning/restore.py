"""Bring hard cuts to what the constraints ask for, by bisection along one direction."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array

from inference.tuning import constraints as limits
from inference.tuning.constraints import Efficiency, MaxBackground
from inference.tuning.problem import Problem

_FARTHEST = 4.0  # spreads of the signal
_ROUNDS = 4  # constraints may pull against each other


def restore(problem: Problem, vector: Array) -> Array:
    """The vector, moved as little as possible along its opening until hard cuts obey the constraints.

    Works on the events to tune and to choose on together. Where it cannot be done the nearest try comes back.

    Gradient: none.
    """
    part = problem.both
    direction = problem.opening(vector)

    def at(distance: float) -> Array:
        return problem.vector.project(vector + distance * direction)

    def excess(distance: float, number: int):
        return problem.broken(problem.hard(at(distance), part).kept, part)[number]

    asked = [c for c in problem.constraints if not isinstance(c, limits.Bounds)]
    distance = 0.0
    for _ in range(_ROUNDS):
        worst = None
        for number, constraint in enumerate(asked):
            value, equal = excess(distance, number)
            allowed = constraint.tolerance / constraint.value if isinstance(constraint, Efficiency) else 0.0
            size = abs(value) if equal else value
            if size > allowed and (worst is None or size > worst[0]):
                worst = size, number, constraint, allowed
        if worst is None:
            break
        _, number, constraint, allowed = worst
        distance = _bisect(lambda d, n=number: excess(d, n)[0], constraint, distance, allowed)
    return at(distance)


def _bisect(excess: Callable[[float], float], constraint, start: float, allowed: float) -> float:
    """Where the excess changes its sign; the obeying side of it."""
    closes = isinstance(constraint, MaxBackground)
    value = excess(start)
    rises = isinstance(constraint, Efficiency | MaxBackground)  # with opening; that of a minimum falls
    outwards = -1.0 if (value > 0) == rises else 1.0
    step, near, far = 0.05, start, start
    while abs(far - start) < _FARTHEST:
        far = start + outwards * step
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
        if allowed and abs(here) < allowed / 3:
            return middle
        if abs(far - near) < 1e-4 and not (closes or allowed):
            break
    return far
