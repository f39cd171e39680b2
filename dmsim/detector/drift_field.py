"""The drift field in (r, z), from electrode voltages or a supplied map."""

import equinox as eqx
from jaxtyping import Array, Float

from dmsim.detector.quantities import leaf, leaves


class DriftField(eqx.Module):
    """Replaces the field polynomial and the straight drift where a preset has it."""

    cathode_v: Float[Array, ""] = leaf("V", -1e6, 0, "potential of the cathode")
    gate_v: Float[Array, ""] = leaf("V", -1e6, 1e6, "potential of the gate")
    ring_v: Float[Array, "ring"] = leaves(
        "V", -1e6, 1e6, "potentials on the wall, equally spaced from cathode to gate, both ends included"
    )
