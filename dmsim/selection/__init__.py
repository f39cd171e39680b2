"""Cuts and their acceptance, on events of a simulation or of an experiment.

A cut is a variable of the event between two thresholds, each a number or a curve. It is read hard (passes or
not) with NumPy alone, and soft (a log-acceptance with a gradient) with JAX.
"""

from dmsim.selection.band import Band, percent_of_score, score_of_percent
from dmsim.selection.columns import columns_of
from dmsim.selection.curves import Curve
from dmsim.selection.cut import KINDS, AbstractCut
from dmsim.selection.cut_flow import CutFlow, evaluate
from dmsim.selection.cut_set import CutSet
from dmsim.selection.cuts import Depth, HitPattern, Radius, Range, SingleScatter, TopFraction, Width
from dmsim.selection.files import from_toml, read_cuts, to_toml, write_cuts
from dmsim.selection.history import TimeShadow, TimeVeto
from dmsim.selection.trees import register_trees

__all__ = [
    "KINDS",
    "AbstractCut",
    "Band",
    "Curve",
    "CutFlow",
    "CutSet",
    "Depth",
    "HitPattern",
    "Radius",
    "Range",
    "SingleScatter",
    "TimeShadow",
    "TimeVeto",
    "TopFraction",
    "Width",
    "columns_of",
    "evaluate",
    "from_toml",
    "percent_of_score",
    "read_cuts",
    "register_trees",
    "score_of_percent",
    "to_toml",
    "write_cuts",
]
