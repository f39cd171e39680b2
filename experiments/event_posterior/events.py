"""Events of the study."""

from inference.events import SingleScatters as Events
from inference.events import cut_quantiles, deposits_of

__all__ = ["Events", "cut_quantiles", "deposits_of"]
