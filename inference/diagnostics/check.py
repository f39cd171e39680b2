"""One answer of a diagnostic: a number, its limit, and how often a right posterior would miss it."""

import dataclasses
import math
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Check:
    """One statement about a posterior."""

    name: str
    passed: bool
    value: float
    low: float  # the value passes from here
    high: float  # to here
    false_positive_rate: float  # at which a right posterior is refused; 0 where nothing random decides
    detail: str = ""

    @classmethod
    def within(
        cls,
        name: str,
        value: float,
        *,
        low: float = -math.inf,
        high: float = math.inf,
        rate: float,
        detail: str,
    ) -> "Check":
        """A check that passes where low <= value <= high; a value that is no number never passes.

        Args:
            name: of the check.
            value: measured.
            low: least value that passes.
            high: largest value that passes.
            rate: of false positives.
            detail: what was measured, in words.
        """
        value = float(value)
        return cls(name, bool(low <= value <= high), value, float(low), float(high), float(rate), detail)

    @property
    def line(self) -> str:
        """The check in one line."""
        limits = [f">= {self.low:.3g}"] * math.isfinite(self.low) + [f"<= {self.high:.3g}"] * math.isfinite(
            self.high
        )
        word = "passed" if self.passed else "FAILED"
        return f"{word}  {self.name}: {self.value:.3g} ({' and '.join(limits) or 'no limit'}); {self.detail}"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words for JSON, which knows neither infinity nor NaN: None stands for them."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Check":
        """The check that `to_dict` wrote."""
        gone: dict[str, Any] = {"value": math.nan, "low": -math.inf, "high": math.inf}
        return cls(**{**given, **{key: value for key, value in gone.items() if given[key] is None}})


def need_rows(name: str, values: Any, shape: tuple[int | None, ...]) -> None:
    """Refuse an array of another shape, or with numbers that are none.

    Args:
        name: of the array, for the message.
        values: to check.
        shape: None where any length will do.

    Raises:
        ValueError: naming what is wrong.
    """
    found = np.shape(values)
    fits = len(found) == len(shape) and all(
        want in {None, got} for want, got in zip(shape, found, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} has shape {found}: must be ({wanted})")
    wrong = int(np.sum(~np.isfinite(np.asarray(values, float))))
    if wrong:
        raise ValueError(
            f"{name} has {wrong} values that are not finite, of {int(np.prod(found))}: must be none"
        )
