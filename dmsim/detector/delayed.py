"""Electrons that come long after the light or the electrons that freed them."""

import equinox as eqx
from jaxtyping import Array, Float

from dmsim.detector.quantities import leaf


class Photoionisation(eqx.Module):
    """Electrons that the light of S1 and S2 frees in the drift volume.

    They are freed everywhere in the volume: the delay is their drift time, on which they can be attached.
    """

    probability: Float[Array, ""] = leaf("electron/phd", 0, 1, "electrons freed for a detected photon")
    time_constant_ns: Float[Array, ""] = leaf("ns", 1, 1e9, "of the delay's exponential")
    cutoff_ns: Float[Array, ""] = leaf("ns", 1, 1e9, "longest delay")


class DelayedElectrons(eqx.Module):
    """Single electrons that follow an S2 with a power law in time."""

    probability: Float[Array, ""] = leaf(
        "electron/electron", 0, 1, "delayed electrons for an extracted electron, between the two times"
    )
    power: Float[Array, ""] = leaf("1", -5, 0, "rate ~ time^power")
    # in float32, a time of 1e8 ns is good to 8 ns, less than a sample
    first_ns: Float[Array, ""] = leaf("ns", 1, 1e8, "earliest delay")
    last_ns: Float[Array, ""] = leaf("ns", 1, 1e8, "longest delay")
    spread_mm: Float[Array, ""] = leaf(
        "mm", 0, 5000, "standard deviation of the distance from the S2, along x and along y"
    )
