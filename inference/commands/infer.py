"""`dmsim infer`: rates and detector parameters from events, or a trained posterior applied to them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.likelihood.population import Population
    from inference.likelihood.population_data import EventSet
    from inference.population.fit import PopulationFit
    from inference.population.intervals import SignalResult

HELP = "infer rates, a WIMP cross section and detector parameters from events"
_SCAN_POINTS = 41
_SCAN_REACH = (8.0, 40.0)  # t at the end of a scan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "events", type=Path, metavar="EVENTS", help="output folder of dmsim reconstruct, or of simulate areas"
    )
    parser.add_argument(
        "--config", "-c", type=Path, metavar="FILE", help="TOML: window, components, free parameters"
    )
    parser.add_argument(
        "--posterior", type=Path, metavar="FILE", help="trained posterior, applied to each event instead"
    )
    parser.add_argument(
        "--accept-failed",
        action="store_true",
        help="use a posterior whose diagnostics failed, with a warning",
    )
    parser.add_argument(
        "--detector", "-d", help="preset name or TOML file; default: the one that the events were made with"
    )
    parser.add_argument(
        "--likelihood", choices=("binned", "unbinned"), default="binned", help="default binned"
    )
    parser.add_argument("--samples", type=int, default=1000, help="draws a chain, of 4; default 1000")
    parser.add_argument(
        "--toys", type=int, default=0, help="experiments a point for toy-based intervals; default none"
    )
    parser.add_argument(
        "--confidence", type=float, default=0.9, help="of the signal's intervals; default 0.9"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 to 2^32 - 1; default 0")
    parser.add_argument(
        "--out", "-o", type=Path, default=Path("infer"), help="folder for result.json and figures"
    )


def run(args: argparse.Namespace) -> int:
    """Fit, print a table, write result.json and figures.

    Raises:
        ValueError: for bad input; nothing is written then.
    """
    _check(args)
    if args.posterior is not None:
        from inference.commands.infer_posterior import apply_posterior

        return apply_posterior(args)
    import jax

    from dmsim import load_detector
    from inference.commands.progress import Bars
    from inference.likelihood.population import binned, unbinned
    from inference.likelihood.population_data import read_events
    from inference.population.config import make_population, read_config
    from inference.population.fit import fit_population

    config = read_config(args.config)
    events = read_events(args.events)
    made_with = detector_of(args.events)
    detector = load_detector(args.detector or made_with or _no_detector(args))
    key_model, key_fit, key_toys = jax.random.split(jax.random.key(args.seed), 3)
    population = make_population(key_model, detector, config)
    likelihood = {"binned": binned, "unbinned": unbinned}[args.likelihood](population, events)
    signal = None
    with Bars() as report:
        fit = fit_population(key_fit, likelihood, n_samples=args.samples, on_progress=report)
        if any(component.signal for component in config.component):
            signal = _signal(key_toys, population, events, args, report)
    trouble = fit.trouble()
    if made_with not in (None, detector.name):
        trouble.append(
            f"the events were made with detector {made_with}, the model is that of {detector.name}"
        )
    summary = summarise(fit, events, signal, trouble)
    _write(args, fit, events, signal, summary)
    _print(args, summary)
    return 0


def _check(args: argparse.Namespace) -> None:
    if (args.config is None) == (args.posterior is None):
        raise ValueError("give one of --config (a population's likelihood) and --posterior (a trained one)")
    for name, value, low, high in (
        ("--seed", args.seed, 0, 2**32 - 1),
        ("--samples", args.samples, 100, 1_000_000),
        ("--toys", args.toys, 0, 1_000_000),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} {value} is not in the range of {low} to {high}")
    if not 0 < args.confidence < 1:
        raise ValueError(f"--confidence {args.confidence} is not in the range of 0 to 1")
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"output {args.out} is a file: give a folder with --out")


def detector_of(folder: Path) -> str | None:
    """The name of the detector in the provenance of an output folder, or of the one around a table."""
    from dmsim.io.provenance import FILE_NAME, read_provenance

    for place in (folder, folder.parent):
        if (place / FILE_NAME).is_file():
            return read_provenance(place)["detector"]
    return None


def _no_detector(args: argparse.Namespace) -> str:
    raise ValueError(f"{args.events} does not say which detector made it: give --detector")


def _signal(key, population: Population, events: EventSet, args, report) -> SignalResult:
    import jax.numpy as jnp
    import numpy as np

    from inference.population.intervals import signal_intervals
    from inference.population.profile import fit_many
    from inference.population.search import search_model

    model = search_model(population, on_evaluation=lambda i, n: report("expanding templates", i, n))
    counts = jnp.asarray(events.histogram(population.window).reshape(-1), jnp.float32)
    aux = model.nominal
    best = float(fit_many(model, counts[None], aux[None]).parameters[0, 0])
    # the scan ends where t is large: halved as long as it is very large, then doubled until it is large
    high = max(2 * best, float(model.nominal[0]))
    factor = 0.5
    for _ in range(40):
        signals = np.linspace(0.0, high, _SCAN_POINTS)
        result = signal_intervals(key, model, counts, aux, signals, confidence=args.confidence)
        if result.t[-1] < _SCAN_REACH[0]:
            factor = 2.0
        elif factor > 1 or result.t[-1] < _SCAN_REACH[1]:
            break
        high *= factor
    if args.toys:
        report("toy experiments", 0, 1)
        result = signal_intervals(
            key, model, counts, aux, signals, confidence=args.confidence, n_toys=args.toys
        )
        report("toy experiments", 1, 1)
    return result


def summarise(
    fit: PopulationFit, events: EventSet, signal: SignalResult | None, trouble: list[str]
) -> dict[str, Any]:
    """Everything that goes into result.json: plain numbers and words."""
    import dataclasses

    import numpy as np

    population = fit.likelihood.population
    parameters = {}
    for i, parameter in enumerate(population.parameters):
        draws = fit.draws[:, i]
        parameters[parameter.name] = {
            "unit": parameter.unit,
            "start": parameter.start,
            "prior_standard_deviation": float(parameter.prior.variance) ** 0.5,
            "mode": float(fit.values[i]),
            "mean": float(draws.mean()),
            "standard_deviation": float(draws.std()),
            "interval_68": np.quantile(draws, [0.16, 0.84]).tolist(),
            "interval_90": np.quantile(draws, [0.05, 0.95]).tolist(),
            "r_hat": float(fit.chains.r_hat[i]),
            "effective_sample_size": float(fit.chains.effective_size[i]),
        }
    summary: dict[str, Any] = {
        "parameters": parameters,
        "correlation": np.atleast_2d(np.corrcoef(fit.draws.T)).tolist(),
        "events": {
            "read": len(events) + events.n_without,
            "without_s1_or_s2": events.n_without,
            "in_window": len(events.inside(population.window)),
        },
        "check": dataclasses.asdict(fit.check),
        "trouble": trouble,
    }
    if signal is not None:
        component = population.components[0]
        summary["signal"] = {
            "name": component.name,
            "unit": component.rate.unit,
            "events_per_unit": component.events_per_unit,
            "best": float(signal.best.parameters[0]),
            "q0": signal.discovery.q0,
            "significance": signal.discovery.z,
            "p_value": signal.discovery.p_value,
            "confidence": signal.asymptotic.level,
            "asymptotic_interval": [signal.asymptotic.low, signal.asymptotic.high],
            "asymptotic_upper_limit": signal.upper,
            "toy_interval": None if signal.toys is None else [signal.toys.low, signal.toys.high],
            "scan": {
                "rate": signal.signals.tolist(),
                "t": signal.t.tolist(),
                "level": None if signal.levels is None else signal.levels.tolist(),
            },
        }
    return summary


def _write(
    args: argparse.Namespace,
    fit: PopulationFit,
    events: EventSet,
    signal: SignalResult | None,
    summary: dict[str, Any],
) -> None:
    import inference
    from dmsim.io.files import sha256_of_file, write_json, write_whole
    from dmsim.io.provenance import Provenance, precision_of, source_sha256, tree_sha256
    from inference.commands.infer_figures import draw_events, draw_posterior, draw_signal
    from inference.likelihood.population_data import table_folder

    detector = fit.likelihood.population.detector
    provenance = Provenance(
        command="infer",
        settings={
            "likelihood": args.likelihood,
            "samples": args.samples,
            "toys": args.toys,
            "confidence": args.confidence,
            "inference_source_sha256": source_sha256(inference),
        },
        detector=detector.name,
        detector_sha256=tree_sha256(detector),
        seed=args.seed,
        chunks={},
        inputs={
            args.config.name: sha256_of_file(args.config),
            "events": sha256_of_file(table_folder(args.events) / "manifest.json"),
        },
        precision=precision_of(detector),
    )
    figures = {"events.png": draw_events(fit, events), "posterior.png": draw_posterior(fit)}
    if signal is not None:
        figures["signal.png"] = draw_signal(signal, summary["signal"])
    args.out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        write_whole(args.out / name, lambda file, figure=figure: figure.savefig(file, format="png", dpi=150))
    summary["figures"] = sorted(figures)
    write_json(args.out / "result.json", {**_finite(summary), "provenance": provenance.as_dict()})


def _finite(tree: Any) -> Any:
    """The same with null for what is not a number, which JSON does not know."""
    import math

    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _print(args: argparse.Namespace, summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # in a file, names are not cut short
    found = summary["events"]
    table = Table(title=f"{found['in_window']} of {found['read']} events in {args.events}")
    for heading in ("parameter", "unit", "prior", "mode", "posterior"):
        table.add_column(heading, justify="left" if heading in ("parameter", "unit") else "right")
    for name, row in summary["parameters"].items():
        table.add_row(
            name,
            row["unit"],
            f"{row['start']:.4g} +- {row['prior_standard_deviation']:.2g}",
            f"{row['mode']:.4g}",
            f"{row['mean']:.4g} +- {row['standard_deviation']:.2g}",
        )
    console.print(table)
    if "signal" in summary:
        s = summary["signal"]
        low, high = s["asymptotic_interval"]
        console.print(
            f"{s['name']}: {s['best']:.4g} {s['unit']}, {s['significance']:.2f} sigma above none; "
            f"{s['confidence']:.0%} interval {low:.4g} to {high:.4g} (asymptotic), "
            f"upper limit {s['asymptotic_upper_limit']:.4g}",
            highlight=False,
        )
        if s["toy_interval"] is not None:
            low, high = s["toy_interval"]
            console.print(
                f"{s['confidence']:.0%} interval from toys: {low:.4g} to {high:.4g}", highlight=False
            )
    for trouble in summary["trouble"]:
        console.print(f"warning: {trouble}: do not trust the uncertainties", highlight=False)
    console.print(f"written: {args.out / 'result.json'}, {', '.join(summary['figures'])}", highlight=False)
