"""What a network sees of an event: a summary that physics gives, not the raw areas.

For each interaction the energy's mean and width on a grid, with areas taken as normal; the place with its
width, cut at wall, gate and cathode. The anchors of `flows.Anchored` are made of it. It is only a summary:
what it gets wrong the network learns.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp, ndtr, ndtri
from jaxtyping import Array, Float

from dmsim import charge
from dmsim.detector import Detector
from dmsim.light.detection import detection_probability
from dmsim.records import Deposits
from inference.likelihood.areas import QuantaLaw, s2_moments

_QUANTILES = (0.15865525, 0.5, 0.84134475)
_INNERMOST_U = 0.05  # radius below which the ratio of arc and angle is that of the centre
_SHALLOWEST_MM = 0.3  # depth for which the shortest drift's spread is taken


class Grid(NamedTuple):
    """Energies on which the energy's mean and width are summed."""

    u: Float[Array, "energy"]  # of the prior's unbounded vector
    log_weight: Float[Array, "energy"]  # prior mass of each bin
    law: QuantaLaw  # [kind, energy]


def area_summary(
    detector: Detector, grid: Grid, rows: Deposits, columns: Float[Array, "event 5"]
) -> Float[Array, "event x"]:
    """Anchors, the direction of the place, and features of each event.

    Args:
        detector: that sees the events.
        grid: of energies.
        rows: a deposit an event; energy, interaction and place are not looked at.
        columns: S1 and S2 [PE], drift time [ns], x and y [mm].

    Gradient: exact between the ends of the volume.
    """
    s1, s2, drift_time, x, y = jnp.moveaxis(columns, -1, 0)
    place = _place(detector, grid, rows, s2, drift_time, x, y)
    mean, log_width, log_evidence = energies(detector, grid, s1, s2, place["deposits"])
    n, kinds = mean.shape
    u_x, u_y = place["u_r"] * place["cos"], place["u_r"] * place["sin"]
    ones = jnp.ones((n, kinds))
    means = jnp.stack([mean, *(part[:, None] * ones for part in (u_x, u_y, place["u_z"]))], axis=-1)
    widths = [place[name][:, None] * ones for name in ("log_w_r", "log_w_t", "log_w_z")]
    anchors = jnp.stack([means, jnp.stack([log_width, *widths], axis=-1)], axis=2).reshape(n, -1)
    # shifts bring every feature to a mean near 0 and a width near 1
    features = [
        *mean.T,
        *(log_width.T + 2),
        jnp.log(s1) / 2 - 2,
        jnp.log(s2) / 2 - 4.5,
        jnp.log(s2 / s1) - 4,
        place["wall"],
        place["top"],
        place["bottom"],
        place["u_r"] - 1,
        place["u_z"],
        place["log_w_r"] + 5,
        place["log_w_z"] + 7,
    ]
    if kinds > 1:
        ratio = log_evidence[:, 1] - log_evidence[:, 0]
        features += [jnp.arcsinh(ratio) / 2, jnp.tanh(ratio / 4)]
    turn = jnp.stack([place["cos"], place["sin"]], axis=-1)
    return jnp.concatenate([anchors, turn, jnp.stack(features, axis=-1)], axis=-1)


def _place(detector: Detector, grid: Grid, rows: Deposits, s2, drift_time, x, y) -> dict[str, Any]:
    """Place and width in the prior's unbounded vector: quantiles of normals cut at the volume's ends."""
    radius, length = detector.geometry.radius_mm, detector.geometry.drift_length_mm
    z_seen = detector.electrons.z_mm(drift_time)
    r_seen = jnp.sqrt(x**2 + y**2)
    safe_r = jnp.maximum(r_seen, 1e-3)
    cos, sin = x / safe_r, y / safe_r
    r = jnp.minimum(r_seen, radius * (1 - 1e-4))
    deposits = dataclasses.replace(
        rows,
        energy_kev=jnp.ones_like(x),
        x_mm=r * cos,
        y_mm=r * sin,
        z_mm=jnp.clip(z_seen, -length, -_SHALLOWEST_MM),
    )
    way = charge.drift(detector, deposits)
    gain = s2_moments(_one(grid.law), 1.0, _gain(detector, way), detector)[0]
    n_electrons = jnp.maximum(s2 / gain, 1.0)
    resolution = detector.resolution
    variance = (resolution.xy_mm_sqrt_pe / jnp.sqrt(s2) + resolution.xy_floor_mm) ** 2
    sigma = jnp.sqrt(variance + way.spread_mm**2 / n_electrons)
    # across the wall: a normal cut at it
    wall = (radius - r_seen) / sigma
    of_r = [
        _u_of_radius((r_seen + sigma * q) / radius) for q in cut_quantiles(jnp.full_like(wall, -40.0), wall)
    ]
    # along it: the arc, in the unbounded vector's radius there, which is sqrt(2) r / R about the axis
    across = jnp.maximum(jnp.abs(of_r[1]), _INNERMOST_U)
    arc = across / jnp.maximum(r_seen / radius, _INNERMOST_U / math.sqrt(2)) * sigma / radius
    speed_mm_per_ns = detector.electrons.drift_speed_mm_per_us * 1e-3
    sigma_z = way.time_spread_ns / jnp.sqrt(n_electrons) * speed_mm_per_ns / length
    share = z_seen / length + 1
    bottom, top = -share / sigma_z, (1 - share) / sigma_z
    of_z = [ndtri(jnp.clip(share + sigma_z * q, 1e-6, 1 - 1e-6)) for q in cut_quantiles(bottom, top)]
    return {
        "deposits": deposits,
        "cos": cos,
        "sin": sin,
        "u_r": of_r[1],
        "log_w_r": jnp.log(jnp.maximum((of_r[2] - of_r[0]) / 2, 1e-5)),
        "log_w_t": jnp.log(jnp.maximum(arc, 1e-5)),
        "u_z": of_z[1],
        "log_w_z": jnp.log(jnp.maximum((of_z[2] - of_z[0]) / 2, 2e-6)),
        "wall": jnp.clip(wall, -4, 6) / 3,
        "top": jnp.clip(top, -4, 6) / 3 - 2,
        "bottom": jnp.clip(-bottom, -4, 6) / 3 - 2,
    }


def _gain(detector: Detector, way) -> Float[Array, "event"]:
    """Photoelectrons of an electron at its place."""
    relative = detector.light.s2_relative_yield(detector.geometry, way.x_mm, way.y_mm)
    return detector.electron_gain_phd(way.x_mm, way.y_mm) * relative


def energies(
    detector: Detector,
    grid: Grid,
    s1_pe: Float[Array, "event"],
    s2_pe: Float[Array, "event"],
    deposits: Deposits,
) -> tuple[Float[Array, "event kind"], Float[Array, "event kind"], Float[Array, "event kind"]]:
    """Mean and log width of the energy's u and the log evidence of each kind, with areas taken as normal.

    Args:
        detector: that sees the events.
        grid: of energies.
        s1_pe: uncorrected, > 0.
        s2_pe: uncorrected, > 0.
        deposits: one an event, whose places are taken.

    Gradient: exact.
    """
    way, seen = charge.drift(detector, deposits), detection_probability(detector, deposits)
    law = jax.tree.map(lambda part: part[None], grid.law)
    # the skewness as a wider normal
    var_skew = law.slope**2 * (1 - 2 / math.pi)
    law = law._replace(
        var_photons=law.var_photons + var_skew,
        var_electrons=law.var_electrons + var_skew,
        covariance=law.covariance - var_skew,
    )
    survival, gain, seen = (
        part[:, None, None] for part in (way.survival, _gain(detector, way) * jnp.ones_like(s1_pe), seen)
    )
    of_electron, var_s2, covariance = s2_moments(law, survival, gain, detector)
    double, width = detector.electronics.double_pe_probability, detector.electronics.spe_width
    of_photon = 1 + double
    var_charge = double * (1 - double) + width**2 * of_photon
    n_s1 = law.n_photons * seen
    var_s1 = of_photon**2 * (n_s1 * (1 - seen) + seen**2 * law.var_photons) + n_s1 * var_charge
    covariance = covariance * seen * of_photon
    r1 = s1_pe[:, None, None] - n_s1 * of_photon
    r2 = s2_pe[:, None, None] - of_electron * law.n_electrons
    left = var_s1 - covariance**2 / var_s2
    r1 = r1 - covariance / var_s2 * r2
    value = -0.5 * (r2**2 / var_s2 + r1**2 / left + jnp.log(var_s2) + jnp.log(left)) + grid.log_weight
    log_evidence = logsumexp(value, axis=-1)
    weight = jnp.exp(value - log_evidence[..., None])
    mean = weight @ grid.u
    variance = jnp.sum(weight * (grid.u - mean[..., None]) ** 2, axis=-1)
    return mean, 0.5 * jnp.log(variance + 1e-5), log_evidence


def _one(law: QuantaLaw) -> QuantaLaw:
    """A law of one electron, whose area is the gain."""
    one = jnp.ones(())
    return QuantaLaw(*(one for _ in law))


def cut_quantiles(low: Float[Array, "event"], high: Float[Array, "event"]) -> list[Float[Array, "event"]]:
    """Quantiles at -1, 0 and +1 standard deviations of a unit normal between two ends.

    Args:
        low: end, in standard deviations.
        high: the other, above it.

    Gradient: exact, but where nothing of the normal is left between the ends.
    """
    below, inside = ndtr(low), ndtr(high) - ndtr(low)
    # far out of one end nothing is left between them in single precision: the end itself, an exponential
    return [
        jnp.where(
            high < -4.0,
            high + math.log(q) / jnp.maximum(-high, 1.0),
            ndtri(jnp.clip(below + q * inside, 1e-30, 1 - 6e-8)),
        )
        for q in _QUANTILES
    ]


def _u_of_radius(share):
    """Signed radius of the disc's unbounded vector, from r over the radius."""
    rest = jnp.maximum(1 - jnp.abs(share), 1e-6)
    return jnp.sign(share) * jnp.sqrt(-2 * jnp.log(rest * (2 - rest)))
