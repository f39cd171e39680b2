"""Where light goes: collection over the volume and the share of each sensor, for S1 and S2.

An optical model with few parameters: a sensor at lateral distance r from the light and H away along z sees
the solid angle of a small flat face, ~ (1 + r^2/H^2)^(-3/2), and on top of it a constant share of reflected
light. The S2 pattern of an electron cloud is averaged over the cloud's transverse spread. The form is the
solid angle of a small face under inclination; its parameters are stated, or "assumed", in each preset.
Supplied maps take the place of each part of it.
"""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim.detector.geometry import Geometry
from dmsim.detector.maps import GridMap
from dmsim.detector.quantities import leaf, subtree, supplied
from dmsim.detector.sensors import SensorArray

# degree-5 cubature of the 2-D standard normal: the centre and a hexagon of radius 2 (Stroud, "Approximate
# Calculation of Multiple Integrals", 1971, formula E2r2 5-1, rescaled to unit variance)
_POINTS = ((0.0, 0.0, 0.5),) + tuple(
    (2 * math.cos(k * math.pi / 3), 2 * math.sin(k * math.pi / 3), 1 / 12) for k in range(6)
)


class LightResponse(eqx.Module):
    """Light collection of S1 and S2, in the mean and for each sensor."""

    g1_phd_per_photon: Float[Array, ""] = leaf(
        "phd/photon", 0.001, 1, "photons detected an S1 photon, average over the volume"
    )
    s1_slope_z: Float[Array, ""] = leaf(
        "1", -1, 1, "relative S1 yield, term linear in depth (-1 at the gate, 1 at the cathode)"
    )
    s1_curve_z: Float[Array, ""] = leaf("1", -1, 1, "relative S1 yield, term in depth^2")
    s1_slope_r2: Float[Array, ""] = leaf("1", -1, 1, "relative S1 yield, term in (r / radius)^2")
    s1_top_fraction_gate: Float[Array, ""] = leaf(
        "1", 0, 1, "share of S1 light on the top array, at the gate"
    )
    s1_top_fraction_cathode: Float[Array, ""] = leaf("1", 0, 1, "the same at the cathode")
    s1_diffuse: Float[Array, ""] = leaf("1", 0, 1, "share of reflected light within an array, S1")
    s2_slope_r2: Float[Array, ""] = leaf("1", -1, 1, "relative S2 yield, term in (r / radius)^2")
    s2_reference_r2: Float[Array, ""] = leaf(
        "1",
        0,
        1,
        "(r / radius)^2 where the relative S2 yield is 1: 0.5 states an average gain, 0 the axial",
    )
    s2_top_fraction: Float[Array, ""] = leaf("1", 0, 1, "share of S2 light on the top array")
    s2_diffuse: Float[Array, ""] = leaf("1", 0, 1, "share of reflected light within an array, S2")
    top_height_mm: Float[Array, ""] = leaf(
        "mm", 1, 1000, "of the top sensors above the gate, as the patterns see it"
    )
    bottom_depth_mm: Float[Array, ""] = leaf("mm", 1, 1000, "of the bottom sensors below the cathode")
    sensors: SensorArray = subtree()
    s1_map: GridMap | None = supplied(
        "1",
        0,
        100,
        "relative S1 yield over (x, y, z) or (r, z), scaled to an average of 1; replaces the slopes",
        "xyz",
        "rz",
    )
    s2_map: GridMap | None = supplied(
        "1", 0, 100, "S2 yield over (x, y), 1 where se_gain_phd is stated; replaces the slope", "xy"
    )
    s1_pattern_map: GridMap | None = supplied(
        "1", 0, 1e6, "S1 light on each sensor over (x, y, z), any scale; replaces the optical model", "xyz"
    )
    s2_pattern_map: GridMap | None = supplied(
        "1",
        0,
        1e6,
        "S2 light on each sensor, or on each of the top array, over (x, y), any scale; replaces the model",
        "xy",
    )

    def s1_relative_yield(
        self,
        geometry: Geometry,
        x_mm: Float[Array, "..."],
        y_mm: Float[Array, "..."],
        z_mm: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        """S1 light collection over its volume average: the map, or 1 + slopes in depth, depth^2 and r^2.

        Each term averages to zero over the cylinder, and a map is scaled when it is supplied, so that g1
        keeps its meaning. Gradient: exact.
        """
        if self.s1_map is not None:
            return self.s1_map.at(x_mm, y_mm, z_mm)
        depth = -2 * z_mm / geometry.drift_length_mm - 1  # -1 at the gate, 1 at the cathode
        r2 = (x_mm**2 + y_mm**2) / geometry.radius_mm**2
        return (
            1
            + self.s1_slope_z * depth
            + self.s1_curve_z * (depth**2 - 1 / 3)
            + self.s1_slope_r2 * (r2 - 1 / 2)
        )

    def s2_relative_yield(
        self, geometry: Geometry, x_mm: Float[Array, "..."], y_mm: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """S2 light of a single electron over that where `se_gain_phd` is stated. Gradient: exact."""
        if self.s2_map is not None:
            return self.s2_map.at(x_mm, y_mm)
        r2 = (x_mm**2 + y_mm**2) / geometry.radius_mm**2
        return 1 + self.s2_slope_r2 * (r2 - self.s2_reference_r2)

    def _shares(self, distance_mm, diffuse, x_mm, y_mm, sensors: slice) -> Float[Array, "... sensor"]:
        """Shares of one array's light, summing to 1 over the sensors of the slice."""
        efficiency = self.sensors.efficiency[sensors]
        dx = x_mm[..., None] - self.sensors.x_mm[sensors]
        dy = y_mm[..., None] - self.sensors.y_mm[sensors]
        seen = 1 / (1 + (dx**2 + dy**2) / distance_mm[..., None] ** 2)
        direct = efficiency * seen * jnp.sqrt(seen)
        direct = direct / jnp.sum(direct, axis=-1, keepdims=True)
        return (1 - diffuse) * direct + diffuse * efficiency / jnp.sum(efficiency)

    def _mapped(self, light, sensors: slice) -> Float[Array, "... sensor"]:
        """Shares from a map's light on nominal sensors, summing to 1 over the sensors of the slice."""
        seen = light * self.sensors.efficiency[sensors]
        return seen / jnp.sum(seen, axis=-1, keepdims=True)

    def s1_pattern(
        self,
        geometry: Geometry,
        x_mm: Float[Array, "..."],
        y_mm: Float[Array, "..."],
        z_mm: Float[Array, "..."],
    ) -> Float[Array, "... sensor"]:
        """Share of the detected S1 light on each sensor, summing to 1.

        Gradient: exact. A sensor of efficiency 0 is never hit: what it would see cannot be a weight of hits.
        """
        x_mm, y_mm, z_mm = jnp.broadcast_arrays(x_mm, y_mm, z_mm)
        if self.s1_pattern_map is not None:
            return self._mapped(self.s1_pattern_map.at(x_mm, y_mm, z_mm), slice(None))
        depth = -z_mm / geometry.drift_length_mm
        top_fraction = self.s1_top_fraction_gate + depth * (
            self.s1_top_fraction_cathode - self.s1_top_fraction_gate
        )
        n_top = self.sensors.n_top
        to_top = self.top_height_mm - z_mm
        to_bottom = self.bottom_depth_mm + geometry.drift_length_mm + z_mm
        top = self._shares(to_top, self.s1_diffuse, x_mm, y_mm, slice(None, n_top))
        bottom = self._shares(to_bottom, self.s1_diffuse, x_mm, y_mm, slice(n_top, None))
        return jnp.concatenate(
            [top_fraction[..., None] * top, (1 - top_fraction[..., None]) * bottom], axis=-1
        )

    def s2_pattern(
        self,
        geometry: Geometry,
        x_mm: Float[Array, "..."],
        y_mm: Float[Array, "..."],
        spread_mm: Float[Array, "..."] | float = 0.0,
    ) -> Float[Array, "... sensor"]:
        """Share of the detected S2 light on each sensor, summing to 1.

        Args:
            geometry: of the same detector.
            x_mm: centre of the electron cloud at the surface.
            y_mm: the same along y.
            spread_mm: transverse standard deviation of the cloud, >= 0.

        Gradient: exact. A sensor of efficiency 0 is never hit: what it would see cannot be a weight of hits.
        """
        # a point has no cubature to pay for
        points = ((0.0, 0.0, 1.0),) if isinstance(spread_mm, float) and spread_mm == 0 else _POINTS
        x_mm, y_mm, spread_mm = jnp.broadcast_arrays(x_mm, y_mm, jnp.asarray(spread_mm, x_mm.dtype))
        n_top, supplied_map = self.sensors.n_top, self.s2_pattern_map
        if supplied_map is not None:
            light = sum(
                share * supplied_map.at(x_mm + a * spread_mm, y_mm + b * spread_mm) for a, b, share in points
            )
            if supplied_map.rows == (self.sensors.n_sensors,):
                return self._mapped(light, slice(None))
        to_top = jnp.broadcast_to(self.top_height_mm, x_mm.shape)
        to_bottom = jnp.broadcast_to(self.bottom_depth_mm + geometry.drift_length_mm, x_mm.shape)
        if supplied_map is not None:
            top = self._mapped(light, slice(None, n_top))
        else:
            top = sum(
                share
                * self._shares(
                    to_top, self.s2_diffuse, x_mm + a * spread_mm, y_mm + b * spread_mm, slice(None, n_top)
                )
                for a, b, share in points
            )
        # a cloud's spread of millimetres is nothing against the metre to the bottom array
        bottom = self._shares(to_bottom, self.s2_diffuse, x_mm, y_mm, slice(n_top, None))
        return jnp.concatenate([self.s2_top_fraction * top, (1 - self.s2_top_fraction) * bottom], axis=-1)
