"""Events with several deposits: a particle that scatters on its way through the liquid."""

from typing import Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dmsim.detector import Detector
from dmsim.records import Deposits
from dmsim.sources.placement import Placed, Where, check_energy, is_concrete, place, several_deposits

MAX_SITES = 100
# a photon of 1 MeV: NIST SRD 126, 0.0578 cm2/g at 2.86 g/cm3
GAMMA_PATH_MM = 60.0
# assumed: a neutron of 1 to 3 MeV, whose elastic cross section on xenon is about 6 b in ENDF/B-VIII.0
NEUTRON_PATH_MM = 130.0


def multiple_scatter(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    energy_kev: float = 100.0,
    interaction: str = "er_gamma",
    n_sites: int = 2,
    mean_free_path_mm: float | None = None,
    **where: Unpack[Where],
) -> Deposits:
    """Several deposits an event, at exponential distances in isotropic directions.

    The energy is shared at random, every division as likely as any other. A particle that leaves the active
    volume is gone: what it would have deposited later has no energy. Its time of flight, under 20 ns, is
    neglected.

    Args:
        key: of the run.
        detector: whose volume is filled.
        energy_kev: of all sites together, 0 to 1e5.
        interaction: as in `mono`.
        n_sites: scatters, 1 to 100.
        mean_free_path_mm: between them, > 0; 130 mm (a fast neutron) for nr, else 60 mm (a photon of 1 MeV),
            if not given.
        **where: events, rate and volume of the first site, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in energy, mean free path and geometry; none through whether a site is outside.
    Source: NIST SRD 126 (photon); the neutron's path is assumed.
    """
    check_energy("energy_kev", energy_kev)
    if mean_free_path_mm is None:
        mean_free_path_mm = NEUTRON_PATH_MM if interaction == "nr" else GAMMA_PATH_MM
    placed = place(key, detector, **where)
    away, inside = sites(placed, detector, n_sites, mean_free_path_mm)
    shares = -jnp.log(placed.uniforms(n_sites))
    shares = shares / jnp.sum(shares, axis=1, keepdims=True)
    return several_deposits(placed, energy_kev * shares * inside, [interaction] * n_sites, away_mm=away)


def sites(
    placed: Placed, detector: Detector, n_sites: int, mean_free_path_mm: float | Float[Array, "event"]
) -> tuple[Float[Array, "event site 3"], Bool[Array, "event site"]]:
    """Displacements of scatters from the first one, and whether the particle is still in the active volume.

    Displacements outside of it are given as 0.

    Raises:
        ValueError: for a number of sites or a path outside its range.

    Gradient: pathwise in path and geometry; none through whether a site is outside.
    """
    if isinstance(n_sites, bool) or not isinstance(n_sites, int) or not 1 <= n_sites <= MAX_SITES:
        raise ValueError(f"n_sites is {n_sites!r}: must be a whole number from 1 to {MAX_SITES}")
    if is_concrete(mean_free_path_mm) and not np.all(np.asarray(mean_free_path_mm) > 0):
        raise ValueError(f"mean_free_path_mm is {mean_free_path_mm} mm: must be above 0 mm")
    dtype, geometry = placed.x_mm.dtype, detector.geometry
    path = jnp.broadcast_to(jnp.asarray(mean_free_path_mm, dtype), placed.x_mm.shape)[:, None]
    flights = [path * placed.flight(number) for number in range(n_sites - 1)]
    away = jnp.cumsum(jnp.stack([jnp.zeros((len(path), 3), dtype), *flights], axis=1), axis=1)
    x, y, z = (start[:, None] + away[:, :, i] for i, start in enumerate(placed[1:4]))
    within = (x**2 + y**2 <= geometry.radius_mm**2) & (z <= 0) & (z >= -geometry.drift_length_mm)
    inside = jnp.cumprod(within.at[:, 0].set(True), axis=1) > 0
    return jnp.where(inside[:, :, None], away, 0.0), inside
