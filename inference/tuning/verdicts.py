"""Whether cuts obey each constraint: where they were chosen, and on held-out events with its error."""

import numpy as np
from jaxtyping import Array

from inference.tuning import constraints as limits
from inference.tuning.constraints import Efficiency, Limit, MaxBackground, MinEfficiency
from inference.tuning.problem import Part, Problem
from inference.tuning.result import Verdict


def verdicts(problem: Problem, vector: Array) -> tuple[Verdict, ...]:
    """Of hard cuts, one for each constraint but bounds."""
    out = []
    for c in limits.limits_of(problem.constraints):
        chosen, _ = _value(problem, vector, problem.both, c)
        found, error = _value(problem, vector, problem.held_out, c)
        if isinstance(c, Efficiency):
            met = abs(found - c.value) <= max(
                c.tolerance, error
            )  # no count is met more closely than its error
        else:
            met = found >= c.value if isinstance(c, MinEfficiency) else found <= c.value
        out.append(Verdict(in_words(c), c.value, chosen, found, error, bool(met)))
    return tuple(out)


def in_words(constraint: Limit) -> str:
    """What is asked for."""
    one = getattr(constraint, "sample", None)
    if isinstance(constraint, MaxBackground):
        return f"at most {constraint.value:g} expected events of {one or 'all backgrounds'}"
    least = "at least " if isinstance(constraint, MinEfficiency) else ""
    return f"efficiency {least}{constraint.value:g} of {one or 'all signal'}"


def _value(problem: Problem, vector: Array, part: Part, c: Limit) -> tuple[float, float]:
    """Efficiency or expected events, with the standard deviation from the events counted."""
    rows = limits.rows_of(c, problem.evaluator.names, problem.evaluator.signal)
    passed, table = problem.passed(vector, part), part.table
    mine = np.isin(table.source, rows)
    weight = table.weight[mine & passed].astype(float)
    total, square = float(weight.sum()), float((weight**2).sum())
    if isinstance(c, MaxBackground):
        # without an event the error is what one would be worth
        return total, float(np.sqrt(max(square, max(table.floor[rows]) ** 2)))
    every = table.weight[mine].astype(float)
    share = total / float(every.sum())
    # binomial, with the effective number of weighted events
    n = float(every.sum()) ** 2 / float((every**2).sum())
    return share, float(np.sqrt(max(share * (1 - share), 1 / n) / n))
