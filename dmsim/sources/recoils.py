"""Nuclear recoils: WIMPs, the Sun's B-8 neutrinos, an AmBe neutron source."""

import functools
from typing import Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dmsim.detector import Detector
from dmsim.records import Deposits
from dmsim.sources import nuclear, table
from dmsim.sources.placement import Where, is_concrete, place, several_deposits, single_deposits
from dmsim.sources.scatters import NEUTRON_PATH_MM, sites

_NODES = 801
_WIMP_MAX_KEV = 500.0  # where the form factor has cut the rate of any mass by 1e9
# log10 of the recoil rate as a polynomial in log10(E / keV), constant first: NEST's TestSpectra, v2.4
_AMBE_LOG10 = (3.7488, -0.77942, 1.30300, -2.75280, 1.57310, -0.30072)
_AMBE_MAX_KEV = 200.0


def wimp(
    key: PRNGKeyArray, detector: Detector, *, mass_gev: float = 50.0, **where: Unpack[Where]
) -> Deposits:
    """Spin-independent elastic scatters of WIMPs of the standard halo.

    `dmsim.sources.nuclear.wimp_rate` gives how many there are for a cross section.

    Args:
        key: of the run.
        detector: whose volume is filled.
        mass_gev: 1 to 1e5.
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: implicit in the mass; pathwise in the geometry.
    Source: Baxter et al., arXiv:2105.00599.
    """
    if is_concrete(mass_gev) and not 1 <= float(mass_gev) <= 1e5:
        raise ValueError(f"mass_gev is {mass_gev} GeV: must be from 1 to 1e5 GeV")
    placed = place(key, detector, **where)
    # finer towards 0, as the spectra of light WIMPs are narrow
    energies = jnp.asarray(_WIMP_MAX_KEV * np.linspace(0, 1, _NODES) ** 4, placed.x_mm.dtype)
    rates = nuclear.wimp_rate(energies, mass_gev, 1e-45)
    return single_deposits(placed, table.draw(placed.uniform(), energies, rates), "nr")


def b8(key: PRNGKeyArray, detector: Detector, **where: Unpack[Where]) -> Deposits:
    """Coherent scatters of the Sun's B-8 neutrinos.

    Args:
        key: of the run.
        detector: whose volume is filled.
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in the geometry; none in the spectrum.
    Source: Bahcall et al., Phys. Rev. C 54 (1996) 411; Freedman, Phys. Rev. D 9 (1974) 1389.
    """
    placed = place(key, detector, **where)
    energies, rates = (jnp.asarray(column, placed.x_mm.dtype) for column in nuclear.b8_rate())
    return single_deposits(placed, table.draw(placed.uniform(), energies, rates), "nr")


@functools.cache
def ambe_rate() -> tuple[np.ndarray, np.ndarray]:
    """Energies [keV] and rates, up to a factor, of single scatters of an AmBe source's neutrons.

    Source: NEST v2.4, TestSpectra: a fit from 1 to 200 keV. Below 1 keV the spectrum is taken as flat, as the
    envelope of NEST's sampler cuts it.
    """
    energy_kev = np.concatenate([[0.0], np.geomspace(1.0, _AMBE_MAX_KEV, _NODES)])
    return energy_kev, 10 ** np.polynomial.Polynomial(_AMBE_LOG10)(np.log10(np.maximum(energy_kev, 1.0)))


def ambe(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    max_scatters: int = 1,
    mean_free_path_mm: float = NEUTRON_PATH_MM,
    **where: Unpack[Where],
) -> Deposits:
    """Elastic scatters of an AmBe source's neutrons.

    Args:
        key: of the run.
        detector: whose volume is filled.
        max_scatters: deposits an event, 1 to 100. A neutron scatters on, with the same spectrum each time,
            until it leaves the active volume; deposits after that have no energy.
        mean_free_path_mm: between scatters, > 0.
        **where: events, rate and volume of the first scatter, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in path and geometry; none in the spectrum.
    Source: NEST v2.4, TestSpectra (arXiv:2211.10726); the neutron's path is assumed.
    """
    placed = place(key, detector, **where)
    away, inside = sites(placed, detector, max_scatters, mean_free_path_mm)
    energies, rates = (jnp.asarray(column, placed.x_mm.dtype) for column in ambe_rate())
    drawn = table.draw(placed.uniforms(max_scatters), energies, rates)
    return several_deposits(placed, drawn * inside, ["nr"] * max_scatters, away_mm=away)
