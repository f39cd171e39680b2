"""One tuning: its events in parts, its parameters as a vector, its figures compiled."""

import functools
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
    """Events of one part, for NumPy and for compiled functions."""

    def __init__(self, table: Table, evaluator: Evaluator):
        self.table, self.bins = table, evaluator.objective.bin_of(table)
        self.arrays, self.sizes, self.floor = evaluator.arrays(table)


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
        self.scales = {name: s.tolist() for name, s in self.cuts.scales(signal, weight).items()}
        self.spread = np.concatenate([self.scales[cut.name] for cut in self.cuts])
        self.vector = make_vector(self.cuts, self.scales, limits.bounds_of(constraints))
        self.evaluator = Evaluator(objective, table.names, table.signal)
        self.tuning, self.validation, self.both, self.held_out = (
            Part(t, self.evaluator) for t in (tuning, validation, table, quoted)
        )
        self.n_hard = 0

    def soft(self, vector: Array, part: Part, arrays: Arrays, softness, *, penalised: bool) -> Figure:
        """Figure of soft cuts; softness of each side. Gradient: exact."""
        cuts = self.vector.cuts(vector)
        return self.evaluator.soft(cuts, arrays, part.sizes, part.floor, softness, penalised=penalised)

    def hard(self, vector: Array, part: Part, *, penalised: bool = True) -> Figure:
        """Figure of hard cuts; what nuisance parameters do goes through soft ones of the last softness."""
        self.n_hard += 1
        cuts = self.vector.rebuild(np.asarray(self.vector.values(vector)))
        shifts = self.shifts(vector, part) if part.table.tangents else ()
        found = self.evaluator.hard(cuts, part.table, part.bins, shifts, penalised=penalised)
        return Figure(*(np.asarray(part) for part in found))

    @property
    def last_softness(self) -> Array:
        """Of each side, in the unit of its cut."""
        return jnp.asarray(self.settings.softness[1] * self.spread, jnp.float32)

    @functools.cached_property
    def opening(self) -> Callable[[Array], Array]:
        """The direction that opens the cuts to the signal fastest, its largest component 1.

        At an optimum the figure's gradient lies along that of the efficiency: no direction loses less.
        """
        part, signal = self.both, jnp.asarray(self.evaluator.signal)
        # softer than the last: efficiency must have a slope everywhere along the way
        softness = jnp.asarray(self.settings.softness[0] * self.spread, jnp.float32)

        @jax.jit
        def slope(vector, arrays):
            def log_signal(v):
                kept = self.soft(v, part, arrays, softness, penalised=False).kept
                return jnp.log(jnp.sum(jnp.where(signal, kept, 0.0)))

            found = jax.grad(log_signal)(vector)
            size = jnp.max(jnp.abs(found))
            return found / jnp.where(size > 0, size, 1.0)

        return lambda vector: slope(vector, part.arrays)

    def broken(self, kept, part: Part):
        """By how much each constraint is broken. Gradient: exact."""
        evaluator = self.evaluator
        return limits.excesses(self.constraints, evaluator.names, evaluator.signal, part.table.expected, kept)

    def obeyed(self, kept, part: Part) -> bool:
        """Whether all constraints are."""
        return limits.obeyed(self.constraints, self.broken(kept, part))

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
        cuts = self.vector.cuts(vector)
        found = self.evaluator.shifts(cuts, part.arrays, part.sizes, self.last_softness)
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
        self.tuning.table, self.tuning.bins, self.tuning.arrays = fresh.table, fresh.bins, fresh.arrays

    def passed(self, vector: Array, part: Part) -> np.ndarray:
        """Whether each event of the part's table passes."""
        cuts = self.vector.rebuild(np.asarray(self.vector.values(vector)))
        return np.asarray(acceptance.hard(side_margins(cuts, part.table.columns)))


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
