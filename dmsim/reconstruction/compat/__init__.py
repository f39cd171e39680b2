"""Hits and peaks with strax's integers, bit for bit, and with its quirks.

What the quirks are: docs/physics/strax-compatibility.md. Loads numba: imported only where it is used.
"""

from dmsim.reconstruction.compat.chain import Found as Found
from dmsim.reconstruction.compat.chain import find as find
from dmsim.reconstruction.compat.chain import find_with as find_with
from dmsim.reconstruction.compat.peaks import find_peaks as find_peaks
from dmsim.reconstruction.compat.peaks import peaks_of as peaks_of
from dmsim.reconstruction.compat.peaks import peaks_of_table as peaks_of_table
from dmsim.reconstruction.compat.peaks import signals as signals
