"""`dmsim demo`: simulate a calibration, reconstruct it, compare with truth, fit the detector, report."""

import argparse
from pathlib import Path

HELP = "simulate a calibration, reconstruct it, fit the detector to it, and write report.html"
MIN_EVENTS = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--out", "-o", type=Path, default=Path("dmsim-demo"), help="output folder; default ./dmsim-demo"
    )
    parser.add_argument(
        "--events",
        "-n",
        type=_events,
        default=1000,
        metavar="N",
        help=f"events of Kr-83m, {MIN_EVENTS} or more, and half as many flat ER; default 1000",
    )
    parser.add_argument("--seed", type=_seed, default=0, help="0 to 2^32 - 1; default 0")
    parser.add_argument("--detector", "-d", default="xenonnt", help="preset or TOML file; default xenonnt")


def _events(text: str) -> int:
    value = int(text)
    if value < MIN_EVENTS:
        raise argparse.ArgumentTypeError(f"{value} is not in the range of {MIN_EVENTS} or more")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{value} is not in the range of 0 to 2^32 - 1")
    return value


def run(args: argparse.Namespace) -> int:
    """Run the demonstration and write its folder, whole or not at all.

    Raises:
        ValueError: for an unknown detector, an output folder that holds something else, or too few events
            that reconstruction finds.

    Returns:
        0, or 1 if a fitted parameter lies outside its tolerance: everything is written then, too.
    """
    from inference.demo.output import new_folder

    with new_folder(args.out) as folder:  # checked before anything is simulated
        from inference.demo.stages import Stages
        from inference.demo.study import run_study

        stages = Stages()
        study = run_study(args.detector, n_events=args.events, seed=args.seed, stages=stages)
        with stages.stage("draw figures"):
            from inference.commands.demo_figures import draw_figures

            figures = draw_figures(study, folder)
        from inference.demo.report import write_report
        from inference.demo.summary import summarize

        result = summarize(study, args, stages)
        write_report(result, figures, folder)
    for line in closing_lines(result, args.out):
        print(line)
    return 1 if _lost(result) else 0


def _lost(result: dict) -> list[dict]:
    """Fitted parameters that the data constrain, and that lie outside their tolerance."""
    return [p for p in result["fit"]["parameters"] if p["constrained"] and not p["recovered"]]


def closing_lines(result: dict, out: Path) -> list[str]:
    """What the terminal shows at the end."""
    from inference.demo.numbers import fitted_line

    kr = result["comparison"]["kr83m"]
    lines = [
        f"  clear S1 and S2, both right: {100 * kr['right']['fraction']:.1f} % of {kr['n_events']} Kr-83m "
        f"events; median bias S1 {kr['s1_percent']['median']:+.2f} %,"
        f" S2 {kr['s2_percent']['median']:+.2f} %, "
        f"z {kr['z_mm']['median']:+.2f} mm"
    ]
    lines += [f"  {fitted_line(p)}" for p in result["fit"]["parameters"]]
    lost = [p["label"] for p in _lost(result)]
    if lost:
        lines.append(f"  FAILED: the fit did not bring back, within tolerance: {', '.join(lost)}")
    return [*lines, f"  report: {out / 'report.html'}"]
