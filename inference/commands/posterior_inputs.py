"""What of a table of events a trained posterior takes, and what it leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from inference.likelihood.population_data import Table


class Inputs(NamedTuple):
    """Events that a posterior can be applied to."""

    event: Any  # their numbers
    columns: dict[str, Any]  # float32, what was measured
    left_out: dict[str, int]  # events, by why
    model: Any  # of `inference.events`; None if the posterior takes the columns themselves


def seen_by(model: Any, columns: dict[str, Any]) -> Any:
    """What a posterior takes of columns: a model's summary, or themselves.

    Gradient: that of the summary.
    """
    return columns if model is None else model.summary(observables(columns))


def observables(columns: dict[str, Any]) -> Any:
    """A model's columns side by side."""
    import jax.numpy as jnp

    from inference.events import OBSERVABLES

    return jnp.stack([jnp.asarray(columns[name]) for name in OBSERVABLES], axis=-1)


def read_inputs(table: Table, shapes: dict[str, tuple[int, ...]], model: Any) -> Inputs:
    """Columns of a table; events that lack one, or that are none by the model, are left out and counted.

    Args:
        table: of events.
        shapes: of the posterior's data of one event, by name.
        model: of `inference.events` that makes these data of columns, or None.

    Raises:
        ValueError: if the table has no such columns or others' shapes, or no event is left.
    """
    import numpy as np

    from inference.events import OBSERVABLES

    wanted: dict[str, tuple[int, ...]] = shapes if model is None else {name: () for name in OBSERVABLES}
    columns, event = _columns(table, wanted)
    finite = np.all(
        [np.isfinite(values.reshape(len(values), -1)).all(axis=1) for values in columns.values()], axis=0
    )
    if not finite.any():
        raise ValueError(f"{table.origin}: no event has finite values in {', '.join(columns)}")
    left_out, kept = {"without_data": int((~finite).sum())}, finite
    if model is not None:
        seen = np.asarray(model.seen(np.stack([columns[name] for name in OBSERVABLES], axis=-1)))
        left_out["below_threshold"] = int((finite & ~seen).sum())
        kept = finite & seen
        if not kept.any():
            s1, s2 = model.least_pe
            raise ValueError(f"{table.origin}: no event has an S1 of {s1:g} PE and an S2 of {s2:g} PE")
    columns = {name: values[kept].astype(np.float32) for name, values in columns.items()}
    return Inputs(np.asarray(event)[kept], columns, left_out, model)


def _columns(table: Table, shapes: dict[str, tuple[int, ...]]) -> tuple[dict[str, Any], Any]:
    """The columns that a posterior was trained on, and the events' numbers."""
    import numpy as np

    found = {**_lists(table, shapes), **table.columns}
    missing = [name or "(an array without names)" for name in shapes if name not in found]
    if missing:
        raise ValueError(
            f"{table.origin}, a table of {table.kind}, has no {', '.join(missing)}, on which the posterior "
            f"was trained; its columns are {', '.join(found)}"
        )
    columns = {name: found[name] for name in shapes}
    for name, shape in shapes.items():
        if columns[name].shape[1:] != shape:
            raise ValueError(
                f"{table.origin}: {name} has shape {columns[name].shape[1:]} an event: "
                f"the posterior was trained on {shape}"
            )
    n_events = len(next(iter(columns.values())))
    return columns, found.get("event", np.arange(n_events))


def _lists(table: Table, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Columns with several numbers an event, such as light patterns, which tables of events leave out.

    Raises:
        ValueError: if events have different numbers of them.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = [name for name, shape in shapes.items() if len(shape) == 1 and name not in table.columns]
    if not wanted or not table.origin.is_file():
        return {}
    schema = pq.read_schema(table.origin)
    found = {}
    for name in wanted:
        kind = schema.field(name).type if name in schema.names else None
        if kind is None or not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
            continue
        rows = [
            np.asarray(row, np.float32)
            for row in pq.read_table(table.origin, columns=[name])[name].to_pylist()
        ]
        lengths = {row.size for row in rows}
        if len(lengths) != 1:
            raise ValueError(f"{table.origin}: {name} has {min(lengths)} to {max(lengths)} numbers an event")
        found[name] = np.stack(rows)
    return found
