"""`dmsim tune`: tune cuts by gradient for a figure of merit."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmsim.selection import CutSet
    from inference.tuning import Sample, TunedCuts
    from inference.tuning.study import Study

HELP = "tune cuts, or thresholds of the reconstruction, by gradient"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--config",
        "-c",
        type=Path,
        required=True,
        metavar="FILE",
        help='study as TOML: samples, cuts, objective and constraints; or kind = "clustering"',
    )
    parser.add_argument("--seed", type=int, default=0, help="0 to 2^32 - 1; default 0")
    parser.add_argument(
        "--out", "-o", type=Path, default=Path("tune"), help="folder for cuts and report; default tune"
    )


def run(args: argparse.Namespace) -> int:
    """Tune, print what was gained, write cuts.toml, cut_flow.txt, result.json, figures and report.html.

    Raises:
        ValueError: for bad input; nothing is written then.
    """
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed {args.seed} is not in the range of 0 to 2^32 - 1")
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"output {args.out} is a file: give a folder with --out")
    from inference.tuning.study import load_cuts, load_samples, read_study, table_of

    kind = table_of(args.config).get("kind", "cuts")
    if kind not in ("cuts", "clustering"):
        raise ValueError(f'{args.config}: kind is {kind!r}: must be "cuts" or "clustering"')
    if kind == "clustering":
        from inference.commands import tune_clustering

        return tune_clustering.run(args)
    study = read_study(args.config)
    folder = args.config.parent
    settings, objective, constraints = study.settings(), study.objective_of(), study.constraints_of()
    cuts = load_cuts(study, folder)
    samples = load_samples(study, folder, args.seed)

    import jax

    from inference.tuning import tune

    with _Bar(settings.n_steps) as report:
        tuned = tune(
            jax.random.key(args.seed),
            cuts,
            samples,
            objective,
            constraints,
            settings=settings,
            on_step=report,
        )
    _write(args, study, samples, tuned)
    _print(args, study, samples, tuned)
    return 0


class _Bar:
    """A progress bar where somebody looks at it."""

    def __init__(self, n_steps: int):
        self._n_steps = n_steps

    def __enter__(self) -> _Bar:
        import sys

        self._progress = None
        if sys.stdout.isatty():
            from rich.progress import Progress

            self._progress = Progress(transient=True)
            self._progress.start()
            self._task = self._progress.add_task("tuning", total=self._n_steps)
        return self

    def __call__(self, step: int, n_steps: int, best: float) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=step, description=f"tuning, best {best:.4g}")

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()


def _flows(cuts: CutSet, samples: dict[str, Sample]) -> dict[str, Any]:
    from dmsim.selection import evaluate

    return {name: evaluate(dict(s.columns), cuts, weights=s.weight) for name, s in samples.items()}


def _write(args: argparse.Namespace, study: Study, samples: dict[str, Sample], tuned: TunedCuts) -> None:
    import inference
    from dmsim import load_detector
    from dmsim.io.files import sha256_of_file, write_json, write_whole
    from dmsim.io.provenance import Provenance, source_sha256, tree_sha256
    from dmsim.selection import to_toml
    from inference.commands import tune_figures
    from inference.commands.tune_report import page
    from inference.tuning.around import profiles

    objective = study.objective_of()
    detector = None if study.detector is None else load_detector(study.detector)
    flows = _flows(tuned.cuts, samples)
    figures = {
        "variables": tune_figures.draw_variables(tuned, samples),
        "trajectory": tune_figures.draw_trajectory(tuned),
        "thresholds": tune_figures.draw_profiles(profiles(tuned, samples, objective)),
    }
    files = [args.config, args.config.parent / study.cuts]
    files += [path for s in study.samples.values() if s.file for path in _data(args.config.parent / s.file)]
    provenance = Provenance(
        command="tune",
        settings={
            "study": study.model_dump(mode="json"),
            "inference_source_sha256": source_sha256(inference),
        },
        detector="" if detector is None else detector.name,
        detector_sha256="" if detector is None else tree_sha256(detector),
        seed=args.seed,
        chunks={},
        inputs={str(path): sha256_of_file(path) for path in files},
        precision="float32",
    )
    args.out.mkdir(parents=True, exist_ok=True)
    heads = {name: f"{name}: {s.note}" if s.note else name for name, s in samples.items()}
    text = "\n\n".join(f"{heads[name]}\n{flow}" for name, flow in flows.items()) + "\n"
    texts = {"cuts.toml": to_toml(tuned.cuts), "cut_flow.txt": text}
    for name, figure in figures.items():
        write_whole(args.out / f"{name}.png", lambda file, f=figure: f.savefig(file, format="png", dpi=130))
    notes = {name: s.note for name, s in samples.items()} | {"efficiency": efficiencies(samples, tuned)}
    images = {name: args.out / f"{name}.png" for name in figures}
    texts["report.html"] = page(tuned, study, notes, flows, images)
    for name, content in texts.items():
        write_whole(args.out / name, lambda file, c=content: file.write(c.encode("utf-8")))
    flow_numbers = {name: flow.as_dict() for name, flow in flows.items()}
    result = finite({**tuned.as_dict(), "cut_flow": flow_numbers, "provenance": provenance.as_dict()})
    write_json(args.out / "result.json", result)


def finite(tree: Any) -> Any:
    """The same tree with null for what is not a number, which JSON does not know."""
    import math

    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _data(path: Path) -> list[Path]:
    return sorted(path.rglob("*.parquet")) if path.is_dir() else [path]


def _print(args: argparse.Namespace, study: Study, samples: dict[str, Sample], tuned: TunedCuts) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # in a file, names are not cut short
    for name, sample in samples.items():
        if sample.note:
            console.print(f"{name}: {sample.note}", highlight=False)
    table = Table(title="Thresholds")
    for heading in ("threshold", "given", "tuned", "spread of the signal"):
        table.add_column(heading, justify="left" if heading == "threshold" else "right")
    for name, row in tuned.as_dict()["parameters"].items():
        table.add_row(name, *(f"{row[what]:.5g}" for what in ("given", "tuned", "spread")))
    console.print(table)
    held_out = tuned.held_out
    for what, value in (("given", held_out.given), ("tuned", held_out.figure)):
        console.print(
            f"{what}: {study.objective.figure} {value.value:.4g} ({value.low:.4g} to {value.high:.4g}) "
            "on held-out events",
            highlight=False,
        )
    console.print(
        f"gain {100 * held_out.gain.value:+.1f} % ({100 * held_out.gain.low:+.1f} to "
        f"{100 * held_out.gain.high:+.1f}); soft against hard {100 * held_out.soft_hard_gap:+.2f} %",
        highlight=False,
    )
    console.print(efficiencies(samples, tuned), highlight=False)
    if tuned.verdicts:
        limits = Table(title="Constraints")
        for heading in ("constraint", "where chosen", "held-out", "met there"):
            limits.add_column(heading, justify="left" if heading == "constraint" else "right")
        for v in tuned.verdicts:
            found = f"{v.held_out:.3g} +- {v.error:.2g}"
            limits.add_row(v.constraint, f"{v.chosen:.3g}", found, "yes" if v.met else "NO")
        console.print(limits)
    console.print(f"{tuned.message}; {tuned.n_gradients} gradients, {tuned.cpu_s:.0f} CPU-s", highlight=False)
    names = ("cuts.toml", "cut_flow.txt", "result.json", "report.html")
    console.print(f"written: {', '.join(str(args.out / name) for name in names)}", highlight=False)


def efficiencies(samples: dict[str, Sample], tuned: TunedCuts) -> str:
    """The signal's efficiency, of what, and what is left of all that was expected."""
    signal = [s for s in samples.values() if s.signal]
    expected, lost = sum(s.expected for s in signal), sum(s.lost for s in signal)
    held_out = tuned.held_out
    text = (
        f"signal efficiency {held_out.efficiency:.3f} (was {held_out.efficiency_given:.3f}) of the "
        f"{expected:.4g} events that the cuts see"
    )
    if lost > 0:
        share = held_out.efficiency * expected / (expected + lost)
        text += f"; {share:.3f} of the {expected + lost:.4g} expected, {lost:.4g} of which have no S1 or S2"
    return text
