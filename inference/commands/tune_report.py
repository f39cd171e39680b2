"""report.html of tuned cuts: one page that needs no other file."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.commands.report_page import figure, page_of, table
from inference.tuning.result import Interval, TunedCuts
from inference.tuning.study import Study

_CAPTIONS = {
    "variables": "Each cut's variable, for events that pass all other cuts. Dashed: given; full: tuned. "
    "Thresholds outside of the shown range cut nothing away there.",
    "trajectory": "The way there, one line a start; after the dotted line once more on all but the held-out "
    "events. Left: figures with the penalty for the finite sample. Right: how soft each threshold was.",
    "thresholds": "The figure around the tuned cuts, with penalty, on all events: one threshold moves by "
    "up to one spread of the signal, all others stay.",
}


def _interval(value: Interval, form: str, factor: float = 1.0) -> str:
    numbers = (f"{factor * v:{form}}" for v in value)
    return "{} ({} to {})".format(*numbers)


def page(
    tuned: TunedCuts,
    study: Study,
    notes: Mapping[str, str],
    flows: Mapping[str, Any],
    figures: Mapping[str, Path],
) -> str:
    """The page's text.

    Args:
        tuned: what tuning found.
        study: what was asked for.
        notes: on each sample, and under "efficiency" of what it is.
        flows: cut flow of each sample.
        figures: PNG files by name.
    """
    held_out = tuned.held_out
    cards = (
        (f"{held_out.figure.value:.3g}", f"{study.objective.figure} on held-out events"),
        (f"{held_out.given.value:.3g}", "with the cuts as given"),
        (f"{100 * held_out.gain.value:+.1f} %", "gain"),
        (f"{100 * held_out.efficiency:.1f} %", "of the signal that the cuts see is kept"),
        (f"{100 * held_out.soft_hard_gap:+.2f} %", "soft against hard, in the end"),
    )
    rows = [
        [name, f"{row['given']:.5g}", f"{row['tuned']:.5g}", f"{row['spread']:.3g}"]
        for name, row in tuned.as_dict()["parameters"].items()
    ]
    kept = [
        [name, f"{held_out.kept_given[name]:.4g}", f"{held_out.kept[name]:.4g}"] for name in held_out.kept
    ]
    judged = [
        ["as given", _interval(held_out.given, ".4g")],
        ["as tuned", _interval(held_out.figure, ".4g")],
        ["gain [%]", _interval(held_out.gain, "+.1f", 100)],
    ]
    limits = [
        [v.constraint, f"{v.chosen:.3g}", f"{v.held_out:.3g} \u00b1 {v.error:.2g}", "yes" if v.met else "NO"]
        for v in tuned.verdicts
    ]
    flow_texts = "".join(
        f"<h3>{html.escape(name)}</h3><p>{html.escape(notes.get(name, ''))}</p>"
        f"<pre>{html.escape(str(flow))}</pre>"
        for name, flow in flows.items()
    )
    sections = (
        (
            "What was gained",
            f"<p>{html.escape(tuned.message[:1].upper() + tuned.message[1:])}. Figures are of hard cuts on "
            "events that neither steps nor choices have seen; 68 % bootstrap intervals.</p>"
            + table(["cuts", "figure"], judged)
            + table(["sample", "expected events, cuts as given", "as tuned"], kept)
            + f"<p>{html.escape(notes.get('efficiency', ''))}.</p>"
            + (table(["constraint", "where chosen", "held-out", "met there"], limits) if limits else ""),
        ),
        ("Variables", _figure(figures, "variables")),
        ("Thresholds", table(["threshold", "given", "tuned", "spread of the signal"], rows)),
        ("Around the optimum", _figure(figures, "thresholds")),
        (
            "How it got there",
            f"<p>{tuned.n_gradients} gradients and {tuned.n_hard} evaluations of hard cuts took "
            f"{tuned.cpu_s:.0f} CPU-seconds.</p>" + _figure(figures, "trajectory"),
        ),
        ("Cut flow", flow_texts),
    )
    return page_of("Tuned cuts", cards, sections)


def _figure(figures: Mapping[str, Path], name: str) -> str:
    return figure(figures[name], _CAPTIONS[name])
