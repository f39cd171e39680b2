"""dmsim: differentiable detector-response and waveform simulation for dual-phase xenon TPCs."""

from importlib.metadata import version as _version

from dmsim.detector import Detector as Detector
from dmsim.detector import list_detectors as list_detectors
from dmsim.detector import load_detector as load_detector

__version__ = _version("dmsim")
