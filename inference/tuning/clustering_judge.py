"""Tuned settings of the reconstruction on events that neither steps nor choices have seen."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dmsim.detector import Detector
from dmsim.reconstruction.settings import Settings
from inference.tuning.clustering_loss import Errors, Scope, count_by_event
from inference.tuning.clustering_result import TunedSettings, errors_as_dict
from inference.tuning.clustering_samples import Batch, added, found_by
from inference.tuning.figures import Interval, interval


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Errors on held-out events; 68 % intervals over Poisson-weighted events, the same draws for both."""

    errors: Errors
    errors_given: Errors
    per_signal: Interval
    per_signal_given: Interval
    change: Interval  # tuned / given - 1; NaN where the given settings make no error

    def as_dict(self, scope: Scope) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "tuned": errors_as_dict(self.errors, scope),
            "given": errors_as_dict(self.errors_given, scope),
            "per_signal": self.per_signal._asdict(),
            "per_signal_given": self.per_signal_given._asdict(),
            "change": self.change._asdict(),
        }


def judge(
    detector: Detector, tuned: TunedSettings, batches: Sequence[Batch], *, n_bootstrap: int = 300
) -> tuple[TunedSettings, Verdict]:
    """Tuned beside given settings on held-out batches; the given ones come back if those are worse.

    Worse is a larger loss, or more errors. It is a choice between two on the events that judge: its
    bias is far below their interval.

    Args:
        detector: that took the records.
        tuned: of `tune_clustering`.
        batches: held out.
        n_bootstrap: draws for the intervals, >= 1.

    Raises:
        ValueError: if no true signal in the batches counts.
    """
    scope = tuned.options.scope
    old, signals, wrong_old = _counted(detector, tuned.given, batches, scope)
    if not old.n_signals:
        raise ValueError("no true signal counts in the held-out batches: see Options.scope")
    new, _, wrong = _counted(detector, tuned.settings, batches, scope)
    if new.loss(scope) > old.loss(scope) or new.per_signal > old.per_signal:
        tuned = dataclasses.replace(
            tuned,
            settings=tuned.given,
            values=tuned.values_given,
            improved=False,
            message=f"tuned settings are worse on held-out events, {new.per_signal:.4g} against "
            f"{old.per_signal:.4g} errors a signal: the given ones are handed back",
        )
        new, wrong = old, wrong_old
    times = np.random.default_rng(0).poisson(1.0, (n_bootstrap, signals.size))
    draws, draws_old = ((times @ x) / np.maximum(times @ signals, 1) for x in (wrong, wrong_old))
    with np.errstate(divide="ignore", invalid="ignore"):
        change = interval(np.divide(new.per_signal, old.per_signal) - 1, draws / draws_old - 1)
    verdict = Verdict(new, old, interval(new.per_signal, draws), interval(old.per_signal, draws_old), change)
    return tuned, verdict


def _counted(
    detector: Detector, settings: Settings, batches: Sequence[Batch], scope: Scope
) -> tuple[Errors, np.ndarray, np.ndarray]:
    """Errors of all; signals and errors of each event."""
    found = found_by(detector, batches, settings)
    counted = [count_by_event(b.truth, peaks, scope) for b, peaks in zip(batches, found, strict=True)]
    signals, wrong = (np.concatenate([getattr(c, n) for c in counted]) for n in ("signals", "wrong"))
    return added([c.errors for c in counted]), signals, wrong
