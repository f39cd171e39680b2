"""What tuning hands back, and how it got there."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from dmsim.selection import CutSet
from inference.tuning.figures import Interval


@dataclasses.dataclass(frozen=True)
class Settings:
    """How cuts are tuned.

    Attributes:
        n_steps: Adam steps of each start, >= 1.
        n_starts: one whose thresholds each take 3 % of the signal, and others at random, >= 1.
        softness: the first in spreads of the signal in each cut's own variable, the last in those of the
            class that is narrowest in it, > 0; geometric between.
        learning_rate: first size of a step in the same spreads, > 0; a cosine takes it to 1 %.
        start_shares: least and greatest share of the signal that a threshold of the others takes, > 0, < 1.
        smoothness: times the curves' roughness in spreads of the signal (`CutSet.roughness`), taken off the
            figure over its first value, >= 0.
        fractions: of the events to tune on, to choose on, and to quote on; the last is not divided off where
            held-out samples are given.
        steps_per_check: between two looks at hard cuts on the events to choose on, >= 1.
        patience: steps without a better hard figure after which tuning stops, in its last quarter. Cuts of
            earlier looks are not chosen: their softness still shifts them.
        again_on_all: whether the best start is climbed from once more, on the events to tune and to choose on
            together; a single start is at once. Not where events are made anew for the steps.
        n_bootstrap: draws behind each interval, > 1.
    """

    n_steps: int = 80
    n_starts: int = 2
    softness: tuple[float, float] = (0.4, 0.03)
    learning_rate: float = 0.2
    start_shares: tuple[float, float] = (0.005, 0.2)
    smoothness: float = 1e-5
    fractions: tuple[float, float, float] = (0.5, 0.25, 0.25)
    steps_per_check: int = 5
    patience: int = 15
    again_on_all: bool = True
    n_bootstrap: int = 200

    def __post_init__(self):
        for name in ("n_steps", "n_starts", "steps_per_check", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: must be 1 or more")
        if self.n_bootstrap < 2:
            raise ValueError(f"n_bootstrap is {self.n_bootstrap}: must be 2 or more")
        if not (self.softness[0] >= self.softness[1] > 0):
            raise ValueError(f"softness {self.softness} must fall from the first to the last, both above 0")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}: must be above 0")
        if any(not f > 0 for f in self.fractions) or abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"fractions {self.fractions} must be above 0 and add up to 1")
        if not 0 < self.start_shares[0] <= self.start_shares[1] < 1:
            raise ValueError(f"start_shares {self.start_shares} must not fall, and lie between 0 and 1")
        if not self.smoothness >= 0:
            raise ValueError(f"smoothness is {self.smoothness}: must not be negative")


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Every look at the cuts while they were tuned; penalised figures."""

    step: np.ndarray
    softness: Float[np.ndarray, "look side"]  # in the unit of each cut
    soft: Float[np.ndarray, "look start"]  # on the events tuned on
    hard: Float[np.ndarray, "look start"]  # on the same
    validation: Float[np.ndarray, "look start"]  # hard, on the events to choose on
    efficiency: Float[np.ndarray, "look start"]  # hard, of all signal, on the events to choose on
    obeyed: Bool[np.ndarray, "look start"]  # constraints, on the events to choose on
    values: Float[np.ndarray, "look start parameter"]
    cpu_s: Float[np.ndarray, "look start"]  # since tuning began
    n_steps: Int[np.ndarray, "start"]  # taken; one that ended early repeats its last look


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Hard cuts on events that neither steps nor choices have seen, without penalty."""

    figure: Interval
    given: Interval  # of the cuts that tuning was given
    gain: Interval  # figure / given - 1, on the same bootstrap samples
    kept: dict[str, float]  # expected events behind the cuts
    kept_given: dict[str, float]
    efficiency: float  # of all signal
    efficiency_given: float
    soft_hard_gap: float  # soft figure at the last softness / hard figure - 1


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One constraint: an efficiency, or a number of expected events."""

    constraint: str  # in words
    asked: float
    chosen: float  # on the events that the cuts were tuned and chosen on
    held_out: float
    error: float  # of held_out, from its number of events: one standard deviation
    met: bool  # on the held-out events

    @property
    def text(self) -> str:
        """One line."""
        state = "met" if self.met else "NOT met"
        return f"{self.constraint}: {self.held_out:.3g} +- {self.error:.2g} on held-out events, {state}"


@dataclasses.dataclass(frozen=True)
class TunedCuts:
    """Tuned hard cuts and an account of what was gained."""

    cuts: CutSet
    given: CutSet
    names: tuple[str, ...]  # of the parameters
    values: Float[np.ndarray, "parameter"]
    values_given: Float[np.ndarray, "parameter"]
    scale: Float[np.ndarray, "parameter"]  # what one spread of the signal is worth
    held_out: HeldOut
    improved: bool  # False: the given cuts are handed back
    message: str  # what happened, in words
    verdicts: tuple[Verdict, ...]  # one a constraint, but bounds
    trajectory: Trajectory  # of the climb from every start
    trajectory_without_limits: Trajectory | None  # where they broke a limit and a second climb followed
    trajectory_on_all: Trajectory | None  # of the last climb, on the events to tune and to choose on
    n_gradients: int  # evaluations of the gradient on the events tuned on
    n_hard: int  # evaluations of hard cuts
    cpu_s: float
    settings: Settings

    def as_dict(self) -> dict[str, Any]:
        """Numbers and words for a JSON file."""
        held_out = {
            f.name: value._asdict() if isinstance(value, Interval) else value
            for f in dataclasses.fields(HeldOut)
            for value in [getattr(self.held_out, f.name)]
        }
        parameters = {
            name: {"given": float(old), "tuned": float(new), "spread": float(scale)}
            for name, old, new, scale in zip(
                self.names, self.values_given, self.values, self.scale, strict=True
            )
        }
        return {
            "improved": self.improved,
            "message": self.message,
            "constraints": [dataclasses.asdict(v) for v in self.verdicts],
            "parameters": parameters,
            "held_out": held_out,
            "n_gradients": self.n_gradients,
            "n_hard": self.n_hard,
            "cpu_s": self.cpu_s,
            "settings": dataclasses.asdict(self.settings),
            "trajectory": _plain(self.trajectory),
            "trajectory_without_limits": _plain(self.trajectory_without_limits),
            "trajectory_on_all": _plain(self.trajectory_on_all),
        }


def _plain(track: Trajectory | None) -> dict[str, Any] | None:
    """Plain numbers, where there is one."""
    if track is None:
        return None
    return {f.name: np.asarray(getattr(track, f.name)).tolist() for f in dataclasses.fields(Trajectory)}
