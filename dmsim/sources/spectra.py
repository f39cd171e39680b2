"""Sources with one deposit an event: a line, flat spectra, tritiated methane."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim.detector import Detector
from dmsim.records import Deposits
from dmsim.sources import tritium
from dmsim.sources.placement import check_energy, place, single_deposits


def mono(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    n_events: int,
    energy_kev: float | Float[Array, "event"],
    interaction: str,
    first_event: int = 0,
    rate_hz: float = 100.0,
    r_max_mm: float | None = None,
    z_min_mm: float | None = None,
    z_max_mm: float | None = None,
) -> Deposits:
    """Deposits of a given energy, one an event.

    Args:
        key: of the run.
        detector: whose volume is filled.
        n_events: events, >= 1.
        energy_kev: 0 to 1e5, one for all events or one an event.
        interaction: er_beta, er_gamma, er_weighted, nr, kr83m or alpha.
        first_event: number of the first event in the run, >= 0.
        rate_hz: events come 1/rate apart, > 0 to 1e9.
        r_max_mm: radial limit, at most the detector's radius.
        z_min_mm: lower limit, not below the cathode.
        z_max_mm: upper limit, not above the gate (0).

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in geometry and energy.
    """
    check_energy("energy_kev", energy_kev)
    shape = jnp.shape(energy_kev)
    if shape not in ((), (n_events,)):
        raise ValueError(f"energy_kev has shape {shape}: must be one number or have shape ({n_events},)")
    limits = {"r_max_mm": r_max_mm, "z_min_mm": z_min_mm, "z_max_mm": z_max_mm}
    placed = place(key, detector, n_events=n_events, first_event=first_event, rate_hz=rate_hz, **limits)
    return single_deposits(placed, jnp.asarray(energy_kev, placed.x_mm.dtype), interaction)


def _flat(
    key: PRNGKeyArray, detector: Detector, low: float, high: float, interaction: str, **place_options: Any
):
    check_energy("energy_min_kev", low)
    check_energy("energy_max_kev", high)
    if not low < high:
        raise ValueError(f"energy_min_kev {low} keV, energy_max_kev {high} keV: must satisfy min < max")
    placed = place(key, detector, **place_options)
    return single_deposits(placed, low + (high - low) * placed.uniform(), interaction)


def er_flat(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    n_events: int,
    energy_min_kev: float = 0.0,
    energy_max_kev: float = 20.0,
    interaction: str = "er_beta",
    first_event: int = 0,
    rate_hz: float = 100.0,
    r_max_mm: float | None = None,
    z_min_mm: float | None = None,
    z_max_mm: float | None = None,
) -> Deposits:
    """Electron recoils, uniform in energy.

    Args:
        key: of the run.
        detector: whose volume is filled.
        n_events: events, >= 1.
        energy_min_kev: lower end, 0 to 1e5.
        energy_max_kev: upper end, above the lower, to 1e5.
        interaction: as in `mono`.
        first_event: as in `mono`.
        rate_hz: as in `mono`.
        r_max_mm: as in `mono`.
        z_min_mm: as in `mono`.
        z_max_mm: as in `mono`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in geometry and in the ends of the spectrum.
    """
    limits = {"r_max_mm": r_max_mm, "z_min_mm": z_min_mm, "z_max_mm": z_max_mm}
    options = {"n_events": n_events, "first_event": first_event, "rate_hz": rate_hz, **limits}
    return _flat(key, detector, energy_min_kev, energy_max_kev, interaction, **options)


def nr_flat(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    n_events: int,
    energy_min_kev: float = 0.0,
    energy_max_kev: float = 60.0,
    first_event: int = 0,
    rate_hz: float = 100.0,
    r_max_mm: float | None = None,
    z_min_mm: float | None = None,
    z_max_mm: float | None = None,
) -> Deposits:
    """Nuclear recoils, uniform in energy. Arguments, errors and gradient as in `er_flat`."""
    limits = {"r_max_mm": r_max_mm, "z_min_mm": z_min_mm, "z_max_mm": z_max_mm}
    options = {"n_events": n_events, "first_event": first_event, "rate_hz": rate_hz, **limits}
    return _flat(key, detector, energy_min_kev, energy_max_kev, "nr", **options)


def ch3t(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    n_events: int,
    first_event: int = 0,
    rate_hz: float = 100.0,
    r_max_mm: float | None = None,
    z_min_mm: float | None = None,
    z_max_mm: float | None = None,
) -> Deposits:
    """Beta decays of tritium in tritiated methane.

    Args:
        key: of the run.
        detector: whose volume is filled.
        n_events: events, >= 1.
        first_event: as in `mono`.
        rate_hz: as in `mono`.
        r_max_mm: as in `mono`.
        z_min_mm: as in `mono`.
        z_max_mm: as in `mono`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in the geometry; none in the spectrum.
    Source: `dmsim.sources.tritium`.
    """
    limits = {"r_max_mm": r_max_mm, "z_min_mm": z_min_mm, "z_max_mm": z_max_mm}
    placed = place(key, detector, n_events=n_events, first_event=first_event, rate_hz=rate_hz, **limits)
    return single_deposits(placed, tritium.energy_kev(placed.uniform()), "er_beta")
