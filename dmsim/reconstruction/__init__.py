"""Samples -> Events: baseline, hits, peaks, widths, classification, position, corrections, events.

Works on recorded data alone: it knows the detector's parameters, never the simulation's truth.
"""

from dmsim.reconstruction.events import build_events as build_events
from dmsim.reconstruction.peaks import find_peaks as find_peaks
from dmsim.reconstruction.settings import Settings as Settings
from dmsim.reconstruction.settings import load_settings as load_settings
