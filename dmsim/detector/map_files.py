"""Maps from files: JSON in the layout of XENON's map files, CSV, and NumPy archives. Nothing is executed.

Points that do not form a regular grid are resampled onto one, on the host: linearly within the simplices of
their Delaunay triangulation, and by the nearest point outside of their hull. The grid's points are half the
points' mean distance apart, but for an axis along which they lie in equally spaced layers, which is kept.
"""

import csv
import json
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from dmsim.detector.maps import GridMap

_MAX_TEXT_BYTES = 1 << 26
_MAX_ARCHIVE_BYTES = 1 << 28  # also of what it unpacks to
_MAX_VALUES = 1 << 24
_SUFFIXES = (".json", ".csv", ".npz")
_NAMES = ("r", "x", "y", "z")  # canonical order of axes
_SPACING = 1e-3  # tolerated unevenness of a regular axis, of its step
_MM_PER_CM = 10.0  # XENON's JSON maps are in cm


def read_map(
    path: str | Path,
    *,
    axes: Sequence[tuple[str, ...]] = (("x", "y"), ("x", "y", "z")),
    low: float = -math.inf,
    high: float = math.inf,
    entry: str = "map",
    dtype: Any = None,
) -> GridMap:
    """A map from a file.

    - `.json`: XENON's layout. `coordinate_system` lists the points, in cm, or names the axes with
      [first, last, number]; `entry` holds a value for each, or a row of values.
    - `.csv`: a header with columns among `x_mm`, `y_mm`, `z_mm`, `r_mm`, and `value`; lines that start with #
      are comments.
    - `.npz`: `values`, and one array of equally spaced coordinates an axis, `x_mm` and so on; the dimensions
      of `values` are in the order r, x, y, z of the axes there are, then one of sensors if there is one.

    z is 0 at the gate and negative below it.

    Args:
        path: of the file; its suffix says which.
        axes: those that the map may have, any if empty. Points without names take the first of their
            dimension.
        low: least permitted value.
        high: largest permitted value.
        entry: which of a JSON file's maps.
        dtype: of the values; JAX's default float type if not given.

    Raises:
        ValueError: one line with the file and what is wrong with it.
    """
    path = Path(path)
    try:
        found, coordinates, values, note = _READERS[_checked_suffix(path)](path, axes, entry)
        outside = ~((values >= low) & (values <= high))  # also catches NaN
        if outside.any():
            worst = values[outside].flat[0]
            raise ValueError(f"value {worst:g}: must be within {low:g} to {high:g}")
    except (ValueError, OSError, RecursionError) as error:
        # a decoder may name bytes or lines; one line is enough
        raise ValueError(f"map {path.name}: {str(error).splitlines()[0]}") from None
    return GridMap(
        values=jnp.asarray(values, jnp.result_type(float) if dtype is None else dtype),
        axes=tuple(found),
        low=tuple(float(c[0]) for c in coordinates),
        high=tuple(float(c[-1]) for c in coordinates),
        note=note,
    )


def _checked_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"the name must end with one of {', '.join(_SUFFIXES)}")
    if not path.is_file():
        raise ValueError("is a folder" if path.is_dir() else "does not exist")
    limit = _MAX_ARCHIVE_BYTES if suffix == ".npz" else _MAX_TEXT_BYTES
    if path.stat().st_size > limit:
        raise ValueError(f"has {path.stat().st_size >> 20} MiB: must have at most {limit >> 20}")
    return suffix


def _check_axes(names: Sequence[str], axes: Sequence[tuple[str, ...]]) -> None:
    if axes and tuple(names) not in axes:
        permitted = " or ".join(f"({', '.join(permitted)})" for permitted in axes)
        raise ValueError(f"is over ({', '.join(names)}): must be over {permitted}")


def _read_json(path: Path, axes: Any, entry: str) -> tuple:
    try:
        content = json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(content, dict) or "coordinate_system" not in content:
        raise ValueError("has no coordinate_system")
    if "compressed" in content:
        raise ValueError("holds compressed values, which are not read: store them as plain numbers")
    if entry not in content:
        maps = ", ".join(name for name, item in content.items() if isinstance(item, list))
        raise ValueError(f"has no {entry}: there are {maps}")
    system = content["coordinate_system"]
    values = _numbers(content[entry], entry)
    if _is_specification(system):
        names, points, shape = _specified(system)
        if values.shape[: len(names)] == shape:
            values = values.reshape(-1, *values.shape[len(names) :])
    else:
        points = _numbers(system, "coordinate_system")
        if points.ndim != 2 or not 1 <= points.shape[1] <= 3:
            raise ValueError("coordinate_system must have 1 to 3 coordinates a point")
        names = next((a for a in axes if len(a) == points.shape[1]), _NAMES[1 : 1 + points.shape[1]])
    _check_axes(names, axes)
    return names, *_gridded(names, points * _MM_PER_CM, values)


def _is_specification(system: Any) -> bool:
    first = system[0] if isinstance(system, list) and system else None
    return isinstance(first, list) and bool(first) and isinstance(first[0], str)


def _specified(system: list) -> tuple[list[str], np.ndarray, tuple[int, ...]]:
    """Names, points and shape of [[name, [first, last, number]], ...]; the last axis is fastest."""
    names, coordinates = [], []
    for axis in system:
        if not (isinstance(axis, list) and len(axis) == 2 and axis[0] in _NAMES):
            raise ValueError(f"coordinate_system has {axis!r:.60}: use [name, [first, last, number]]")
        first, last, number = _numbers(axis[1], "coordinate_system") if len(axis[1]) == 3 else (0, 0, 0)
        if not 2 <= number <= _MAX_VALUES:
            raise ValueError(f"coordinate_system has {axis!r:.60}: use [name, [first, last, number]]")
        names.append(axis[0])
        coordinates.append(np.linspace(first, last, int(number)))
    if math.prod(map(len, coordinates)) > _MAX_VALUES:
        raise ValueError(f"coordinate_system has more than {_MAX_VALUES} points")
    mesh = np.meshgrid(*coordinates, indexing="ij")
    return names, np.stack([axis.ravel() for axis in mesh], axis=1), mesh[0].shape


def _read_csv(path: Path, axes: Any, entry: str) -> tuple:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError("is no text file in UTF-8") from None
    rows = list(csv.reader(line for line in lines if line.strip() and not line.startswith("#")))
    header = [name.strip() for name in rows[0]] if rows else []
    known = [f"{name}_mm" for name in _NAMES]
    if "value" not in header or len(set(header)) != len(header) or not set(header) <= {*known, "value"}:
        raise ValueError(f"columns are {', '.join(header)!r:.80}: use value and some of {', '.join(known)}")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells, the header has {len(header)}")
    table = _numbers(rows[1:], "a cell")
    names = [name for name in _NAMES if f"{name}_mm" in header]
    _check_axes(names, axes)
    points = table[:, [header.index(f"{name}_mm") for name in names]]
    return names, *_gridded(names, points, table[:, header.index("value")])


def _read_npz(path: Path, axes: Any, entry: str) -> tuple:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > _MAX_ARCHIVE_BYTES:
                raise ValueError(f"unpacks to {size >> 20} MiB: must be at most {_MAX_ARCHIVE_BYTES >> 20}")
        with np.load(path, allow_pickle=False) as members:
            arrays = {name: _numbers(members[name], name) for name in members.files}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise ValueError(f"is no NumPy archive: {error}") from None
    if "values" not in arrays:
        raise ValueError(f"has no values: there are {', '.join(arrays)}")
    values = arrays.pop("values")
    names = [name for name in _NAMES if f"{name}_mm" in arrays]
    if not names or set(arrays) != {f"{name}_mm" for name in names}:
        raise ValueError(f"has {', '.join(arrays) or 'no axis'} beside values: use r_mm, x_mm, y_mm, z_mm")
    _check_axes(names, axes)
    coordinates = [arrays[f"{name}_mm"] for name in names]
    for name, axis, n in zip(names, coordinates, values.shape, strict=False):
        if axis.ndim != 1 or not _is_regular(axis):
            raise ValueError(f"{name}_mm must hold two or more equally spaced numbers, ascending")
        if axis.size != n:
            raise ValueError(f"{name}_mm has {axis.size} numbers for {n} of values")
    if not len(names) <= values.ndim <= len(names) + 1:
        raise ValueError(f"values have {values.ndim} dimensions: must have {len(names)}, or one more")
    return names, coordinates, values, ""


_READERS = {".json": _read_json, ".csv": _read_csv, ".npz": _read_npz}


def _numbers(given: Any, what: str) -> np.ndarray:
    """As float64, finite and not too many."""
    try:
        array = np.asarray(given)
        if array.dtype.kind not in "fiu":  # text of a CSV; not truth values, objects or dates
            array = np.asarray(given, str) if array.dtype.kind in "U" else None
        array = np.asarray(array, np.float64) if array is not None else None
    except (ValueError, TypeError, OverflowError):
        array = None
    if array is None:
        raise ValueError(f"{what} holds something that is no number, or rows of different lengths")
    if array.size > _MAX_VALUES:
        raise ValueError(f"{what} holds {array.size} numbers: must be at most {_MAX_VALUES}")
    if array.size == 0:
        raise ValueError(f"{what} is empty")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds a number that is not finite")
    return array


def _is_regular(axis: np.ndarray) -> bool:
    """Whether the coordinates ascend in equal steps."""
    if axis.size < 2:
        return False
    step = (axis[-1] - axis[0]) / (axis.size - 1)
    even = np.linspace(axis[0], axis[-1], axis.size)
    return bool(step > 0 and np.abs(axis - even).max() <= _SPACING * step)


def _layers(coordinate: np.ndarray) -> np.ndarray:
    """The distinct coordinates, those closer than rounding taken as one."""
    ordered = np.unique(coordinate)
    apart = np.diff(ordered, prepend=-math.inf) > 1e-6 * (ordered[-1] - ordered[0])
    return ordered[apart]


def _gridded(names: Sequence[str], points: np.ndarray, values: np.ndarray) -> tuple:
    """Coordinates of a regular grid, the values on it, and what was done to them."""
    if len(values) != len(points):
        raise ValueError(f"has {len(values)} values for {len(points)} points")
    layers = [_layers(coordinate) for coordinate in points.T]
    for name, layer in zip(names, layers, strict=True):
        if layer.size < 2:
            raise ValueError(f"all points have the same {name}: an axis needs two or more")
    regular = [_is_regular(layer) for layer in layers]
    shape = tuple(layer.size for layer in layers)
    if all(regular) and math.prod(shape) == len(points):
        nearest = [
            np.abs(c[:, None] - layer).argmin(axis=1) for c, layer in zip(points.T, layers, strict=True)
        ]
        place = np.ravel_multi_index(nearest, shape)
        if np.unique(place).size == len(points):
            ordered = values[np.argsort(place)]
            return layers, ordered.reshape(*shape, *values.shape[1:]), ""
    return _resampled(points, values, layers, regular)


def _resampled(points: np.ndarray, values: np.ndarray, layers: list, regular: list[bool]) -> tuple:
    """Onto a regular grid: see the module's docstring."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator  # noqa: PLC0415 - used by few
    from scipy.spatial import QhullError  # noqa: PLC0415

    if points.shape[1] == 1:
        raise ValueError("points along one axis must be equally spaced")
    # an axis of few distinct coordinates is one of layers
    layered = [r and layer.size <= len(points) ** 0.75 for r, layer in zip(regular, layers, strict=True)]
    if all(layered):
        layered = [False] * len(layered)
    free = [layer for layer, kept in zip(layers, layered, strict=True) if not kept]
    points_free = len(points) / math.prod(
        layer.size for layer, kept in zip(layers, layered, strict=True) if kept
    )
    box = math.prod(float(layer[-1] - layer[0]) for layer in free)
    step = 0.5 * (box / points_free) ** (1 / len(free))
    coordinates = [
        layer if kept else np.linspace(layer[0], layer[-1], 1 + math.ceil((layer[-1] - layer[0]) / step))
        for layer, kept in zip(layers, layered, strict=True)
    ]
    if math.prod(map(len, coordinates)) * values[0].size > _MAX_VALUES:
        raise ValueError(f"would be resampled to more than {_MAX_VALUES} values")
    if np.unique(points, axis=0).shape[0] != len(points):
        raise ValueError("has two values at the same point")
    mesh = np.stack(np.meshgrid(*coordinates, indexing="ij"), axis=-1)
    try:
        gridded = LinearNDInterpolator(points, values, rescale=True)(mesh)
    except QhullError:
        raise ValueError("points lie in a plane or a line: they span no grid") from None
    outside = np.isnan(gridded)
    gridded[outside] = NearestNDInterpolator(points, values, rescale=True)(mesh)[outside]
    return coordinates, gridded, f"resampled from {len(points)} points"
