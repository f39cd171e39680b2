"""Photons: how many are detected, on which sensor and when."""

from dmsim.light.areas import measure as measure
from dmsim.light.detection import count_s1_photons as count_s1_photons
from dmsim.light.detection import detection_probability as detection_probability
from dmsim.light.expected import expected_s1 as expected_s1
from dmsim.light.expected import expected_s2 as expected_s2
from dmsim.light.profile import TimeGrid as TimeGrid
from dmsim.light.s1 import sample_s1_hits as sample_s1_hits
from dmsim.light.s2 import sample_s2_hits as sample_s2_hits
from dmsim.light.totals import SignalTotals as SignalTotals
from dmsim.light.totals import expected_totals as expected_totals
from dmsim.light.totals import s2_time_dispersion as s2_time_dispersion
