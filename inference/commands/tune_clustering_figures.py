"""Figures of tuned thresholds of the reconstruction."""

import numpy as np
from matplotlib.figure import Figure

from inference.tuning.clustering_judge import Verdict
from inference.tuning.clustering_result import TunedSettings

_GIVEN, _TUNED, _OTHER = "#b0653a", "#1f5a96", "#8a949c"
_KINDS = {"split": "split", "merged": "merged", "misclassified": "misclassified", "false": "false peak"}
_MOST = 8  # thresholds with a line of their own


def draw_errors(verdict: Verdict) -> Figure:
    """Errors of each kind on held-out events, with the given and the tuned settings."""
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    ax = figure.subplots()
    place = np.arange(len(_KINDS) + 1)
    sides = (("given", verdict.errors_given, verdict.per_signal_given, _GIVEN, -0.2),
             ("tuned", verdict.errors, verdict.per_signal, _TUNED, 0.2))  # fmt: skip
    for name, errors, total, color, shift in sides:
        parts = [1e3 * getattr(errors, kind) / errors.n_signals for kind in _KINDS]
        ax.bar(place + shift, [*parts, 1e3 * total.value], 0.38, color=color, label=name)
        low, high = (max(abs(edge - total.value), 0.0) for edge in (total.low, total.high))
        ax.errorbar(place[-1] + shift, 1e3 * total.value, 1e3 * np.array([[low], [high]]), color="black")
    ax.set_xticks(place, [*_KINDS.values(), "all"])
    ax.set_ylabel("errors in 1000 true signals")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    return figure


def draw_trajectory(tuned: TunedSettings) -> Figure:
    """Loss by step; thresholds over where they began."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    looks = tuned.trajectory
    step = [look.step for look in looks]
    left.plot(step, [look.soft for look in looks], ":", color=_OTHER, label="expected, tuned on")
    left.plot(step, [look.hard for look in looks], "o-", ms=3, color=_TUNED, label="counted, tuned on")
    left.plot(step, [look.validation for look in looks], "o-", ms=3, color=_GIVEN, label="counted, chosen on")
    left.set(xlabel="step", ylabel="loss [errors a signal]")
    left.set_ylim(bottom=0)
    left.legend(frameon=False)
    values = np.array([look.values for look in looks])
    origin = values[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = 100 * np.where(origin != 0, values / origin - 1, values)
    order = np.argsort(-np.abs(change).max(axis=0))
    for number, i in enumerate(order):
        if number < _MOST:
            right.plot(step, change[:, i], label=_words(tuned.names[i]))
        else:
            right.plot(step, change[:, i], color=_OTHER, lw=0.6, zorder=0)
    right.set(xlabel="step", ylabel="change of threshold [%]")
    right.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _words(name: str) -> str:
    return name.replace("_", " ").replace(".", ": ")
