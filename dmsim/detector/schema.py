"""What a preset file may say: one pydantic model a table, made from the parameters' own `Spec`s.

Every number is an inline table `{ value = 664.0, unit = "mm", source = "where from" }`; a number that has no
source says `source = "assumed: why"`.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    create_model,
)

from dmsim.detector import model
from dmsim.detector.geometry import Geometry
from dmsim.detector.layouts import LAYOUTS
from dmsim.detector.light import LightResponse
from dmsim.detector.quantities import Spec, specs
from dmsim.detector.yields import GENERATIONS, OPTIONS, WORK_FUNCTIONS

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Number = StrictInt | StrictFloat


class Quantity(BaseModel):
    """A value with its unit and its source."""

    model_config = _STRICT

    value: _Number | tuple[_Number, ...] | StrictStr
    unit: StrictStr
    source: Annotated[StrictStr, Field(min_length=3)]


def _check(quantity: Quantity, spec: Spec) -> Quantity:
    """The quantity, if its unit, kind and range are those of `spec`.

    Raises:
        ValueError: if not.
    """
    value = quantity.value
    if quantity.unit != spec.unit:
        raise ValueError(f'unit is "{quantity.unit}": use "{spec.unit}"')
    entries = value if isinstance(value, tuple) else (value,)
    if spec.kind == "floats" and (not isinstance(value, tuple) or not value):
        raise ValueError(f"value {value!r}: use a list of numbers")
    if spec.kind != "floats" and isinstance(value, tuple):
        raise ValueError(f"value {list(value)}: use one number")
    kinds = int if spec.kind == "int" else (int, float)
    for entry in entries:
        if not isinstance(entry, kinds):
            raise ValueError(f"value {entry!r}: use {'a whole number' if spec.kind == 'int' else 'a number'}")
        if not spec.low <= entry <= spec.high:  # also refuses NaN
            raise ValueError(f"value {entry} is outside {spec.low:g} to {spec.high:g} {spec.unit}")
    return quantity


class SuppliedFile(BaseModel):
    """A supplied table: its file, relative to the preset, its unit and its source."""

    model_config = _STRICT

    file: StrictStr
    unit: StrictStr
    source: Annotated[StrictStr, Field(min_length=3)]


class MapFile(SuppliedFile):
    """A supplied map."""

    entry: StrictStr = "map"  # of a JSON file with several


_FILES = {"map": MapFile, "file": SuppliedFile}


def _check_file(given: SuppliedFile, spec: Spec) -> SuppliedFile:
    if given.unit != spec.unit:
        raise ValueError(f'unit is "{given.unit}": use "{spec.unit}"')
    return given


def _annotated(spec: Spec) -> Any:
    if spec.kind in _FILES:
        kind = _FILES[spec.kind]
        return Annotated[kind | None, AfterValidator(lambda given: given and _check_file(given, spec))]
    return Annotated[Quantity, AfterValidator(lambda quantity: _check(quantity, spec))]


def _table(owner: type, **extra: Any) -> type[BaseModel]:
    fields: dict[str, Any] = {
        name: (_annotated(spec), None if spec.kind == "map" else ...) for name, spec in specs(owner)
    }
    return create_model(f"{owner.__name__}Table", __config__=_STRICT, **extra, **fields)


def _array_table(layout: str) -> type[BaseModel]:
    return _table(LAYOUTS[layout], layout=(Literal[layout], ...))


ArrayTable = Annotated[
    _array_table("hexagonal") | _array_table("rings") | _array_table("points"),  # type: ignore[operator]
    Field(discriminator="layout"),
]


def _one_of(names: tuple[str, ...]) -> Any:
    """A quantity whose value is one of these names."""

    def check(quantity: Quantity) -> Quantity:
        if quantity.unit != "1" or quantity.value not in names:
            known = ", ".join(f'"{name}"' for name in names)
            raise ValueError(
                f'value {quantity.value!r}, unit "{quantity.unit}": use one of {known}, unit "1"'
            )
        return quantity

    return Annotated[Quantity, AfterValidator(check)]


QuantaTable = create_model(
    "QuantaTable",
    __config__=_STRICT,
    generation=(_one_of(GENERATIONS), ...),
    work_function=(_one_of(WORK_FUNCTIONS) | None, None),  # type: ignore[arg-type]
    **{name: (_annotated(spec) | None, None) for name, spec in OPTIONS.items()},  # type: ignore[call-overload]
)
SENSORS = {
    "off": Spec("channel", 0, 100000, "dead sensors", "floats"),
    "efficiency": Spec("1", 0, 100, "of each sensor, relative to a nominal one", "file"),
    "spe_spectra": Spec(
        "1", 0, 100, "charge of one photoelectron of each sensor; replaces spe_width", "file"
    ),
}
_ARRAYS = ("top", "bottom")
SensorsTable = create_model(
    "SensorsTable",
    __config__=_STRICT,
    **{side: (ArrayTable, ...) for side in _ARRAYS},  # type: ignore[call-overload]
    **{name: (_annotated(spec) | None, None) for name, spec in SENSORS.items()},  # type: ignore[call-overload]
)

TABLES = {
    "geometry": Geometry,
    "xenon": model.Xenon,
    "electrons": model.Electrons,
    "electroluminescence": model.Electroluminescence,
    "scintillation": model.Scintillation,
    "light": LightResponse,
    "electronics": model.Electronics,
    "resolution": model.Resolution,
}

Preset = create_model(
    "Preset",
    __config__=_STRICT,
    description=(Annotated[StrictStr, Field(min_length=1)], ...),
    quanta=(QuantaTable, ...),
    sensors=(SensorsTable, ...),
    **{name: (_table(owner), ...) for name, owner in TABLES.items()},  # type: ignore[call-overload]
    **{name: (_table(owner) | None, None) for name, owner in model.OPTIONAL.items()},  # type: ignore[call-overload]
)


def parse(content: Mapping[str, Any], where: str) -> BaseModel:
    """The preset that a parsed TOML document describes.

    Args:
        content: the document.
        where: file name for messages.

    Raises:
        ValueError: one line with file, parameter and what is wrong with it.
    """
    try:
        return Preset.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{where}: {_one_line(error, content)}") from None


def _one_line(error: ValidationError, content: Mapping[str, Any]) -> str:
    """All that a user needs of a ValidationError: the first finding, and how many more there are."""
    if not content:
        return "the file is empty: start from a copy of a preset"
    findings: dict[tuple, Any] = {}  # a union of types reports once a type: keep one a place
    for finding in error.errors():
        findings.setdefault(_place(finding["loc"]), finding)
    # a key written wrong is also a key that is missing: say the first, and do not count it twice
    unknown = [place for place, finding in findings.items() if finding["type"] == "extra_forbidden"]
    for place in unknown:
        meant = (*place[:-1], _meant(place, content))
        if findings.get(meant, {"type": None})["type"] == "missing":
            del findings[meant]
    place = unknown[0] if unknown else next(iter(findings))
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return _explain(place, findings[place], content) + more


def _meant(place: tuple, content: Mapping[str, Any]) -> str | None:
    """The known key that an unknown one resembles; one that the file lacks and needs is preferred."""
    given: Any = content
    for key in place[:-1]:
        given = given[key]
    known = list(_known_keys(place, content))
    for candidates in ([key for key in _needed(place, content) if key not in given], known):
        near = difflib.get_close_matches(str(place[-1]), candidates, n=1)
        if near:
            return near[0]
    return None


def _place(location: tuple) -> tuple:
    """The keys of a finding as they stand in the file: without pydantic's names of union members."""
    if location[0] == "sensors" and len(location) > 2 and location[1] in _ARRAYS:
        location = location[:2] + location[3:]
    return location[: location.index("value") + 1] if "value" in location else location


def _known_keys(place: tuple, content: Mapping[str, Any]) -> dict[str, Spec | None]:
    """What may stand beside the last key of `place`, with the Spec of what is a parameter."""
    parents = place[:-1]
    if not parents:
        return dict.fromkeys(Preset.model_fields)
    if parents[0] == "sensors":
        if len(parents) == 1:
            return dict.fromkeys(_ARRAYS) | SENSORS
        if len(parents) == 2 and parents[1] in _ARRAYS:
            layout = content["sensors"][parents[1]].get("layout")
            return {"layout": None, **dict(specs(LAYOUTS[layout]))}
    elif len(parents) == 1:
        owner = (TABLES | model.OPTIONAL).get(parents[0])
        return dict(specs(owner)) if owner else {"generation": None, "work_function": None, **OPTIONS}
    return dict.fromkeys(_kind_of(parents, content).model_fields)


def _kind_of(place: tuple, content: Mapping[str, Any]) -> type[BaseModel]:
    """What stands at a place inside a table."""
    spec = _known_keys(place, content).get(place[-1])
    return _FILES.get(spec.kind, Quantity) if spec else Quantity


def _needed(place: tuple, content: Mapping[str, Any]) -> list[str]:
    """The known keys less what is supplied, which a preset may leave out."""
    known = _known_keys(place, content)
    return [
        key for key, spec in known.items() if key not in SENSORS and (not spec or spec.kind not in _FILES)
    ]


def _explain(place: tuple, finding: Any, content: Mapping[str, Any]) -> str:
    """One line about one finding, in the file's own terms."""
    name, kind, given = ".".join(map(str, place)), finding["type"], finding["input"]
    parent, key = ".".join(map(str, place[:-1])), str(place[-1])
    if kind == "extra_forbidden":
        meant = _meant(place, content)
        hint = f"did you mean {meant}?" if meant else f"known are {', '.join(_needed(place, content))}"
        return f"unknown key {name}: {hint}"
    if key == "source" and kind == "string_too_short":
        return f"{parent}: source is empty: name it, or write assumed"
    if kind == "missing":
        hints = {"source": ': state one, or source = "assumed: why"'}
        if key == "unit":
            hints["unit"] = f': use "{_unit(place[:-1], content)}"'
        return f"{parent or 'the file'} has no {key}{hints.get(key, '')}"
    wrong = f"{name} = {given!r:.60}: "
    if kind.startswith("union_tag"):
        reason = f"{name} needs layout = one of {', '.join(LAYOUTS)}"
    elif kind == "value_error":
        reason = f"{name}: {finding['ctx']['error']}"
    elif key == "value":
        reason = wrong + "use a number or a list of numbers"
    elif kind.startswith("model_") and (len(place) == 1 or place[0] == "sensors" and len(place) == 2):
        reason = wrong + "use a table"
    elif kind.startswith("model_"):
        first = next(iter(_kind_of(place, content).model_fields))
        reason = wrong + f'write {{ {first} = ..., unit = "{_unit(place, content)}", source = "..." }}'
    else:
        reason = wrong + finding["msg"]
    return reason


def _unit(place: tuple, content: Mapping[str, Any]) -> str:
    spec = _known_keys(place, content).get(place[-1])
    return spec.unit if spec else "1"
