"""`dmsim select`: cuts of a TOML file on a table of events."""

import argparse
import re
from pathlib import Path
from typing import Any

_WORDS = {  # on the axes, for names that do not say it themselves
    "r_mm": "radius",
    "alt_s2_share": "alternate S2 / main S2",
    "log10_cs2_over_cs1": "log$_{10}$(cS2 / cS1)",
    "xy_misfit": "misfit of the light pattern",
    "time_veto": "time since the last large S2",
    "time_shadow": "S2 over elapsed time, summed",
    "width": "S2 width / expected width",
    "band": "score of log$_{10}$(S2 / S1)",
}
HELP = "apply the cuts of a TOML file to events: cut flow, figure, selected events"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "events", metavar="EVENTS", type=Path,
        help="output of dmsim reconstruct or simulate --level areas, Parquet file or folder, strax folder, "
        "or CSV with a header",
    )  # fmt: skip
    parser.add_argument("--cuts", "-c", type=Path, required=True, metavar="FILE", help="TOML")
    parser.add_argument("--out", "-o", type=Path, required=True, metavar="DIR", help="folder for the output")
    parser.add_argument(
        "--weights", metavar="COLUMN", help="of the events, >= 0; default: each counts as one"
    )
    parser.add_argument(
        "--name", action="append", default=[], metavar="OURS=THEIRS",
        help="name of one of our columns in EVENTS, such as s2_pe=s2_area; units must be ours; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--confidence", type=float, default=0.6827, help="of the intervals, between 0 and 1; default 0.6827"
    )


def run(args: argparse.Namespace) -> int:
    """Print the cut flow; write cut_flow.json, cut_flow.png, cuts.toml and selected.parquet.

    The provenance of an output of dmsim is handed on, with the detector that it was made with.

    Raises:
        ValueError: for bad input; nothing is written then.
    """
    import matplotlib as mpl

    mpl.use("Agg")  # no window, also where there is no display
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from dmsim.io.files import write_json, write_whole
    from dmsim.plot.selection import draw_selection
    from dmsim.plot.style import style
    from dmsim.selection import columns_of, evaluate, read_cuts, to_toml

    cuts = read_cuts(args.cuts)
    columns = columns_of(_read(args.events), names=_names(args.name))
    if args.weights is not None and args.weights not in columns:
        raise ValueError(f"--weights {args.weights}: the events have {', '.join(sorted(columns))}")
    weights = None if args.weights is None else columns[args.weights]
    flow = evaluate(columns, cuts, weights=weights, confidence=args.confidence)
    provenance = _provenance(args)
    print(flow)
    if not flow.passed.any():
        print("  warning: no event is left")

    args.out.mkdir(parents=True, exist_ok=True)
    text = to_toml(cuts).encode()
    write_whole(args.out / "cuts.toml", lambda file: file.write(text))
    write_json(args.out / "cut_flow.json", flow.as_dict())
    if provenance is None:
        (args.out / "provenance.json").unlink(missing_ok=True)  # of another selection
    else:
        write_json(args.out / "provenance.json", provenance)
    kept = {"row": np.flatnonzero(flow.passed)}  # in EVENTS
    kept |= {name: values[flow.passed] for name, values in columns.items()}
    write_whole(args.out / "selected.parquet", lambda file: pq.write_table(pa.table(kept), file))
    shares = np.ones(flow.n_events) if weights is None else weights
    with style():
        figure = draw_selection(_views(flow, cuts, columns), shares)
        write_whole(args.out / "cut_flow.png", lambda file: figure.savefig(file, format="png"))
    print(f"  {int(flow.passed.sum())} events, cut flow and figure in {args.out}")
    return 0


def _read(path: Path) -> Any:
    """What `columns_of` takes, from a file or folder of any kind."""
    import numpy as np

    if path.suffix.lower() == ".csv":
        try:
            return np.atleast_1d(np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as CSV with a header: {error}") from None
    if not path.is_dir() or not list(path.glob("*-metadata.json")):
        return path
    from dmsim.io.strax_folders import FolderReader

    return np.concatenate(list(FolderReader(path)))


def _provenance(args: argparse.Namespace) -> dict[str, Any] | None:
    """Of the selection, from that of its input; None where the input has none."""
    from dmsim.io.files import sha256_of_file
    from dmsim.io.provenance import FILE_NAME, Provenance, read_provenance

    # of an output folder, or of the one around a table or a file
    places = (args.events, args.events.parent)
    found = next((place for place in places if (place / FILE_NAME).is_file()), None)
    if found is None:
        return None
    origin = read_provenance(found)
    settings = {"weights": args.weights, "name": args.name, "confidence": args.confidence}
    return Provenance(
        command="select",
        settings=settings,
        detector=origin["detector"],
        detector_sha256=origin["detector_sha256"],
        seed=None,
        chunks={},
        inputs={"events": origin["digest"], "cuts": sha256_of_file(args.cuts)},
        precision=origin["precision"],
    ).as_dict()


def _names(pairs: list[str]) -> dict[str, str]:
    names = {}
    for pair in pairs:
        ours, found, theirs = pair.partition("=")
        if not (ours and found and theirs):
            raise ValueError(f"--name {pair}: must be OURS=THEIRS, such as s2_pe=s2_area")
        names[ours] = theirs
    return names


def _views(flow: Any, cuts: Any, columns: dict[str, Any]) -> list[Any]:
    """Each cut with what is drawn of it."""
    import numpy as np

    from dmsim.plot.selection import CutView, Line, Share
    from dmsim.selection import Curve

    reduced = cuts.reduce(columns)
    passed = {cut.name: np.asarray(cut.passes(reduced)) for cut in cuts}
    n_failed = np.sum([~good for good in passed.values()], axis=0)
    views = []
    for row, cut in zip(flow.rows, cuts, strict=True):
        curve = next(iter(cut.curves.values()), None)
        lines = []
        for side in cut.sides:
            value = getattr(cut, side)
            if not isinstance(value, Curve):
                lines.append(Line(side, np.array([float(value)]), None))
            elif curve is not None and value.of == curve.of:  # another quantity has no place in the figure
                space = np.geomspace if value.axis == "log" else np.linspace
                places = space(value.knots[0], value.knots[-1], 200)
                lines.append(Line(side, value.through(places), places))
        views.append(
            CutView(
                name=cut.name,
                what=_label(cut.column if getattr(cut, "column", "") else cut.KIND, cut.unit),
                shares=tuple(
                    Share(share.value, share.low, share.high)
                    for share in (row.cumulative, row.alone, row.n_minus_one)
                ),
                variable=np.asarray(reduced[cut.key], float),
                passed_others=n_failed - ~passed[cut.name] == 0,
                passed=passed[cut.name],
                lines=tuple(lines),
                along=None if curve is None else np.asarray(reduced[curve.of], float),
                along_what="" if curve is None else _label(curve.of),
                is_log=curve is not None and curve.axis == "log",
            )
        )
    return views


def _label(name: str, unit: str | None = None) -> str:
    """A column, quantity or kind of cut in words, with its unit: cs1_pe is "cS1 [PE]"."""
    from dmsim.selection.cuts import unit_of

    unit = unit_of(name) if unit is None else unit
    words = _WORDS.get(name, name.removesuffix(f"_{unit.lower()}").replace("_", " "))
    words = re.sub(r"\bc?s[12]\b", lambda signal: signal[0].replace("s", "S"), words)
    return f"{words} [{unit}]" if unit else words
