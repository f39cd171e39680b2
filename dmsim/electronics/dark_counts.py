"""Dark counts of the photosensors."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmsim import ragged, relax, rng
from dmsim.detector import Detector
from dmsim.records import Deposits, Hits, Signal

_COUNT, _DRAW, _CHARGE = (np.uint32(0x43000000 + k) for k in range(3))


def _window_ns(detector: Detector, deposits: Deposits) -> tuple[Float[Array, "event"], Float[Array, "event"]]:
    """Start and length of the window of each event; none where no energy was deposited. Gradient: exact.

    That keeps events that are only there to fill a batch empty.
    """
    dark = detector.dark_counts
    assert dark is not None

    def largest(values):
        return jax.ops.segment_max(values, deposits.event, num_segments=deposits.n_events)

    seen = largest((deposits.energy_kev > 0).astype(jnp.int32)) > 0
    last_ns = jnp.where(seen, largest(deposits.time_ns), 0.0)
    length_ns = jnp.where(seen, dark.before_ns + last_ns + dark.after_ns, 0.0)
    return jnp.broadcast_to(-dark.before_ns, length_ns.shape), length_ns


def _rates_per_ns(detector: Detector) -> Float[Array, "sensor"]:
    assert detector.dark_counts is not None
    alive = relax.stop(detector.light.sensors.efficiency) > 0
    return jnp.where(alive, detector.dark_counts.rate_hz * 1e-9, 0.0)


def count_dark_counts(keys: rng.Words, detector: Detector, deposits: Deposits) -> Int[Array, "event"]:
    """Dark counts of each event, all sensors.

    Args:
        keys: one key an event.
        detector: of its parts the dark counts, and which sensors are alive.
        deposits: of the batch.

    Gradient: none; it is in the weight of each count.
    """
    _, length_ns = _window_ns(detector, deposits)
    mean = relax.stop(jnp.sum(_rates_per_ns(detector)) * length_ns)
    u, _ = rng.uniform_pair(keys, 0, _COUNT, dtype=mean.dtype)
    return relax.stop(relax.poisson(u, mean)).astype(jnp.int32)


def sample_dark_counts(
    keys: rng.Words, detector: Detector, deposits: Deposits, counts: Int[Array, "event"], *, n_rows: int
) -> Hits:
    """Sensor, time and charge of each dark count: single photoelectrons, uniform in the window.

    Args:
        keys: as for `count_dark_counts`.
        detector: as for `count_dark_counts`; the spread of a photoelectron's charge.
        deposits: of the batch.
        counts: as from `count_dark_counts`.
        n_rows: hits to make, `counts.sum()` or more.

    Gradient: weight in rate and window, pathwise in time and charge.
    """
    start_ns, length_ns = _window_ns(detector, deposits)
    pages = ragged.paginate(counts, page_size=1, n_pages=n_rows)
    event, number, valid = pages.parent, pages.child[:, 0], pages.valid[:, 0]
    key = rng.Words(keys.first[event], keys.second[event])
    dtype = length_ns.dtype
    u_sensor, u_time = rng.uniform_pair(key, number, _DRAW, dtype=dtype)
    z_charge, _ = rng.normal_pair(key, number, _CHARGE, dtype=dtype)
    rates = _rates_per_ns(detector)
    running = jnp.cumsum(relax.stop(rates))
    sensor = jnp.searchsorted(running, u_sensor * running[-1], side="right").astype(jnp.int32)
    sensor = jnp.minimum(sensor, rates.shape[0] - 1)
    weight = relax.weight(rates)[sensor] * relax.weight(length_ns)[event]
    if detector.light.sensors.spe_quantiles is None:
        charge = jnp.maximum(1 + detector.electronics.spe_width * z_charge, 0.0)
    else:
        charge = detector.light.sensors.spe_charge(sensor, z_charge)
    return Hits(
        event=event,
        sensor=sensor,
        time_ns=start_ns[event] + length_ns[event] * u_time,
        charge_pe=charge * valid,
        weight=weight * valid,
        signal=jnp.full(n_rows, Signal.DARK.value, jnp.int32),
        deposit=jnp.full(n_rows, -1, jnp.int32),
        valid=valid,
        n_overflow=pages.n_overflow,
        n_events=deposits.n_events,
    )
