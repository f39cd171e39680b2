"""Recoil spectra of xenon nuclei: WIMPs in the standard halo and neutrinos of the Sun.

Xenon is taken as one isotope of its mean mass, as by wimprates. Rates are events / (t y keV).
Sources: halo: Baxter et al., arXiv:2105.00599; rate and form factor: Lewin & Smith, Astropart. Phys. 6 (1996)
87; coherent scattering: Freedman, Phys. Rev. D 9 (1974) 1389.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from jaxtyping import Array, Float

MASS_NUMBER = 131.293  # IUPAC 2021
_CHARGE = 54
_GEV_PER_U = 0.93149410  # CODATA 2018
_NUCLEUS_GEV = MASS_NUMBER * _GEV_PER_U
_HBARC_GEV_FM = 0.1973269804  # CODATA 2018
_C_KM_PER_S = 299792.458
_KG_PER_U = 1.66053907e-27  # CODATA 2018
_YEAR_S = 365.25 * 86400
_NUCLEI_PER_T = 1e3 / (MASS_NUMBER * _KG_PER_U)

# standard halo of arXiv:2105.00599: the Earth's velocity is that of the Sun's orbit, its own motion, and the
# Earth's on 9 March, when its speed is the year's mean
_HALO_GEV_PER_CM3 = 0.3
ORBIT_KM_PER_S, ESCAPE_KM_PER_S = 238.0, 544.0
_PECULIAR_KM_PER_S = (11.1 + 29.2, 12.2 - 0.1, 7.3 + 5.9)

_FERMI_PER_GEV2 = 1.1663788e-5  # CODATA 2018
_WEAK_ANGLE = 0.23857  # sin^2 at low momentum transfer, PDG 2022
_B8_PER_CM2_S = 5.46e6  # B16-GS98, Vinyoles et al., arXiv:1611.09867, as in arXiv:2105.00599
# neutrinos a MeV every 0.5 MeV from 0 on: Bahcall et al., Phys. Rev. C 54 (1996) 411
_B8_STEP_MEV = 0.5
_B8_PER_MEV = (
    0.0, 0.0037755, 0.0130196, 0.0258395, 0.040733, 0.0565085, 0.0722061, 0.0870375, 0.1003738, 0.1117425,
    0.1207926, 0.1272871, 0.1310845, 0.1321553, 0.1305552, 0.1264235, 0.1199684, 0.1114684, 0.1012606,
    0.0897307, 0.0773085, 0.06446, 0.0516698, 0.0394346, 0.0282403, 0.0185439, 0.0107406, 0.0051379,
    0.0018433, 0.000478, 0.0000963, 0.0000135, 0.0000009,
)  # fmt: skip


def helm_squared(energy_kev: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square of Helm's form factor, with Lewin and Smith's radii. Gradient: exact."""
    radius_fm = math.sqrt(
        (1.23 * MASS_NUMBER ** (1 / 3) - 0.60) ** 2 + 7 / 3 * (math.pi * 0.52) ** 2 - 5 * 0.9**2
    )
    momentum = jnp.sqrt(2 * _NUCLEUS_GEV * 1e-6 * jnp.maximum(energy_kev, 1e-6)) / _HBARC_GEV_FM  # 1/fm
    x = momentum * radius_fm
    # the series where the terms of the closed form cancel in single precision
    small = x < 0.1
    safe = jnp.where(small, 1.0, x)
    bessel = jnp.where(small, 1 - x**2 / 10, 3 * (jnp.sin(safe) - safe * jnp.cos(safe)) / safe**3)
    return (bessel * jnp.exp(-((momentum * 0.9) ** 2) / 2)) ** 2


def earth_km_per_s(orbit_km_per_s: float = ORBIT_KM_PER_S) -> float:
    """The Earth's mean speed in the halo."""
    across, along, up = _PECULIAR_KM_PER_S
    return math.hypot(across, along + orbit_km_per_s, up)


def wimp_rate(
    energy_kev: Float[Array, "..."],
    mass_gev: Float[Array, ""] | float,
    cross_section_cm2: float,
    *,
    orbit_km_per_s: float = ORBIT_KM_PER_S,
    escape_km_per_s: float = ESCAPE_KM_PER_S,
) -> Float[Array, "..."]:
    """Spin-independent elastic scattering of WIMPs, events / (t y keV).

    Args:
        energy_kev: of the nucleus, >= 0.
        mass_gev: of the WIMP, > 0.
        cross_section_cm2: on a nucleon, > 0.
        orbit_km_per_s: speed of the local standard of rest, the most probable speed of the halo.
        escape_km_per_s: from the galaxy.

    Gradient: exact in energy and mass, but for the two speeds at which the halo is cut.
    """
    reduced = mass_gev * _NUCLEUS_GEV / (mass_gev + _NUCLEUS_GEV)
    reduced_nucleon = mass_gev * _GEV_PER_U / (mass_gev + _GEV_PER_U)
    slowest_km_per_s = (
        jnp.sqrt(jnp.maximum(energy_kev, 1e-9) * 1e-6 * _NUCLEUS_GEV / 2) / reduced * _C_KM_PER_S
    )
    slowest = slowest_km_per_s / orbit_km_per_s
    escape = escape_km_per_s / orbit_km_per_s
    earth = earth_km_per_s(orbit_km_per_s) / orbit_km_per_s
    high, low = jnp.minimum(slowest + earth, escape), jnp.minimum(slowest - earth, escape)
    cut = 2 / math.sqrt(math.pi) * math.exp(-(escape**2))
    norm = math.erf(escape) - cut * escape
    # mean of 1/v above the slowest speed that gives this energy, s/km
    inverse_speed = (erf(high) - erf(low) - cut * (high - low)) / (2 * norm * earth * orbit_km_per_s)
    # rho sigma A^2 F^2 / (2 m mu_n^2) times it. c^2 turns the masses below into GeV; 1e-11: keV and s/km
    c_cm_per_s = _C_KM_PER_S * 1e5
    per_t_year = c_cm_per_s**2 * 1e-11 * _GEV_PER_U / _KG_PER_U * (1e3 * _YEAR_S) * cross_section_cm2
    density = _HALO_GEV_PER_CM3 * MASS_NUMBER**2 / (2 * mass_gev * reduced_nucleon**2)
    return jnp.maximum(per_t_year * density * inverse_speed, 0.0) * helm_squared(energy_kev)


@functools.cache
def b8_rate() -> tuple[np.ndarray, np.ndarray]:
    """Energies [keV] and rates [events / (t y keV)] of coherent scattering of the Sun's B-8 neutrinos."""
    from scipy.interpolate import PchipInterpolator  # noqa: PLC0415 - used by few

    nodes_mev = _B8_STEP_MEV * np.arange(len(_B8_PER_MEV))
    neutrino_mev = np.linspace(0.01, nodes_mev[-1], 4000)
    flux = _B8_PER_CM2_S * PchipInterpolator(nodes_mev, _B8_PER_MEV)(neutrino_mev)
    nucleus_mev = _NUCLEUS_GEV * 1e3
    most_kev = 2 * nodes_mev[-1] ** 2 / nucleus_mev * 1e3
    energy_kev = most_kev * np.linspace(0, 1, 401) ** 2  # finer where the spectrum is steep
    weak_charge = (MASS_NUMBER - _CHARGE) - (1 - 4 * _WEAK_ANGLE) * _CHARGE
    # dsigma/dE = G^2 M Q^2 / (4 pi) (1 - M E / (2 E_nu^2)) F^2, in 1/GeV^3, then cm^2/keV
    shape = 1 - nucleus_mev * energy_kev[:, None] * 1e-3 / (2 * neutrino_mev**2)
    folded = np.trapezoid(flux * np.maximum(shape, 0.0), neutrino_mev, axis=1)
    per_gev3 = (_FERMI_PER_GEV2 * weak_charge) ** 2 * _NUCLEUS_GEV / (4 * math.pi)
    cm2_per_kev = per_gev3 * (_HBARC_GEV_FM * 1e-13) ** 2 * 1e-6
    with jax.ensure_compile_time_eval():
        form = np.asarray(helm_squared(jnp.asarray(energy_kev)), np.float64)
    return energy_kev, folded * cm2_per_kev * form * _NUCLEI_PER_T * _YEAR_S
