"""Number of detected photons, and the sensor that each lands on."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmsim import relax, rng
from dmsim.detector import Detector
from dmsim.records import Deposits, Quanta

_DETECTED = 0
_GRAINS = 2.0**22


def detection_probability(detector: Detector, deposits: Deposits) -> Float[Array, "deposit"]:
    """Probability that an S1 photon of each deposit is detected: g1 x relative light collection.

    Gradient: exact.
    """
    light = detector.light
    relative = light.s1_relative_yield(detector.geometry, deposits.x_mm, deposits.y_mm, deposits.z_mm)
    return jnp.clip(light.g1_phd_per_photon * relative, 0.0, 1.0)


def count_s1_photons(
    keys: rng.Words, detector: Detector, deposits: Deposits, quanta: Quanta
) -> Float[Array, "deposit"]:
    """Detected S1 photons of each deposit: Binomial(N_ph, g1 x relative light collection).

    Gradient: matched-normal.
    Source: NEST detector response, arXiv:2211.10726.
    """
    u, _ = rng.uniform_pair(keys, 0, _DETECTED, dtype=deposits.energy_kev.dtype)
    return relax.binomial(u, quanta.n_photons, detection_probability(detector, deposits))


def cumulative(pattern: Float[Array, "deposit sensor"]) -> Float[Array, "deposit sensor"]:
    """Running sums of a pattern over the sensors, the last exactly 1.

    Two small triangular matrix products: XLA's own scan over channels is ten times slower on CPUs. Shares
    are taken in grains of 2^-22, so that every sum is exact in float32 in whichever order it is taken: a
    sensor of share 0 adds nothing, and is never chosen.

    Gradient: none (it decides which sensor).
    """
    pattern = jnp.round(jax.lax.stop_gradient(pattern) * _GRAINS) / _GRAINS
    n = pattern.shape[-1]
    width = int(np.ceil(np.sqrt(n)))
    padded = jnp.pad(pattern, ((0, 0), (0, width * width - n))).reshape(-1, width, width)
    ones = jnp.asarray(np.triu(np.ones((width, width))), pattern.dtype)
    # accelerators would round the products' arguments
    within = jnp.matmul(padded, ones, precision=jax.lax.Precision.HIGHEST)
    earlier = jnp.asarray(np.triu(np.ones((width, width)), 1), pattern.dtype)
    before = jnp.matmul(within[..., -1], earlier, precision=jax.lax.Precision.HIGHEST)
    sums = (within + before[..., None]).reshape(-1, width * width)[:, :n]
    return sums / sums[:, -1:]


@jax.custom_jvp
def choose_sensor(
    u: Float[Array, "page slot"],
    parent: Int[Array, "page slot"],
    running: Float[Array, "deposit sensor"],
    pattern: Float[Array, "deposit sensor"],
) -> tuple[Int[Array, "page slot"], Float[Array, "page slot"]]:
    """Pick a sensor for each photon by inverting its deposit's running sums.

    Args:
        u: uniforms in (0, 1).
        parent: deposit of each photon.
        running: `cumulative(pattern)`.
        pattern: shares, for the gradient.

    Returns:
        Sensor, and a weight of 1.

    Gradient: weight (that of the log of the chosen sensor's share).
    """
    n = running.shape[-1]
    flat = running.reshape(-1)
    base = parent * n
    n_steps = (n - 1).bit_length()

    def halve(k, low):
        middle = low + (1 << (n_steps - 1 - k))
        below = (middle <= n - 1) & (flat[base + jnp.minimum(middle, n) - 1] <= u)
        return jnp.where(below, middle, low)

    # after the loop `low` counts the running sums that are <= u. A loop, so that XLA keeps the uniforms: in a
    # straight line it draws them again in every step
    low = jax.lax.fori_loop(0, n_steps, halve, jnp.zeros_like(parent))
    return low, jnp.ones_like(u)


@choose_sensor.defjvp
def _choose_sensor_jvp(primals, tangents) -> Any:
    _, parent, _, pattern = primals
    sensor, weight = choose_sensor(*primals)
    slope = tangents[3][parent, sensor] / pattern[parent, sensor]
    return (sensor, weight), (np.zeros(sensor.shape, jax.dtypes.float0), slope)
