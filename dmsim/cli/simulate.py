"""`dmsim simulate`: a source in a detector, at one of four depths, into files."""

import argparse
from pathlib import Path
from typing import Any, get_args

HELP = "simulate events of a source in a detector and write them to files"
FIGURE = "simulation.png"
CHUNK_SECONDS = 1.0
LEVELS = ("quanta", "areas", "hits", "records")
# events a chunk: about 200 MB for 40 keV events in the largest detector
_EVENTS_PER_CHUNK = {"quanta": 100_000, "areas": 100_000, "hits": 50, "records": 50}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--detector", "-d", required=True, help="preset name or path of a TOML file")
    parser.add_argument(
        "--source",
        "-s",
        action="append",
        required=True,
        help="name of a source, such as mono, kr83m, er_flat; with --duration NAME=HZ, may be repeated",
    )
    parser.add_argument("--events", "-n", type=positive, help="number of events")
    parser.add_argument(
        "--duration",
        type=float,
        metavar="SECONDS",
        help="instead of --events: continuous time, in which events may overlap",
    )
    parser.add_argument("--seed", type=seed, default=0, help="0 to 2^32 - 1; default 0")
    parser.add_argument("--level", choices=LEVELS, default="records", help="depth; default records")
    parser.add_argument("--out", "-o", type=Path, required=True, help="output folder")
    parser.add_argument("--format", choices=("parquet", "strax"), default="parquet", help="default parquet")
    parser.add_argument("--energy", type=float, metavar="KEV", help="energy [keV], for sources that take one")
    parser.add_argument("--interaction", help="er_beta, er_gamma, nr, ..., for sources that take one")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other option of the source; may be repeated; with --duration SOURCE.NAME=VALUE",
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="TABLE",
        help="leave an optional table of the detector out, such as afterpulses, or all; may be repeated",
    )
    parser.add_argument(
        "--truth",
        choices=("deposits", "peaks", "photons"),
        help="depth of the truth; default peaks with hits and records, else deposits",
    )
    parser.add_argument("--chunk-events", type=positive, metavar="N", help="events a file")
    parser.add_argument(
        "--chunk-seconds",
        type=float,
        metavar="S",
        help=f"time a file with --duration; default {CHUNK_SECONDS:g}",
    )
    parser.add_argument("--run-id", default="dmsim", help="run name in strax folders; default dmsim")
    parser.add_argument("--overwrite", action="store_true", help="replace another run's files in --out")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def positive(text: str) -> int:
    """A number of events, for argparse."""
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not in the range of 1 or more")
    return value


def seed(text: str) -> int:
    """A random seed, for argparse."""
    value = _whole(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{value} is not in the range of 0 to 2^32 - 1")
    return value


def run(args: argparse.Namespace) -> int:
    """Simulate chunk by chunk; chunks that are there already are kept.

    Raises:
        ValueError: for an unknown detector, source or option, or an output folder of another run.
    """
    if (args.events is None) == (args.duration is None):
        raise ValueError("give either --events N, or --duration SECONDS for continuous time")
    if args.duration is not None:
        from dmsim.cli.stream import run_stream

        return run_stream(args)
    if args.chunk_seconds is not None:
        raise ValueError("--chunk-seconds with --events: give --chunk-events")
    if len(args.source) > 1 or "=" in args.source[0]:
        raise ValueError(
            f"--source {' '.join(args.source)} with --events: give one name; NAME=HZ is for --duration"
        )
    import jax

    from dmsim import load_detector, sources
    from dmsim.cli.output import draw_simulation, open_output
    from dmsim.cli.progress import track
    from dmsim.io.provenance import Provenance, precision_of, tree_sha256
    from dmsim.io.strax_folders import check_run_id

    if args.format == "strax" and args.level != "records":
        raise ValueError(f"--format strax holds records, and --level is {args.level}: give --level records")
    if args.format == "strax":
        check_run_id(args.run_id)
    detector = load_detector(args.detector).without(*args.without)
    (name,) = args.source
    source = sources.named(name)
    options = source_options(name, args)
    per_chunk = min(args.chunk_events or _EVENTS_PER_CHUNK[args.level], args.events)
    provenance = Provenance(
        command="simulate",
        settings={
            "source": name,
            "options": options,
            "level": args.level,
            "format": args.format,
            "truth": args.truth or ("peaks" if args.level in ("hits", "records") else "deposits"),
            "run_id": args.run_id if args.format == "strax" else "",
            "without": sorted(set(args.without)),
        },
        detector=detector.name,
        detector_sha256=tree_sha256(detector),
        seed=args.seed,
        chunks={"n_events": args.events, "events_per_chunk": per_chunk},
        precision=precision_of(detector),
    )
    starts = range(0, args.events, per_chunk)
    key = jax.random.key(args.seed)
    # before the output folder is touched: a bad option is found by making the first chunk's deposits
    source(key, detector, n_events=min(per_chunk, args.events), first_event=0, **options)

    output = open_output(args, provenance, n_chunks=len(starts))
    missing = [chunk for chunk in range(len(starts)) if not output.has(chunk)]
    for chunk in track(missing, total=len(missing), what="simulating"):
        start = starts[chunk]
        n_events = min(per_chunk, args.events - start)
        deposits = source(key, detector, n_events=n_events, first_event=start, **options)
        output.write(chunk, key, detector, deposits)
    output.close()
    figure = args.out / FIGURE
    if missing or not figure.is_file():
        draw_simulation(figure, args.out, detector)

    if not missing:
        print("Nothing to do: the files are there, from a run of the same provenance.")
    elif len(missing) < len(starts):
        print(f"Continued: {len(starts) - len(missing)} of {len(starts)} chunks were there already.")
    print(f"{args.events} events of {name} in {detector.name}, seed {args.seed}")
    for line in output.summary():
        print(line)
    print(f"  figure   {figure}")
    return 0


def source_options(source_name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for the source, checked against those it takes."""
    options: dict[str, Any] = {}
    texts: dict[str, str] = {}
    if args.energy is not None:
        options["energy_kev"] = args.energy
    if args.interaction is not None:
        options["interaction"] = args.interaction
    for text in args.option:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--option {text}: give NAME=VALUE")
        texts[name] = value
    from dmsim import sources

    keywords = sources.options(sources.named(source_name))
    taken = {name: p for name, p in keywords.items() if name not in ("n_events", "first_event")}
    for name in (*options, *texts):
        if name not in taken:
            known = ", ".join(taken) or "none"
            raise ValueError(f"source {source_name} takes no option {name}: it takes {known}")
    options |= {name: value_of(name, text, taken[name].annotation) for name, text in texts.items()}
    for name, parameter in taken.items():
        if parameter.default is parameter.empty and name not in options:
            flag = {"energy_kev": "--energy KEV", "interaction": "--interaction NAME"}
            raise ValueError(
                f"source {source_name} needs {name}: give {flag.get(name, f'--option {name}=VALUE')}"
            )
    return options


_KINDS = ((bool, "true or false"), (int, "a whole number"), (float, "a number"), (str, "a name"))


def value_of(name: str, text: str, annotation: Any) -> int | float | bool | str:
    """The text of `--option` as the kind of value that the source's annotation asks for."""
    kinds = get_args(annotation) or (annotation,)
    kind, wanted = next(((k, words) for k, words in _KINDS if k in kinds), (str, "a name"))
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ValueError(f"--option {name}={text}: {name} must be {wanted}") from None
