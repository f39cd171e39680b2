"""Horizontal place of an S2 from its light on the top array, by maximum likelihood, with its uncertainty."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim.detector import Detector
from dmsim.reconstruction.charge_model import LEAST_PE, TABLE_PE, ChargeModel, charge_model
from dmsim.reconstruction.light_table import light_table, top_shares
from dmsim.reconstruction.settings import Position

_GRID = 2.0 ** -np.array([14, 14, 14, 14, 20, 16])  # results are multiples of it: 0.06 um for a place


class Positions(NamedTuple):
    """Place of each peak at the surface; NaN without light on top."""

    x_mm: Float[np.ndarray, "peak"]
    y_mm: Float[np.ndarray, "peak"]
    x_error_mm: Float[np.ndarray, "peak"]  # standard deviation, from the information at the place found
    y_error_mm: Float[np.ndarray, "peak"]
    xy_correlation: Float[np.ndarray, "peak"]
    xy_misfit: Float[np.ndarray, "peak"]  # deviance over the expected, in its standard deviations


def positions(
    detector: Detector,
    area_per_channel_pe: Float[np.ndarray, "peak sensor"],
    settings: Position | None = None,
) -> Positions:
    """Place of each peak, inside the radius of the active volume.

    The place with the largest `position_log_likelihood`: damped scoring from the most likely of some
    hundred places, confined to the radius, along the wall where it pulls outwards. The pattern is read from
    a table, to about 1e-4 of a share. Peaks are fitted one by one: a result depends on no other peak.

    The errors are those of the expected Fisher information at the place found. The spread of a photon's
    charge (single photoelectron, second photoelectron, noise) enters through the law of each sensor's area:
    a photon alone in its sensor counts in full, one in a crowd 1 / F. At the wall the estimate scatters less
    than they say, as it cannot leave the volume.

    Args:
        detector: of its light response, radius and electronics.
        area_per_channel_pe: of all sensors; those of dead ones and of the bottom array do not count.
        settings: the defaults if None.

    Gradient: none (host arrays).
    """
    from dmsim.reconstruction.host import position as host  # noqa: PLC0415  numba only when it is used

    settings = settings or Position()
    light, charge = light_table(detector), charge_model(detector)
    found = host.fit(
        np.asarray(area_per_channel_pe), light.live, (light.splines, light.low_mm, light.step_mm),
        light.start_mm, light.start_log_share, light.radius_mm,
        (charge.photon_pe, charge.excess, charge.step_pe, TABLE_PE, LEAST_PE),
        (charge.weight, charge.most, charge.saturated, charge.log_mu, charge.information, charge.deviance,
         charge.deviance_variance),
        int(settings.max_steps), float(settings.min_area_pe),
    )  # fmt: skip
    dtype = np.dtype(detector.light.top_height_mm.dtype)
    # the fit can differ by a last bit from one processor to another: a correlation of 1e-16, too, is then 0
    rounded = np.rint(found / _GRID) * _GRID + 0.0  # not -0
    return Positions(*rounded.astype(dtype).T)


def _lit(area_pe: Float[Array, "top"], live: Array) -> Array:
    return live & (area_pe >= LEAST_PE)


def position_log_likelihood(
    detector: Detector,
    area_per_channel_pe: Float[Array, "sensor"],
    xy_mm: Float[Array, "2"],
    *,
    charge: ChargeModel | None = None,
) -> Float[Array, ""]:
    """Log likelihood of the light on the live top sensors, up to a constant, for light from this place.

    Each sensor expects its share of the light that all have seen. Its area follows the law of
    `dmsim.reconstruction.charge_model`.

    Args:
        detector: of its light response.
        area_per_channel_pe: of all sensors.
        xy_mm: at the surface.
        charge: of the detector; made from it if None, which its electronics must be known for (not traced).

    Gradient: exact in place, light response and areas (of the tables' linear interpolation); none in the
        electronics.
    """
    charge = charge_model(detector) if charge is None else charge
    n_top = detector.light.sensors.n_top
    live = detector.light.sensors.efficiency[:n_top] > 0
    area = jnp.asarray(area_per_channel_pe)[:n_top]
    lit = _lit(area, live)
    area = jnp.where(lit, area, 1.0)
    expected = jnp.sum(jnp.where(lit, area, 0.0)) / charge.photon_pe
    share = top_shares(detector.light, detector.geometry, xy_mm)
    mu = jnp.where(live, expected * share, 1.0)

    weight = jnp.asarray(charge.weight, area.dtype)
    place = jnp.minimum(area / charge.step_pe, weight.shape[0] - 1.001)
    row = jax.lax.stop_gradient(jnp.floor(place)).astype(jnp.int32)
    between = (place - row)[:, None]
    terms = (1 - between) * weight[row] + between * weight[row + 1]
    inside = jnp.minimum(mu, 10 * TABLE_PE)

    def horner(total, term):  # powers of mu would overflow single precision
        return (total + term) * inside, None

    total, _ = jax.lax.scan(horner, jnp.zeros_like(mu), terms.T[:0:-1])
    few = jnp.log(jnp.maximum(total, jnp.finfo(total.dtype).tiny)) - mu
    many = (area / charge.photon_pe * jnp.log(mu) - mu) / charge.excess
    value = jnp.where(lit, jnp.where(area < TABLE_PE, few, many), -mu)
    return jnp.sum(jnp.where(live, value, 0.0))


def position_information(
    detector: Detector,
    area_top_pe: Float[Array, ""] | float,
    xy_mm: Float[Array, "2"],
    *,
    charge: ChargeModel | None = None,
) -> Float[Array, "2 2"]:
    """Fisher information [1/mm^2] on the place in the light of one S2; its inverse is the Cramer-Rao bound.

    Of the model of `position_log_likelihood`, with the total light given: the pattern's slopes by automatic
    differentiation, the information in each sensor's charge from the charge model.

    Args:
        detector: of its light response.
        area_top_pe: expected on the live top sensors, > 0.
        xy_mm: at the surface.
        charge: as for `position_log_likelihood`.

    Gradient: exact, as there.
    """
    charge = charge_model(detector) if charge is None else charge

    def shares(xy):
        return top_shares(detector.light, detector.geometry, xy)

    share, slope = shares(xy_mm), jax.jacfwd(shares)(xy_mm)
    expected = area_top_pe / charge.photon_pe
    seen = share > 0
    safe = jnp.where(seen, share, 1.0)
    dtype = share.dtype
    factor = jnp.interp(
        jnp.log(expected * safe), jnp.asarray(charge.log_mu, dtype), jnp.asarray(charge.information, dtype)
    )
    weight = jnp.where(seen, expected * factor / safe, 0.0)
    return jnp.einsum("s,si,sj->ij", weight, slope, slope, precision=jax.lax.Precision.HIGHEST)


def position_bound_mm2(
    detector: Detector,
    area_top_pe: Float[Array, ""] | float,
    xy_mm: Float[Array, "2"],
    *,
    charge: ChargeModel | None = None,
) -> Float[Array, "2 2"]:
    """Cramer-Rao bound [mm^2]: no unbiased estimate of the place has a smaller covariance.

    Arguments as `position_information`. Gradient: exact.
    """
    return jnp.linalg.inv(position_information(detector, area_top_pe, xy_mm, charge=charge))
