"""Recorded waveforms, in whichever of the formats a path holds them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dmsim.io.files import sha256_of_file
from dmsim.io.parquet import MANIFEST, TableReader, chunk_name
from dmsim.io.provenance import FILE_NAME, read_provenance
from dmsim.io.record_columns import RecordColumns, columns_of_strax, columns_of_table
from dmsim.io.strax_folders import FolderReader, find_folder
from dmsim.io.strax_runs import RecordsReader
from dmsim.io.tables import unpack_records
from dmsim.records import RawRecords


@dataclass(frozen=True)
class RecordsInput:
    """A folder of records, found and checked, but not yet read."""

    folder: Path
    is_strax: bool
    n_chunks: int
    digest: str  # of the folder's metadata: counts and times of all chunks; of a table's, their hashes too
    provenance: dict[str, Any] | None  # of the run that wrote it, if dmsim did

    def reader(self, *, gap_ns: int) -> TableReader | RecordsReader:
        """What reads its chunks.

        Args:
            gap_ns: silence that separates events, used where a strax folder has no event numbers.
        """
        return RecordsReader(self.folder, gap_ns=gap_ns) if self.is_strax else TableReader(self.folder)

    @cached_property
    def _reader(self) -> TableReader | RecordsReader:
        return self.reader(gap_ns=0)

    @property
    def has_events(self) -> bool:
        """Whether records say which event they are of."""
        return self._reader.has_events if isinstance(self._reader, RecordsReader) else True

    @property
    def is_stream(self) -> bool:
        """Whether it is a span of the detector's time: without event numbers, or simulated as one."""
        settings = (self.provenance or {}).get("settings", {})
        return not self.has_events or (isinstance(settings, dict) and "duration_s" in settings)

    def path_of(self, chunk: int) -> Path:
        """File of a chunk."""
        reader = self._reader
        return reader.path_of(chunk) if isinstance(reader, RecordsReader) else self.folder / chunk_name(chunk)

    def read_events(self, chunk: int) -> RawRecords:
        """Records of a chunk of whole events, with int16 samples.

        Raises:
            ValueError: if the file is missing, damaged or foreign.
        """
        reader = self._reader
        if isinstance(reader, RecordsReader):
            with _named(self.path_of(chunk)):
                return reader.read(chunk, dtype=np.int16)
        return unpack_records(reader.read(chunk), origin=self.path_of(chunk), dtype=np.int16)

    def read_span(self, chunk: int) -> RecordColumns:
        """Records of a chunk of a span of time.

        Raises:
            ValueError: if the file is missing, damaged or foreign, or its events have no clock.
        """
        reader = self._reader
        if isinstance(reader, RecordsReader):
            return columns_of_strax(reader.read_raw(chunk), origin=self.path_of(chunk))
        return columns_of_table(reader.read(chunk), origin=self.path_of(chunk))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file an error is of."""
    try:
        yield
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from None


def iterate(source: RecordsInput, *, gap_ns: int) -> Iterator[RawRecords]:
    """The records chunk by chunk, in order.

    Args:
        source: from `open_records`.
        gap_ns: as in `RecordsInput.reader`.

    Raises:
        ValueError: if a file is missing, damaged or foreign.
    """
    reader = source.reader(gap_ns=gap_ns)
    if isinstance(reader, RecordsReader):
        yield from reader
        return
    for table in reader:
        yield unpack_records(table, origin=source.folder)


def open_records(path: Path) -> RecordsInput:
    """Find the records at a path.

    Args:
        path: an output of `dmsim simulate`, its folder `records`, a strax folder RUN-raw_records-HASH, or a
            folder with one of them.

    Raises:
        ValueError: if there are none, several, or they are not whole.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist: give a folder of records")
    if not path.is_dir():
        raise ValueError(f"{path} is a file: give the folder of records that holds it")
    for folder in (path, path / "records"):
        if (folder / MANIFEST).is_file():
            reader = TableReader(folder)
            if reader.kind != "records":
                raise ValueError(f"{folder} is a table of {reader.kind}: reconstruction needs records")
            digest = sha256_of_file(folder / MANIFEST)
            return RecordsInput(folder, False, reader.n_chunks, digest, _provenance(folder.parent))  # noqa: FBT003
    folder = path if "-raw_records-" in path.name else find_folder(path, "raw_records")
    if folder is None:
        raise ValueError(
            f"{path} holds no records: neither a table of dmsim (records/{MANIFEST}) "
            "nor a strax folder (RUN-raw_records-HASH)"
        )
    strax = FolderReader(folder)
    metadata = next(folder.glob("*metadata.json"))
    provenance = strax.metadata.get("dmsim")
    if provenance is not None and not isinstance(provenance, dict):
        raise ValueError(f"{metadata} is damaged: dmsim must be an object")
    return RecordsInput(folder, True, strax.n_chunks, sha256_of_file(metadata), provenance)  # noqa: FBT003


def _provenance(folder: Path) -> dict[str, Any] | None:
    return read_provenance(folder) if (folder / FILE_NAME).is_file() else None
