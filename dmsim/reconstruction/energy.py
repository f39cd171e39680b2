"""Energy of an electronic recoil from corrected areas."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim.detector import Detector
from dmsim.reconstruction.precision import enable_x64


def combined_energy_kev(
    detector: Detector, cs1_pe: Float[Array, "..."], cs2_pe: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Parts of the energy in light and in charge [keV]; their sum is the energy.

    E = W (cS1 / g1 + cS2 / g2): recombination turns an electron into a photon and leaves the sum alone. A
    nuclear recoil loses energy to heat, so that this is its electron equivalent.

    Args:
        detector: of its light response, gas gain, electronics and work function.
        cs1_pe: S1 in PE at the volume's average light collection.
        cs2_pe: S2 in PE of electrons at the surface, on the axis.

    Gradient: exact.
    Source: Doke et al., Jpn. J. Appl. Phys. 41 (2002) 1538; W as in the detector's quanta.
    """
    w_kev = detector.quanta.work_function.quantum_ev(detector.xenon.density_g_per_cm3) * 1e-3
    return w_kev * cs1_pe / detector.g1_pe_per_photon, w_kev * cs2_pe / detector.g2_pe_per_electron


@eqx.filter_jit
def _kev_per_pe(detector: Detector) -> tuple[Array, Array]:
    one = jnp.ones((), jnp.float64)
    return combined_energy_kev(detector.as_dtype(jnp.float64), one, one)


def kev_per_pe(detector: Detector) -> tuple[float, float]:
    """Energy [keV] of one PE of cS1 and of cS2. Gradient: none."""
    with enable_x64():
        light, charge = _kev_per_pe(detector)
        return float(light), float(charge)
