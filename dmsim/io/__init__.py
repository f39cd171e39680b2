"""Files: Parquet tables, strax folders and dtypes, provenance."""

from dmsim.io.parquet import TableReader as TableReader
from dmsim.io.parquet import TableWriter as TableWriter
from dmsim.io.provenance import Provenance as Provenance
