"""dmsim: differentiable detector-response and waveform simulation for dual-phase xenon TPCs.

Names are loaded when they are first used, so that the command line can print its help without JAX.
"""

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmsim import io as io
    from dmsim import quanta as quanta
    from dmsim import selection as selection
    from dmsim import sources as sources
    from dmsim.detector import Detector as Detector
    from dmsim.detector import list_detectors as list_detectors
    from dmsim.detector import load_detector as load_detector
    from dmsim.pipeline import expected_waveform as expected_waveform
    from dmsim.pipeline import iterate_records as iterate_records
    from dmsim.pipeline import iterate_stream as iterate_stream
    from dmsim.pipeline import reconstruct as reconstruct
    from dmsim.pipeline import salt as salt
    from dmsim.pipeline import simulate_areas as simulate_areas
    from dmsim.pipeline import simulate_hits as simulate_hits
    from dmsim.pipeline import simulate_quanta as simulate_quanta
    from dmsim.pipeline import simulate_records as simulate_records
    from dmsim.pipeline import truth_of as truth_of

__version__ = _version("dmsim")

_HOME_OF = {
    **dict.fromkeys(("Detector", "list_detectors", "load_detector"), "dmsim.detector"),
    **dict.fromkeys(
        (
            "expected_waveform",
            "iterate_records",
            "iterate_stream",
            "reconstruct",
            "salt",
            "simulate_areas",
            "simulate_hits",
            "simulate_quanta",
            "simulate_records",
            "truth_of",
        ),
        "dmsim.pipeline",
    ),
}
_SUBPACKAGES = ("io", "quanta", "selection", "sources")


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"dmsim.{name}")
    if name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'dmsim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF, *_SUBPACKAGES})
