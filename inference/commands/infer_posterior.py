"""`dmsim infer --posterior`: a trained posterior applied to every event of a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.commands.posterior_inputs import Inputs


def apply_posterior(args: argparse.Namespace) -> int:
    """Draw for each event, write posterior.parquet, result.json and a figure.

    The posterior's data must be named as columns of the table of events or areas, or be what an event model
    that its file names makes of such columns.

    Raises:
        ValueError: if the file is no posterior, or of another detector or version, or its diagnostics failed
            and `--accept-failed` is not given, or the events have no such columns, or other shapes, or an
            event is to be explained by a posterior whose draws have no gradient, or weighed without a model.
    """
    from dmsim import load_detector
    from inference.commands.infer import detector_of
    from inference.commands.posterior_draws import N_DRAWS, moments_of
    from inference.commands.posterior_inputs import read_inputs
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
    posterior, model = loaded.posterior, _model(args, loaded.events, detector)
    if args.explain is not None:
        from inference.event_report import check_explainable

        check_explainable(posterior)
    data = read_table(args.events)
    inputs = read_inputs(data, posterior.layout.shapes, model)
    row = None if args.explain is None else _row_of(args, inputs)
    with Bars() as report:
        moments = moments_of(args.seed, posterior, inputs, exact=args.refine, report=report)
    table = {"event": inputs.event, **moments}
    summary = {
        "events": {
            "read": len(inputs.event) + sum(inputs.left_out.values()),
            **inputs.left_out,
            "table": data.kind,
        },
        "parameters": _averages(posterior.prior, moments),
        "draws_per_event": N_DRAWS,
        "diagnostics": loaded.diagnostics,
        "trouble": trouble,
    }
    if args.refine:
        summary["refined"] = _weights(moments)
    explained = []
    if row is not None:
        sensors = None if detector is None else detector.light.sensors
        summary["explained"] = _explain(args, posterior, inputs, row, sensors)
        explained = [] if "failed" in summary["explained"] else [f"event_{args.explain}.png"]
    _write(args, posterior, table, summary, events_sha256=data.sha256)
    _print(args, summary)
    written = [str(args.out / "posterior.parquet"), "result.json", "posterior.png", *explained]
    print(f"written: {', '.join(written)}")
    return 0


def _model(args: argparse.Namespace, stated: dict[str, Any] | None, detector: Any) -> Any:
    """The event model that makes the posterior's data of columns; None if they are the columns.

    Raises:
        ValueError: if one is needed and there is none, or it cannot be built.
    """
    if stated is None:
        if args.refine:
            raise ValueError(
                f"{args.posterior} names no event model, so there is no exact density to weigh its draws by: "
                "leave --refine out, or save the posterior with `events=`"
            )
        return None
    if detector is None:
        raise ValueError(f"{args.posterior} takes summaries by the detector: name it with --detector")
    from inference.events import event_model

    return event_model(detector, stated)


def _averages(prior: Any, moments: dict[str, Any]) -> dict[str, Any]:
    """Over all events."""
    found: dict[str, Any] = {
        name: {
            "unit": unit,
            "mean_of_means": float(moments[f"{name}_mean"].mean()),
            "mean_standard_deviation": float(moments[f"{name}_standard_deviation"].mean()),
        }
        for name, unit in zip(prior.names, prior.units, strict=True)
        if f"{name}_mean" in moments
    }
    if prior.category is not None:
        chances = {kind: float(moments[f"probability_{kind}"].mean()) for kind in prior.category.labels}
        found[prior.names[-1]] = {"mean_probability": chances}
    return found


def _weights(moments: dict[str, Any]) -> dict[str, Any]:
    """How well the weighed draws stand for the exact posterior."""
    import numpy as np

    from inference.sampling.importance import LARGEST_K

    efficiency, k = moments["importance_efficiency"], moments["pareto_k"]
    return {
        "median_efficiency": float(np.median(efficiency)),
        "efficiency_of_the_worst_percent": float(np.quantile(efficiency, 0.01)),
        "events_with_large_pareto_k": int((k > LARGEST_K).sum()),
        "events_without_weight": int((efficiency == 0).sum()),
    }


def _print(args: argparse.Namespace, summary: dict[str, Any]) -> None:
    from inference.sampling.importance import LARGEST_K

    events = summary["events"]
    out = sum(events[why] for why in ("without_data", "below_threshold") if why in events)
    if out:
        below = (
            f", {events['below_threshold']} below the model's threshold"
            if "below_threshold" in events
            else ""
        )
        print(f"{out} of {events['read']} events left out: {events['without_data']} without data{below}")
    for parameter, found in summary["parameters"].items():
        if "mean_probability" in found:
            chances = ", ".join(f"{kind} {chance:.3g}" for kind, chance in found["mean_probability"].items())
            print(f"{parameter}: mean probability {chances}")
            continue
        print(f"{parameter}: mean {found['mean_of_means']:.4g} {found['unit']}, "
              f"standard deviation of an event {found['mean_standard_deviation']:.3g}")  # fmt: skip
    if args.refine:
        refined = summary["refined"]
        print(f"weighed by the exact density: median efficiency {refined['median_efficiency']:.3g}, "
              f"Pareto k above {LARGEST_K} in {refined['events_with_large_pareto_k']} events, "
              f"no weight in {refined['events_without_weight']}")  # fmt: skip
    if "failed" in summary.get("explained", {}):
        print(f"warning: event {args.explain} is not explained: {summary['explained']['failed']}")
    for line in summary["trouble"]:
        print(f"warning: {line}: do not trust these posteriors")


def _row_of(args: argparse.Namespace, inputs: Inputs) -> int:
    """Where the event to be explained is among those with data.

    Raises:
        ValueError: if it is not there.
    """
    import numpy as np

    known = inputs.event
    found = np.flatnonzero(known == args.explain)
    if not found.size:
        raise ValueError(
            f"--explain {args.explain}: {args.events} has no such event with data; it has {len(known)}, "
            f"from {known.min()} to {known.max()}"
        )
    return int(found[0])


def _explain(
    args: argparse.Namespace, posterior: Any, inputs: Inputs, row: int, sensors: Any
) -> dict[str, Any]:
    """Which data moved this event's posterior from another: numbers, and event_N.png.

    The other is the average event, or, where columns are a place whose average is the detector's axis, a
    typical one of the table.
    """
    import jax
    import numpy as np

    from inference.commands.posterior_inputs import seen_by
    from inference.event_report import event_report, likeliest_kind, of_kind

    x = {name: values[row] for name, values in inputs.columns.items()}
    if inputs.model is None:
        against, baseline = None, {name: values.mean(axis=0) for name, values in inputs.columns.items()}
    else:
        against = _typical(inputs, row)
        baseline = {name: values[against] for name, values in inputs.columns.items()}
    places = {}
    for name, values in x.items():
        for n in () if sensors is None else (sensors.n_sensors, sensors.n_top):
            if sensors is not None and values.shape == (n,):
                places[name] = (np.asarray(sensors.x_mm)[:n], np.asarray(sensors.y_mm)[:n])
    here = {name: np.asarray(value)[None] for name, value in x.items()}
    seen = jax.tree.map(lambda part: part[0], seen_by(inputs.model, here))
    kind, chance = likeliest_kind(posterior, seen)
    prior = posterior.prior
    size = len(prior.names) - (prior.category is not None)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        found = event_report(
            args.out / f"event_{args.explain}.png",
            jax.random.fold_in(jax.random.key(args.seed), row),
            of_kind(posterior, kind, lambda columns: seen_by(inputs.model, columns)),
            x,
            baseline,
            names=prior.names[:size],
            units=prior.units[:size],
            places_mm=places,
        )
    except ValueError as error:  # the draws of all events are worth having without it
        return {"event": args.explain, "failed": str(error)}
    if against is not None:
        found = {**found, "baseline_event": int(inputs.event[against])}
    if prior.category is not None:
        found = {**found, "kind": prior.category.labels[kind], "probability_of_kind": chance}
    return {"event": args.explain, **found}


def _typical(inputs: Inputs, row: int) -> int:
    """Row of the event nearest to the medians of radius and of all else, in their spreads; not `row` itself.

    A radius, since medians of x and y lead to the axis, where the direction of a place turns fastest.
    """
    import numpy as np

    columns = dict(inputs.columns)
    columns["radius_mm"] = np.hypot(columns.pop("x_mm"), columns.pop("y_mm"))
    away = np.zeros(len(inputs.event))
    for values in columns.values():
        low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
        away += ((values - middle) / max(high - low, 1e-30)) ** 2
    nearest = np.argsort(away)
    return int(nearest[0] if nearest[0] != row or len(nearest) == 1 else nearest[1])


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

    import inference
    from dmsim.io.files import sha256_of_file, write_json, write_whole
    from dmsim.io.provenance import source_sha256
    from inference.commands.posterior_figure import draw_posteriors

    figure = draw_posteriors(posterior.prior, table, summary["trouble"])
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
