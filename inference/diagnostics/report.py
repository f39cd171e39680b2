"""Everything asked of a posterior at once: simulate events, draw, test, and report."""

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from inference.diagnostics import c2st, coverage, pulls, ranks, training
from inference.diagnostics.check import Check
from inference.diagnostics.draws import draw, log_densities

_log = logging.getLogger(__name__)
_LARGEST_DATA = 64  # numbers an event; above, the classifier needs a summary of the data


@dataclasses.dataclass(frozen=True)
class Report:
    """What the diagnostics say of a posterior, and the numbers that their figure shows."""

    checks: tuple[Check, ...]
    names: tuple[str, ...]
    n_events: int
    n_draws: int
    seconds: float  # of wall time
    arrays: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """Those that did not."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def false_positive_rate(self) -> float:
        """Bound of the probability that a right posterior fails any check."""
        return min(1.0, sum(check.false_positive_rate for check in self.checks))

    def __str__(self) -> str:
        """One line a check, failures first."""
        lines = [check.line for check in sorted(self.checks, key=lambda check: check.passed)]
        word = "passed" if self.passed else f"FAILED in {len(self.failed)} of {len(self.checks)} checks"
        head = (
            f"posterior {word}; {self.n_events} events of {self.n_draws} draws, {self.seconds:.0f} s; "
            f"a right posterior fails in {self.false_positive_rate:.0%} of cases at most"
        )
        return "\n".join([head, *lines])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words, ready for JSON; without the arrays of the figure."""
        return {
            "passed": self.passed,
            "false_positive_rate": self.false_positive_rate,
            "names": list(self.names),
            "n_events": self.n_events,
            "n_draws": self.n_draws,
            "seconds": round(self.seconds, 1),
            "checks": [check.to_dict() for check in self.checks],
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Report":
        """The report that `to_dict` wrote, which can draw no figure."""
        return cls(
            checks=tuple(Check.from_dict(each) for each in given["checks"]),
            names=tuple(given["names"]),
            n_events=given["n_events"],
            n_draws=given["n_draws"],
            seconds=given["seconds"],
        )

    def write(self, path: Path | str) -> None:
        """Write `to_dict` as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")

    def figure(self, path: Path | str) -> None:
        """Draw ranks, coverage, pulls and, where there are, bins and training curves into a file.

        Args:
            path: with an ending that matplotlib knows.

        Raises:
            ValueError: if the report was read from a file, which holds no arrays.
        """
        if not self.arrays:
            raise ValueError(
                "this report was read from a file, without the arrays of a figure: run calibrate"
            )
        from inference.diagnostics.figures import report_page  # noqa: PLC0415  matplotlib is slow to load

        report_page(path, self)


def calibrate(
    key: PRNGKeyArray,
    post: Any,
    simulate: Callable[[PRNGKeyArray, int], tuple[Array, Any]],
    *,
    n_events: int = 1000,
    n_draws: int = 500,
    names: tuple[str, ...] | None = None,
    columns: Callable[[Any, Float[np.ndarray, "event parameter"]], Mapping[str, np.ndarray]] | None = None,
    summary: Callable[[Any], Float[Any, "event feature"]] | None = None,
    history: Mapping[str, Float[np.ndarray, "step"]] | None = None,
    chunk: int = 250,
) -> Report:
    """Hold a posterior against events whose truth is known.

    Ranks (SBC), expected coverage of the density (where there is one) and of draws (TARP), both also in bins,
    pulls, and a classifier that tells truths from draws.

    Args:
        key: of everything random.
        post: has `sample(key, x, n)` -> [event, n, parameter], and may have
            `log_prob(theta[event, point, parameter], x)` -> [event, point].
        simulate: (key, n) -> (theta[n, parameter], x[n, ...]), from the prior that the posterior assumes.
        n_events: simulated, >= 100.
        n_draws: an event, >= 100.
        names: of the parameters; `post.names`, those of `post.prior`, or numbers if not given.
        columns: (x, posterior means) -> values in whose bins coverage is tested, functions of data alone; the
            posterior's means if not given.
        summary: of the data, for the classifier; the data themselves where they have 64 numbers an event at
            most, and without a summary there is no classifier above.
        history: training curves, see `training.check_training`.
        chunk: events at a time.

    Returns:
        `passed` is the one word; `str(report)` says why, and how often a right posterior would fail.

    Raises:
        ValueError: for too few events or draws, shapes that do not fit, draws that are not finite, or a
            simulator that gives weights, whose theta is a proposal's.
    """
    for word, count in (("n_events", n_events), ("n_draws", n_draws)):
        if count < 100:
            raise ValueError(f"{word} is {count}: must be 100 at least")
    begun = time.perf_counter()
    words = ("simulate", "draw", "ranks", "levels", "tarp", "classifier")
    keys = dict(zip(words, jax.random.split(key, len(words)), strict=True))
    truth, x, *rest = simulate(keys["simulate"], n_events)
    if len(rest) > 1 and rest[1] is not None:
        raise ValueError("simulate gives weights: calibration needs theta from the prior")
    theta = np.asarray(truth, float)
    draws = draw(keys["draw"], post.sample, x, n_draws=n_draws, chunk=chunk).astype(float)
    names = _names(post, names, theta.shape[1])
    arrays: dict[str, Any] = {"ranks": ranks.ranks(keys["ranks"], theta, draws)}
    checks = ranks.check_ranks(arrays["ranks"], names)
    levels = {"tarp": coverage.tarp_levels(keys["tarp"], theta, draws)}
    if hasattr(post, "log_prob"):
        at_truth, at_draws = log_densities(post.log_prob, theta, draws, x, chunk=chunk)
        levels["coverage"] = coverage.density_levels(keys["levels"], at_truth, at_draws)
    means = draws.mean(axis=1)
    given = dict(zip(names, means.T, strict=True)) if columns is None else dict(columns(x, means))
    arrays |= {"levels": levels, "bins": {}}
    for name, level in levels.items():
        checks.append(coverage.check_levels(name, level))
        if given and n_events >= 400:
            arrays["bins"][name] = coverage.binned(level, given)
            checks += coverage.check_bins(name, arrays["bins"][name])
    spread = np.all(draws.std(axis=1) > 0, axis=0)
    if not spread.all():
        # a label that some event leaves no doubt about has no pull; its ranks are tested
        _log.warning("no pulls of %s: draws of an event are all equal", ", ".join(np.array(names)[~spread]))
    if spread.any():
        arrays["pulls"] = pulls.pulls(theta[:, spread], draws[:, :, spread])
        arrays["pulled"] = tuple(name for name, wide in zip(names, spread, strict=True) if wide)
        checks += pulls.check_pulls(arrays["pulls"], arrays["pulled"])
    data = _summary(x, summary, n_events)
    if data is None:
        _log.warning(
            "no classifier: the data have more than %d numbers an event and no summary", _LARGEST_DATA
        )
    else:
        checks.append(c2st.check_pairs(keys["classifier"], theta, draws, data))
    if history is not None:
        arrays["history"] = {name: np.asarray(curve) for name, curve in history.items()}
        checks += training.check_training(history)
    return Report(tuple(checks), names, n_events, n_draws, time.perf_counter() - begun, arrays)


def _names(post: Any, names: tuple[str, ...] | None, n: int) -> tuple[str, ...]:
    if names is None:
        names = getattr(post, "names", None) or getattr(getattr(post, "prior", None), "names", None)
    names = tuple(names or (f"parameter {i}" for i in range(n)))
    if len(names) != n:
        raise ValueError(f"{len(names)} names for {n} parameters: {', '.join(names)}")
    return names


def _summary(x: Any, summary: Callable[[Any], Any] | None, n: int) -> np.ndarray | None:
    if summary is not None:
        return np.asarray(summary(x), float).reshape(n, -1)
    rows = np.concatenate([np.asarray(leaf, float).reshape(n, -1) for leaf in jax.tree.leaves(x)], axis=1)
    return rows if rows.shape[1] <= _LARGEST_DATA else None
