"""Sets of cuts as TOML, and back."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np

from dmsim.selection.curves import Curve
from dmsim.selection.cut import KINDS, SIDES, AbstractCut
from dmsim.selection.cut_set import CutSet

VERSION = 1  # of the format


def to_toml(cuts: CutSet) -> str:
    """The text of a file that `from_toml` reads to the same cuts, every number in full."""
    blocks = [f"version = {VERSION}\n"]
    for cut in cuts:
        lines = ["[[cut]]", f"kind = {json.dumps(cut.KIND)}"]
        tables = []
        for field in fields(cut):
            value = getattr(cut, field.name)
            if value is None or (field.name not in SIDES and value == field.default):
                continue
            if isinstance(value, Curve):
                tables += [f"[cut.{field.name}]  # {cut.unit}" if cut.unit else f"[cut.{field.name}]"]
                tables += [f"{f.name} = {_text(getattr(value, f.name))}" for f in fields(value)]
            else:
                unit = f"  # {cut.unit}" if field.name in SIDES and cut.unit else ""
                lines.append(f"{field.name} = {_text(value)}{unit}")
        blocks.append("\n".join([*lines, *tables]) + "\n")
    return "\n".join(blocks)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # a TOML basic string is a JSON string
    if isinstance(value, bool):
        return "true" if value else "false"
    if np.ndim(value) > 0:
        return f"[{', '.join(_text(part) for part in value)}]"
    return repr(float(value))


def write_cuts(path: Path | str, cuts: CutSet) -> None:
    """Write a set of cuts to a TOML file."""
    Path(path).write_text(to_toml(cuts), encoding="utf-8")


def read_cuts(path: Path | str) -> CutSet:
    """Read a set of cuts from a TOML file.

    Raises:
        ValueError: if it is not such a file; names the file, the cut and the key.
    """
    try:
        return from_toml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def from_toml(text: str) -> CutSet:
    """The set of cuts that a text describes.

    Raises:
        ValueError: for another version, an unknown kind or key, a missing key, or a value out of range.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None
    _known("the file", content, {"version", "cut"})
    if content.get("version") != VERSION:
        raise ValueError(f"version is {content.get('version')!r}: must be {VERSION}")
    rows = content.get("cut")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("cut must be a list of tables: begin each with [[cut]]")
    return CutSet(tuple(_cut(row, number) for number, row in enumerate(rows, start=1)))


def _cut(row: Mapping[str, Any], number: int) -> AbstractCut:
    label = f"cut {row['name']}" if "name" in row else f"cut number {number}"
    kind = row.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{label}: kind is {kind!r}: must be one of {', '.join(KINDS)}")
    cls = KINDS[kind]
    known = {field.name: field for field in fields(cls)}
    _known(label, row, {"kind", *known})
    for name, field in known.items():
        if name not in row and field.default is MISSING:
            raise ValueError(f"{label}: {name} is missing: a {kind} cut needs it")
    values: dict[str, Any] = {}
    for name, value in row.items():
        if name == "kind":
            continue
        is_curve = name in SIDES and isinstance(value, Mapping)
        values[name] = (
            _curve(f"{label}: {name}", value) if is_curve else _value(label, known[name].type, name, value)
        )
    return cls(**values)


def _value(label: str, kind: Any, name: str, value: Any) -> Any:
    """As the field wants it: numbers as floats, lists as tuples."""
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{label}: {name} is {value!r}: must be a list")
        return tuple(_value(label, get_args(kind)[0], name, part) for part in value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is str and not isinstance(value, str):
        raise ValueError(f"{label}: {name} is {value!r}: must be a text")
    if kind is not str and not is_number:
        raise ValueError(f"{label}: {name} is {value!r}: must be a number")
    try:
        return float(value) if is_number else value
    except OverflowError:
        raise ValueError(
            f"{label}: {name} has {len(str(value))} digits: must be a number below 1e308"
        ) from None


def _curve(label: str, row: Mapping[str, Any]) -> Curve:
    names = {field.name for field in fields(Curve)}
    _known(label, row, names)
    missing = {"of", "knots", "values"} - set(row)
    if missing:
        raise ValueError(f"{label}: {', '.join(sorted(missing))} is missing: a curve needs it")
    texts = {"of", "interpolation", "axis"}
    kinds = {name: str if name in texts else tuple[float, ...] for name in names}
    try:
        return Curve(**{name: _value(label, kinds[name], name, value) for name, value in row.items()})
    except ValueError as error:
        raise ValueError(f"{label}: {str(error).removeprefix(f'{label}: ')}") from None


def _known(label: str, row: Mapping[str, Any], names: set[str]) -> None:
    unknown = sorted(set(row) - names)
    if unknown:
        raise ValueError(f"{label}: {', '.join(unknown)} is not known: must be of {', '.join(sorted(names))}")
