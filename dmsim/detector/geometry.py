"""The active volume."""

import equinox as eqx
from jaxtyping import Array, Float


class Geometry(eqx.Module):
    """The liquid-xenon volume between cathode and gate."""

    radius_mm: Float[Array, ""]
    drift_length_mm: Float[Array, ""]  # cathode to gate
    gate_height_mm: Float[Array, ""]  # of the gate on the axis along which the field polynomial is given

    def height_mm(self, z_mm: Float[Array, "..."]) -> Float[Array, "..."]:
        """Height on the field map's axis. Gradient: exact."""
        return z_mm + self.gate_height_mm
