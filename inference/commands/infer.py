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
        "events",
        type=Path,
        metavar="EVENTS",
        help="output folder of dmsim reconstruct, select, or simulate --level areas, or a Parquet file",
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
        "--explain", type=int, metavar="N", help="with --posterior: a report of event N, which data moved it"
    )
    parser.add_argument(
        "--refine",
        action="store_true",
        help="with --posterior: weigh the draws of each event by its exact likelihood",
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
    from inference.commands.infer_summary import print_summary, summarise
    from inference.commands.progress import Bars
    from inference.likelihood.population import binned, unbinned
    from inference.likelihood.population_data import events_of, read_table
    from inference.population.config import make_population, read_config
    from inference.population.fit import fit_population

    config = read_config(args.config)
    table = read_table(args.events)
    events = events_of(table)
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
    _write(args, fit, events, signal, summary, events_sha256=table.sha256)
    print_summary(args, summary)
    return 0


def _check(args: argparse.Namespace) -> None:
    if (args.config is None) == (args.posterior is None):
        raise ValueError("give one of --config (a population's likelihood) and --posterior (a trained one)")
    if args.explain is not None and args.posterior is None:
        raise ValueError("--explain explains a trained posterior: give one with --posterior")
    if args.refine and args.posterior is None:
        raise ValueError("--refine weighs the draws of a trained posterior: give one with --posterior")
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
    from inference.population.search import counts_of, search_model

    def progress(i, n):
        report("expanding templates", i, n)

    model = toy_model = search_model(
        population, events=events if args.likelihood == "unbinned" else None, on_evaluation=progress
    )
    if args.toys and model.of_events:
        toy_model = search_model(population, on_evaluation=progress)
    counts = jnp.asarray(counts_of(population, events, model))
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
            key,
            model,
            counts,
            aux,
            signals,
            confidence=args.confidence,
            n_toys=args.toys,
            toy_model=toy_model,
        )
        report("toy experiments", 1, 1)
    return result


def _write(
    args: argparse.Namespace,
    fit: PopulationFit,
    events: EventSet,
    signal: SignalResult | None,
    summary: dict[str, Any],
    *,
    events_sha256: str,
) -> None:
    import inference
    from dmsim.io.files import sha256_of_file, write_json, write_whole
    from dmsim.io.provenance import Provenance, precision_of, source_sha256, tree_sha256
    from inference.commands.infer_figures import draw_events, draw_posterior, draw_signal
    from inference.commands.infer_summary import finite

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
            "events": events_sha256,
        },
        precision=precision_of(detector),
    )
    figures = {
        "events.png": draw_events(fit, events, has_signal=signal is not None),
        "posterior.png": draw_posterior(fit),
    }
    if signal is not None:
        figures["signal.png"] = draw_signal(signal, summary["signal"])
    args.out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        write_whole(args.out / name, lambda file, figure=figure: figure.savefig(file, format="png", dpi=150))
    summary["figures"] = sorted(figures)
    write_json(args.out / "result.json", {**finite(summary), "provenance": provenance.as_dict()})
