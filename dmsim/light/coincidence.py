"""Whether enough sensors see an S1, as a probability given how many photons were detected.

Each photon picks its sensor from the pattern of its place, so that the number of sensors hit follows from the
sums S_n of the n-th powers of the shares: with P_j = sum over sensors of (e^(p x) - 1)^j, the probability of
exactly k sensors for N photons is N! times the coefficient of x^N in the elementary symmetric function
e_k, and k e_k = P_1 e_(k-1) - P_2 e_(k-2) + ... (Newton). It is tabulated over depth and r^2, averaged over
a few directions, and looked up for each event.

Source: Macdonald, "Symmetric Functions and Hall Polynomials", I.2 (Newton's identities).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim import relax
from dmsim.detector import Detector
from dmsim.detector.maps import GridMap
from dmsim.light.detection import detection_probability
from dmsim.records import Deposits, Quanta

_DEPTHS, _RADII, _DIRECTIONS = 7, 5, 4  # of the table
_LEAST_DEPTH = 1e-3  # of the whole: keeps the phase differentiable at the gate and the cathode
_FEW_SENSORS = 20


def _most_photons(n_sensors: int, coincidence: int) -> int:
    """Photons beyond which the table stops: more of them miss the coincidence as rarely as these."""
    return 2 * coincidence + 10 if n_sensors > _FEW_SENSORS else 4 * coincidence + 24


def at_least(pattern: Float[Array, "place sensor"], coincidence: int, most: int) -> Float[Array, "place n"]:
    """Probability that N photons hit `coincidence` sensors or more, for N = 0 to `most`.

    Gradient: exact in the pattern.
    """

    def power(powers, _):
        return powers * pattern, jnp.sum(powers, axis=-1)

    _, sums = jax.lax.scan(power, pattern, length=most)  # a loop: XLA would compute the pattern in each sum
    sums = jnp.pad(sums.T, ((0, 0), (1, 0)))  # [place, N]
    n = np.arange(most + 1)
    choose = np.array([[math.comb(a, b) for b in n] for a in n], np.float64)
    of_power = [
        sum((-1) ** (j - i) * math.comb(j, i) * float(i) ** n for i in range(1, j + 1))
        for j in range(1, coincidence)
    ]  # ways to put N photons on j sensors with none left out
    power_sums = [jnp.asarray(factor, sums.dtype) * sums for factor in of_power]

    def times(f, g):  # of exponential generating functions
        shifted = g[:, np.maximum(n[:, None] - n, 0)] * jnp.asarray(choose, g.dtype)  # choose is 0 above n
        return jnp.einsum("pk,pnk->pn", f, shifted, precision=jax.lax.Precision.HIGHEST)

    exactly = [jnp.zeros_like(sums).at[:, 0].set(1.0)]  # no sensor: no photon
    for k in range(1, coincidence):
        terms = [(-1.0) ** (j - 1) * times(exactly[k - j], power_sums[j - 1]) for j in range(1, k + 1)]
        exactly.append(jnp.sum(jnp.stack(terms), axis=0) / k)
    reached = jnp.clip(1 - sum(exactly), 0.0, 1.0)
    return jnp.where(n < coincidence, 0.0, reached)


def _phase(depth: Float[Array, "..."]) -> Float[Array, "..."]:
    """Coordinate of the table's equally spaced depths."""
    return jnp.arccos(1 - 2 * jnp.clip(depth, _LEAST_DEPTH, 1 - _LEAST_DEPTH)) / np.pi


def _table(detector: Detector) -> GridMap:
    """Probability, and what the last photon adds to it, over depth, (r / radius)^2 and photons."""
    geometry, light = detector.geometry, detector.light
    coincidence = detector.resolution.coincidence
    most = _most_photons(light.sensors.n_sensors, coincidence)
    dtype = light.g1_phd_per_photon.dtype
    # the pattern changes fastest near the two arrays
    depth, r2 = (1 - np.cos(np.pi * np.linspace(0, 1, _DEPTHS))) / 2, np.linspace(0, 1, _RADII)
    turn = 0.5 * (3 - math.sqrt(5))  # golden: no two radii share a direction
    angle = 2 * np.pi * (np.arange(_DIRECTIONS) / _DIRECTIONS + turn * np.arange(_RADII)[:, None])
    r = np.sqrt(r2)[:, None]
    shape = (_DEPTHS, _RADII, _DIRECTIONS)

    def place(values):
        return jnp.asarray(np.broadcast_to(values, shape).reshape(-1), dtype)

    x_mm, y_mm = (geometry.radius_mm * place(r * f(angle)) for f in (np.cos, np.sin))
    z_mm = -geometry.drift_length_mm * place(depth[:, None, None])
    pattern = light.s1_pattern(geometry, x_mm, y_mm, z_mm)
    reached = at_least(pattern, coincidence, most).reshape(*shape, most + 1).mean(axis=2)
    added = jnp.diff(reached, axis=-1, prepend=0.0)
    return GridMap(
        values=jnp.stack([reached, added], axis=-1),
        axes=("phase", "r2", "photons"),
        low=(0.0, 0.0, 0.0),
        high=(1.0, 1.0, float(most)),
    )


def s1_acceptance(
    detector: Detector, deposits: Deposits, quanta: Quanta, n_detected: Float[Array, "deposit"]
) -> Float[Array, "event"]:
    """Probability that an event's detected S1 photons hit as many sensors as the coincidence asks for.

    Several deposits count as one at the mean place of their photons. A sensor counts once a photon is
    detected on it, whatever its charge.

    Args:
        detector: of its parts the light and `resolution.coincidence`.
        deposits: sorted by event.
        quanta: of the same deposits.
        n_detected: S1 photons of each.

    Returns:
        The mean over events is the share of S1s that are found; multiply what is counted by it.

    Gradient: exact in pattern and place; finite jumps in the number of photons, unbiased.
    """

    def by_event(values):
        return jax.ops.segment_sum(
            values, deposits.event, num_segments=deposits.n_events, indices_are_sorted=True
        )

    geometry, held = detector.geometry, relax.stop(n_detected)
    total = by_event(held)
    share = held / jnp.maximum(total, 1.0)[deposits.event]
    depth = by_event(share * -deposits.z_mm) / geometry.drift_length_mm
    r2 = by_event(share * (deposits.x_mm**2 + deposits.y_mm**2)) / geometry.radius_mm**2
    reached, added = jnp.moveaxis(_table(detector)(_phase(depth), r2, total), -1, 0)
    expected = quanta.n_photons * detection_probability(detector, deposits)
    return reached + by_event(relax.removal(added[deposits.event], n_detected, expected))
