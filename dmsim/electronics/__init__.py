"""From photoelectrons to digitised, zero-suppressed records."""

from dmsim.electronics.afterpulses import chunk_keys as chunk_keys
from dmsim.electronics.afterpulses import count_afterpulses as count_afterpulses
from dmsim.electronics.afterpulses import read_afterpulses as read_afterpulses
from dmsim.electronics.afterpulses import sample_afterpulses as sample_afterpulses
from dmsim.electronics.dark_counts import count_dark_counts as count_dark_counts
from dmsim.electronics.dark_counts import sample_dark_counts as sample_dark_counts
from dmsim.electronics.layout import Layout as Layout
from dmsim.electronics.layout import lay_out as lay_out
from dmsim.electronics.pulse import pulse_transform as pulse_transform
from dmsim.electronics.render import render as render
