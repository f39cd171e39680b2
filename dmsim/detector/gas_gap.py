"""The gas gap: extraction and light of an electron from field, gap and pressure."""

import equinox as eqx
from jaxtyping import Array, Float

from dmsim.detector.quantities import leaf


class GasGap(eqx.Module):
    """Replaces the constant single-electron gain and extraction efficiency where a preset has it."""

    field_kv_per_cm: Float[Array, ""] = leaf("kV/cm", 0.1, 50, "in the gas")
    gap_mm: Float[Array, ""] = leaf("mm", 0.1, 50, "from the liquid surface to the anode")
    g1_gas_phd_per_photon: Float[Array, ""] = leaf(
        "phd/photon", 0.001, 1, "photons detected a photon emitted in the gap"
    )
