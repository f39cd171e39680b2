"""Where and when the events of a source happen: uniform in the active volume, at a rate.

Every source takes the options of `place` and hands them on; `Where` is their type.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Required, TypedDict

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim import rng
from dmsim.detector import Detector
from dmsim.records import Deposits, Interaction
from dmsim.sources.clock import event_times_ns

_SOURCES = -1  # branch of the user's key that is no event number, so that no stage shares these draws
_RADIUS, _HEIGHT, _ENERGY, _STEP, _TURN = range(5)  # counters of the draws of an event

KR83M_KEV = (9.4, 32.1, 41.5)  # second step, first step, both; NEST, arXiv:2211.10726

MAX_EVENTS = 2**31 - 1  # event numbers are int32 inside compiled code


class Where(TypedDict, total=False):
    """What every source takes: how many events, at which rate, in which part of the active volume."""

    n_events: Required[int]
    first_event: int
    rate_hz: float
    timing: str
    r_max_mm: float | None
    z_min_mm: float | None
    z_max_mm: float | None


class Placed(NamedTuple):
    """Events with a place, ready for their energies."""

    keys: rng.Words  # one an event
    x_mm: Float[Array, "event"]
    y_mm: Float[Array, "event"]
    z_mm: Float[Array, "event"]
    first_event: int
    event_time_ns: np.ndarray

    def uniform(self, number: int = 0) -> Float[Array, "event"]:
        """A uniform in (0, 1) an event; another for each number."""
        return rng.uniform_pair(self.keys, number, _ENERGY, dtype=self.x_mm.dtype)[0]

    def uniforms(self, n: int) -> Float[Array, "event site"]:
        """The first n of these uniforms."""
        return jnp.stack([self.uniform(number) for number in range(n)], axis=1)

    def flight(self, number: int) -> Float[Array, "event 3"]:
        """An isotropic direction times an exponential length of mean 1; another for each number."""
        dtype = self.x_mm.dtype
        length, turn = rng.uniform_pair(self.keys, number, _STEP, dtype=dtype)
        height, _ = rng.uniform_pair(self.keys, number, _TURN, dtype=dtype)
        cosine = 2 * height - 1
        sine, angle = jnp.sqrt(1 - cosine**2), 2 * math.pi * turn
        direction = jnp.stack([sine * jnp.cos(angle), sine * jnp.sin(angle), cosine], axis=1)
        return -jnp.log(length)[:, None] * direction


def place(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    n_events: int,
    first_event: int = 0,
    rate_hz: float = 100.0,
    timing: str = "even",
    r_max_mm: float | None = None,
    z_min_mm: float | None = None,
    z_max_mm: float | None = None,
) -> Placed:
    """Events uniform in the active cylinder, or in a smaller one inside it.

    An event's place and time depend on the key and on its number in the run alone.

    Args:
        key: of the run.
        detector: whose geometry bounds the volume.
        n_events: events of this batch, >= 1.
        first_event: number of the batch's first event in the run, >= 0.
        rate_hz: of events on the detector's clock, > 0 to 1e9.
        timing: "even", 1/rate apart from 1/rate on; or "poisson", exponential gaps from 1 ms on.
        r_max_mm: radial limit, > 0 to the detector's radius, which is also the default.
        z_min_mm: lower limit, from the cathode (default) upwards.
        z_max_mm: upper limit, up to the gate at 0 (default).

    Raises:
        ValueError: if a limit lies outside the active volume or a number outside its range.

    Gradient: pathwise in the geometry.
    """
    _check_whole("n_events", n_events, 1, MAX_EVENTS)
    _check_whole("first_event", first_event, 0, MAX_EVENTS - n_events)
    times = event_times_ns(key, rate_hz=rate_hz, timing=timing, first_event=first_event, n_events=n_events)
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
        event_time_ns=times,
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
    if Interaction.named(interaction) is Interaction.KR83M:
        check_kr83m_energy(energy_kev)
    dtype = placed.x_mm.dtype
    energy = jnp.broadcast_to(jnp.asarray(energy_kev, dtype), placed.x_mm.shape)[:, None]
    return several_deposits(placed, energy, [interaction])


def several_deposits(
    placed: Placed,
    energy_kev: Float[Array, "event site"],
    interactions: Sequence[str],
    *,
    time_ns: Float[Array, "event site"] | None = None,
    away_mm: Float[Array, "event site 3"] | None = None,
) -> Deposits:
    """The same number of deposits in each event.

    Args:
        placed: the events.
        energy_kev: of each deposit, >= 0.
        interactions: one name a site.
        time_ns: from the event's start; 0 if not given.
        away_mm: displacement from the event's place, inside of the detector; none if not given.
    """
    dtype = placed.x_mm.dtype
    n_events, n_sites = energy_kev.shape
    kinds = [Interaction.named(name).value for name in interactions]
    places = jnp.stack([placed.x_mm, placed.y_mm, placed.z_mm], axis=1)[:, None, :]
    places = jnp.broadcast_to(places, (n_events, n_sites, 3)) if away_mm is None else places + away_mm
    x_mm, y_mm, z_mm = (places[:, :, axis].ravel() for axis in range(3))
    return Deposits(
        event=jnp.repeat(jnp.arange(n_events, dtype=jnp.int32), n_sites),
        interaction=jnp.tile(jnp.asarray(kinds, jnp.int32), n_events),
        energy_kev=energy_kev.astype(dtype).ravel(),
        x_mm=x_mm,
        y_mm=y_mm,
        z_mm=z_mm,
        time_ns=jnp.zeros(n_events * n_sites, dtype) if time_ns is None else time_ns.astype(dtype).ravel(),
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
