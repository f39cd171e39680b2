"""Events without waveforms: the areas, positions and times that an analysis would see."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim import relax, rng
from dmsim.detector import Detector
from dmsim.light.coincidence import s1_acceptance
from dmsim.light.photoelectrons import area
from dmsim.records import Areas, Deposits, ElectronClouds, Quanta

_S1, _S2, _CENTRE, _PLACE = range(16, 20)  # counters of a deposit's draws, apart from those of detection


def _by_event(deposits: Deposits, values: Float[Array, "deposit"]) -> Float[Array, "event"]:
    return jax.ops.segment_sum(
        values, deposits.event, num_segments=deposits.n_events, indices_are_sorted=True
    )


def measure(
    keys: rng.Words,
    event_keys: rng.Words,
    detector: Detector,
    deposits: Deposits,
    quanta: Quanta,
    clouds: ElectronClouds,
    n_s1: Float[Array, "deposit"],
    n_s2: Float[Array, "deposit"],
    *,
    calibration: Detector,
) -> Areas:
    """Areas of each event from its deposits' detected photons.

    The deposits of an event are summed; place and time are S2-weighted means. Corrections are those of
    `calibration`, at the position as reconstructed.

    Args:
        keys: one key a deposit.
        event_keys: one key an event.
        detector: what makes the signals.
        deposits: sorted by event.
        quanta: of the same deposits.
        clouds: of the same deposits.
        n_s1: detected S1 photons.
        n_s2: detected S2 photons.
        calibration: what the analyst believes the detector to be.

    Gradient: pathwise, from the counts' matched normals; of the S1's acceptance, `s1_acceptance`.
    """
    dtype = n_s1.dtype
    u1, u2 = rng.uniform_pair(keys, 0, jnp.uint32(_S1), dtype=dtype)
    z1, z2 = rng.normal_pair(keys, 0, jnp.uint32(_S2), dtype=dtype)
    sensors = detector.light.sensors
    s1 = area(u1, z1, n_s1, detector.electronics, sensors)
    s2 = area(u2, z2, n_s2, detector.electronics, sensors)

    # the centre of a cloud of n electrons scatters as its spread over sqrt(n)
    z_centre, _ = rng.normal_pair(keys, 0, jnp.uint32(_CENTRE), dtype=dtype)
    jitter = clouds.time_spread_ns * relax.safe_sqrt(1 / jnp.maximum(clouds.n_electrons, 1)) * z_centre
    s1_pe, s2_pe = _by_event(deposits, s1), _by_event(deposits, s2)
    total = jnp.where(s2_pe > 0, s2_pe, 1.0)

    def mean(values):
        return _by_event(deposits, values * s2) / total

    z_x, z_y = rng.normal_pair(event_keys, 0, jnp.uint32(_PLACE), dtype=dtype)
    resolution = detector.resolution
    sigma = resolution.xy_mm_sqrt_pe * relax.safe_sqrt(1 / total) + resolution.xy_floor_mm
    x_mm, y_mm = mean(clouds.x_mm) + sigma * z_x, mean(clouds.y_mm) + sigma * z_y
    drift_time_ns = mean(clouds.time_ns - deposits.time_ns + jitter)

    geometry, electrons, light = calibration.geometry, calibration.electrons, calibration.light
    z_mm = jnp.minimum(electrons.z_mm(drift_time_ns), 0.0)
    seen = s2_pe > 0
    cs1 = s1_pe / light.s1_relative_yield(geometry, x_mm, y_mm, z_mm)
    cs2 = s2_pe / (light.s2_relative_yield(geometry, x_mm, y_mm) * electrons.survival(drift_time_ns))
    zero = jnp.zeros_like(s1_pe)
    return Areas(
        s1_pe=s1_pe,
        s2_pe=s2_pe,
        cs1_pe=jnp.where(seen, cs1, s1_pe),
        cs2_pe=jnp.where(seen, cs2, zero),
        drift_time_ns=jnp.where(seen, drift_time_ns, zero),
        x_mm=jnp.where(seen, x_mm, zero),
        y_mm=jnp.where(seen, y_mm, zero),
        z_mm=jnp.where(seen, z_mm, zero),
        s1_acceptance=s1_acceptance(detector, deposits, quanta, n_s1),
    )
