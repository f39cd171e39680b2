"""What cuts are made on: columns of the events, and quantities that follow from them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dmsim.selection.arrays import namespace, safe_hypot

Columns = Mapping[str, Any]  # name -> array [event]; names of `dmsim.records.Events`


class Quantity(NamedTuple):
    """A quantity of an event that follows from its columns."""

    needs: tuple[str, ...]
    of: Callable[..., Any]
    unit: str
    meaning: str


def _ratio(a: Any, b: Any) -> Any:
    """Ratio, NaN where b is not positive."""
    xp = namespace(a, b)
    return xp.where(b > 0, a / xp.where(b > 0, b, 1.0), xp.nan)


def log10_ratio(a: Any, b: Any) -> Any:
    """log10(a / b), NaN where one is not positive."""
    xp = namespace(a, b)
    good = (a > 0) & (b > 0)
    return xp.where(good, xp.log10(xp.where(good, a, 1.0)) - xp.log10(xp.where(good, b, 1.0)), xp.nan)


def _alternate_share(alternate: Any, main: Any) -> Any:
    """Alternate over main, 0 where there is no alternate."""
    xp = namespace(alternate, main)
    return _ratio(xp.where(xp.isnan(alternate), 0.0, alternate), main)


QUANTITIES: dict[str, Quantity] = {
    "r_mm": Quantity(("x_mm", "y_mm"), safe_hypot, "mm", "distance from the axis"),
    "alt_s2_share": Quantity(
        ("alt_s2_pe", "s2_pe"), _alternate_share, "", "alternate S2 over the main one, 0 without one"
    ),
    "log10_cs2_over_cs1": Quantity(("cs2_pe", "cs1_pe"), log10_ratio, "dex", "log10(cS2 / cS1)"),
}


def needs(name: str) -> tuple[str, ...]:
    """Columns that a column or quantity is made of."""
    return QUANTITIES[name].needs if name in QUANTITIES else (name,)


def quantity(name: str, events: Columns) -> Any:
    """A column, or what follows from columns where the events do not hold it already.

    Raises:
        ValueError: if a column is missing.
    """
    if name in events:
        return events[name]
    if name not in QUANTITIES:
        raise ValueError(f"events have no column {name}: they have {', '.join(sorted(events)) or 'none'}")
    return QUANTITIES[name].of(*(quantity(part, events) for part in needs(name)))
