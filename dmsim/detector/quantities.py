"""What a parameter is, stated beside it: unit, permitted range and meaning, as metadata of the field.

The preset schema, its error messages, the printed tables and the docs are all made from these.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx


@dataclasses.dataclass(frozen=True)
class Spec:
    """One parameter: its unit as it stands in a preset ("1" if none), inclusive range, and meaning."""

    unit: str
    low: float
    high: float
    description: str
    kind: str  # "float", "floats" (a list), "int", "map" or "file" (optional)
    axes: tuple[tuple[str, ...], ...] = ()  # those that a map may have; any if empty


def _spec(unit: str, low: float, high: float, description: str, kind: str) -> dict[str, Spec]:
    return {"spec": Spec(unit, low, high, description, kind)}


def leaf(unit: str, low: float, high: float, description: str) -> Any:
    """A scalar float parameter, differentiable."""
    return eqx.field(metadata=_spec(unit, low, high, description, "float"))


def leaves(unit: str, low: float, high: float, description: str) -> Any:
    """A float parameter with several entries, differentiable; the range holds for each entry."""
    return eqx.field(metadata=_spec(unit, low, high, description, "floats"))


def setting(unit: str, low: int, high: int, description: str) -> Any:
    """An integer that changes what is compiled."""
    return eqx.field(static=True, metadata=_spec(unit, low, high, description, "int"))


def supplied(unit: str, low: float, high: float, description: str, *axes: str) -> Any:
    """A `GridMap` over one of these axes, "xyz" or "rz", that a preset may name a file for; or None."""
    permitted = tuple(tuple(names) for names in axes)
    return eqx.field(default=None, metadata={"spec": Spec(unit, low, high, description, "map", permitted)})


def subtree() -> Any:
    """A further module, for a field that comes after parameters."""
    return eqx.field()


def specs(module: Any) -> Iterator[tuple[str, Spec]]:
    """Name and `Spec` of each parameter of a module or its class, in order."""
    for field in dataclasses.fields(module):
        if "spec" in field.metadata:
            yield field.name, field.metadata["spec"]
