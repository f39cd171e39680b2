"""Kr-83m: two conversion decays at one place, 154.4 ns apart on the half-life."""

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from dmsim.detector import Detector
from dmsim.records import Deposits, Interaction
from dmsim.sources.placement import place, single_deposits

# energies: NEST, arXiv:2211.10726; the half-life between them is a leaf of the detector
_STEPS_KEV = (32.1, 9.4)
_BOTH_KEV = 41.5


def kr83m(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    n_events: int,
    merged: bool = False,
    first_event: int = 0,
    rate_hz: float = 100.0,
    r_max_mm: float | None = None,
    z_min_mm: float | None = None,
    z_max_mm: float | None = None,
) -> Deposits:
    """Decays of Kr-83m: 32.1 keV at the event's start, 9.4 keV after an exponential delay.

    Args:
        key: of the run.
        detector: whose volume is filled.
        n_events: events, >= 1.
        merged: one deposit of 41.5 keV in place of the two.
        first_event: number of the first event in the run, >= 0.
        rate_hz: events come 1/rate apart, > 0 to 1e9.
        r_max_mm: radial limit, at most the detector's radius.
        z_min_mm: lower limit, not below the cathode.
        z_max_mm: upper limit, not above the gate (0).

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in the geometry and the half-life.
    Source: NEST, arXiv:2211.10726.
    """
    limits = {"r_max_mm": r_max_mm, "z_min_mm": z_min_mm, "z_max_mm": z_max_mm}
    placed = place(key, detector, n_events=n_events, first_event=first_event, rate_hz=rate_hz, **limits)
    if merged:
        return single_deposits(placed, jnp.asarray(_BOTH_KEV), "kr83m")
    dtype = placed.x_mm.dtype
    half_life_ns = jnp.asarray(detector.quanta.kr83m.half_life_ns, dtype)
    delay_ns = -jnp.log2(placed.uniform()) * half_life_ns
    return Deposits(
        event=jnp.repeat(jnp.arange(n_events, dtype=jnp.int32), 2),
        interaction=jnp.full(2 * n_events, Interaction.KR83M.value, jnp.int32),
        energy_kev=jnp.tile(jnp.asarray(_STEPS_KEV, dtype), n_events),
        x_mm=jnp.repeat(placed.x_mm, 2),
        y_mm=jnp.repeat(placed.y_mm, 2),
        z_mm=jnp.repeat(placed.z_mm, 2),
        time_ns=jnp.stack([jnp.zeros_like(delay_ns), delay_ns], axis=1).ravel(),
        first_event=jnp.asarray(placed.first_event, jnp.int32),
        event_time_ns=placed.event_time_ns,
        n_events=n_events,
    )
