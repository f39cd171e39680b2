"""`dmsim reconstruct`: records, simulated or measured, into peaks and events."""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HELP = "reconstruct records, simulated or measured, into peaks and events"
FIGURE = "events.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "input", metavar="IN", type=Path, help="output of dmsim simulate, or a strax folder of raw_records"
    )
    parser.add_argument("--out", "-o", type=Path, required=True, help="output folder")
    parser.add_argument("--detector", "-d", help="preset or TOML file; default: the one that was simulated")
    parser.add_argument("--settings", type=Path, help="TOML file of thresholds")
    parser.add_argument(
        "--event-gap-us",
        type=float,
        metavar="US",
        help="silence that separates events, for strax data without event numbers; default 1.5 drift times",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another run's files in --out")


def run(args: argparse.Namespace) -> int:
    """Reconstruct chunk by chunk; chunks that are there already are kept.

    Raises:
        ValueError: for input that is not records, is damaged, or does not fit the detector.
    """
    from dmsim import load_detector, reconstruct
    from dmsim.cli.output import claim
    from dmsim.cli.progress import track
    from dmsim.io import tables
    from dmsim.io.parquet import TableWriter
    from dmsim.io.provenance import FILE_NAME, Provenance, precision_of, tree_sha256
    from dmsim.io.reconstruction import read_reconstruction
    from dmsim.io.records_input import iterate, open_records
    from dmsim.reconstruction import Settings, load_settings

    source = open_records(args.input)
    detector = load_detector(args.detector or _simulated_detector(source.provenance, args.input))
    warnings = _other_detector(source.provenance, detector, args)
    settings = load_settings(args.settings) if args.settings else Settings()
    gap = gap_ns(args.event_gap_us, detector)
    if args.out.resolve() == args.input.resolve():
        raise ValueError(f"--out {args.out} is the input folder: give another one")
    provenance = Provenance(
        command="reconstruct",
        settings={"reconstruction": settings.as_dict(), "event_gap_ns": gap},
        detector=detector.name,
        detector_sha256=tree_sha256(detector),
        seed=None,
        chunks={"n_chunks": source.n_chunks},
        inputs={"records": source.digest},
        precision=precision_of(detector),
    )
    is_new = not args.out.exists()
    claim(args.out, provenance, overwrite=args.overwrite)
    for warning in warnings:
        print(f"dmsim: warning: {warning}", file=sys.stderr)
    peak_table, event_table = (
        TableWriter(args.out, kind, provenance, n_chunks=source.n_chunks) for kind in ("peaks", "events")
    )
    n_done, n_overflow = 0, 0
    # every chunk is read, as a chunk of strax data takes its first event's number from those before
    chunks = enumerate(iterate(source, gap_ns=gap))
    with _none_left(args.out, made=is_new):
        for chunk, records in track(chunks, total=source.n_chunks, what="reconstructing"):
            n_overflow += int(records.n_overflow)
            if peak_table.has(chunk) and event_table.has(chunk):
                continue
            peaks, events = reconstruct(detector, records, settings=settings)
            peak_table.write(chunk, tables.pack_peaks(peaks))
            event_table.write(chunk, tables.pack_events(events))
            n_done += 1

    _, events = read_reconstruction(args.out)
    figure = args.out / FIGURE
    if n_done or not figure.is_file():
        _draw(figure, detector, events)
    if not n_done:
        print("Nothing to do: the files are there, from a run of the same provenance.")
    elif n_done < source.n_chunks:
        print(f"Continued: {source.n_chunks - n_done} of {source.n_chunks} chunks were there already.")
    _print_summary(detector.name, source.folder, events, warnings)
    print(f"  peaks    {peak_table.n_rows:>12,} rows       {peak_table.folder}")
    print(f"  events   {event_table.n_rows:>12,} rows       {event_table.folder}")
    print(f"  overflow {n_overflow:>12,} records that simulation had no slot for")
    print(f"  figure   {figure}")
    print(f"  {source.n_chunks} chunks, provenance in {args.out / FILE_NAME}")
    return 0


@contextmanager
def _none_left(out: Path, *, made: bool) -> Iterator[None]:
    """Remove the output folder, if this run made it, when no chunk could be reconstructed."""
    try:
        yield
    except ValueError:
        if made and not any(out.rglob("*.parquet")):
            shutil.rmtree(out)
        raise


def _simulated_detector(provenance: dict[str, Any] | None, path: Path) -> str:
    if provenance is None:
        raise ValueError(f"{path} does not say which detector it is from: give --detector")
    from dmsim.detector.presets_io import list_detectors

    name = str(provenance["detector"])
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
    from dmsim.io.provenance import tree_sha256

    if not provenance:
        return []
    simulated = detector.without(*provenance.get("settings", {}).get("without", ()))
    if provenance["detector_sha256"] in (tree_sha256(detector), tree_sha256(simulated)):
        return []
    name = provenance["detector"]
    if not args.detector:
        raise ValueError(
            f"{args.input} was simulated in a detector {name} that is not today's "
            "preset of that name: give --detector, a preset or the TOML file that was used"
        )
    other = " of other parameters" if name == detector.name else ""
    return [f"{args.input} was simulated in {name}{other} and is reconstructed as {detector.name}"]


def gap_ns(event_gap_us: float | None, detector: Any) -> int:
    """Silence that separates events where there are no event numbers: as given, or 1.5 drift times.

    Raises:
        ValueError: if it is out of range.
    """
    if event_gap_us is None:
        return round(1.5 * float(detector.electrons.drift_time_ns(-detector.geometry.drift_length_mm)))
    if not 0 < event_gap_us <= 1e6:
        raise ValueError(f"--event-gap-us is {event_gap_us} us: must be above 0 and at most 1e6 us")
    return round(event_gap_us * 1e3)


def _draw(path: Path, detector: Any, events: Any) -> None:
    import matplotlib as mpl

    mpl.use("Agg")  # no window, also where there is no display
    import matplotlib.pyplot as plt

    from dmsim.io.files import write_whole
    from dmsim.plot.summary import reconstructed_events

    figure = reconstructed_events(detector, events)
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=130))
    plt.close(figure)


def _print_summary(name: str, folder: Path, events: Any, warnings: list[str]) -> None:
    import numpy as np

    complete = np.isfinite(events.s1_pe) & np.isfinite(events.s2_pe)
    print(f"{len(events)} events of {name} from {folder}: {complete.sum()} with S1 and S2")
    if complete.any():
        cs1, cs2 = np.median(events.cs1_pe[complete]), np.median(events.cs2_pe[complete])
        drift = np.median(events.drift_time_ns[complete]) / 1e3
        print(f"  median   cS1 {cs1:.1f} PE, cS2 {cs2:.0f} PE, drift time {drift:.1f} us")
    for warning in warnings:
        print(f"  warning: {warning}")
