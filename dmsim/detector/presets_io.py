"""From a preset's name or file to a `Detector`, and back to a table of what it says."""

import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dmsim.detector import consistency, model, schema, supplied
from dmsim.detector.layouts import LAYOUTS
from dmsim.detector.light import LightResponse
from dmsim.detector.map_files import read_map
from dmsim.detector.maps import GridMap
from dmsim.detector.quantities import Spec, specs
from dmsim.detector.sensors import SensorArray
from dmsim.detector.yields import OPTIONS, QuantaParameters

_FOLDER = files("dmsim.detector") / "presets"


class ParameterRow(NamedTuple):
    """One parameter as a preset states it."""

    name: str  # "xenon.temperature_k"
    value: Any
    unit: str
    source: str
    description: str


def list_detectors() -> list[str]:
    """Names of the presets, in alphabetical order."""
    names = (entry.name for entry in _FOLDER.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def preset_path(name_or_path: str | Path) -> Path:
    """The TOML file of a preset's name, or the given path.

    Args:
        name_or_path: one of `list_detectors()`, or the path of a file (it ends with .toml).

    Raises:
        ValueError: if there is no such preset or file.
    """
    text = str(name_or_path)
    if text in list_detectors():
        return Path(str(_FOLDER / f"{text}.toml"))
    if not text.endswith(".toml"):
        known = ", ".join(list_detectors())
        raise ValueError(f"detector {text!r} is not known: choose one of {known}, or give a .toml file")
    if Path(text).is_dir():
        raise ValueError(f"detector file {text} is a folder: give a TOML file")
    if not Path(text).is_file():
        raise ValueError(f"detector file {text} does not exist")
    return Path(text)


def read_preset(name_or_path: str | Path) -> Any:
    """The validated content of a preset, as a frozen pydantic model.

    Args:
        name_or_path: as in `preset_path`.

    Raises:
        ValueError: one line with the file, the parameter and what is wrong with it.
    """
    path = preset_path(name_or_path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path.name} is not a readable TOML file: {error}") from None
    return schema.parse(content, path.name)


def load_detector(name_or_path: str | Path, *, dtype: Any = None) -> model.Detector:
    """A detector from a preset's name or a TOML file.

    Args:
        name_or_path: as in `preset_path`.
        dtype: of the float leaves; JAX's default float type if not given.

    Raises:
        ValueError: one line with the file, the parameter and what is wrong with it.
    """
    path = preset_path(name_or_path)
    preset = read_preset(path)
    dtype = jnp.result_type(float) if dtype is None else dtype

    def built(prefix: str, table: Any, owner: type) -> dict[str, Any]:
        def entry(name: str, spec: Spec) -> Any:
            kind = spec.kind
            if kind == "map":
                return _map(f"{prefix}.{name}", getattr(table, name), spec, dtype, path)
            value = getattr(table, name).value
            return value if kind == "int" else jnp.asarray(value, dtype)

        return {name: entry(name, spec) for name, spec in specs(owner)}

    tables = {name: built(name, getattr(preset, name), owner) for name, owner in schema.TABLES.items()}
    optional: dict[str, Any] = {
        name: None if (table := getattr(preset, name)) is None else owner(**built(name, table, owner))
        for name, owner in model.OPTIONAL.items()
    }
    light = LightResponse(**tables.pop("light"), sensors=_sensors(preset.sensors, dtype, path))
    detector = model.Detector(
        **{name: schema.TABLES[name](**fields) for name, fields in tables.items()},
        light=light,
        quanta=QuantaParameters.nest(**{name: q.value for name, q in _quanta(preset).items()}, dtype=dtype),
        name=path.stem,
        **optional,
    )
    try:
        detector = supplied.scale_s1_map(detector)
        consistency.check(detector)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    return detector


def _map(name: str, given: Any, spec: Spec, dtype: Any, preset: Path) -> GridMap | None:
    if given is None:
        return None
    try:
        return read_map(
            preset.parent / given.file,
            axes=spec.axes,
            low=spec.low,
            high=spec.high,
            entry=given.entry,
            dtype=dtype,
        )
    except ValueError as error:
        raise ValueError(f"{preset.name}: {name}: {error}") from None


def _quanta(preset: Any) -> dict[str, Any]:
    """What the table `quanta` of a preset states, by key."""
    return {name: given for name, given in preset.quanta if given is not None}


def _sensors(table: Any, dtype: Any, preset: Path) -> SensorArray:
    positions, where = [], preset.name
    for side in ("top", "bottom"):
        array = getattr(table, side)
        layout = LAYOUTS[array.layout]
        try:
            positions.append(layout(**{n: getattr(array, n).value for n, _ in specs(layout)}).positions())
        except ValueError as error:
            raise ValueError(f"{where}: sensors.{side}: {error}") from None
    (top_x, top_y), (bottom_x, bottom_y) = positions
    x_mm, y_mm = np.concatenate([top_x, bottom_x]), np.concatenate([top_y, bottom_y])
    efficiency, quantiles = np.ones(x_mm.size), None
    try:
        if table.efficiency is not None:
            efficiency = supplied.read_efficiencies(preset.parent / table.efficiency.file, x_mm.size)
        if table.off is not None:
            efficiency[supplied.channels(table.off.value, x_mm.size)] = 0.0
        supplied.check_efficiency(efficiency, top_x.size)
        if table.spe_spectra is not None:
            quantiles = supplied.read_spe_spectra(preset.parent / table.spe_spectra.file, x_mm.size)
    except ValueError as error:
        raise ValueError(f"{where}: sensors: {error}") from None
    return SensorArray(
        x_mm=jnp.asarray(x_mm, dtype),
        y_mm=jnp.asarray(y_mm, dtype),
        efficiency=jnp.asarray(efficiency, dtype),
        n_top=top_x.size,
        spe_quantiles=None if quantiles is None else jnp.asarray(quantiles, dtype),
    )


def describe(name_or_path: str | Path) -> Iterator[ParameterRow]:
    """Every parameter of a preset in the order of the detector's tree.

    Raises:
        ValueError: as `read_preset`.
    """
    preset = read_preset(name_or_path)
    for name, owner in (schema.TABLES | model.OPTIONAL).items():
        if getattr(preset, name) is not None:
            yield from _rows(name, getattr(preset, name), dict(specs(owner)))
    meanings = {"generation": "of NEST's constants", "work_function": "whose energy a quantum"}
    meanings |= {name: spec.description for name, spec in OPTIONS.items()}
    for name, given in _quanta(preset).items():
        yield ParameterRow(f"quanta.{name}", given.value, given.unit, given.source, meanings[name])
    for side in ("top", "bottom"):
        array = getattr(preset.sensors, side)
        layout = LAYOUTS[array.layout]
        yield from _rows(f"sensors.{side}", array, dict(specs(layout)), prefix=f"{array.layout}: ")
    yield from _rows("sensors", preset.sensors, schema.SENSORS)


def _rows(table: str, content: Any, of: dict, *, prefix: str = "") -> Iterator[ParameterRow]:
    for name, spec in of.items():
        quantity = getattr(content, name)
        if quantity is None:
            continue
        value = quantity.file if spec.kind in ("map", "file") else quantity.value
        description = prefix + spec.description
        yield ParameterRow(f"{table}.{name}", value, quantity.unit, quantity.source, description)
