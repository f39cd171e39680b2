"""Recorded waveforms, in whichever of the formats a path holds them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmsim.io.files import sha256_of_file
from dmsim.io.parquet import MANIFEST, TableReader
from dmsim.io.provenance import FILE_NAME, read_provenance
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
    digest: str  # changes with any of the data
    provenance: dict[str, Any] | None  # of the run that wrote it, if dmsim did

    def reader(self, *, gap_ns: int) -> TableReader | RecordsReader:
        """What reads its chunks.

        Args:
            gap_ns: silence that separates events, used where a strax folder has no event numbers.
        """
        return RecordsReader(self.folder, gap_ns=gap_ns) if self.is_strax else TableReader(self.folder)


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
    (metadata,) = folder.glob("*metadata.json")
    provenance = strax.metadata.get("dmsim")
    return RecordsInput(folder, True, strax.n_chunks, sha256_of_file(metadata), provenance)  # noqa: FBT003


def _provenance(folder: Path) -> dict[str, Any] | None:
    return read_provenance(folder) if (folder / FILE_NAME).is_file() else None
