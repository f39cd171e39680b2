"""report.html of tuned thresholds of the reconstruction: one page that needs no other file."""

import html
import math
from collections.abc import Mapping
from pathlib import Path

from inference.commands.report_page import figure, page_of, table
from inference.tuning.clustering_judge import Verdict
from inference.tuning.clustering_result import TunedSettings, moved
from inference.tuning.figures import Interval

_CAPTIONS = {
    "errors": "Errors on held-out events, that neither steps nor choices have seen. Bars at all: 68 % "
    "bootstrap interval.",
    "trajectory": "The way there. Left: the loss that is expected of the soft reading, and counted of the "
    "hard one. Right: every threshold; those that move most by name.",
}


def page(tuned: TunedSettings, verdict: Verdict, figures: Mapping[str, Path]) -> str:
    """The page's text.

    Args:
        tuned: what tuning found.
        verdict: on held-out events.
        figures: PNG files by name.
    """
    change = verdict.change
    cards = (
        (f"{1e3 * verdict.per_signal.value:.3g}", "errors in 1000 held-out signals"),
        (f"{1e3 * verdict.per_signal_given.value:.3g}", "with the settings as given"),
        (_percent(change.value), "change"),
        (f"{100 * tuned.soft_hard_gap:+.2f} %", "expected against counted loss, in the end"),
    )
    judged = [
        ["as given", *_errors(verdict.errors_given, verdict.per_signal_given)],
        ["as tuned", *_errors(verdict.errors, verdict.per_signal)],
    ]
    head = ["settings", "in 1000 signals", "split", "merged", "misclassified", "false",
            "area bias of S1s [%]", "of S2s [%]"]  # fmt: skip
    thresholds = [[n, f"{old:.5g}", f"{new:.5g}", f"{r:+.1f}"] for n, old, new, r in _rows(tuned)]
    sections = (
        (
            "What was gained",
            f"<p>{html.escape(tuned.message[:1].upper() + tuned.message[1:])}. Change on "
            f"{verdict.errors.n_signals:.0f} held-out signals: {change_in_words(change)}.</p>"
            + table(head, judged)
            + _figure(figures, "errors"),
        ),
        ("Thresholds", table(["threshold", "given", "tuned", "change [%]"], thresholds)),
        (
            "How it got there",
            f"<p>{tuned.n_gradients} gradients and {tuned.n_hard} hard readings took {tuned.cpu_s:.0f} "
            "CPU-seconds.</p>" + _figure(figures, "trajectory"),
        ),
    )
    return page_of("Tuned thresholds of the reconstruction", cards, sections)


def change_in_words(change: Interval) -> str:
    """With its interval; errors that were none cannot fall."""
    if math.isnan(change.value):
        return "not known"
    low, high = (_percent(end) for end in (change.low, change.high))
    return f"{_percent(change.value)} ({low} to {high})"


def _percent(share: float) -> str:
    return "not known" if math.isnan(share) else f"{100 * share:+.0f} %"


def _errors(errors, per_signal: Interval) -> list[str]:
    numbers = "{:.3g} ({:.3g} to {:.3g})".format(*(1e3 * x for x in per_signal))
    parts = [f"{getattr(errors, k):.0f}" for k in ("split", "merged", "misclassified", "false")]
    return [numbers, *parts, *(f"{100 * float(b):+.2f}" for b in errors.area_bias)]


def _rows(tuned: TunedSettings) -> list[tuple[str, float, float, float]]:
    return [
        (name, old, new, 100 * (new / old - 1) if old else 0.0) for name, old, new in moved(tuned, least=0.0)
    ]


def _figure(figures: Mapping[str, Path], name: str) -> str:
    return figure(figures[name], _CAPTIONS[name])
