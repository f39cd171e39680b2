"""From photoelectrons to digitised, zero-suppressed records."""

from dmsim.electronics.layout import Layout as Layout
from dmsim.electronics.layout import lay_out as lay_out
from dmsim.electronics.pulse import pulse_transform as pulse_transform
from dmsim.electronics.render import render as render
