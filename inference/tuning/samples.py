"""Simulated or measured events of each class, with what each event stands for, as tuning reads them."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dmsim.selection import CutSet
from dmsim.selection.quantities import needs, quantity

Columns = Mapping[str, Any]  # name -> one number an event


@dataclasses.dataclass(frozen=True)
class Sample:
    """Events of one class.

    Attributes:
        columns: name -> one number an event.
        expected: number of events of this class before any cut in the exposure that is tuned for, > 0.
        signal: whether it is what is searched for.
        weight: of each event relative to others, >= 0; all the same if not given.
            Their sum is worth `expected`.
        tangents: nuisance parameter -> column (or "weight") -> its change for one standard deviation of the
            parameter, as `inference.tuning.simulator.with_nuisances` makes them.
        lost: number of events in the exposure that are in no column, such as those without an S1 or S2,
            beside `expected`; no efficiency counts them, reports name them.
        note: where the events come from, for reports.
    """

    columns: Columns
    expected: float
    signal: bool = False
    weight: Float[np.ndarray, "event"] | None = None
    tangents: Mapping[str, Columns] = dataclasses.field(default_factory=dict)
    lost: float = 0.0
    note: str = ""

    def __len__(self) -> int:
        """Number of events."""
        return len(next(iter(self.columns.values())))


Samples = Mapping[str, Sample]


@dataclasses.dataclass(frozen=True)
class Table:
    """All classes in one table of float32 columns: what the compiled figures read."""

    columns: dict[str, Float[np.ndarray, "event"]]
    weight: Float[np.ndarray, "event"]  # expected events that each stands for
    source: Int[np.ndarray, "event"]  # position of its class in `names`
    names: tuple[str, ...]
    signal: tuple[bool, ...]  # of each class
    tangents: dict[str, dict[str, Float[np.ndarray, "event"]]]

    def __len__(self) -> int:
        """Number of events."""
        return len(self.weight)

    @functools.cached_property
    def is_signal(self) -> np.ndarray:
        """Of each event."""
        return np.asarray(self.signal)[self.source]

    @functools.cached_property
    def expected(self) -> Float[np.ndarray, "source"]:
        """Events before cuts, of each class."""
        return np.bincount(self.source, self.weight.astype(float), minlength=len(self.names))

    @functools.cached_property
    def floor(self) -> Float[np.ndarray, "source"]:
        """What one event of each class stands for on average: less than it a sample cannot show."""
        return self.expected / np.maximum(np.bincount(self.source, minlength=len(self.names)), 1)

    def take(self, rows: np.ndarray) -> "Table":
        """These events, reweighted class by class to the expectation of the whole."""
        source, weight = self.source[rows], self.weight[rows]
        kept = np.bincount(source, weight.astype(float), minlength=len(self.names))
        factor = self.expected / np.where(kept > 0, kept, 1.0)
        return dataclasses.replace(
            self,
            columns={name: column[rows] for name, column in self.columns.items()},
            weight=(weight * factor[source]).astype(np.float32),
            source=source,
            tangents={
                name: {
                    column: (values[rows] * factor[source] if column == "weight" else values[rows]).astype(
                        np.float32
                    )
                    for column, values in tangents.items()
                }
                for name, tangents in self.tangents.items()
            },
        )


def join(samples: Samples, cuts: CutSet, columns: Sequence[str] = ()) -> Table:
    """One table of what the cuts look at, and of other columns.

    Args:
        samples: by name.
        cuts: whose variables, and what their curves follow, become columns: they do not depend on thresholds.
        columns: or quantities that are wanted as well.

    Raises:
        ValueError: for no signal or background, no events, missing or ragged columns, weights that are
            negative or all zero, or a NaN that a cut refuses; the message names sample, column and event.
    """
    if not any(s.signal for s in samples.values()):
        raise ValueError("samples hold no signal: mark one with signal = true")
    if all(s.signal for s in samples.values()):
        raise ValueError("samples hold no background: give at least one with signal = false")
    weights = {name: _weight(name, sample) for name, sample in samples.items()}
    reduced = {name: _reduce(name, sample, cuts, columns) for name, sample in samples.items()}
    names = tuple(samples)
    nuisances = dict.fromkeys(n for s in samples.values() for n in s.tangents)
    kept = list(reduced[names[0]])
    return Table(
        columns={c: np.concatenate([reduced[name][c] for name in names]).astype(np.float32) for c in kept},
        weight=np.concatenate([weights[name] for name in names]).astype(np.float32),
        source=np.repeat(np.arange(len(names)), [len(samples[name]) for name in names]),
        names=names,
        signal=tuple(bool(samples[name].signal) for name in names),
        tangents={n: _join_tangents(n, samples, cuts, columns, kept) for n in nuisances},
    )


def _weight(name: str, sample: Sample) -> np.ndarray:
    n = len(sample) if sample.columns else 0
    if n == 0:
        raise ValueError(f"sample {name!r} has no events")
    if not (np.isfinite(sample.expected) and sample.expected > 0):
        raise ValueError(f"sample {name!r}: expected is {sample.expected} events: must be above 0 and finite")
    weight = np.ones(n) if sample.weight is None else np.asarray(sample.weight, float)
    if weight.shape != (n,):
        raise ValueError(f"sample {name!r}: weight has shape {weight.shape}, its columns {n} events")
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"sample {name!r}: weight of event {row} is {weight[row]}: must be >= 0 and finite")
    if not weight.any():
        raise ValueError(f"sample {name!r}: all weights are zero")
    return weight * (sample.expected / weight.sum())


def _reduce(name: str, sample: Sample, cuts: CutSet, columns: Sequence[str]) -> dict[str, np.ndarray]:
    n = len(sample)
    for column, values in sample.columns.items():
        if np.shape(values) != (n,):
            raise ValueError(f"sample {name!r}: column {column!r} has shape {np.shape(values)}, others {n}")
    events = {c: np.asarray(v, float) for c, v in sample.columns.items()}
    try:
        cuts.check(events)
        reduced = {**cuts.reduce(events), **{c: quantity(c, events) for c in columns}}
    except ValueError as error:
        raise ValueError(f"sample {name!r}: {error}") from error
    return {c: np.broadcast_to(np.asarray(v, float), (n,)) for c, v in reduced.items()}


def _join_tangents(
    nuisance: str, samples: Samples, cuts: CutSet, columns: Sequence[str], kept: Sequence[str]
) -> dict[str, np.ndarray]:
    """Changes of all events' reduced columns and weights, 0 where a sample does not say."""
    out: dict[str, list[np.ndarray]] = {c: [] for c in (*kept, "weight")}
    for name, sample in samples.items():
        given = sample.tangents.get(nuisance, {})
        used = {c for cut in cuts for c in cut.columns} | {part for c in columns for part in needs(c)}
        at = {c: jnp.asarray(sample.columns[c], jnp.float32) for c in used}
        moves = {c: jnp.asarray(given.get(c, np.zeros(len(sample))), jnp.float32) for c in used}

        def reduce(events):
            return {**cuts.reduce(events), **{c: quantity(c, events) for c in columns}}

        moved = jax.jvp(reduce, (at,), (moves,))[1]
        relative = np.ones(len(sample)) if sample.weight is None else np.asarray(sample.weight, float)
        change = np.asarray(given.get("weight", np.zeros(len(sample))), float)
        moved["weight"] = change * sample.expected / relative.sum()
        for c, parts in out.items():
            part = np.asarray(moved[c], float)
            bad = ~np.isfinite(part)
            if bad.any():
                row = int(np.argmax(bad))
                raise ValueError(
                    f"sample {name!r}: change of {c!r} with {nuisance!r} is {part[row]} in event {row}"
                )
            parts.append(part)
    return {c: np.concatenate(parts).astype(np.float32) for c, parts in out.items()}


def split(table: Table, fractions: Sequence[float], random: np.random.Generator) -> list[Table]:
    """The table in parts, class by class, each with the expectation of the whole.

    Args:
        table: to divide.
        fractions: of the events in each part, > 0, adding up to 1.
        random: of the order.

    Raises:
        ValueError: if the fractions do not add up to 1, or a part gets no events, or no weight, of a class.
    """
    if any(not f > 0 for f in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions {tuple(fractions)} must be above 0 and add up to 1")
    rows: list[list[np.ndarray]] = [[] for _ in fractions]
    for number, name in enumerate(table.names):
        mine = random.permutation(np.flatnonzero(table.source == number))
        ends = np.round(np.cumsum(fractions) * len(mine)).astype(int)
        parts = np.split(mine, ends[:-1])
        for part, into in zip(parts, rows, strict=True):
            if not table.weight[part].any():
                raise ValueError(
                    f"sample {name!r} with {len(mine)} events is too small to divide {fractions}"
                )
            into.append(part)
    return [table.take(np.concatenate(part)) for part in rows]
