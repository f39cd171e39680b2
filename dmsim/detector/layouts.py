"""Generators of sensor positions, in channel order.

A preset names a layout and its numbers; the real tables of XENONnT and XENON1T come out of them channel by
channel.
"""

import dataclasses
import math

import numpy as np

from dmsim.detector.quantities import leaf, leaves, setting

Positions = tuple[np.ndarray, np.ndarray]  # x and y [mm], float64


@dataclasses.dataclass(frozen=True)
class Hexagonal:
    """The lattice points nearest to the centre, one sensor on the centre itself.

    Channels run along `rotation_deg`, then row by row to the right of that direction.
    """

    count: int = setting("sensors", 1, 100000, "in the array; a whole number of lattice shells")
    pitch_mm: float = leaf("mm", 1, 1000, "between neighbours")
    rotation_deg: float = leaf("deg", -360, 360, "direction of a row, from the x axis")

    def positions(self) -> Positions:
        """Positions in channel order.

        Raises:
            ValueError: if `count` would cut a shell of equidistant lattice points.
        """
        reach = math.isqrt(self.count) + 2
        row, column = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1), indexing="ij")
        row, column = row.ravel(), column.ravel()
        distance2 = row**2 + row * column + column**2  # exact integers, in units of pitch^2
        shells, sizes = np.unique(distance2, return_counts=True)
        totals = np.cumsum(sizes)
        shell = int(np.searchsorted(totals, self.count))
        if totals[shell] != self.count:
            below = f"{totals[shell - 1]} or " if shell else ""
            raise ValueError(
                f"count {self.count} cuts a shell of the hexagonal lattice: use {below}{totals[shell]}"
            )
        inside = distance2 <= shells[shell]
        row, column = row[inside], column[inside]  # already ordered by row, then column
        along, across = self.pitch_mm * (column + row / 2), self.pitch_mm * row * math.sqrt(3) / 2
        cos, sin = math.cos(math.radians(self.rotation_deg)), math.sin(math.radians(self.rotation_deg))
        return along * cos + across * sin, along * sin - across * cos


@dataclasses.dataclass(frozen=True)
class Rings:
    """Concentric rings of evenly spaced sensors; channels run clockwise, ring after ring as listed."""

    counts: tuple[int, ...] = leaves("sensors", 1, 100000, "on each ring, whole numbers")
    radii_mm: tuple[float, ...] = leaves("mm", 0, 10000, "of each ring")
    start_deg: float = leaf("deg", -360, 360, "direction of each ring's first sensor, from the x axis")

    def positions(self) -> Positions:
        """Positions in channel order.

        Raises:
            ValueError: if the lists differ in length or a count is no whole number.
        """
        if len(self.counts) != len(self.radii_mm):
            raise ValueError(f"counts has {len(self.counts)} entries, radii_mm has {len(self.radii_mm)}")
        if any(count != int(count) for count in self.counts):
            raise ValueError(f"counts = {list(self.counts)}: use whole numbers")
        counts = np.array(self.counts, int)
        step = np.concatenate([np.arange(count) / count for count in counts])
        angle = np.radians(self.start_deg - 360.0 * step)
        radius = np.repeat(np.array(self.radii_mm, float), counts)
        return radius * np.cos(angle), radius * np.sin(angle)


@dataclasses.dataclass(frozen=True)
class Points:
    """Sensors at listed positions."""

    x_mm: tuple[float, ...] = leaves("mm", -10000, 10000, "of each sensor")
    y_mm: tuple[float, ...] = leaves("mm", -10000, 10000, "of each sensor")

    def positions(self) -> Positions:
        """Positions in channel order.

        Raises:
            ValueError: if the lists differ in length.
        """
        if len(self.x_mm) != len(self.y_mm):
            raise ValueError(f"x_mm has {len(self.x_mm)} entries, y_mm has {len(self.y_mm)}")
        return np.array(self.x_mm, float), np.array(self.y_mm, float)


LAYOUTS = {"hexagonal": Hexagonal, "rings": Rings, "points": Points}
