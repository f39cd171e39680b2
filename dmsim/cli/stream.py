"""`dmsim simulate --duration`: sources that happen at once, as continuous detector time."""

import argparse
import math
from typing import Any

from dmsim.cli.simulate import CHUNK_SECONDS, FIGURE, value_of


def run_stream(args: argparse.Namespace) -> int:
    """Simulate a span of time, chunk by chunk; a chunk holds whole readout windows.

    Raises:
        ValueError: for an unknown detector, source or option, or an output folder of another run.
    """
    import jax

    from dmsim import load_detector, sources
    from dmsim.cli.output import claim, draw_simulation
    from dmsim.cli.stream_output import StreamOutput
    from dmsim.io.provenance import FILE_NAME, Provenance, precision_of, tree_sha256
    from dmsim.pipeline import stream_windows

    _check(args)
    chunk_s = CHUNK_SECONDS if args.chunk_seconds is None else args.chunk_seconds
    detector = load_detector(args.detector).without(*args.without)
    rates, options = _rates(args.source), _options(args.option)
    key = jax.random.key(args.seed)
    timeline = sources.mixture(key, detector, rates, args.duration, options=options)
    if not timeline.deposits.n_events:
        raise ValueError(f"--duration {args.duration:g}: there is no event at these rates: give more time")
    windows = stream_windows(detector, timeline.deposits)
    provenance = Provenance(
        command="simulate",
        settings={
            "source": rates,
            "options": options,
            "duration_s": args.duration,
            "level": args.level,
            "format": args.format,
            "truth": args.truth or "peaks",
            "run_id": args.run_id if args.format == "strax" else "",
            "without": sorted(set(args.without)),
        },
        detector=detector.name,
        detector_sha256=tree_sha256(detector),
        seed=args.seed,
        chunks={"n_events": timeline.deposits.n_events, "chunk_ns": round(chunk_s * 1e9)},
        precision=precision_of(detector),
    )
    claim(args.out, provenance, overwrite=args.overwrite)
    output = StreamOutput(args.out, provenance)
    is_done = output.is_finished
    if not is_done:
        output.write(key, detector, timeline, windows, n_expected=math.ceil(args.duration / chunk_s))
    figure = args.out / FIGURE
    if not is_done or not figure.is_file():
        draw_simulation(figure, args.out, detector)
    if is_done:
        print("Nothing to do: the files are there, from a run of the same provenance.")
    mixed = " + ".join(f"{rate:g} Hz {name}" for name, rate in rates.items())
    print(f"{args.duration:g} s of {mixed} in {detector.name}, seed {args.seed}")
    n_events, n_windows = timeline.deposits.n_events, windows.start_sample.size
    print(f"  {n_events} events in {n_windows} readout windows, {n_events - n_windows} piled up")
    print(f"  {windows.n_cut} windows cut because they would have been too long")
    for line in output.summary():
        print(line)
    print(f"  figure   {figure}")
    print(f"  provenance in {args.out / FILE_NAME}")
    return 0


def _check(args: argparse.Namespace) -> None:
    from dmsim.io.strax_folders import check_run_id

    if args.level != "records":
        raise ValueError(f"--duration makes records, and --level is {args.level}: give --level records")
    if args.format == "strax":
        check_run_id(args.run_id)
    for flag, value in (("--energy", args.energy), ("--interaction", args.interaction)):
        if value is not None:
            raise ValueError(f"{flag} with --duration: say whose it is, with --option SOURCE.NAME=VALUE")
    if args.chunk_events is not None:
        raise ValueError("--chunk-events with --duration: give --chunk-seconds")
    if args.chunk_seconds is not None and not 1e-6 <= args.chunk_seconds <= 1e6:
        raise ValueError(f"--chunk-seconds is {args.chunk_seconds} s: must be from 1e-6 to 1e6 s")


def _rates(texts: list[str]) -> dict[str, float]:
    """Rate [Hz] of each source."""
    rates = {}
    for text in texts:
        name, _, rate = text.partition("=")
        if name in rates:
            raise ValueError(f"--source {text}: {name} is given twice: give it once, at the sum of the rates")
        try:
            rates[name] = float(rate)
        except ValueError:
            raise ValueError(f"--source {text} with --duration: give NAME=RATE, in Hz") from None
    return rates


def _options(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Further options of the sources, from SOURCE.NAME=VALUE."""
    from dmsim import sources

    options: dict[str, dict[str, Any]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        source, dot, name = place.partition(".")
        if not equals or not dot:
            raise ValueError(f"--option {text} with --duration: give SOURCE.NAME=VALUE")
        known = sources.options(sources.named(source))
        annotation = known[name].annotation if name in known else str
        options.setdefault(source, {})[name] = value_of(name, value, annotation)
    return options
