"""`dmsim infer --posterior`: a trained posterior applied to every event of a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.likelihood.population_data import Table

_DRAWS = 400  # an event
_QUANTILES = {"low_90": 0.05, "low_68": 0.16, "median": 0.5, "high_68": 0.84, "high_90": 0.95}
_CHUNK = 4096  # events at a time


def apply_posterior(args: argparse.Namespace) -> int:
    """Draw for each event, write posterior.parquet, result.json and a figure.

    The posterior's data must be named as columns of the table of events or areas.

    Raises:
        ValueError: if the file is no posterior, or of another detector or version, or its diagnostics failed
            and `--accept-failed` is not given, or the events have no such columns, or other shapes, or an
            event is to be explained by a posterior whose draws have no gradient.
    """
    import numpy as np

    from dmsim import load_detector
    from inference.commands.infer import detector_of
    from inference.commands.progress import Bars
    from inference.estimators.files import load_posterior
    from inference.likelihood.population_data import read_table

    made_with = detector_of(args.events)
    name = args.detector or made_with
    detector = None if name is None else load_detector(name)
    loaded = load_posterior(args.posterior, detector=detector)
    trouble = _trouble(args.posterior, loaded.diagnostics, accept_failed=args.accept_failed)
    if name is None:
        trouble.append(f"{args.events} does not say which detector made it")
    elif made_with is not None and loaded.detector is not None and loaded.detector["name"] != made_with:
        trouble.append(f"the events are from {made_with}, the posterior is for {loaded.detector['name']}")
    posterior = loaded.posterior
    if args.explain is not None:
        from inference.event_report import check_explainable

        check_explainable(posterior)
    data = read_table(args.events)
    columns, events = _columns(data, posterior.layout.shapes)
    complete = np.all(
        [np.isfinite(values.reshape(len(values), -1)).all(axis=1) for values in columns.values()], axis=0
    )
    if not complete.any():
        raise ValueError(f"{args.events}: no event has finite values in {', '.join(columns)}")
    columns = {name: values[complete].astype(np.float32) for name, values in columns.items()}
    row = None if args.explain is None else _row_of(args, events, complete)
    with Bars() as report:
        moments = _draw(args.seed, posterior, columns, report)
    table = {"event": events[complete], **moments}
    summary = {
        "events": {"read": len(events), "without_data": int((~complete).sum()), "table": data.kind},
        "parameters": {
            name: {
                "unit": unit,
                "mean_of_means": float(moments[f"{name}_mean"].mean()),
                "mean_standard_deviation": float(moments[f"{name}_standard_deviation"].mean()),
            }
            for name, unit in zip(posterior.prior.names, posterior.prior.units, strict=True)
        },
        "draws_per_event": _DRAWS,
        "diagnostics": loaded.diagnostics,
        "trouble": trouble,
    }
    explained = []
    if row is not None:
        sensors = None if detector is None else detector.light.sensors
        summary["explained"] = _explain(args, posterior, columns, row, sensors)
        explained = [f"event_{args.explain}.png"]
    _write(args, posterior, table, summary, events_sha256=data.sha256)
    for parameter, found in summary["parameters"].items():
        print(f"{parameter}: mean {found['mean_of_means']:.4g} {found['unit']}, "
              f"standard deviation of an event {found['mean_standard_deviation']:.3g}")  # fmt: skip
    for line in trouble:
        print(f"warning: {line}: do not trust these posteriors")
    written = [str(args.out / "posterior.parquet"), "result.json", "posterior.png", *explained]
    print(f"written: {', '.join(written)}")
    return 0


def _row_of(args: argparse.Namespace, events: Any, complete: Any) -> int:
    """Where the event to be explained is among those with data.

    Raises:
        ValueError: if it is not there.
    """
    import numpy as np

    found = np.flatnonzero(np.asarray(events)[complete] == args.explain)
    if not found.size:
        known = np.asarray(events)[complete]
        raise ValueError(
            f"--explain {args.explain}: {args.events} has no such event with data; it has {len(known)}, "
            f"from {known.min()} to {known.max()}"
        )
    return int(found[0])


def _explain(
    args: argparse.Namespace, posterior: Any, columns: dict[str, Any], row: int, sensors: Any
) -> dict[str, Any]:
    """Which data moved this event's posterior from that of the average event: numbers, and event_N.png."""
    import jax
    import numpy as np

    from inference.event_report import event_report, likeliest_kind, of_kind

    x = {name: values[row] for name, values in columns.items()}
    baseline = {name: values.mean(axis=0) for name, values in columns.items()}
    places = {}
    for name, values in x.items():
        for n in () if sensors is None else (sensors.n_sensors, sensors.n_top):
            if sensors is not None and values.shape == (n,):
                places[name] = (np.asarray(sensors.x_mm)[:n], np.asarray(sensors.y_mm)[:n])
    kind, chance = likeliest_kind(posterior, x)
    prior = posterior.prior
    size = len(prior.names) - (prior.category is not None)
    args.out.mkdir(parents=True, exist_ok=True)
    found = event_report(
        args.out / f"event_{args.explain}.png",
        jax.random.fold_in(jax.random.key(args.seed), row),
        of_kind(posterior, kind),
        x,
        baseline,
        names=prior.names[:size],
        units=prior.units[:size],
        places_mm=places,
    )
    if prior.category is not None:
        found = {**found, "kind": prior.category.labels[kind], "probability_of_kind": chance}
    return {"event": args.explain, **found}


def _trouble(path: Path, diagnostics: dict[str, Any], *, accept_failed: bool) -> list[str]:
    """What the file's diagnostics say against it.

    Raises:
        ValueError: if they failed and that was not accepted.
    """
    if not diagnostics:
        return [f"{path} carries no diagnostics"]
    if diagnostics.get("passed") is True:
        return []
    checks = diagnostics.get("checks") or []
    failed = [str(c.get("name", "?")) for c in checks if isinstance(c, dict) and not c.get("passed")]
    said = f"{path} failed its diagnostics ({', '.join(failed[:4]) or 'which ones is not stated'})"
    if not accept_failed:
        raise ValueError(f"{said}: train it again, or give --accept-failed to use it with a warning")
    return [said]


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


def _draw(seed: int, posterior: Any, columns: dict[str, Any], report: Any) -> dict[str, Any]:
    """Moments and quantiles of each event's draws, a column each."""
    import jax
    import numpy as np

    n_events = len(next(iter(columns.values())))
    names = posterior.prior.names
    parts: dict[str, list[Any]] = {}
    for first in range(0, n_events, _CHUNK):
        x = {name: values[first : first + _CHUNK] for name, values in columns.items()}
        key = jax.random.fold_in(jax.random.key(seed), first)
        draws = np.asarray(posterior.sample(key, x, _DRAWS))
        for i, name in enumerate(names):
            of_name = draws[:, :, i]
            parts.setdefault(f"{name}_mean", []).append(of_name.mean(axis=1))
            parts.setdefault(f"{name}_standard_deviation", []).append(of_name.std(axis=1))
            for label, level in _QUANTILES.items():
                parts.setdefault(f"{name}_{label}", []).append(np.quantile(of_name, level, axis=1))
        report("drawing", min(first + _CHUNK, n_events), n_events)
    return {name: np.concatenate(part) for name, part in parts.items()}


def _write(
    args: argparse.Namespace,
    posterior: Any,
    table: dict[str, Any],
    summary: dict[str, Any],
    *,
    events_sha256: str,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from matplotlib.figure import Figure

    import inference
    from dmsim.io.files import sha256_of_file, write_json, write_whole
    from dmsim.io.provenance import source_sha256

    names = posterior.prior.names
    figure = Figure(figsize=(3.2 * len(names), 5), layout="constrained")
    grid = figure.subplots(2, len(names), squeeze=False)
    for i, (name, unit) in enumerate(zip(names, posterior.prior.units, strict=True)):
        grid[0, i].hist(table[f"{name}_mean"], bins=50, histtype="step", color="#1f5a96")
        grid[0, i].set_xlabel(f"mean of {name} [{unit}]")
        grid[1, i].hist(table[f"{name}_standard_deviation"], bins=50, histtype="step", color="#b0653a")
        grid[1, i].set_xlabel(f"standard deviation of {name} [{unit}]")
    if summary["trouble"]:
        figure.suptitle("; ".join(summary["trouble"]), color="#b00020", fontsize=8)
    args.out.mkdir(parents=True, exist_ok=True)
    arrow = pa.table({name: pa.array(list(values)) for name, values in table.items()})
    write_whole(args.out / "posterior.parquet", lambda file: pq.write_table(arrow, file, compression="zstd"))
    write_whole(args.out / "posterior.png", lambda file: figure.savefig(file, format="png", dpi=150))
    origin = {
        "posterior_sha256": sha256_of_file(args.posterior),
        "events_sha256": events_sha256,
        "inference_source_sha256": source_sha256(inference),
        "seed": args.seed,
    }
    write_json(args.out / "result.json", {**summary, "origin": origin})
