"""What tuning of the reconstruction hands back, and its settings as a file."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dmsim.reconstruction.settings import Settings, load_settings
from inference.tuning.clustering_loss import SCOPE, Errors, Scope


@dataclasses.dataclass(frozen=True)
class Options:
    """How thresholds of the reconstruction are tuned.

    Attributes:
        n_steps: Adam steps, >= 1.
        steps_per_plan: after so many the soft reading is planned anew and the hard one looked at, >= 1. A
            plan knows what lies within 7 temperatures of a threshold: in between none may move as far.
        temperature: factor on the soft reading's default temperatures, first and last, > 0; geometric. At
            the last one expected and counted loss should agree.
        learning_rate: first size of a step, in the steps of the leaves, > 0; a cosine takes it to 5 %.
        to_given: loss for each squared step away from the given settings, >= 0.
        validation: part of the batches of each sample to choose on, above 0 and below 1.
        near: only events are read softly that have errors, or get some where one parameter moves by so
            many steps; 0: all are.
        events_per_plan: of those, in one plan, >= 1.
        scope: which signals count, and how.
    """

    n_steps: int = 48
    steps_per_plan: int = 6
    temperature: tuple[float, float] = (1.0, 0.02)
    learning_rate: float = 0.2
    to_given: float = 1e-4
    validation: float = 0.4
    near: float = 1.0
    events_per_plan: int = 30
    scope: Scope = SCOPE

    def __post_init__(self):
        for name in ("n_steps", "steps_per_plan", "events_per_plan"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: must be 1 or more")
        if not self.temperature[0] >= self.temperature[1] > 0:
            raise ValueError(f"temperature {self.temperature} must fall from the first to the last, both > 0")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}: must be above 0")
        if not self.to_given >= 0:
            raise ValueError(f"to_given is {self.to_given}: must not be negative")
        if not self.near >= 0:
            raise ValueError(f"near is {self.near}: must not be negative")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation is {self.validation}: must be above 0 and below 1")


class Look(NamedTuple):
    """The settings between two plans."""

    step: int
    temperature: float  # factor on the defaults
    soft: float  # expected loss on the batches tuned on, before the next step
    hard: float  # loss on the same
    validation: float  # hard loss on the batches to choose on
    values: Float[np.ndarray, "parameter"]
    cpu_s: float  # since tuning began


@dataclasses.dataclass(frozen=True)
class TunedSettings:
    """Tuned settings and an account of what was gained."""

    settings: Settings
    given: Settings
    names: tuple[str, ...]  # of what was tuned
    values: Float[np.ndarray, "parameter"]
    values_given: Float[np.ndarray, "parameter"]
    validation: Errors  # hard, on the batches to choose on
    validation_given: Errors
    soft_hard_gap: float  # soft loss at the last temperature / hard loss - 1, on the batches tuned on
    improved: bool  # False: the given settings are handed back
    message: str
    trajectory: tuple[Look, ...]
    n_gradients: int  # passes over the batches tuned on, with their gradient
    n_hard: int  # hard readings of one part of the batches or the other
    cpu_s: float
    options: Options

    def write(self, path: str | Path) -> None:
        """The settings as a TOML file for `dmsim reconstruct --settings`, with what was tuned marked."""
        tuned = {name.split("[")[0] for name in self.names} if self.improved else None
        write_settings(self.settings, path, tuned=tuned)

    def as_dict(self) -> dict[str, Any]:
        """Numbers and words for a JSON file."""
        scope = self.options.scope
        return {
            "improved": self.improved,
            "message": self.message,
            "parameters": {
                name: {"given": float(old), "tuned": float(new)}
                for name, old, new in zip(self.names, self.values_given, self.values, strict=True)
            },
            "validation": errors_as_dict(self.validation, scope),
            "validation_given": errors_as_dict(self.validation_given, scope),
            "soft_hard_gap": self.soft_hard_gap,
            "trajectory": [
                look._replace(values=np.asarray(look.values).tolist())._asdict() for look in self.trajectory
            ],
            "n_gradients": self.n_gradients,
            "n_hard": self.n_hard,
            "cpu_s": self.cpu_s,
        }


def moved(tuned: TunedSettings, *, least: float) -> list[tuple[str, float, float]]:
    """Name, given and tuned value of each threshold that moved by this share of itself or more."""
    rows = zip(tuned.names, map(float, tuned.values_given), map(float, tuned.values), strict=True)
    return [(name, old, new) for name, old, new in rows if abs(new - old) >= least * abs(old)]


def errors_as_dict(errors: Errors, scope: Scope = SCOPE) -> dict[str, Any]:
    """Plain numbers."""
    plain = {name: np.asarray(value, float).tolist() for name, value in errors._asdict().items()}
    bias = np.asarray(errors.area_bias, float).tolist()
    return plain | {
        "per_signal": float(errors.per_signal),
        "area_bias": dict(zip(("s1", "s2"), bias, strict=True)),
        "loss": float(errors.loss(scope)),
    }


def write_settings(settings: Settings, path: str | Path, *, tuned: set[str] | None = None) -> None:
    """A TOML file that `load_settings` reads back; what the detector decides is left out.

    Raises:
        ValueError: if it cannot be written, or does not read back as it was.
    """
    path, lines = Path(path), ["# settings of dmsim.reconstruct"]
    for section, table in settings.as_dict().items():
        lines += ["", f"[{section}]"]
        for name, value in table.items():
            if value is not None:
                mark = "  # tuned" if tuned and f"{section}.{name}" in tuned else ""
                lines.append(f"{name} = {_toml(value)}{mark}")
    try:
        path.write_text("\n".join(lines) + "\n")
    except OSError as error:
        raise ValueError(f"settings file {path}: {error.strerror or error}") from None
    if load_settings(path).as_dict() != settings.as_dict():
        raise ValueError(f"settings file {path} does not read back as it was")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
