"""The isotopes of the Rn-222 and Rn-220 chains, and sources of one of them alone.

Sources: energies, shares and half-lives: ENSDF, as evaluated in Nuclear Data Sheets; half-lives of Pb-214,
Bi-214 and Po-214: DDEP, "Table of Radionuclides", BIPM 2010. Alphas count without their recoil nucleus, of
100 to 170 keV.
"""

from typing import NamedTuple, Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim.detector import Detector
from dmsim.records import Deposits
from dmsim.sources import beta
from dmsim.sources.placement import Where, place, several_deposits, single_deposits
from dmsim.sources.scatters import sites


class Alpha(NamedTuple):
    """One alpha branch of a decay."""

    energy_kev: float
    level_kev: float = 0.0  # that the daughter is left at
    share: float = 1.0  # of the decays


class Isotope(NamedTuple):
    """How an isotope decays. A daughter of None is stable for as long as a run lasts."""

    half_life_s: float
    alphas: tuple[Alpha, ...] = ()
    betas: tuple[beta.Branch, ...] = ()
    alpha_daughter: str | None = None
    beta_daughter: str | None = None

    @property
    def beta_share(self) -> float:
        """Of the decays."""
        shares = [sum(mode.share for mode in modes) for modes in (self.alphas, self.betas)]
        return shares[1] / sum(shares)


def _betas(charge: int, *rows: tuple[float, float, float]) -> tuple[beta.Branch, ...]:
    """Branches from endpoint [keV], level [keV] and share [%]."""
    return tuple(beta.Branch(endpoint, charge, level, share / 100) for endpoint, level, share in rows)


_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
# branches under 1 % are left out (7 % of Bi-214's decays together, at most 2 % of the others'); what is left
# is scaled to 1
ISOTOPES = {
    "Rn-222": Isotope(3.8222 * _DAY, (Alpha(5489.48),), alpha_daughter="Po-218"),
    "Po-218": Isotope(3.097 * _MINUTE, (Alpha(6002.55),), alpha_daughter="Pb-214"),
    "Pb-214": Isotope(
        26.8 * _MINUTE,
        betas=_betas(
            83,
            (666.07, 351.93, 44.5), (722.78, 295.22, 39.0), (1018.0, 0.0, 12.7), (179.01, 838.99, 2.75),
            (484.33, 533.67, 1.063),
        ),
        beta_daughter="Bi-214",
    ),
    "Bi-214": Isotope(
        19.9 * _MINUTE,
        betas=_betas(
            84,
            (3269.0, 0.0, 19.2), (1539.39, 1729.61, 17.55), (1504.48, 1764.52, 16.9),
            (1421.55, 1847.45, 8.16), (1891.32, 1377.68, 7.22), (1064.90, 2204.10, 5.56),
            (1150.47, 2118.54, 4.33), (1725.63, 1543.37, 3.09), (821.30, 2447.70, 2.78),
            (1251.69, 2017.32, 2.46), (1378.69, 1890.31, 1.589), (1258.17, 2010.83, 1.433),
            (786.54, 2482.46, 1.28), (1274.36, 1994.64, 1.192),
        ),
        beta_daughter="Po-214",
    ),
    "Po-214": Isotope(164.3e-6, (Alpha(7686.82),)),
    "Rn-220": Isotope(55.6, (Alpha(6288.08),), alpha_daughter="Po-216"),
    "Po-216": Isotope(0.144, (Alpha(6778.3),), alpha_daughter="Pb-212"),
    "Pb-212": Isotope(
        10.622 * _HOUR,
        betas=_betas(83, (330.47, 238.63, 81.5), (569.1, 0.0, 13.7), (153.83, 415.27, 5.01)),
        beta_daughter="Bi-212",
    ),
    "Bi-212": Isotope(
        60.55 * _MINUTE,
        (Alpha(6050.78, 39.86, 0.3594 * 0.6991), Alpha(6089.88, 0.0, 0.3594 * 0.2712)),
        _betas(
            84,
            (2251.5, 0.0, 55.37), (1524.17, 727.33, 4.47), (630.76, 1620.74, 1.86), (738.8, 1512.7, 1.44),
        ),
        alpha_daughter="Tl-208",
        beta_daughter="Po-212",
    ),
    "Po-212": Isotope(299e-9, (Alpha(8784.86),)),
    "Tl-208": Isotope(
        3.053 * _MINUTE,
        betas=_betas(
            82,
            (1801.28, 3197.72, 49.1), (1290.59, 3708.41, 24.2), (1523.91, 3475.09, 22.2),
            (1038.07, 3960.93, 3.18),
        ),
    ),
}  # fmt: skip

# xenon's attenuation coefficient above its K edge: NIST SRD 126 (Hubbell & Seltzer)
_ATTENUATION_KEV = (
    35.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0, 200.0, 300.0, 400.0, 500.0, 600.0, 800.0, 1000.0, 1250.0,
    1500.0, 2000.0, 3000.0, 4000.0,
)  # fmt: skip
_ATTENUATION_CM2_PER_G = (
    32.1, 22.7, 12.7, 7.82, 3.63, 2.01, 0.720, 0.376, 0.180, 0.122, 0.0970, 0.0828, 0.0670, 0.0579, 0.0505,
    0.0459, 0.0408, 0.0368, 0.0359,
)  # fmt: skip


def photon_path_mm(
    energy_kev: Float[Array | np.ndarray, "..."], density_g_per_cm3: Float[Array, ""] | float
) -> Float[Array, "..."]:
    """Mean free path of a photon in liquid xenon; of 35 keV for what has less.

    Gradient: exact in the density.
    """
    # by the logarithm, between nodes
    nodes = np.log(_ATTENUATION_KEV)
    logarithm = jnp.interp(
        jnp.log(jnp.maximum(energy_kev, _ATTENUATION_KEV[0])), nodes, np.log(_ATTENUATION_CM2_PER_G)
    )
    return 10.0 / (jnp.exp(logarithm) * density_g_per_cm3)


def alpha(
    key: PRNGKeyArray, detector: Detector, *, isotope: str = "Rn-222", **where: Unpack[Where]
) -> Deposits:
    """Alphas of an isotope of the radon chains.

    Args:
        key: of the run.
        detector: whose volume is filled.
        isotope: Rn-222 (5.49 MeV), Po-218 (6.00), Po-214 (7.69), Rn-220 (6.29), Po-216 (6.78), Bi-212 (6.05
            and 6.09) or Po-212 (8.78).
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in the geometry.
    Source: ENSDF.
    """
    emitters = [name for name, entry in ISOTOPES.items() if entry.alphas]
    if isotope not in emitters:
        raise ValueError(f"isotope {isotope!r} has no alpha here: choose one of {', '.join(emitters)}")
    placed = place(key, detector, **where)
    lines = ISOTOPES[isotope].alphas
    shares = np.cumsum([line.share for line in lines])
    inner = jnp.asarray(shares[:-1] / shares[-1], placed.x_mm.dtype)
    which = jnp.searchsorted(inner, placed.uniform(), side="right")
    energies = jnp.asarray([line.energy_kev for line in lines], placed.x_mm.dtype)
    return single_deposits(placed, energies[which], "alpha")


def rn220(
    key: PRNGKeyArray, detector: Detector, *, branches: str = "all", **where: Unpack[Where]
) -> Deposits:
    """Betas of Pb-212, the low-energy calibration that Rn-220 gives. The whole chain is `rn220_chain`.

    A decay to an excited level comes with one photon of the level's energy, absorbed where it first
    interacts; one that leaves the active volume deposits nothing. assumed: cascades and conversion electrons
    are neglected, which moves energy by centimetres. Below 30 keV, where only the ground state's betas stand
    alone, their spectrum is flat within 2 %.

    Args:
        key: of the run.
        detector: whose volume is filled.
        branches: "all", two deposits an event (the second without energy if there is no photon); or "ground",
            the decays to the ground state alone, one deposit an event.
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in the geometry and, for the photon, the density; none in the spectrum.
    Source: ENSDF; use as a calibration: XENON, arXiv:1611.03585.
    """
    betas = ISOTOPES["Pb-212"].betas
    if branches not in ("all", "ground"):
        raise ValueError(f"branches is {branches!r}: must be all or ground")
    placed = place(key, detector, **where)
    if branches == "ground":
        ground = [branch for branch in betas if branch.level_kev == 0]
        return single_deposits(placed, beta.energy_kev(placed.uniform(), ground), "er_beta")
    which = beta.choose(placed.uniform(1), betas)
    level = jnp.asarray([branch.level_kev for branch in betas], placed.x_mm.dtype)[which]
    away, inside = sites(placed, detector, 2, photon_path_mm(level, detector.xenon.density_g_per_cm3))
    energy = jnp.stack([beta.energy_kev(placed.uniform(), betas, which), level * inside[:, 1]], axis=1)
    away = jnp.where((level > 0)[:, None, None], away, 0.0)
    return several_deposits(placed, energy, ["er_beta", "er_gamma"], away_mm=away)
