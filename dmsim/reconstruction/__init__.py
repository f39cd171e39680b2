"""Samples -> Events: baseline, hits, peaks, widths, classification, position, corrections, events.

Works on recorded data alone: it knows the detector's parameters, never the simulation's truth.
"""

from dmsim.reconstruction.energy import combined_energy_kev as combined_energy_kev
from dmsim.reconstruction.event_building import carry_over as carry_over
from dmsim.reconstruction.event_building import event_windows as event_windows
from dmsim.reconstruction.event_building import reach_ns as reach_ns
from dmsim.reconstruction.events import build_events as build_events
from dmsim.reconstruction.peaks import find_peaks as find_peaks
from dmsim.reconstruction.position import position_bound_mm2 as position_bound_mm2
from dmsim.reconstruction.position import position_information as position_information
from dmsim.reconstruction.position import position_log_likelihood as position_log_likelihood
from dmsim.reconstruction.position import positions as positions
from dmsim.reconstruction.settings import Settings as Settings
from dmsim.reconstruction.settings import load_settings as load_settings
