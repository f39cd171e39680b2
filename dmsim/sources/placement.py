"""Where and when the events of a source happen: uniform in the active volume, evenly spaced in time."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim import rng
from dmsim.detector import Detector
from dmsim.records import Deposits, Interaction

_SOURCES = -1  # branch of the user's key that is no event number, so that no stage shares these draws
_RADIUS, _HEIGHT, ENERGY = range(3)  # counters of the draws of an event

KR83M_KEV = (9.4, 32.1, 41.5)  # second step, first step, both; NEST, arXiv:2211.10726

MAX_EVENTS = 2**31 - 1  # event numbers are int32 inside compiled code


class Placed(NamedTuple):
    """Events with a place, ready for their energies."""

    keys: rng.Words  # one an event
    x_mm: Float[Array, "event"]
    y_mm: Float[Array, "event"]
    z_mm: Float[Array, "event"]
    first_event: int
    event_time_ns: np.ndarray

    def uniform(self) -> Float[Array, "event"]:
        """A uniform in (0, 1) an event, for its energy."""
        return rng.uniform_pair(self.keys, 0, ENERGY, dtype=self.x_mm.dtype)[0]


def place(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    n_events: int,
    first_event: int,
    rate_hz: float,
    r_max_mm: float | None,
    z_min_mm: float | None,
    z_max_mm: float | None,
) -> Placed:
    """Events uniform in the active cylinder, or in a smaller one inside it.

    An event's place depends on the key and on its number in the run alone.

    Args:
        key: of the run.
        detector: whose geometry bounds the volume.
        n_events: events of this batch, >= 1.
        first_event: number of the batch's first event in the run, >= 0.
        rate_hz: events come 1/rate apart on the detector's clock, from 1/rate on; > 0 to 1e9.
        r_max_mm: radial limit, > 0 to the detector's radius, which is also the default.
        z_min_mm: lower limit, from the cathode (default) upwards.
        z_max_mm: upper limit, up to the gate at 0 (default).

    Raises:
        ValueError: if a limit lies outside the active volume or a number outside its range.

    Gradient: pathwise in the geometry.
    """
    _check_whole("n_events", n_events, 1, MAX_EVENTS)
    _check_whole("first_event", first_event, 0, MAX_EVENTS - n_events)
    if not 0 < rate_hz <= 1e9:
        raise ValueError(f"rate_hz is {rate_hz} Hz: must be above 0 and at most 1e9 Hz")
    spacing_ns = round(1e9 / rate_hz)
    if (first_event + n_events) * spacing_ns >= 2**63:
        raise ValueError(
            f"rate_hz is {rate_hz} Hz: {first_event + n_events} events overflow the clock of 2^63 ns"
        )
    geometry = detector.geometry
    _check_limits(detector, r_max_mm, z_min_mm, z_max_mm)
    dtype = geometry.radius_mm.dtype
    radius = geometry.radius_mm if r_max_mm is None else jnp.asarray(r_max_mm, dtype)
    bottom = -geometry.drift_length_mm if z_min_mm is None else jnp.asarray(z_min_mm, dtype)
    top = jnp.zeros((), dtype) if z_max_mm is None else jnp.asarray(z_max_mm, dtype)

    keys = rng.fold(rng.words_of(key), _SOURCES, first_event + jnp.arange(n_events))
    area, turn = rng.uniform_pair(keys, 0, _RADIUS, dtype=dtype)
    depth, _ = rng.uniform_pair(keys, 0, _HEIGHT, dtype=dtype)
    r_mm, angle = radius * jnp.sqrt(area), 2 * math.pi * turn
    return Placed(
        keys=keys,
        x_mm=r_mm * jnp.cos(angle),
        y_mm=r_mm * jnp.sin(angle),
        z_mm=bottom + (top - bottom) * depth,
        first_event=first_event,
        # the run starts one interval before its first event: samples before an event have times above 0
        event_time_ns=(first_event + 1 + np.arange(n_events, dtype=np.int64)) * spacing_ns,
    )


def _check_whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}: must be a whole number from {low} to {high}")


def _check_limits(
    detector: Detector, r_max_mm: float | None, z_min_mm: float | None, z_max_mm: float | None
) -> None:
    radius, length = detector.geometry.radius_mm, detector.geometry.drift_length_mm
    if not (is_concrete(radius) and is_concrete(length)):
        return
    radius, length = float(radius), float(length)
    if r_max_mm is not None and not 0 < r_max_mm <= radius:
        raise ValueError(f"r_max_mm is {r_max_mm} mm: must be above 0 and at most {radius:g} mm")
    bottom = -length if z_min_mm is None else z_min_mm
    top = 0.0 if z_max_mm is None else z_max_mm
    if not -length <= bottom < top <= 0:
        raise ValueError(
            f"z_min_mm {bottom:g} mm, z_max_mm {top:g} mm: must satisfy {-length:g} <= z_min < z_max <= 0 mm"
        )


def is_concrete(x: Any) -> bool:
    """Whether x has a value now: it is not being traced by a jit or a gradient."""
    return not isinstance(x, Tracer)


def single_deposits(placed: Placed, energy_kev: Float[Array, "event"], interaction: str) -> Deposits:
    """One deposit an event, at the event's start.

    Raises:
        ValueError: for an unknown interaction, or an energy that it does not have.
    """
    n_events = placed.x_mm.shape[0]
    if Interaction.named(interaction) is Interaction.KR83M:
        check_kr83m_energy(energy_kev)
    return Deposits(
        event=jnp.arange(n_events, dtype=jnp.int32),
        interaction=jnp.full(n_events, Interaction.named(interaction).value, jnp.int32),
        energy_kev=jnp.broadcast_to(jnp.asarray(energy_kev, placed.x_mm.dtype), (n_events,)),
        x_mm=placed.x_mm,
        y_mm=placed.y_mm,
        z_mm=placed.z_mm,
        time_ns=jnp.zeros(n_events, placed.x_mm.dtype),
        first_event=jnp.asarray(placed.first_event, jnp.int32),
        event_time_ns=placed.event_time_ns,
        n_events=n_events,
    )


def check_energy(name: str, energy_kev: Any, *, low: float = 0.0, high: float = 1e5) -> None:
    """Refuse energies that are not numbers or outside the range; traced ones pass.

    Raises:
        ValueError: with the first bad value and how many there are.
    """
    if not is_concrete(energy_kev):
        return
    values = np.atleast_1d(np.asarray(energy_kev, float))
    bad = ~((values >= low) & (values <= high))  # NaN is bad
    if bad.any():
        first = values[bad][0]
        count = f" ({bad.sum()} of {bad.size} values)" if bad.size > 1 else ""
        raise ValueError(f"{name} is {first} keV{count}: must be from {low:g} to {high:g} keV")


def check_kr83m_energy(energy_kev: Any) -> None:
    """Refuse energies that are none of Kr-83m's; traced ones pass.

    Raises:
        ValueError: with the first bad value and how many there are.
    """
    if not is_concrete(energy_kev):
        return
    values = np.atleast_1d(np.asarray(energy_kev, float))
    bad = ~np.any(np.abs(values[:, None] / np.asarray(KR83M_KEV) - 1) <= 1e-2, axis=-1)
    if bad.any():
        count = f" ({bad.sum()} of {bad.size} values)" if bad.size > 1 else ""
        raise ValueError(
            f"energy_kev is {values[bad][0]:g} keV{count}: for kr83m must be 9.4, 32.1 or 41.5 keV within 1 %"
        )
