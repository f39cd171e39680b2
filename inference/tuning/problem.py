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

_MOST_NARROW = 30.0  # a class that is narrower than the signal by more counts as this; keeps slopes finite


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
        self.narrowest = _narrowest(self.cuts, table, self.spread)
        ends = _ends(self.cuts, table)
        self.vector = make_vector(self.cuts, self.scales, ends, limits.bounds_of(constraints))
        self.evaluator = Evaluator(objective, table.names, table.signal)
        self.tuning, self.validation, self.both, self.held_out = (
            Part(t, self.evaluator) for t in (tuning, validation, table, quoted)
        )
        self.n_hard = 0

    def soft(self, vector: Array, part: Part, arrays: Arrays, softness, *, penalised: bool) -> Figure:
        """Figure of soft cuts; softness of each side. Gradient: exact."""
        cuts, slopes = self.vector.cuts(vector), jnp.maximum(softness, self.slope_softness)
        return self.evaluator.soft(
            cuts, arrays, part.sizes, part.floor, softness, slope_softness=slopes, penalised=penalised
        )

    def hard(self, vector: Array, part: Part, *, penalised: bool = True) -> Figure:
        """Figure of hard cuts; what nuisance parameters do goes through soft ones."""
        self.n_hard += 1
        cuts = self.vector.rebuild(np.asarray(self.vector.values(vector)))
        shifts = self.shifts(vector, part) if part.table.tangents else ()
        found = self.evaluator.hard(cuts, part.table, part.bins, shifts, penalised=penalised)
        return Figure(*(np.asarray(part) for part in found))

    def softness(self, step) -> Array:
        """Of each side after this many steps, in the unit of its cut; geometric in between."""
        first, last = self.settings.softness
        done = step / max(self.settings.n_steps - 1, 1)
        log_first, log_last = np.log(first * self.spread), np.log(last * self.narrowest)
        return jnp.exp(
            jnp.asarray(log_first, jnp.float32) + done * jnp.asarray(log_last - log_first, jnp.float32)
        )

    @property
    def last_softness(self) -> Array:
        """Of each side, in the unit of its cut."""
        return self.softness(max(self.settings.n_steps - 1, 1))

    @property
    def slope_softness(self) -> Array:
        """Of each side, for what nuisance parameters do: that of half of the way.

        A slope counts the events within the softness of a threshold; at the last softness there are too few.
        """
        return self.softness(self.settings.n_steps / 2)

    @functools.cached_property
    def opening(self) -> Callable[[Array, int], Array]:
        """Of a vector and a constraint's number: where what it counts grows fastest; largest component 1.

        At a constrained optimum the figure's gradient lies along it: no direction loses less.
        """
        part = self.both
        # softer than the last: what is counted must have a slope everywhere along the way
        softness = self.softness(0)

        @jax.jit
        def slope(vector, number, arrays):
            def log_kept(v):
                kept = self.soft(v, part, arrays, softness, penalised=False).kept
                return jnp.log(jnp.stack(self.ratios(kept, part))[number])

            found = jax.grad(log_kept)(vector)
            found = jnp.where(jnp.isfinite(found), found, 0.0)
            size = jnp.max(jnp.abs(found))
            return found / jnp.where(size > 0, size, 1.0)

        return lambda vector, number: slope(vector, number, part.arrays)

    def ratios(self, kept, part: Part) -> list:
        """What is kept over what each constraint asks for. Gradient: exact."""
        evaluator = self.evaluator
        return limits.ratios(self.constraints, evaluator.names, evaluator.signal, part.table.expected, kept)

    def broken(self, vector: Array) -> list[float]:
        """By how much hard cuts break each constraint.

        On all events but the held-out ones; of limits, the worse of these and of the events to choose on
        alone, which no step has pushed below the limit.
        """
        all_events, chosen = (
            limits.excesses(self.constraints, self.ratios(self.hard(vector, part).kept, part))
            for part in (self.both, self.validation)
        )
        return [
            float(x if isinstance(c, limits.Efficiency) else max(x, y))
            for c, x, y in zip(limits.limits_of(self.constraints), all_events, chosen, strict=True)
        ]

    def obeys(self, vector: Array) -> bool:
        """Whether hard cuts obey all constraints."""
        return limits.obeyed(self.constraints, self.broken(vector))

    def obeyed(self, kept, part: Part) -> bool:
        """Whether all constraints are, on one part."""
        return limits.obeyed(self.constraints, limits.excesses(self.constraints, self.ratios(kept, part)))

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
        """Change of the background in each bin with each nuisance parameter, for one standard deviation."""
        cuts = self.vector.cuts(vector)
        found = self.evaluator.shifts(cuts, part.arrays, part.sizes, self.slope_softness)
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


def _narrowest(cuts: CutSet, table: Table, spread: np.ndarray) -> np.ndarray:
    """Spread of each side's margin over the class that has the least of it, such as a wall in the radius.

    A cut beside a narrow background can only be told hard from soft on the background's own scale.
    """
    least = spread
    for number in range(len(table.names)):
        mine = table.source == number
        scales = cuts.scales({c: v[mine] for c, v in table.columns.items()}, table.weight[mine])
        least = np.minimum(least, np.concatenate([scales[cut.name] for cut in cuts]))
    return np.maximum(least, spread / _MOST_NARROW)


def _ends(cuts: CutSet, table: Table) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each cut's variable: thresholds beyond them do nothing."""
    out = {}
    for cut in cuts:
        values = table.columns[cut.key]
        values = values[np.isfinite(values)]
        out[cut.name] = (float(values.min()), float(values.max())) if values.size else (-np.inf, np.inf)
    return out


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
