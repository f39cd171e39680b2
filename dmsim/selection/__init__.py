"""Cuts and their acceptance, on events of a simulation or of an experiment.

A cut is a variable of the event between two thresholds, each a number or a curve. It is read hard (passes or
not) with NumPy alone, and soft (a log-acceptance with a gradient) with JAX.
"""

from dmsim.selection.curves import Curve
from dmsim.selection.cut import KINDS, AbstractCut
from dmsim.selection.cut_set import CutSet
from dmsim.selection.cuts import Depth, HitPattern, Radius, Range, SingleScatter, TopFraction, Width
from dmsim.selection.trees import register_trees

__all__ = [
    "KINDS",
    "AbstractCut",
    "Curve",
    "CutSet",
    "Depth",
    "HitPattern",
    "Radius",
    "Range",
    "SingleScatter",
    "TopFraction",
    "Width",
    "register_trees",
]
