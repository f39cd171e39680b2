"""The figure of merit around tuned cuts: what each threshold is worth."""

import dataclasses

import numpy as np
from jaxtyping import Float

from inference.tuning.figures import Evaluator
from inference.tuning.objective import Objective
from inference.tuning.result import TunedCuts
from inference.tuning.samples import Samples, join
from inference.tuning.vector import make_vector


@dataclasses.dataclass(frozen=True)
class Profile:
    """Hard figures along one threshold; a curve moves as a whole."""

    name: str
    unit: str
    shift: Float[np.ndarray, "point"]  # of the threshold, from the tuned one
    figure: Float[np.ndarray, "point"]  # hard, penalised
    tuned: float | None  # the threshold's value; None for a curve


def profiles(
    tuned: TunedCuts, samples: Samples, objective: Objective, *, reach: float = 1.0, n_points: int = 41
) -> list[Profile]:
    """Move one threshold at a time, all others as tuned.

    Args:
        tuned: where.
        samples: all events; those that tuning saw are among them.
        objective: the figure.
        reach: to both sides, in spreads of the signal, > 0.
        n_points: odd, so that the tuned threshold is one of them.
    """
    cuts = tuned.cuts
    table = join(samples, cuts, objective.columns)
    evaluator = Evaluator(objective, table.names, table.signal)
    bins = objective.bin_of(table)
    sides = [(cut, side) for cut in cuts for side in cut.sides]
    spreads = {cut.name: [1.0] * len(cut.sides) for cut in cuts}
    vector = make_vector(cuts, spreads, dict.fromkeys(spreads, (-np.inf, np.inf)), {})
    out = []
    for (cut, side), (first, size) in zip(sides, vector.groups, strict=True):
        shift = np.linspace(-reach, reach, n_points) * float(np.median(tuned.scale[first : first + size]))
        figures = []
        for step in shift:
            values = vector.origin.copy()
            values[first : first + size] += step
            found = evaluator.hard(vector.rebuild(values), table, bins, penalised=objective.penalise)
            figures.append(float(found.value))
        value = float(vector.origin[first]) if vector.names[first] == f"{cut.name}.{side}" else None
        out.append(Profile(f"{cut.name}.{side}", cut.unit, shift, np.asarray(figures), value))
    return out
