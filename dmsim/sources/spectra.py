"""Sources with one deposit an event: a line, flat spectra, tritiated methane, a table of the user's."""

from typing import Any, Unpack

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim.detector import Detector
from dmsim.records import Deposits
from dmsim.sources import beta, table
from dmsim.sources.placement import Where, check_energy, place, single_deposits

# Q value: Nagy et al., Europhys. Lett. 74 (2006) 404; allowed shape as in LUX's calibration, arXiv:1512.03133
TRITIUM = beta.Branch(endpoint_kev=18.591, daughter_charge=2)


def mono(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    energy_kev: float | Float[Array, "event"],
    interaction: str,
    **where: Unpack[Where],
) -> Deposits:
    """Deposits of a given energy, one an event.

    Args:
        key: of the run.
        detector: whose volume is filled.
        energy_kev: 0 to 1e5, one for all events or one an event.
        interaction: name of an `Interaction`, such as er_beta, nr or alpha.
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in geometry and energy.
    """
    check_energy("energy_kev", energy_kev)
    placed = place(key, detector, **where)
    shape, n_events = jnp.shape(energy_kev), len(placed.x_mm)
    if shape not in ((), (n_events,)):
        raise ValueError(f"energy_kev has shape {shape}: must be one number or have shape ({n_events},)")
    return single_deposits(placed, jnp.asarray(energy_kev, placed.x_mm.dtype), interaction)


def _flat(
    key: PRNGKeyArray, detector: Detector, low: float, high: float, interaction: str, where: Where
) -> Deposits:
    check_energy("energy_min_kev", low)
    check_energy("energy_max_kev", high)
    if not low < high:
        raise ValueError(f"energy_min_kev {low} keV, energy_max_kev {high} keV: must satisfy min < max")
    placed = place(key, detector, **where)
    return single_deposits(placed, low + (high - low) * placed.uniform(), interaction)


def er_flat(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    energy_min_kev: float = 0.0,
    energy_max_kev: float = 20.0,
    interaction: str = "er_beta",
    **where: Unpack[Where],
) -> Deposits:
    """Electron recoils, uniform in energy.

    Args:
        key: of the run.
        detector: whose volume is filled.
        energy_min_kev: lower end, 0 to 1e5.
        energy_max_kev: upper end, above the lower, to 1e5.
        interaction: as in `mono`.
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in geometry and in the ends of the spectrum.
    """
    return _flat(key, detector, energy_min_kev, energy_max_kev, interaction, where)


def nr_flat(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    energy_min_kev: float = 0.0,
    energy_max_kev: float = 60.0,
    **where: Unpack[Where],
) -> Deposits:
    """Nuclear recoils, uniform in energy. Arguments, errors and gradient as in `er_flat`."""
    return _flat(key, detector, energy_min_kev, energy_max_kev, "nr", where)


def ch3t(key: PRNGKeyArray, detector: Detector, **where: Unpack[Where]) -> Deposits:
    """Beta decays of tritium in tritiated methane.

    Args:
        key: of the run.
        detector: whose volume is filled.
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in the geometry; none in the spectrum.
    Source: Nagy et al., Europhys. Lett. 74 (2006) 404; LUX, arXiv:1512.03133.
    """
    placed = place(key, detector, **where)
    return single_deposits(placed, beta.energy_kev(placed.uniform(), [TRITIUM]), "er_beta")


def spectrum(
    key: PRNGKeyArray,
    detector: Detector,
    energies_kev: Any,
    rates: Any,
    *,
    interaction: str,
    **where: Unpack[Where],
) -> Deposits:
    """Deposits with the spectrum of a table, linear between its nodes.

    Args:
        key: of the run.
        detector: whose volume is filled.
        energies_kev: nodes, ascending, 0 to 1e5; at least two.
        rates: events a keV at the nodes, in any unit, >= 0, not all 0.
        interaction: as in `mono`.
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: implicit in rates and nodes; pathwise in the geometry.
    """
    placed = place(key, detector, **where)
    energies, densities = table.checked(energies_kev, rates, placed.x_mm.dtype)
    return single_deposits(placed, table.draw(placed.uniform(), energies, densities), interaction)
