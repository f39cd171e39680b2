"""Constants of the xenon emission model, as leaves of the detector."""

import equinox as eqx


class QuantaParameters(eqx.Module):
    """Constants of the NEST yields and fluctuations."""

    generation: str = eqx.field(static=True)  # "2026" or "2.3.12"

    @classmethod
    def nest(cls, generation: str = "2026") -> "QuantaParameters":
        """The published constants of one NEST generation."""
        return cls(generation=generation)
