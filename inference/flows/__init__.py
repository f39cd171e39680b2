"""Conditional flows behind one interface.

A description (`Coupling`, `Anchored`, `Autoregressive`, `FlowMatching`: frozen, plain numbers) is what
estimators take and files name; its `build` gives the flow itself, with `log_prob(value, condition)` and
`sample(key, condition, n)` on batches.
"""

from inference.flows.anchored import Anchored, AnchoredFlow
from inference.flows.autoregressive import Autoregressive, AutoregressiveFlow
from inference.flows.base import AbstractFlow
from inference.flows.coupling import Coupling, CouplingFlow
from inference.flows.matching import FlowMatching, MatchingFlow

__all__ = [
    "KINDS",
    "AbstractFlow",
    "Anchored",
    "AnchoredFlow",
    "Autoregressive",
    "AutoregressiveFlow",
    "Coupling",
    "CouplingFlow",
    "Description",
    "FlowMatching",
    "MatchingFlow",
]

Description = Coupling | Autoregressive | FlowMatching | Anchored
KINDS: dict[str, type[Description]] = {d.kind: d for d in (Coupling, Autoregressive, FlowMatching, Anchored)}
