"""How soft each decision is: the scale of the logistic noise on its margin."""

from dataclasses import fields

import equinox as eqx
import jax
import numpy as np

from dmsim.reconstruction.settings import replaced


def _scale(default: float, unit: str, text: str):
    return eqx.field(default=default, metadata={"unit": unit, "help": text})


class Temperature(eqx.Module):
    """Scale of the jitter of every decision, in the unit of its margin; 0 is the hard decision.

    The defaults are assumed: small against what the decision is about, large enough that a few hundred
    events see each threshold. A measured resolution (the noise of a sample, say) is a natural choice.
    """

    hit_adc: float = _scale(1.0, "ADC", "depth of a sample against the hit threshold")
    gap: float = _scale(1.0, "", "gap between hits, times gap_ns / (ln n_hits + 3), n_hits of the event")
    edge_ns: float = _scale(3.0, "ns", "reach of a window beyond its hits")
    duration_ns: float = _scale(500.0, "ns", "length of a peak, before and after merging")
    goodness: float = _scale(0.02, "", "goodness of split")
    split_area_pe: float = _scale(2.0, "PE", "area from which a peak is split")
    minimum_pe: float = _scale(1.0, "PE", "height of a local minimum's sides")
    coincidence_ns: float = _scale(5.0, "ns", "hit against a peak's maximum")
    rise_ns: float = _scale(5.0, "ns", "rise time against its bounds")
    area_pe: float = _scale(1.0, "PE", "area against the bounds of the classes")
    area_fraction_top: float = _scale(0.02, "", "against the bound of an S2")
    merge_gap_ns: float = _scale(500.0, "ns", "gap between pieces of an S2")
    merge_log10_area: float = _scale(0.02, "", "area of the smaller of two pieces")
    position_pe: float = _scale(1.0, "PE", "area on the top array, from which a position is given")
    drift_ns: float = _scale(500.0, "ns", "drift time of a pair against its bounds")
    trigger_pe: float = _scale(5.0, "PE", "area of a triggering S2")

    def __check_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float | np.number) and not (np.isfinite(value) and value >= 0):
                raise ValueError(
                    f"temperature.{field.name} is {value!r} {field.metadata['unit']}: must be >= 0 and finite"
                )

    def scaled(self, factor: float | jax.Array) -> "Temperature":
        """Every temperature times a factor, >= 0; 0 gives the hard reading."""
        return replaced(self, **{f.name: factor * getattr(self, f.name) for f in fields(self)})


def temperature_of(value: "Temperature | float | jax.Array | None") -> Temperature:
    """Temperatures as they are, the defaults times a number, or the defaults."""
    if isinstance(value, Temperature):
        return value
    return Temperature() if value is None else Temperature().scaled(value)
