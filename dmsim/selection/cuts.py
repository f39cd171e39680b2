"""Cuts on one event: its size, place, shape and company."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from dmsim.selection.arrays import namespace
from dmsim.selection.cut import AbstractCut, cut_kind
from dmsim.selection.quantities import QUANTITIES, Columns, needs, quantity

_UNITS = {"_pe": "PE", "_ns": "ns", "_mm": "mm", "_kev": "keV"}
# central 50 % of a normal distribution in its standard deviations: 2 x 0.67449
_WIDTH_50_IN_SIGMA = 1.34898


def unit_of(name: str) -> str:
    """Unit of a column or quantity, from its name where it is none of ours."""
    if name in QUANTITIES:
        return QUANTITIES[name].unit
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")


@dataclass(frozen=True, kw_only=True, eq=False)
class _OnColumn(AbstractCut):
    """A cut whose variable is a column or quantity."""

    column: str

    @property
    def unit(self) -> str:
        """Of the column."""
        return unit_of(self.column)

    @property
    def columns_of_variable(self) -> tuple[str, ...]:
        """The column, or what the quantity is made of."""
        return needs(self.column)

    def variable(self, events: Columns) -> Float[Any, "event"]:
        """The column."""
        return quantity(self.column, events)


@cut_kind("range")
class Range(_OnColumn):
    """Any column or quantity, such as `cs1_pe` or `z_mm`, between thresholds."""


@cut_kind("radius")
class Radius(_OnColumn):
    """Distance from the axis; with a curve of `z_mm` the fiducial volume follows the height."""

    column: str = "r_mm"


@cut_kind("depth")
class Depth(_OnColumn):
    """Height in the detector, 0 at the gate and negative below; a curve of `r_mm` rounds the corners."""

    column: str = "z_mm"


@cut_kind("top_fraction")
class TopFraction(_OnColumn):
    """Share of an S2 (or S1) in the top array; its scatter falls with the area: best curves of `s2_pe`."""

    column: str = "s2_area_fraction_top"


@cut_kind("single_scatter")
class SingleScatter(_OnColumn):
    """Alternate S2 over the main S2; an event without an alternate has share 0."""

    column: str = "alt_s2_share"


@cut_kind("hit_pattern")
class HitPattern(_OnColumn):
    """How badly the S2's light pattern fits its place, in standard deviations above the expected."""

    column: str = "xy_misfit"


@cut_kind("width")
class Width(AbstractCut):
    """S2 width over what diffusion makes of it in the drift time.

    The width is that of the central 50 %; expected is floor and diffusion in quadrature. Its scatter falls
    with the number of electrons: thresholds are best curves of `s2_pe`.

    Source: sigma = sqrt(2 D t) / v, Sorensen, Nucl. Instrum. Meth. A 635 (2011) 41.
    """

    diffusion_mm2_per_us: float  # longitudinal; 1 mm2/us = 1e4 cm2/s
    drift_velocity_mm_per_us: float
    floor_ns: float = 0.0  # width of an S2 without drift
    gate_ns: float = 0.0  # drift time of the gate
    column: str = "s2_width_50_ns"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_numbers(
            positive=("diffusion_mm2_per_us", "drift_velocity_mm_per_us"),
            not_negative=("floor_ns", "gate_ns"),
        )

    @property
    def unit(self) -> str:
        """A ratio."""
        return ""

    @property
    def columns_of_variable(self) -> tuple[str, ...]:
        """Width and drift time."""
        return self.column, "drift_time_ns"

    def variable(self, events: Columns) -> Float[Any, "event"]:
        """Width over expected width; NaN where no width is expected."""
        width_ns, drift_ns = quantity(self.column, events), quantity("drift_time_ns", events)
        xp = namespace(width_ns, drift_ns)
        drift_us = xp.where(drift_ns < self.gate_ns, 0.0, drift_ns - self.gate_ns) / 1e3
        velocity = self.drift_velocity_mm_per_us
        sigma2_us2 = 2 * self.diffusion_mm2_per_us / velocity / velocity * drift_us
        expected2 = self.floor_ns * self.floor_ns + (_WIDTH_50_IN_SIGMA * 1e3) ** 2 * sigma2_us2
        good = expected2 > 0
        return xp.where(good, width_ns / xp.sqrt(xp.where(good, expected2, 1.0)), xp.nan)
