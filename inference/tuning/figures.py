"""Figures of cuts on a table of events: soft, hard, and with bootstrap intervals."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim.selection import CutSet
from inference.tuning import acceptance
from inference.tuning.objective import Objective
from inference.tuning.samples import Table
from inference.tuning.vector import side_margins


class Arrays(NamedTuple):
    """A table's arrays, class by class, as compiled functions take them."""

    columns: dict[str, Float[Array, "event"]]
    weight: Float[Array, "event"]
    bin: Any  # None where all events count in one bin
    tangents: dict[str, dict[str, Float[Array, "event"]]]


class Figure(NamedTuple):
    """A figure of merit and the counts behind it."""

    value: Float[Array, ""]
    kept: Float[Array, "source"]  # expected events of each class behind the cuts


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Compiled figures of one kind of table: which rows are of which class is fixed."""

    objective: Objective
    names: tuple[str, ...]
    signal: tuple[bool, ...]

    def arrays(self, table: Table) -> tuple[Arrays, tuple[int, ...], tuple[float, ...]]:
        """Arrays sorted by class, the number of events of each, and what one of them stands for."""
        order = np.argsort(table.source, kind="stable")
        take = {c: jnp.asarray(v[order]) for c, v in table.columns.items()}
        tangents = {n: {c: jnp.asarray(v[order]) for c, v in t.items()} for n, t in table.tangents.items()}
        bins = None if self.objective.bins is None else jnp.asarray(self.objective.bin_of(table)[order])
        sizes = tuple(int(n) for n in np.bincount(table.source, minlength=len(table.names)))
        arrays = Arrays(take, jnp.asarray(table.weight[order]), bins, tangents)
        return arrays, sizes, tuple(float(f) for f in table.floor)

    def by_class(self, values: Array, bins: Any, sizes: Sequence[int]) -> list[Array]:
        """Sums over the events of each class, in each bin."""
        out, start = [], 0
        n_bins = self.objective.n_bins
        for size in sizes:
            here = slice(start, start + size)
            if bins is None:
                out.append(jnp.sum(values[here])[None])
            else:
                out.append(jax.ops.segment_sum(values[here], bins[here], n_bins + 1)[:n_bins])
            start += size
        return out

    def _figure(self, passed, arrays: Arrays, sizes, floor, shifts, *, penalised: bool) -> Figure:
        kept = self.by_class(passed * arrays.weight, arrays.bin, sizes)
        squares = self.by_class(passed * arrays.weight**2, arrays.bin, sizes)
        backgrounds = [k for k, s in zip(kept, self.signal, strict=True) if not s]
        counts = self.objective.counts(
            sum((k for k, s in zip(kept, self.signal, strict=True) if s), jnp.zeros(self.objective.n_bins)),
            backgrounds,
            sum(q for q, s in zip(squares, self.signal, strict=True) if not s),
            [f for f, s in zip(floor, self.signal, strict=True) if not s],
            shifts,
            penalised=penalised,
        )
        whole = kept if arrays.bin is None else self.by_class(passed * arrays.weight, None, sizes)
        return Figure(self.objective(counts), jnp.stack([k[0] for k in whole]))

    def shifts(self, cuts: CutSet, arrays: Arrays, sizes, softness) -> list[Array]:
        """Change of the background with each nuisance parameter, through the soft acceptance."""
        out = []
        for tangents in arrays.tangents.values():

            def background(columns, weight):
                passed = acceptance.soft(side_margins(cuts, columns), softness)
                kept = self.by_class(passed * weight, arrays.bin, sizes)
                return sum(k for k, s in zip(kept, self.signal, strict=True) if not s)

            moves = {c: tangents[c] for c in arrays.columns}
            at = (arrays.columns, arrays.weight)
            out.append(jax.jvp(background, at, (moves, tangents["weight"]))[1])
        return out

    def soft(self, cuts: CutSet, arrays: Arrays, sizes, floor, softness, *, penalised: bool) -> Figure:
        """Of soft cuts. Gradient: exact in the cuts, and in columns and weights."""
        passed = acceptance.soft(side_margins(cuts, arrays.columns), softness)
        shifts = self.shifts(cuts, arrays, sizes, softness)
        return self._figure(passed, arrays, sizes, floor, shifts, penalised=penalised)

    def hard(self, cuts: CutSet, arrays: Arrays, sizes, floor, softness, *, penalised: bool) -> Figure:
        """Of hard cuts; nuisance parameters act through soft ones of this softness. Gradient: none."""
        passed = acceptance.hard(side_margins(cuts, arrays.columns)).astype(arrays.weight.dtype)
        shifts = self.shifts(cuts, arrays, sizes, softness)
        return self._figure(passed, arrays, sizes, floor, shifts, penalised=penalised)


class Interval(NamedTuple):
    """A value with its central 68 % bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap(
    random: np.random.Generator,
    evaluator: Evaluator,
    table: Table,
    passed: Sequence[np.ndarray],
    shifts: Sequence[Sequence[np.ndarray]],
    *,
    n_draws: int = 200,
) -> Float[np.ndarray, "set draw"]:
    """Figures, without penalty, of several sets of cuts on the same Poisson bootstrap samples.

    Args:
        random: of the samples.
        evaluator: of the figure.
        table: held-out events.
        passed: of each set, whether each event passes.
        shifts: of each set, changes of the background with each nuisance parameter.
        n_draws: > 0.
    """
    objective = evaluator.objective
    bins, n_bins = objective.bin_of(table), objective.n_bins
    code = np.zeros(len(table), np.int64)  # which of the sets an event passes
    for number, mask in enumerate(passed):
        code += mask.astype(np.int64) << number
    kept = np.zeros((len(passed), len(table.names), n_bins, n_draws))
    for source in range(len(table.names)):
        chosen = (table.source == source) & (code > 0) & (bins < n_bins)
        group = code[chosen] * n_bins + bins[chosen]
        for value in np.unique(group):
            weights = table.weight[chosen][group == value].astype(float)
            if np.ptp(weights) <= 1e-6 * weights[0]:
                sums = weights[0] * random.poisson(len(weights), n_draws)
            else:
                sums = np.array([weights @ random.poisson(1.0, len(weights)) for _ in range(n_draws)])
            for number in range(len(passed)):
                if (value // n_bins) >> number & 1:
                    kept[number, source, value % n_bins] += sums
    signal = np.asarray(evaluator.signal)
    figures = np.zeros((len(passed), n_draws))
    one = jax.jit(
        jax.vmap(
            lambda s, b, shift: objective(objective.counts(s, [b], 0.0, [0.0], shift, penalised=False)),
            in_axes=(1, 1, None),
        )
    )
    for number in range(len(passed)):
        s, b = kept[number][signal].sum(0), kept[number][~signal].sum(0)
        figures[number] = np.asarray(
            one(jnp.asarray(s), jnp.asarray(b), [jnp.asarray(x) for x in shifts[number]])
        )
    return figures


def interval(value: float, draws: np.ndarray) -> Interval:
    """Value and central 68 % of the finite draws."""
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, [0.16, 0.84]) if draws.size else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))
