"""`dmsim reconstruct`: records, simulated or measured, into peaks and events."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

HELP = "reconstruct records, simulated or measured, into peaks and events"
FIGURE = "events.png"
EVENTS = ("auto", "numbered", "triggered")
MODES = ("fast", "compat")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "input", metavar="IN", type=Path, help="output of dmsim simulate, or a strax folder of raw_records"
    )
    parser.add_argument("--out", "-o", type=Path, required=True, help="output folder")
    parser.add_argument("--detector", "-d", help="preset or TOML file; default: the one that was simulated")
    parser.add_argument("--settings", type=Path, help="TOML file of thresholds")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="fast",
        help="fast, the default; compat: hits and peaks with strax's integers, quirks included",
    )
    parser.add_argument(
        "--events",
        choices=EVENTS,
        default="auto",
        help="numbered: as the records say; triggered: around S2s in continuous time; auto: numbered where "
        "there are numbers, unless a span of time was simulated",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default 1")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, or its scheduler file")
    parser.add_argument(
        "--retries", type=int, default=2, metavar="N", help="tries again of a chunk that fails; default 2"
    )
    parser.add_argument(
        "--chunks",
        metavar="A:B",
        help="work on these chunks only, as one of several jobs; from 0, B excluded",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another run's files in --out")


def run(args: argparse.Namespace) -> int:
    """Reconstruct chunk by chunk; chunks that are there already are kept.

    Raises:
        ValueError: for input that is not records, is damaged, or does not fit the detector.
    """
    from dmsim.cli.output import claim
    from dmsim.cli.reconstruct_run import Run, lock
    from dmsim.cli.reconstruct_summary import figure_of, summary
    from dmsim.detector import load_detector
    from dmsim.io.provenance import Provenance, precision_of, tree_sha256
    from dmsim.io.records_input import open_records
    from dmsim.pipeline.run import Job
    from dmsim.reconstruction.settings import Settings, load_settings

    _check(args)
    source = open_records(args.input)
    chunks = _chunks(args.chunks, source.n_chunks)
    name = args.detector or _simulated_detector(source.provenance, args.input)
    detector = load_detector(name)
    warnings = _other_detector(source.provenance, detector, args)
    settings = load_settings(args.settings) if args.settings else Settings()
    if args.out.resolve() == args.input.resolve():
        raise ValueError(f"--out {args.out} is the input folder: give another one")
    is_stream = source.is_stream if args.events == "auto" else args.events == "triggered"
    if not is_stream and not source.has_events:
        raise ValueError(f"{args.input} has no event numbers: give --events triggered")
    provenance = Provenance(
        command="reconstruct",
        settings={
            "reconstruction": settings.as_dict(),
            "events": "triggered" if is_stream else "numbered",
            "mode": args.mode,
        },
        detector=detector.name,
        detector_sha256=tree_sha256(detector),
        seed=None,
        chunks={"n_chunks": source.n_chunks},
        inputs={"records": source.digest},
        precision=precision_of(detector),
    )
    job = Job(
        records=str(args.input.resolve()),
        out=str(args.out.resolve()),
        detector=_found(name),
        provenance=provenance.as_dict(),
        is_stream=is_stream,
        n_chunks=source.n_chunks,
    )
    is_part = len(chunks) < source.n_chunks  # others may be at the rest, in the same folder
    is_new = not args.out.exists()
    args.out.mkdir(parents=True, exist_ok=True)
    with lock(args.out, shared=is_part):
        try:
            claim(args.out, provenance, overwrite=args.overwrite)
            for warning in warnings:
                print(f"dmsim: warning: {warning}", file=sys.stderr)
            work = Run(job, n_workers=args.workers or 1, scheduler=args.scheduler, retries=args.retries)
            result = work.do(chunks)
        except ValueError:
            if is_new and not is_part and not any(args.out.rglob("*.parquet")):
                shutil.rmtree(args.out)
            raise
        if is_part:
            print(f"Chunks {args.chunks} of {source.n_chunks} are done: give the command without --chunks.")
            return 1 if result.set_aside else 0
        figure = figure_of(args.out, detector, anew=bool(result.n_done))
        for line in summary(job, result, detector, source, figure, warnings):
            print(line)
    return 1 if result.set_aside else 0


def _check(args: argparse.Namespace) -> None:
    if args.workers is not None and args.scheduler is not None:
        raise ValueError("--workers with --scheduler: the cluster has its own workers, give one of both")
    if args.overwrite and args.chunks is not None:
        raise ValueError("--overwrite with --chunks would clear what other jobs have done: give one of both")
    if args.workers is not None and not 1 <= args.workers <= 1024:
        raise ValueError(f"--workers is {args.workers}: must be 1 to 1024")
    if not 0 <= args.retries <= 100:
        raise ValueError(f"--retries is {args.retries}: must be 0 to 100")


def _chunks(text: str | None, n_chunks: int) -> range:
    """The chunks to work on."""
    if text is None:
        return range(n_chunks)
    first, colon, last = text.partition(":")
    if not colon or not first.isdecimal() or not last.isdecimal() or not int(first) < int(last):
        raise ValueError(f"--chunks is {text!r}: give A:B with whole numbers A < B, such as 0:10")
    if int(first) >= n_chunks:
        raise ValueError(f"--chunks is {text}: the run has chunks 0 to {n_chunks - 1}")
    return range(int(first), min(int(last), n_chunks))


def _found(detector: str) -> str:
    """A detector's name as other processes find it."""
    return str(Path(detector).resolve()) if Path(detector).is_file() else detector


def _simulated_detector(provenance: dict[str, Any] | None, path: Path) -> str:
    if provenance is None:
        raise ValueError(f"{path} does not say which detector it is from: give --detector")
    from dmsim.detector.presets_io import list_detectors

    name = str(provenance.get("detector"))
    if name not in list_detectors():
        raise ValueError(
            f"{path} was simulated with a detector file {name}.toml: give that file with --detector"
        )
    return name


def _other_detector(provenance: dict[str, Any] | None, detector: Any, args: argparse.Namespace) -> list[str]:
    """What to warn of if the records were simulated in another detector than the one in use.

    Raises:
        ValueError: if that happens although the user has not chosen one.
    """
    import numpy as np

    from dmsim.io.provenance import precision_of, tree_sha256

    if not provenance:
        return []
    settings = provenance.get("settings")
    without = settings.get("without", ()) if isinstance(settings, dict) else ()
    same = [detector, detector.without(*without)]
    if precision_of(detector) != "float32":  # records may be of the same detector in single precision
        same += [one.as_dtype(np.float32) for one in same]
    if provenance.get("detector_sha256") in [tree_sha256(one) for one in same]:
        return []
    name = provenance.get("detector")
    if not args.detector:
        raise ValueError(
            f"{args.input} was simulated in a detector {name} that is not today's "
            "preset of that name: give --detector, a preset or the TOML file that was used"
        )
    other = " of other parameters" if name == detector.name else ""
    return [f"{args.input} was simulated in {name}{other} and is reconstructed as {detector.name}"]
