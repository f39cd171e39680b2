"""`dmsim tune` with kind = "clustering": thresholds of the reconstruction, tuned on simulated truth."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmsim.detector import Detector
    from inference.tuning.clustering_judge import Verdict
    from inference.tuning.clustering_result import TunedSettings
    from inference.tuning.clustering_samples import Batch
    from inference.tuning.clustering_study import ClusteringStudy


def run(args: argparse.Namespace) -> int:
    """Simulate, tune, judge; write settings.toml, result.json, figures and report.html.

    Raises:
        ValueError: for bad input; nothing is written then.
    """
    from dmsim import load_detector
    from inference.commands.progress import Bars
    from inference.tuning.clustering_study import read_clustering_study
    from inference.tuning.study import table_of

    study = read_clustering_study(args.config, table_of(args.config))
    detector = load_detector(study.detector)
    with Bars() as bars:
        tuned, verdict = _tuned(args, study, detector, bars)
    _write(args, study, detector, tuned, verdict)
    _print(args, study, tuned, verdict)
    return 0


def _tuned(
    args: argparse.Namespace, study: ClusteringStudy, detector: Detector, bars: Any
) -> tuple[TunedSettings, Verdict]:
    import jax

    from inference.tuning.clustering import tune_clustering
    from inference.tuning.clustering_judge import judge
    from inference.tuning.clustering_study import simulate_samples

    def simulated(what: str, *, held_out: bool) -> dict[str, list[Batch]]:
        out, n = {}, len(study.samples)
        bars(what, 0, n)
        for name, batches in simulate_samples(study, detector, args.seed, held_out=held_out):
            out[name] = batches
            bars(what, len(out), n)
        return out

    samples = simulated("records to tune on", held_out=False)
    held_out = simulated("records to judge on", held_out=True)
    options = study.options()
    bars("steps", 0, options.n_steps)
    tuned = tune_clustering(
        jax.random.key(args.seed),
        detector,
        study.given(args.config.parent),
        samples,
        leaves=study.leaves(),
        options=options,
        on_look=lambda look: bars("steps", look.step, options.n_steps),
    )
    every = [batch for batches in held_out.values() for batch in batches]
    return judge(detector, tuned, every, n_bootstrap=study.n_bootstrap)


def _write(
    args: argparse.Namespace,
    study: ClusteringStudy,
    detector: Detector,
    tuned: TunedSettings,
    verdict: Verdict,
) -> None:
    import inference
    from dmsim.io.files import sha256_of_file, write_json, write_whole
    from dmsim.io.provenance import Provenance, source_sha256, tree_sha256
    from inference.commands import tune_clustering_figures as figures
    from inference.commands.tune import finite
    from inference.commands.tune_clustering_report import page

    inputs = [args.config, *([args.config.parent / study.settings] if study.settings else [])]
    provenance = Provenance(
        command="tune",
        settings={
            "study": study.model_dump(mode="json"),
            "inference_source_sha256": source_sha256(inference),
        },
        detector=detector.name,
        detector_sha256=tree_sha256(detector),
        seed=args.seed,
        chunks={},
        inputs={str(path): sha256_of_file(path) for path in inputs},
        precision="float32",
    )
    args.out.mkdir(parents=True, exist_ok=True)
    drawn = {
        "errors": figures.draw_errors(verdict),
        "trajectory": figures.draw_trajectory(tuned),
    }
    for name, figure in drawn.items():
        write_whole(args.out / f"{name}.png", lambda file, f=figure: f.savefig(file, format="png", dpi=130))
    tuned.write(args.out / "settings.toml")
    text = page(tuned, verdict, {name: args.out / f"{name}.png" for name in drawn})
    write_whole(args.out / "report.html", lambda file: file.write(text.encode("utf-8")))
    numbers = {"held_out": verdict.as_dict(tuned.options.scope), "provenance": provenance.as_dict()}
    write_json(args.out / "result.json", finite({**tuned.as_dict(), **numbers}))


def _print(args: argparse.Namespace, study: ClusteringStudy, tuned: TunedSettings, verdict: Verdict) -> None:
    from rich.console import Console
    from rich.table import Table

    from inference.commands.tune_clustering_report import change_in_words
    from inference.tuning.clustering_result import moved

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # in a file, names are not cut short
    table = Table(title="Thresholds that moved by 1 % or more")
    for heading in ("threshold", "given", "tuned"):
        table.add_column(heading, justify="left" if heading == "threshold" else "right")
    for name, given, value in moved(tuned, least=0.01):
        table.add_row(name, f"{given:.5g}", f"{value:.5g}")
    if table.row_count:
        console.print(table)
    rows = (("given", verdict.per_signal_given), ("tuned", verdict.per_signal))
    for what, value in rows:
        console.print(
            f"{what}: {1e3 * value.value:.4g} errors in 1000 signals ({1e3 * value.low:.4g} to "
            f"{1e3 * value.high:.4g}) on {verdict.errors.n_signals:.0f} held-out signals",
            highlight=False,
        )
    console.print(
        f"change {change_in_words(verdict.change)}; soft against hard {100 * tuned.soft_hard_gap:+.2f} %",
        highlight=False,
    )
    console.print(f"{tuned.message}; {tuned.n_gradients} gradients, {tuned.cpu_s:.0f} CPU-s", highlight=False)
    names = ("settings.toml", "result.json", "report.html")
    console.print(f"written: {', '.join(str(args.out / name) for name in names)}", highlight=False)
