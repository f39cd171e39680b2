"""Files: Parquet tables, strax folders and dtypes, provenance."""

from dmsim.io.parquet import TableReader as TableReader
from dmsim.io.parquet import TableWriter as TableWriter
from dmsim.io.provenance import Provenance as Provenance
from dmsim.io.reconstruction import read_reconstruction as read_reconstruction
from dmsim.io.records_input import iterate as iterate
from dmsim.io.records_input import open_records as open_records
from dmsim.io.strax_peaks import peaks_from_strax as peaks_from_strax
from dmsim.io.strax_peaks import peaks_to_strax as peaks_to_strax
from dmsim.io.strax_records import records_from_strax as records_from_strax
from dmsim.io.strax_records import records_to_strax as records_to_strax
