"""The detector: parameters, presets, geometry, sensor arrays."""

from dmsim.detector.model import Detector as Detector
from dmsim.detector.presets_io import list_detectors as list_detectors
from dmsim.detector.presets_io import load_detector as load_detector
