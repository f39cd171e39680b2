"""Ar-37: electron capture, all of whose energy stays at one place."""

from typing import Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dmsim.detector import Detector
from dmsim.records import Deposits
from dmsim.sources.placement import Where, place, single_deposits

# captures from the K, L and M shell: binding energies of chlorine (X-ray Data Booklet, LBNL 2009; K and L as
# in XENON1T's calibration, arXiv:2211.14191); shares: ENSDF's LogFT fractions, the M shell taking the rest
_LINES_KEV = (2.82, 0.27, 0.0175)
_SHARES = (0.9023, 0.0866, 0.0111)


def ar37(
    key: PRNGKeyArray, detector: Detector, *, interaction: str = "er_beta", **where: Unpack[Where]
) -> Deposits:
    """Electron captures of Ar-37: 2.82 keV (90.2 %), 0.27 keV (8.7 %), 0.0175 keV (1.1 %).

    Args:
        key: of the run.
        detector: whose volume is filled.
        interaction: as in `mono`. The beta model is nearest to XENON1T's yields at 2.82 keV and 82 V/cm, 32.3
            photons and 40.6 electrons a keV (arXiv:2211.14191): it gives 33.5 and 40.3.
        **where: events, rate and volume, as in `place`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: pathwise in the geometry.
    Source: ENSDF; XENON1T, arXiv:2211.14191.
    """
    placed = place(key, detector, **where)
    dtype = placed.x_mm.dtype
    which = jnp.searchsorted(jnp.asarray(np.cumsum(_SHARES)[:-1], dtype), placed.uniform(), side="right")
    return single_deposits(placed, jnp.asarray(_LINES_KEV, dtype)[which], interaction)
