"""`dmsim plot event`: one reconstructed event, its waveform and what was decided about it."""

import argparse
from pathlib import Path
from typing import Any

HELP = "draw one reconstructed event: waveform, hit pattern and decisions"
_SUFFIXES = (".png", ".pdf", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("what", choices=("event",), help="what to draw: event, one reconstructed event")
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="output folder of dmsim reconstruct")
    parser.add_argument(
        "--records", "-r", type=Path, required=True, metavar="IN", help="the records that RUN was made from"
    )
    parser.add_argument(
        "--event", "-e", type=int, required=True, metavar="N", help="its number in the events"
    )
    parser.add_argument("--out", "-o", type=Path, metavar="FILE", help="figure; default RUN/event_N.png")
    parser.add_argument("--detector", "-d", help="preset or TOML file; default: the preset of RUN's name")


def run(args: argparse.Namespace) -> int:
    """Draw the event and print its peaks.

    Raises:
        ValueError: if RUN is no reconstruction of these records, or has no such event.
    """
    import matplotlib as mpl

    mpl.use("Agg")  # no window, also where there is no display
    from dmsim.cli.event_view import event_view
    from dmsim.detector import load_detector
    from dmsim.io.files import write_whole
    from dmsim.io.provenance import read_provenance, tree_sha256
    from dmsim.io.records_input import open_records
    from dmsim.plot.event import draw_decided_event
    from dmsim.plot.style import style

    figure_path = args.out or args.run_folder / f"event_{args.event}.png"
    if figure_path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"--out {figure_path}: must end with one of {', '.join(_SUFFIXES)}")
    provenance = read_provenance(args.run_folder)
    _check(provenance, args.run_folder)
    source = open_records(args.records)
    if source.digest != provenance["inputs"].get("records"):
        raise ValueError(
            f"{args.run_folder} was not made from {args.records}: give the records it was made from"
        )
    detector = load_detector(args.detector or provenance["detector"])
    if tree_sha256(detector) != provenance["detector_sha256"]:
        raise ValueError(
            f"{args.run_folder} was reconstructed with a detector {provenance['detector']} of other "
            "parameters: give it with --detector"
        )
    view = event_view(detector, source, args.run_folder, provenance["settings"], args.event)
    with style():
        figure = draw_decided_event(detector, view)
        kind = figure_path.suffix[1:].lower()
        write_whole(figure_path, lambda file: figure.savefig(file, format=kind, dpi=130))
    print(view.title)
    widths = [
        max(len(row[i].text) for row in [*view.decisions, _heads(view)]) for i in range(len(view.columns))
    ]
    for row in [_heads(view), *view.decisions]:
        print("  " + "  ".join(cell.text.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print(f"  figure   {figure_path}")
    return 0


def _heads(view: Any) -> list[Any]:
    from dmsim.plot.event import Decision

    return [Decision(name, None) for name in view.columns]


def _check(provenance: dict[str, Any], folder: Path) -> None:
    if provenance.get("command") != "reconstruct":
        raise ValueError(f"{folder} is not an output of dmsim reconstruct")
    for name in ("inputs", "settings"):
        if not isinstance(provenance.get(name), dict):
            raise ValueError(f"{folder} has a damaged provenance: {name} must be an object")
