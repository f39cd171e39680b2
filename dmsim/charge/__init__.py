"""Electrons: drift, attachment, diffusion, extraction and electroluminescence."""

from dmsim.charge.delayed import count_delayed as count_delayed
from dmsim.charge.delayed import delayed_clouds as delayed_clouds
from dmsim.charge.drift_map import prepare as prepare
from dmsim.charge.electroluminescence import count_s2_photons as count_s2_photons
from dmsim.charge.electroluminescence import sample_electrons as sample_electrons
from dmsim.charge.field_lines import follow as follow
from dmsim.charge.transport import drift as drift
from dmsim.charge.transport import expected_clouds as expected_clouds
from dmsim.charge.transport import transport as transport
