"""What is measured and supplied with a detector: maps, photoelectron spectra, efficiencies of sensors."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from dmsim.detector import consistency
from dmsim.detector.map_files import read_map
from dmsim.detector.maps import GridMap
from dmsim.detector.model import Detector
from dmsim.detector.quantities import Spec, specs
from dmsim.detector.sensors import SPE_SCORES, score_moments

_MAX_BYTES = 1 << 26


def map_specs(detector: Detector) -> dict[str, Spec]:
    """Name and `Spec` of each map that this detector may carry: "light.s1_map"."""
    found = {}
    for path, module in jax.tree_util.tree_leaves_with_path(detector, is_leaf=_has_maps):
        if _has_maps(module):
            where = jax.tree_util.keystr(path, simple=True, separator=".")
            found |= {f"{where}.{name}": spec for name, spec in specs(module) if spec.kind == "map"}
    return found


def _has_maps(node: Any) -> bool:
    return (
        isinstance(node, eqx.Module)
        and not isinstance(node, Detector)
        and any(spec.kind == "map" for _, spec in specs(node))
    )


def supply_map(detector: Detector, name: str, given: GridMap | str | Path, *, entry: str = "map") -> Detector:
    """The detector with a map of its own.

    Args:
        detector: to add it to.
        name: of the map, such as "light.s1_map".
        given: the map, or its file (see `read_map`).
        entry: which of a JSON file's maps.

    Raises:
        ValueError: if the detector has no such map, or it does not fit.

    Gradient: exact in the values; an S1 map is scaled to a volume average of 1.
    """
    known = map_specs(detector)
    if name not in known:
        raise ValueError(f"map {name!r} is not known: choose of {', '.join(known)}")
    spec = known[name]
    if not isinstance(given, GridMap):
        dtype = detector.light.g1_phd_per_photon.dtype
        given = read_map(given, axes=spec.axes, low=spec.low, high=spec.high, entry=entry, dtype=dtype)
    owner, field = name.split(".")
    module = replace(getattr(detector, owner), **{field: given})
    supplied = scale_s1_map(replace(detector, **{owner: module}))
    consistency.check(supplied)
    return supplied


def scale_s1_map(detector: Detector) -> Detector:
    """The detector with its S1 map divided by the map's volume average. Gradient: exact in the values."""
    grid = detector.light.s1_map
    if grid is None:
        return detector
    geometry = detector.geometry
    average = grid.volume_average(float(geometry.radius_mm), float(geometry.drift_length_mm))
    return replace(
        detector, light=replace(detector.light, s1_map=replace(grid, values=grid.values / average))
    )


def supply_spe_spectra(detector: Detector, path: str | Path) -> Detector:
    """The detector with the measured charge spectra of its sensors: see `read_spe_spectra`."""
    sensors = detector.light.sensors
    quantiles = read_spe_spectra(path, sensors.n_sensors)
    sensors = replace(sensors, spe_quantiles=jnp.asarray(quantiles, sensors.efficiency.dtype))
    return replace(detector, light=replace(detector.light, sensors=sensors))


def switch_off(detector: Detector, sensors_off: Sequence[int]) -> Detector:
    """The detector with these sensors dead. g1 and the single-electron gain stay: state them for what is on.

    Raises:
        ValueError: if a channel does not exist, or an array has no sensor left.
    """
    sensors = detector.light.sensors
    efficiency = np.array(sensors.efficiency)
    efficiency[channels(sensors_off, sensors.n_sensors)] = 0.0
    check_efficiency(efficiency, sensors.n_top)
    sensors = replace(sensors, efficiency=jnp.asarray(efficiency))
    return replace(detector, light=replace(detector.light, sensors=sensors))


def channels(given: Sequence[float], n_sensors: int) -> list[int]:
    """The channels as whole numbers.

    Raises:
        ValueError: if one does not exist, or is given twice.
    """
    for i, channel in enumerate(given):
        if not 0 <= channel < n_sensors or int(channel) != channel:
            raise ValueError(f"channel {channel:g} does not exist: there are 0 to {n_sensors - 1}")
        if channel in given[:i]:
            raise ValueError(f"channel {channel:g} is given twice: name each channel once")
    return [int(channel) for channel in given]


def check_efficiency(efficiency: np.ndarray, n_top: int) -> None:
    """Refuse efficiencies that leave an array without a sensor.

    Raises:
        ValueError: if one is negative or not finite, or all of an array are 0.
    """
    if not np.all((efficiency >= 0) & (efficiency <= 100)):
        raise ValueError("efficiency of a sensor must be within 0 to 100, relative to a nominal one")
    for side, part in (("top", efficiency[:n_top]), ("bottom", efficiency[n_top:])):
        if not part.any():
            raise ValueError(f"all sensors of the {side} array are off")


def read_efficiencies(path: str | Path, n_sensors: int) -> np.ndarray:
    """Relative efficiency of each sensor from a CSV table, 0 where it is off.

    The columns are `channel`, and `efficiency` (relative to a nominal sensor), `on` (0 or 1), or both; one
    row a sensor, in any order.

    Raises:
        ValueError: one line with the file and what is wrong with it.
    """
    path = Path(path)
    header, table = _read_table(path)
    if "channel" not in header or not {"channel"} < set(header) <= {"channel", "efficiency", "on"}:
        raise ValueError(
            f"{path.name}: columns are {', '.join(header)!r:.80}: use channel, with efficiency, on, or both"
        )
    column = dict(zip(header, table.T, strict=True))
    try:
        channel = channels(column["channel"].tolist(), n_sensors)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if len(channel) != n_sensors:
        raise ValueError(f"{path.name}: has {len(channel)} channels: must have each of {n_sensors} once")
    on = column.get("on", np.ones(n_sensors))
    if not np.isin(on, (0, 1)).all():
        raise ValueError(f"{path.name}: column on must hold 0 or 1")
    efficiency = np.empty(n_sensors)
    efficiency[channel] = column.get("efficiency", np.ones(n_sensors)) * on
    return efficiency


def read_spe_spectra(path: str | Path, n_sensors: int) -> np.ndarray:
    """Charge of one photoelectron of each sensor, at the normal scores `SPE_SCORES`.

    The CSV table is XENON1T's: a column `charge` of equally spaced bin centres, any unit, and a column of
    contents for each channel, named by its number. The whole spectrum counts, its low charges too; what lies
    below zero is set to zero, and each spectrum is scaled to a mean of 1. A sensor with an empty column gets
    the mean of the others.

    Raises:
        ValueError: one line with the file and what is wrong with it.
    """
    path = Path(path)
    header, table = _read_table(path)
    if sorted(header) != sorted(["charge", *map(str, range(n_sensors))]):
        raise ValueError(f"{path.name}: must have the columns charge and 0 to {n_sensors - 1}, one a sensor")
    charge = table[:, header.index("charge")]
    spectra = table[:, [header.index(str(channel)) for channel in range(n_sensors)]]
    step = np.diff(charge)
    if not (len(charge) > 1 and step.min() > 0 and np.ptp(step) < 1e-3 * step.mean()):
        raise ValueError(f"{path.name}: column charge must hold equally spaced numbers, ascending")
    if spectra.min() < 0:
        raise ValueError(f"{path.name}: holds a content below 0")
    seen = spectra.sum(axis=0) > 0
    if not seen.any() or not (charge @ spectra[:, seen] > 0).all():
        raise ValueError(f"{path.name}: no spectrum with a mean charge above 0")
    edges = np.append(charge - step.mean() / 2, charge[-1] + step.mean() / 2)
    level = np.asarray(ndtr(SPE_SCORES), np.float64)
    quantiles = np.empty((n_sensors, SPE_SCORES.size))
    for channel in np.flatnonzero(seen):
        below = np.append(0.0, np.cumsum(spectra[:, channel])) / spectra[:, channel].sum()
        quantiles[channel] = np.maximum(np.interp(level, below, edges), 0.0)
    quantiles[seen] /= (quantiles[seen] @ score_moments()[0])[:, None]
    quantiles[~seen] = quantiles[seen].mean(axis=0)
    return quantiles


def _read_table(path: Path) -> tuple[list[str], np.ndarray]:
    """Header and numbers of a CSV file.

    Raises:
        ValueError: one line with the file and what is wrong with it.
    """
    if not path.is_file():
        raise ValueError(f"{path.name}: {'is a folder' if path.is_dir() else 'does not exist'}")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(
            f"{path.name}: has {path.stat().st_size >> 20} MiB: must have at most {_MAX_BYTES >> 20}"
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = list(csv.reader(line for line in lines if line.strip() and not line.startswith("#")))
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path.name}: is no CSV file in UTF-8") from None
    if len(rows) < 2:
        raise ValueError(f"{path.name}: has no rows")
    header = [name.strip() for name in rows[0]]
    if len(set(header)) != len(header):
        raise ValueError(f"{path.name}: has two columns of one name")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(header):
            raise ValueError(f"{path.name}: row {number} has {len(row)} cells, the header has {len(header)}")
    try:
        table = np.array(rows[1:], np.float64)
    except ValueError:
        raise ValueError(f"{path.name}: holds a cell that is no number") from None
    if not np.isfinite(table).all():
        raise ValueError(f"{path.name}: holds a number that is not finite")
    return header, table
