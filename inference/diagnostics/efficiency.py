"""Importance weights of a posterior against the exact density: Pareto k and efficiency over events."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from inference.diagnostics.check import Check, need_rows
from inference.sampling.importance import LARGEST_K

LEAST_EFFICIENCY = 0.2  # median over events


class Efficiencies(NamedTuple):
    """Of each event."""

    efficiency: Float[np.ndarray, "event"]
    pareto_k: Float[np.ndarray, "event"]

    @property
    def trusted(self) -> float:
        """Share of the events with k <= 0.7, whose weights can be used."""
        return float(np.mean(self.pareto_k <= LARGEST_K))


def check_efficiencies(
    found: Efficiencies, *, least: float = LEAST_EFFICIENCY, trusted: float = 0.9
) -> list[Check]:
    """Median efficiency, and the share of events whose weights can be used.

    Both are properties of the posterior, not tests of one hypothesis: nothing random but the events decides.

    Args:
        found: of some events.
        least: median efficiency, 0 to 1.
        trusted: least share of the events with k <= 0.7.

    Raises:
        ValueError: if an efficiency is not finite.
    """
    need_rows("efficiency", found.efficiency, (None,))
    n = len(found.efficiency)
    middle = float(np.median(found.efficiency))
    return [
        Check.within(
            "efficiency", middle, low=least, rate=0, detail=f"median effective draws a draw, {n} events"
        ),
        Check.within(
            "pareto k", found.trusted, low=trusted, rate=0, detail=f"share of {n} events with k <= 0.7"
        ),
    ]
