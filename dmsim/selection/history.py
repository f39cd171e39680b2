"""Cuts on what came before an event: its predecessors in time."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dmsim.selection.arrays import namespace
from dmsim.selection.cut import AbstractCut, cut_kind
from dmsim.selection.quantities import Columns, quantity


@dataclass(frozen=True, kw_only=True, eq=False)
class _AfterLargeS2(AbstractCut):
    """A cut on the large S2s of earlier events. `reduce` evaluates it outside of compiled code."""

    large_s2_pe: float = 1e4  # S2s from here on count; straxen's shadow_threshold has the same
    column: str = ""  # of the events that holds the variable already, in its unit; "": from their times

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_numbers(positive=("large_s2_pe",))

    @property
    def columns_of_variable(self) -> tuple[str, ...]:
        """Times and S2s, or the column that holds it."""
        return (self.column,) if self.column else ("time_ns", "s2_pe")

    def variable(self, events: Columns) -> Float[Any, "event"]:
        """From the column, or from the events' times.

        Raises:
            ValueError: for arrays of JAX: times in ns need 64 bits, and events an order.
        """
        if self.column:
            return quantity(self.column, events)
        given = [quantity(name, events) for name in self.columns_of_variable]
        if namespace(*given) is not np:
            raise ValueError(
                f"cut {self.name} looks at earlier events: give NumPy arrays, or what reduce made of them"
            )
        time_ns, s2_pe = (np.asarray(values) for values in given)
        if time_ns.dtype.kind not in "iu":
            raise ValueError(f"cut {self.name}: time_ns is {time_ns.dtype}: must be whole numbers")
        drift_ns = np.nan_to_num(np.asarray(events.get("drift_time_ns", np.zeros(time_ns.size)), float))
        large = s2_pe >= self.large_s2_pe
        s2_time_ns = time_ns[large].astype(np.int64) + drift_ns[large].astype(np.int64)
        order = np.argsort(s2_time_ns, kind="stable")
        return self._since(time_ns.astype(np.int64), s2_time_ns[order], s2_pe[large][order])

    @abstractmethod
    def _since(
        self,
        time_ns: Int[np.ndarray, "event"],
        s2_time_ns: Int[np.ndarray, "s2"],
        s2_pe: Float[np.ndarray, "s2"],
    ) -> Float[np.ndarray, "event"]:
        """The variable of each event; large S2s come in the order of their times."""


@cut_kind("time_veto")
class TimeVeto(_AfterLargeS2):
    """Time since the last large S2 of an earlier event; inf before the first."""

    @property
    def unit(self) -> str:
        """Milliseconds."""
        return "ms"

    def _since(
        self,
        time_ns: Int[np.ndarray, "event"],
        s2_time_ns: Int[np.ndarray, "s2"],
        s2_pe: Float[np.ndarray, "s2"],
    ) -> Float[np.ndarray, "event"]:
        since_ms = np.full(time_ns.size, np.inf)
        last = np.searchsorted(s2_time_ns, time_ns, side="left") - 1  # not the event's own: that comes later
        after = last >= 0
        since_ms[after] = (time_ns[after] - s2_time_ns[last[after]]) / 1e6
        return since_ms


@cut_kind("time_shadow")
class TimeShadow(_AfterLargeS2):
    """Log10 of the sum of S2 / elapsed time [PE/ns] over earlier large S2s; -inf where there is none.

    Delayed electrons of a large S2 fall about as the inverse of the time after it.

    Source: XENON Collaboration, Phys. Rev. D 106 (2022) 022001 (arXiv:2112.12116): power laws with
    exponents near -1; the same sum as straxen's `shadow_s2_time_shadow`.
    """

    window_ms: float = 1000.0  # earlier S2s are forgotten; straxen's shadow_time_window_backward

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_numbers(positive=("window_ms",))

    @property
    def unit(self) -> str:
        """Log10 of PE/ns."""
        return "log10(PE/ns)"

    def variable(self, events: Columns) -> Float[Any, "event"]:
        """From the column, which holds PE/ns, or from the events' times."""
        shadow = super().variable(events)
        xp = namespace(shadow)
        cast = shadow > 0
        log10 = xp.where(cast, xp.log10(xp.where(cast, shadow, 1.0)), -xp.inf)
        return xp.where(xp.isnan(shadow), xp.nan, log10)

    def _since(
        self,
        time_ns: Int[np.ndarray, "event"],
        s2_time_ns: Int[np.ndarray, "s2"],
        s2_pe: Float[np.ndarray, "s2"],
    ) -> Float[np.ndarray, "event"]:
        shadow = np.zeros(time_ns.size)
        source = np.searchsorted(s2_time_ns, time_ns, side="left") - 1
        active = np.flatnonzero(source >= 0)
        while active.size:  # one step back in time a round
            elapsed_ns = time_ns[active] - s2_time_ns[source[active]]
            near = elapsed_ns <= self.window_ms * 1e6
            active = active[near]
            shadow[active] += s2_pe[source[active]] / elapsed_ns[near]
            source[active] -= 1
            active = active[source[active] >= 0]
        return shadow
