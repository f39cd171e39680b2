"""The active volume."""

import equinox as eqx
from jaxtyping import Array, Float

from dmsim.detector.quantities import leaf


class Geometry(eqx.Module):
    """The liquid-xenon volume between cathode and gate."""

    radius_mm: Float[Array, ""] = leaf("mm", 1, 5000, "radius of the active cylinder")
    drift_length_mm: Float[Array, ""] = leaf("mm", 1, 5000, "cathode to gate")
    gate_height_mm: Float[Array, ""] = leaf(
        "mm", -5000, 5000, "height of the gate on the axis along which the field polynomial is given"
    )

    def height_mm(self, z_mm: Float[Array, "..."]) -> Float[Array, "..."]:
        """Height on the field map's axis. Gradient: exact."""
        return z_mm + self.gate_height_mm
