"""Figures of cuts on a table of events: soft, hard, and with bootstrap intervals."""

import dataclasses
import functools
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

    value: Any  # Float[Array, ""], of JAX or NumPy
    kept: Any  # Float[Array, "source"]: expected events of each class behind the cuts


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Figures of an objective on tables with these classes."""

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

    def of_probability(self, passed: Array, arrays: Arrays, sizes: Sequence[int]) -> Figure:
        """Of events that each pass with a probability, without penalty. Gradient: exact."""
        return self._figure(passed, arrays, sizes, (0.0,) * len(self.names), (), penalised=False)

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

    def soft(
        self, cuts: CutSet, arrays: Arrays, sizes, floor, softness, *, slope_softness=None, penalised: bool
    ) -> Figure:
        """Of soft cuts; `slope_softness`, where nuisance parameters act, is `softness` if not given.

        Gradient: exact in the cuts, and in columns and weights.
        """
        passed = acceptance.soft(side_margins(cuts, arrays.columns), softness)
        shifts = self.shifts(cuts, arrays, sizes, softness if slope_softness is None else slope_softness)
        return self._figure(passed, arrays, sizes, floor, shifts, penalised=penalised)

    def hard(
        self,
        cuts: CutSet,
        table: Table,
        bins: np.ndarray,
        shifts: Sequence[np.ndarray] = (),
        *,
        penalised: bool,
    ) -> Figure:
        """Of hard cuts, by NumPy. Gradient: none.

        Args:
            cuts: with plain numbers.
            table: events.
            bins: of the objective, of each event.
            shifts: of the background with each nuisance parameter, through soft cuts.
            penalised: with the finite sample's error.
        """
        passed = np.asarray(acceptance.hard(side_margins(cuts, table.columns)))
        return self.hard_of(passed, table, bins, shifts, penalised=penalised)

    def hard_of(
        self,
        passed: np.ndarray,
        table: Table,
        bins: np.ndarray,
        shifts: Sequence[np.ndarray] = (),
        *,
        penalised: bool,
    ) -> Figure:
        """The same of events that something else has selected."""
        n_sources, n_bins = len(self.names), self.objective.n_bins
        place = (table.source * (n_bins + 1) + bins)[passed]
        weight = table.weight[passed].astype(float)
        kept, squares = (
            np.bincount(place, w, minlength=n_sources * (n_bins + 1)).reshape(n_sources, n_bins + 1)
            for w in (weight, weight**2)
        )
        signal = np.asarray(self.signal)
        value = _figure_of_sums(
            self.objective,
            kept[signal, :n_bins].sum(0),
            kept[~signal, :n_bins].sum(0),
            squares[~signal, :n_bins].sum(0),
            table.floor[~signal],
            tuple(shifts),
            penalised,
        )
        return Figure(value, jnp.asarray(kept.sum(1)))


@functools.partial(jax.jit, static_argnums=(0, 6))
def _figure_of_sums(objective, signal, background, squares, floor, shifts, penalised):
    counts = objective.counts(signal, [background], squares, floor, shifts, penalised=penalised)
    return objective(counts)


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
    figures = [
        _figures_of_draws(objective, k[signal].sum(0), k[~signal].sum(0), tuple(shift))
        for k, shift in zip(kept, shifts, strict=True)
    ]
    return np.asarray(figures)


@functools.partial(jax.jit, static_argnums=0)
def _figures_of_draws(objective, signal, background, shifts):
    def one(s, b):
        return objective(objective.counts(s, [b], 0.0, jnp.zeros(1), shifts, penalised=False))

    return jax.vmap(one, in_axes=(1, 1))(signal, background)


def interval(value: Any, draws: np.ndarray) -> Interval:
    """Value and central 68 % of the finite draws."""
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, [0.16, 0.84]) if draws.size else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))
