"""Photosensors: positions and relative efficiencies."""

import equinox as eqx
from jaxtyping import Array, Float


class SensorArray(eqx.Module):
    """Sensors in channel order, the top array first."""

    x_mm: Float[Array, "sensor"]
    y_mm: Float[Array, "sensor"]
    efficiency: Float[Array, "sensor"]  # relative to a nominal sensor; 0 for a dead one
    n_top: int = eqx.field(static=True)

    @property
    def n_sensors(self) -> int:
        """All sensors, dead ones included."""
        return self.x_mm.shape[0]
