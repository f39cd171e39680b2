"""`dmsim salt`: simulated events put into records, simulated or measured."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dmsim.cli.simulate import seed

HELP = "put simulated events into records, simulated or measured"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "input", metavar="IN", type=Path, help="output of dmsim simulate, or a strax folder of raw_records"
    )
    parser.add_argument("--detector", "-d", required=True, help="preset name or path of a TOML file")
    parser.add_argument("--source", "-s", required=True, help="name of a source, such as kr83m")
    when = parser.add_mutually_exclusive_group(required=True)
    when.add_argument("--rate", type=float, metavar="HZ", help="salted events at this rate, evenly spaced")
    when.add_argument("--times", type=Path, metavar="FILE", help="their times [ns], one a line, ascending")
    parser.add_argument("--seed", type=seed, default=0, help="0 to 2^32 - 1; default 0")
    parser.add_argument("--out", "-o", type=Path, required=True, help="output folder; in the input's format")
    parser.add_argument("--energy", type=float, metavar="KEV", help="energy [keV], for sources that take one")
    parser.add_argument("--interaction", help="er_beta, er_gamma, nr, ..., for sources that take one")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="any other option of the source"
    )
    parser.add_argument(
        "--truth",
        choices=("deposits", "peaks", "photons"),
        default="peaks",
        help="depth of the truth; default peaks",
    )
    parser.add_argument("--run-id", default="dmsim", help="run name in strax folders; default dmsim")
    parser.add_argument(
        "--event-gap-us",
        type=float,
        metavar="US",
        help="silence that separates events, for strax data without event numbers; default 1.5 drift times",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another run's files in --out")


def run(args: argparse.Namespace) -> int:
    """Salt chunk by chunk.

    Raises:
        ValueError: for input that is not records or does not fit the detector, or for bad options.
    """
    import jax

    from dmsim import load_detector
    from dmsim.cli.output import claim
    from dmsim.cli.progress import track
    from dmsim.cli.salted_output import SaltedOutput
    from dmsim.cli.simulate import source_options
    from dmsim.io.files import sha256_of_file
    from dmsim.io.provenance import FILE_NAME, Provenance, precision_of, tree_sha256
    from dmsim.io.records_input import iterate, open_records

    source = open_records(args.input)
    detector = load_detector(args.detector)
    simulated = (source.provenance or {}).get("detector", detector.name)
    if simulated != detector.name:
        raise ValueError(
            f"{args.input} was simulated in {simulated}, --detector is {detector.name}: salt it with its own"
        )
    options = source_options(args.source, args)
    if ruled := {"rate_hz", "timing"} & set(options):
        raise ValueError(f"--option {ruled.pop()}: salt's times are those of --rate or --times")
    if args.rate is not None and not 0 < args.rate <= 1e6:
        raise ValueError(f"--rate is {args.rate} Hz: must be above 0 and at most 1e6 Hz")
    if args.out.resolve() == args.input.resolve():
        raise ValueError(f"--out {args.out} is the input folder: give another one")
    times = _times(args)
    gap = gap_ns(args.event_gap_us, detector)
    provenance = Provenance(
        command="salt",
        settings={
            "source": args.source,
            "options": options,
            "rate_hz": args.rate,
            "event_gap_ns": gap,
            "format": "strax" if source.is_strax else "parquet",
            "truth": args.truth,
            "run_id": args.run_id if source.is_strax else "",
        },
        detector=detector.name,
        detector_sha256=tree_sha256(detector),
        seed=args.seed,
        chunks={"n_chunks": source.n_chunks},
        inputs={"records": source.digest} | ({"times": sha256_of_file(args.times)} if args.times else {}),
        precision=precision_of(detector),
    )
    claim(args.out, provenance, overwrite=args.overwrite)
    output = SaltedOutput(args.out, provenance, n_chunks=source.n_chunks)
    is_done = output.is_finished
    if is_done:
        print("Nothing to do: the files are there, from a run of the same provenance.")
    else:
        chunks = with_next_start(iterate(source, gap_ns=gap))
        shown = track(chunks, total=source.n_chunks, what="salting")
        output.write(jax.random.key(args.seed), detector, (args.source, options), shown, times)
    print(f"{args.source} salted into {source.folder} as {detector.name}, seed {args.seed}")
    for line in output.summary():
        print(line)
    print(f"  provenance in {args.out / FILE_NAME}")
    return 0


def with_next_start(chunks: Iterator[Any]) -> Iterator[tuple[Any, int | None]]:
    """Each chunk of records with the start of the next one [ns]; None for the last."""
    held = None
    for records in chunks:
        if records.event_time_ns is None or not len(records.event_time_ns):
            raise ValueError("a chunk of the input has no events with times: salting needs them")
        if held is not None:
            yield held, int(records.event_time_ns[0])
        held = records
    if held is not None:
        yield held, None


def _times(args: argparse.Namespace) -> Any:
    """Times [ns] from the file, or the distance of evenly spaced ones."""
    import numpy as np

    if args.times is None:
        return round(1e9 / args.rate)
    if not args.times.is_file():
        raise ValueError(f"--times {args.times}: there is no such file")
    if not args.times.read_text().strip():
        raise ValueError(f"--times {args.times}: is empty: give whole numbers [ns], one a line")
    try:
        times = np.loadtxt(args.times, dtype=np.int64, ndmin=1)
    except ValueError as error:
        raise ValueError(f"--times {args.times}: must hold whole numbers [ns] ({error})") from None
    if np.any(np.diff(times) < 0):
        raise ValueError(f"--times {args.times}: must be ascending")
    return times


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
