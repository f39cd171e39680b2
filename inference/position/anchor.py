"""Light pattern of an S2 -> a rough place with its width, and the few numbers that say what it misses.

Scoring in a simplified law of the light: given the total, sensor i adds s_i log share_i(x, y) to the log
likelihood, where s_i is what its charge is worth in photons. The network learns what that leaves: it costs
sharpness, never calibration. All of it is compiled code on batches, to be exported with the flow.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim.detector import Detector
from dmsim.detector.geometry import Geometry
from dmsim.detector.light import LightResponse
from dmsim.reconstruction.charge_model import LEAST_PE, TABLE_PE, charge_model
from dmsim.reconstruction.light_table import light_table, top_shares

_N_STEPS = 4  # of scoring: from some 30 mm off to within a per cent of the error
_LONGEST_MM = 40.0  # step: the pattern changes over the height of the sensors, 70 mm in xenonnt
_COARSE = 0.8  # of the distance between grid places: a wider law is better told by the grid than by scoring
_WIDEST = 1.0  # of an anchor, in the unbounded vector: that of the prior


class PositionSummary(eqx.Module):
    """What the flow sees of a pattern: [mean (2), log width (2), cos, sin, features (10)].

    Mean and width are those of an anchor, in the unbounded vector of a uniform disc; widths are along the
    radius and across it; features are in the anchor's own frame: what is learned at one angle holds at all.
    """

    light: LightResponse
    geometry: Geometry
    worth: Float[Array, "area"]  # photons that an area is worth, in steps
    step_pe: float = eqx.field(static=True)
    photon_pe: float = eqx.field(static=True)  # of photons in a crowd, mean charge times excess noise
    live: Float[Array, "top"]
    grid_mm: Float[Array, "grid 2"]
    grid_log_share: Float[Array, "top grid"]
    spacing_mm: float = eqx.field(static=True)

    @property
    def n_features(self) -> int:
        """Length of the summary."""
        return 16

    def counts(self, area_per_channel_pe: Float[Array, "batch sensor"]) -> Float[Array, "batch top"]:
        """Photons that each top sensor's area is worth; 0 for dead sensors."""
        area = area_per_channel_pe[:, : self.live.shape[0]]
        place = jnp.clip(area / self.step_pe, 0.0, self.worth.shape[0] - 1.001)
        row = place.astype(jnp.int32)
        low, high = self.worth[row], self.worth[row + 1]
        few = low + (high - low) * (place - row)
        worth = jnp.where(area < TABLE_PE, few, area / self.photon_pe)
        return jnp.where((area >= LEAST_PE) & (self.live > 0), worth, 0.0)

    def __call__(self, area_per_channel_pe: Float[Array, "batch sensor"]) -> Float[Array, "batch feature"]:
        """The summary of each pattern.

        Args:
            area_per_channel_pe: of all sensors, in PE; only live ones of the top array count.

        Gradient: exact but for the grid's maximum; of no use beyond training.
        """
        count = self.counts(area_per_channel_pe)
        total = jnp.sum(count, axis=-1)
        coarse, coarse_mm = self._coarse(count)
        place, covariance, deviance = self._scored(count, total, coarse)
        wide = jax.nn.sigmoid((coarse_mm - _COARSE * self.spacing_mm) / (0.05 * self.spacing_mm))
        place = place + wide[:, None] * (coarse - place)
        radius = self.geometry.radius_mm
        r = jnp.maximum(jnp.hypot(*place.T), 1e-3)
        outward = place / r[:, None]
        across = jnp.stack([-outward[:, 1], outward[:, 0]], axis=-1)
        variances = [jnp.einsum("bi,bij,bj->b", e, covariance, f) for e, f in
                     ((outward, outward), (across, across), (outward, across))]  # fmt: skip
        both = jnp.sqrt(jnp.stack(variances[:2], axis=-1))
        width_mm = both + wide[:, None] * (coarse_mm[:, None] - both)
        # a place at the wall is 0.7 widths inside on average; far from it the place stays
        inside = jnp.maximum(radius - width_mm[:, 0] * jax.nn.softplus((radius - r) / width_mm[:, 0]), 1e-3)
        ratio = inside / radius
        u = jnp.sqrt(-2 * jnp.log1p(-(ratio**2)))
        slope = 2 * ratio / radius / ((1 - ratio**2) * u)  # du / dr
        widths = jnp.stack([width_mm[:, 0] * slope, width_mm[:, 1] * u / inside], axis=-1)
        log_width = jnp.log(jnp.minimum(widths, _WIDEST))
        off = coarse - place
        features = [
            r / radius,
            inside / radius,
            jnp.log1p(total) / 5,
            jnp.log(width_mm[:, 0] / radius) / 3,
            jnp.log(width_mm[:, 1] / radius) / 3,
            variances[2] / jnp.sqrt(variances[0] * variances[1]),
            jnp.log(coarse_mm / radius) / 3,
            jnp.sum(off * outward, axis=-1) / coarse_mm,
            jnp.sum(off * across, axis=-1) / coarse_mm,
            jnp.log1p(jnp.maximum(deviance, 0.0)) / 3,
        ]
        anchor = jnp.concatenate([outward * u[:, None], log_width, outward], axis=-1)
        return jnp.concatenate([anchor, jnp.stack(features, axis=-1)], axis=-1)

    def _coarse(self, count: Array) -> tuple[Float[Array, "batch 2"], Float[Array, "batch"]]:
        """Mean place and width over a grid that fills the disc evenly."""
        chance = jax.nn.softmax(count @ self.grid_log_share, axis=-1)
        mean = chance @ self.grid_mm
        square = chance @ jnp.sum(self.grid_mm**2, axis=-1)
        variance = jnp.maximum(square - jnp.sum(mean**2, axis=-1), 0.0) / 2
        return mean, jnp.sqrt(variance + self.spacing_mm**2 / 12)

    def _scored(self, count: Array, total: Array, place: Array) -> tuple[Array, Array, Array]:
        """Place by scoring, its covariance, and the deviance a live sensor."""
        radius, safe = self.geometry.radius_mm, jnp.maximum(total, 1e-3)

        def log_share(xy: Float[Array, "batch 2"]) -> Float[Array, "batch top"]:
            share = top_shares(self.light, self.geometry, xy)
            return jnp.log(jnp.where(self.live > 0, share, 1.0))

        def look(place: Array) -> tuple[Array, Array, Array]:
            value, push = jax.linearize(log_share, place)
            axes = jnp.broadcast_to(jnp.eye(2, dtype=place.dtype)[:, None], (2, *place.shape))
            slope = jnp.stack([push(axes[0]), push(axes[1])], axis=1)
            share = jnp.where(self.live > 0, jnp.exp(value), 0.0)
            score = jnp.einsum("bt,bit->bi", count, slope)
            information = safe[:, None, None] * jnp.einsum("bt,bit,bjt->bij", share, slope, slope)
            # a weak prior keeps patterns of no light in the volume
            information = information + jnp.eye(2, dtype=place.dtype) * (4 / radius**2)
            return value, score, _inverse(information)

        def step(place: Array, _: object) -> tuple[Array, None]:
            _, score, covariance = look(place)
            move = jnp.einsum("bij,bj->bi", covariance, score)
            length = jnp.sqrt(jnp.sum(move**2, axis=-1, keepdims=True) + 1e-12)
            moved = place + move * jnp.minimum(1.0, _LONGEST_MM / length)
            r = jnp.sqrt(jnp.sum(moved**2, axis=-1, keepdims=True) + 1e-12)
            return moved * jnp.minimum(1.0, 0.9999 * radius / r), None

        place, _ = jax.lax.scan(step, place, length=_N_STEPS)
        value, _, covariance = look(place)
        expected = jnp.log(safe)[:, None] + value
        terms = count * (jnp.log(jnp.maximum(count, 1e-6)) - expected)
        return place, covariance, 2 * jnp.sum(terms, axis=-1) / jnp.sum(self.live)


def _inverse(matrix: Float[Array, "batch 2 2"]) -> Float[Array, "batch 2 2"]:
    """Written out: a library's call for each matrix of 2 x 2 costs more than the rest of a step."""
    (a, b), (c, d) = matrix[:, 0].T, matrix[:, 1].T
    turned = jnp.stack([jnp.stack([d, -b], axis=-1), jnp.stack([-c, a], axis=-1)], axis=1)
    return turned / (a * d - b * c)[:, None, None]


def position_summary(detector: Detector) -> PositionSummary:
    """The summary of this detector's patterns.

    Raises:
        TypeError: if the detector's electronics are being traced.
    """
    charge, table = charge_model(detector), light_table(detector)
    n_top = detector.light.sensors.n_top
    live = np.zeros(n_top, np.float32)
    live[table.live] = 1
    log_share = np.zeros((n_top, len(table.start_mm)), np.float32)
    log_share[table.live] = table.start_log_share.T
    nearest = np.hypot(*(table.start_mm[1:] - table.start_mm[:1]).T).min()
    return PositionSummary(
        light=detector.light,
        geometry=detector.geometry,
        worth=jnp.asarray(_worth(charge), jnp.float32),
        step_pe=charge.step_pe,
        photon_pe=charge.photon_pe * charge.excess,
        live=jnp.asarray(live),
        grid_mm=jnp.asarray(table.start_mm, jnp.float32),
        grid_log_share=jnp.asarray(log_share),
        spacing_mm=float(nearest),
    )


def _worth(charge) -> Float[np.ndarray, "area"]:
    """Photons that the law of charge expects in an area, times the information that charge leaves of each."""
    area = np.arange(charge.weight.shape[0]) * charge.step_pe
    mu = np.maximum(
        area / charge.photon_pe, 0.3
    )  # assumed: a sensor with fewer has one photon, whatever mu is
    k = np.arange(charge.weight.shape[1])
    law = charge.weight * mu[:, None] ** k
    mean = law @ k / np.maximum(law.sum(axis=1), 1e-300)
    mean = np.where(law.sum(axis=1) > 0, mean, area / charge.photon_pe)
    return mean * np.interp(np.log(mu), charge.log_mu, charge.information)
