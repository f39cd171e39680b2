"""One tuning: its events in parts, its parameters as a vector, its figures compiled."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dmsim.selection import CutSet
from inference.tuning import acceptance
from inference.tuning import constraints as limits
from inference.tuning.constraints import Constraint
from inference.tuning.figures import Arrays, Evaluator, Figure
from inference.tuning.objective import Objective
from inference.tuning.result import Settings
from inference.tuning.samples import Samples, Table, join, split
from inference.tuning.vector import Cuts, make_vector, side_margins


class Part:
    """Events of one part, as compiled functions take them."""

    def __init__(self, table: Table, evaluator: Evaluator):
        self.table = table
        self.arrays, self.sizes, self.floor = evaluator.arrays(table)
        self.compiled: dict[tuple[str, bool], Callable] = {}


class Problem:
    """What is tuned, on what, for what."""

    def __init__(
        self,
        random: np.random.Generator,
        cuts: Cuts,
        samples: Samples,
        objective: Objective,
        constraints: Sequence[Constraint],
        settings: Settings,
        held_out: Samples | None,
    ):
        """Divide the events, scale the parameters.

        Raises:
            ValueError: as `tune`.
        """
        self.cuts: CutSet = cuts if isinstance(cuts, CutSet) else CutSet(tuple(cuts))
        self.columns = objective.columns
        table = join(samples, self.cuts, self.columns)
        limits.check(constraints, table)
        if held_out is None:
            tune, choose, quote = settings.fractions
            table, quoted = split(table, (tune + choose, quote), random)
        else:
            quoted = join(held_out, self.cuts, self.columns)
            if (quoted.names, quoted.signal) != (table.names, table.signal):
                raise ValueError(
                    f"held-out samples are {', '.join(quoted.names)}, others {', '.join(table.names)}"
                )
        tune, choose = np.asarray(settings.fractions[:2]) / sum(settings.fractions[:2])
        tuning, validation = split(table, (tune, choose), random)

        signal = {c: v[table.is_signal] for c, v in table.columns.items()}
        weight = table.weight[table.is_signal]
        _check_signal(self.cuts, signal, weight)
        self.constraints, self.settings = tuple(constraints), settings
        self.scales = self.cuts.scales(signal, weight)
        self.spread = np.concatenate([self.scales[cut.name] for cut in self.cuts])
        self.vector = make_vector(self.cuts, self.scales, limits.bounds_of(constraints))
        self.evaluator = Evaluator(objective, table.names, table.signal)
        self.tuning, self.validation, self.both, self.held_out = (
            Part(t, self.evaluator) for t in (tuning, validation, table, quoted)
        )
        self.n_hard = 0

    def figure(self, kind: str, vector: Array, part: Part, arrays: Arrays, softness, *, penalised: bool):
        """One figure, to be compiled: kind is "soft" or "hard". Gradient: of soft ones, exact."""
        evaluate = getattr(self.evaluator, kind)
        cuts = self.vector.cuts(vector)
        return evaluate(cuts, arrays, part.sizes, part.floor, softness, penalised=penalised)

    def evaluate(self, kind: str, vectors: Array, part: Part, *, penalised: bool = True) -> Figure:
        """Figures of several vectors, at the last softness."""
        softness = jnp.asarray(self.settings.softness[1] * self.spread, jnp.float32)
        if (kind, penalised) not in part.compiled:

            def one(vector, arrays):
                return self.figure(kind, vector, part, arrays, softness, penalised=penalised)

            part.compiled[kind, penalised] = jax.jit(
                lambda vs, arrays: jax.lax.map(lambda v: one(v, arrays), vs)
            )
        if kind == "hard":
            self.n_hard += len(vectors)
        return jax.tree.map(np.asarray, part.compiled[kind, penalised](vectors, part.arrays))

    def broken(self, kept, part: Part):
        """By how much each constraint is broken. Gradient: exact."""
        evaluator = self.evaluator
        return limits.excesses(self.constraints, evaluator.names, evaluator.signal, part.table.expected, kept)

    def obeyed(self, kept, part: Part, *, slack: float = 0.0) -> bool:
        """Whether all constraints are."""
        return limits.obeyed(self.constraints, self.broken(kept, part), slack=slack)

    def efficiency(self, kept, part: Part):
        """Of all signal, from expected events of each class."""
        signal = np.asarray(self.evaluator.signal)
        return np.asarray(kept)[..., signal].sum(-1) / part.table.expected[signal].sum()

    def numbers(self, values: np.ndarray) -> CutSet:
        """Cuts with these thresholds as plain numbers, and arrays of them for knots."""
        return jax.tree.map(
            lambda leaf: float(leaf) if np.ndim(leaf) == 0 else np.asarray(leaf, float),
            self.vector.rebuild(np.asarray(values, float)),
        )

    def shifts(self, vector: Array, part: Part) -> list[np.ndarray]:
        """Change of the background in each bin with each nuisance parameter, at the last softness."""
        softness = jnp.asarray(self.settings.softness[1] * self.spread, jnp.float32)
        found = self.evaluator.shifts(self.vector.cuts(vector), part.arrays, part.sizes, softness)
        return [np.asarray(shift) for shift in found]

    def renew(self, samples: Samples) -> None:
        """Put new events in place of those that steps are taken on, as many of each class.

        Raises:
            ValueError: if there are fewer than that, or as `join`.
        """
        table = join(samples, self.cuts, self.columns)
        rows = []
        for number, (name, size) in enumerate(zip(table.names, self.tuning.sizes, strict=True)):
            found = np.flatnonzero(table.source == number)[:size]
            if len(found) < size:
                raise ValueError(f"resample gave {len(found)} events of {name!r}: {size} are needed")
            rows.append(found)
        fresh = Part(table.take(np.concatenate(rows)), self.evaluator)
        self.tuning.table, self.tuning.arrays = fresh.table, fresh.arrays

    def passed(self, vector: Array, part: Part) -> np.ndarray:
        """Whether each event of the part's table passes."""
        columns = {c: jnp.asarray(v) for c, v in part.table.columns.items()}
        return np.asarray(acceptance.hard(side_margins(self.vector.cuts(vector), columns)))


def _check_signal(cuts: CutSet, signal, weight: np.ndarray) -> None:
    left = weight > 0
    for cut in cuts:
        before = int(left.sum())
        left = left & np.asarray(cut.passes(signal))
        if not left.any():
            raise ValueError(
                f"no signal is left: cut {cut.name!r} removes the last {before} of {len(left)} signal "
                "events; start from looser thresholds"
            )
