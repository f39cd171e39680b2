"""`dmsim fit`: fit detector parameters to a measured band."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.commands.progress import Bars

if TYPE_CHECKING:
    from inference.band_fit import BandFit

HELP = "fit detector parameters to a measured band of log10(S2/S1) against S1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--detector", "-d", required=True, help="preset name or path of a TOML file")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help="band: six columns of text as NEST publishes them, or CSV with s1, mean, mean_error, width, "
        "width_error",
    )
    parser.add_argument(
        "--free",
        metavar="NAMES",
        help="parameters to fit, separated by commas; short (g1) or full names "
        "(electrons.lifetime_us); default g1,se_gain,extraction,recombination",
    )
    parser.add_argument(
        "--s1-range",
        nargs=2,
        type=float,
        default=(2.0, 50.0),
        metavar=("LOW", "HIGH"),
        help="phd; default 2 50",
    )
    parser.add_argument("--source", "-s", default="ch3t", help="ch3t (default), er_flat or nr_flat")
    parser.add_argument(
        "--events", "-n", type=int, default=40_000, help="events in the fitted model; default 40000"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 to 2^32 - 1; default 0")
    parser.add_argument(
        "--out", "-o", type=Path, default=Path("fit"), help="folder for result.json and band.png; default fit"
    )


def run(args: argparse.Namespace) -> int:
    """Fit, print a table, write result.json and band.png.

    Raises:
        ValueError: for bad input; nothing is written then.
    """
    _check(args)
    import jax

    from dmsim import load_detector
    from inference.band_fit import DEFAULT_FREE, default_free, fit_band
    from inference.likelihood.band_data import read_band
    from inference.likelihood.band_events import SOURCES

    if args.source not in SOURCES:
        raise ValueError(f"source {args.source!r} makes no band: choose one of {', '.join(SOURCES)}")
    detector = load_detector(args.detector)
    band = read_band(args.data).between(*args.s1_range)
    names = (
        DEFAULT_FREE if args.free is None else [name.strip() for name in args.free.split(",") if name.strip()]
    )
    free = default_free(detector, names)
    with Bars() as report:
        result = fit_band(
            jax.random.key(args.seed),
            detector,
            band,
            free,
            source=args.source,
            n_events=args.events,
            on_progress=report,
        )
    summary = summarise(result)
    _write(args, result, summary)
    _print(args, summary)
    return 0


def _check(args: argparse.Namespace) -> None:
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed {args.seed} is not in the range of 0 to 2^32 - 1")
    if not 1000 <= args.events <= 10_000_000:
        raise ValueError(f"--events {args.events} is not in the range of 1000 to 10000000")
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"output {args.out} is a file: give a folder with --out")


def summarise(result: BandFit) -> dict[str, Any]:
    """Everything in a fit that goes into result.json: plain numbers and words."""
    import dataclasses

    import numpy as np

    parameters = {}
    for i, parameter in enumerate(result.free):
        draws = result.draws[:, i]
        low, high = np.quantile(draws, [0.16, 0.84])
        parameters[parameter.name] = {
            "path": parameter.path,
            "unit": parameter.unit,
            "preset": parameter.start,
            "prior_standard_deviation": float(parameter.prior.variance) ** 0.5,
            "best": result.fit.values[parameter.name],
            "mean": float(draws.mean()),
            "standard_deviation": float(draws.std()),
            "interval_68": [float(low), float(high)],
            "r_hat": float(result.chains.r_hat[i]),
            "effective_sample_size": float(result.chains.effective_size[i]),
        }
    derived = {}
    gain, extraction = (
        next((i for i, p in enumerate(result.free) if p.path.endswith(end)), None)
        for end in ("se_gain_phd", "extraction_efficiency")
    )
    if gain is not None and extraction is not None:
        product = result.draws[:, gain] * result.draws[:, extraction]
        derived["g2_phd_per_electron"] = {
            "mean": float(product.mean()),
            "standard_deviation": float(product.std()),
        }
    return {
        "parameters": parameters,
        "derived": derived,
        "correlation": np.atleast_2d(np.corrcoef(result.draws.T)).tolist(),
        "residuals_dex": {
            "before": dataclasses.asdict(result.residuals_before),
            "after": dataclasses.asdict(result.residuals_after),
        },
        "sampler": {
            "n_divergent": result.chains.n_divergent,
            "n_draws": len(result.draws),
            "trouble": [*result.chains.trouble(), *result.check.trouble()],
            "surrogate_check": dataclasses.asdict(result.check),
        },
        "errors": {
            "mean_floor_dex": result.likelihood.mean_floor_dex,
            "width_floor_dex": result.likelihood.width_floor_dex,
        },
        "band": {
            "s1_phd": result.likelihood.data.s1.tolist(),
            "mean_data": result.likelihood.data.mean.tolist(),
            "mean_before": np.asarray(result.before.mean, float).tolist(),
            "mean_after": np.asarray(result.after.mean, float).tolist(),
            "width_data": result.likelihood.data.width.tolist(),
            "width_before": np.asarray(result.before.width, float).tolist(),
            "width_after": np.asarray(result.after.width, float).tolist(),
        },
    }


def _write(args: argparse.Namespace, result: BandFit, summary: dict[str, Any]) -> None:
    import inference
    from dmsim.io.files import sha256_of_file, write_json, write_whole
    from dmsim.io.provenance import Provenance, precision_of, source_sha256, tree_sha256
    from inference.commands.band_figure import draw_band

    detector = result.likelihood.model.calibration
    provenance = Provenance(
        command="fit",
        settings={
            "free": result.free.names,
            "s1_range": list(args.s1_range),
            "source": args.source,
            "inference_source_sha256": source_sha256(inference),
        },
        detector=detector.name,
        detector_sha256=tree_sha256(detector),
        seed=args.seed,
        chunks={"n_events": args.events},
        inputs={args.data.name: sha256_of_file(args.data)},
        precision=precision_of(detector),
    )
    args.out.mkdir(parents=True, exist_ok=True)
    figure = draw_band(result)
    write_whole(args.out / "band.png", lambda file: figure.savefig(file, format="png", dpi=150))
    write_json(args.out / "result.json", {**summary, "provenance": provenance.as_dict()})


def _print(args: argparse.Namespace, summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # in a file, names are not cut short
    table = Table(title=f"Fit of {args.detector} to {args.data.name}")
    for heading in ("parameter", "unit", "preset", "prior", "best", "posterior"):
        table.add_column(heading, justify="left" if heading in ("parameter", "unit") else "right")
    for name, row in summary["parameters"].items():
        table.add_row(
            name,
            row["unit"],
            f"{row['preset']:.5g}",
            f"+- {row['prior_standard_deviation']:.2g}",
            f"{row['best']:.5g}",
            f"{row['mean']:.5g} +- {row['standard_deviation']:.2g}",
        )
    for name, row in summary["derived"].items():
        table.add_row(name, "", "", "", "", f"{row['mean']:.5g} +- {row['standard_deviation']:.2g}")
    console.print(table)
    for when in ("before", "after"):
        row = summary["residuals_dex"][when]
        console.print(
            f"{when:>6}: mean of log10(S2/S1) off by {row['offset']:+.4f} dex, rms {row['rms']:.4f} dex; "
            f"width off by {row['width_offset']:+.4f} dex, rms {row['width_rms']:.4f} dex "
            f"({row['n_bins']} bins)",
            highlight=False,
        )
    check = summary["sampler"]["surrogate_check"]
    worst = max(row["r_hat"] for row in summary["parameters"].values())
    console.print(
        f"NUTS: {summary['sampler']['n_draws']} draws, r-hat at most {worst:.3f}, "
        f"{summary['sampler']['n_divergent']} divergent; its quadratic stand-in is off by "
        f"{check['mean_rms_dex']:.1e} dex in means, {check['log_density_spread']:.2f} in log likelihood",
        highlight=False,
    )
    for trouble in summary["sampler"]["trouble"]:
        console.print(f"warning: {trouble}: do not trust the uncertainties", highlight=False)
    console.print(f"written: {args.out / 'result.json'}, {args.out / 'band.png'}", highlight=False)
