"""Folders of Parquet tables: one folder a data type, one file a chunk, a manifest with checksums.

A chunk counts as written once it stands in the manifest, which is replaced whole after the chunk's file has
been renamed into place. A kill at any moment therefore costs at most the chunk that was being written.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dmsim.io.columns import BATCH_KEY, TABLES
from dmsim.io.files import (
    TEMPORARY_SUFFIX,
    read_json,
    remove_temporary,
    sha256_of_file,
    write_json,
    write_whole,
)
from dmsim.io.provenance import Provenance

MANIFEST = "manifest.json"
_UNKNOWN = 10**6  # chunks of a table that is being written and does not know: more than fit its file names
_PROVENANCE_KEY = b"dmsim.provenance"


def chunk_name(chunk: int) -> str:
    """File name of a chunk, such as 000000.parquet."""
    return f"{chunk:06d}.parquet"


def write_chunk(path: Path, table: pa.Table, provenance: dict[str, Any]) -> dict[str, Any]:
    """Write one chunk's file, and nothing into the manifest.

    Args:
        path: of the file.
        table: its rows.
        provenance: of the run, kept in the file.

    Returns:
        The chunk's entry for the manifest.
    """
    metadata = {
        **(table.schema.metadata or {}),
        _PROVENANCE_KEY: json.dumps(provenance, sort_keys=True).encode(),
    }
    whole = table.replace_schema_metadata(metadata)
    # floats seldom repeat: without a dictionary of them writing takes a fifth of the time, and less room
    repeating: Any = [
        _parquet_name(field) for field in whole.schema if not pa.types.is_floating(_item(field))
    ]
    write_whole(path, lambda file: pq.write_table(whole, file, compression="zstd", use_dictionary=repeating))
    return {
        "n_rows": table.num_rows,
        "n_overflow": _n_overflow(table),
        "n_bytes": path.stat().st_size,
        "sha256": sha256_of_file(path),
    }


def _item(field: pa.Field) -> pa.DataType:
    return field.type.value_type if pa.types.is_fixed_size_list(field.type) else field.type


def _parquet_name(field: pa.Field) -> str:
    return f"{field.name}.list.element" if pa.types.is_fixed_size_list(field.type) else field.name


def is_written(path: Path, entry: dict[str, Any] | None) -> bool:
    """Whether a file is there with the size that its entry tells."""
    return entry is not None and path.is_file() and path.stat().st_size == entry["n_bytes"]


class TableWriter:
    """Writes the chunks of one data type, and knows which are there already."""

    def __init__(self, out: Path, kind: str, provenance: Provenance, *, n_chunks: int | None):
        """Open `out/kind`.

        Args:
            out: output folder.
            kind: a name in `TABLES`.
            provenance: of the run.
            n_chunks: chunks that the finished table has; None where `finish` will say it.

        Raises:
            ValueError: if the folder holds the table of another run.
        """
        self._open(out, kind, provenance.as_dict(), n_chunks)

    @classmethod
    def of(cls, out: Path, kind: str, provenance: dict[str, Any], *, n_chunks: int) -> "TableWriter":
        """The same with the provenance as it stands in a file."""
        writer = cls.__new__(cls)
        writer._open(out, kind, provenance, n_chunks)
        return writer

    def _open(self, out: Path, kind: str, provenance: dict[str, Any], n_chunks: int | None) -> None:
        self.folder = out / kind
        self._provenance = provenance
        self._manifest: dict[str, Any] = {
            "table": kind,
            "n_chunks": _UNKNOWN if n_chunks is None else n_chunks,
            "provenance": self._provenance["digest"],
            "chunks": {},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_temporary(self.folder)
        path = self.folder / MANIFEST
        if path.exists():
            found = _read_manifest(self.folder)
            keys = ("table", "provenance") if n_chunks is None else ("table", "n_chunks", "provenance")
            if any(found[key] != self._manifest[key] for key in keys):
                raise ValueError(
                    f"{self.folder} holds a table of another run: give another folder with --out"
                )
            self._manifest = found

    def has(self, chunk: int) -> bool:
        """Whether a chunk is written and still as it was written."""
        return is_written(self.folder / chunk_name(chunk), self._manifest["chunks"].get(chunk_name(chunk)))

    def write(self, chunk: int, table: pa.Table) -> Path:
        """Write a chunk and enter it into the manifest."""
        path = self.folder / chunk_name(chunk)
        self._manifest["chunks"][path.name] = write_chunk(path, table, self._provenance)
        write_json(self.folder / MANIFEST, self._manifest)
        return path

    @property
    def is_finished(self) -> bool:
        """Whether all chunks are written; False as long as their number is not known."""
        return all(self.has(chunk) for chunk in range(self._manifest["n_chunks"]))

    def enter(self, entries: dict[int, dict[str, Any]]) -> None:
        """Say which chunks there are, written by others with `write_chunk`; entries of other chunks go."""
        chunks = {chunk_name(chunk): entry for chunk, entry in sorted(entries.items())}
        if chunks == self._manifest["chunks"] and (self.folder / MANIFEST).is_file():
            return
        self._manifest["chunks"] = chunks
        write_json(self.folder / MANIFEST, self._manifest)

    def finish(self, n_chunks: int) -> None:
        """Say how many chunks there are, where that was not known before."""
        self._manifest["n_chunks"] = n_chunks
        write_json(self.folder / MANIFEST, self._manifest)

    @property
    def n_rows(self) -> int:
        """Rows in all written chunks."""
        return sum(entry["n_rows"] for entry in self._manifest["chunks"].values())

    @property
    def n_overflow(self) -> int:
        """What no slot was left for, in all written chunks."""
        return sum(entry["n_overflow"] for entry in self._manifest["chunks"].values())


class TableReader:
    """Reads the chunks of one data type, and refuses what is not as it was written."""

    def __init__(self, folder: Path, *, partly: bool = False):
        """Open the folder of one table.

        Args:
            folder: of the table.
            partly: also when chunks are missing; iterating then gives those that are there.

        Raises:
            ValueError: if it is not such a folder, or its run did not finish.
        """
        self.folder = folder
        self._manifest = _read_manifest(folder)
        self.kind: str = self._manifest["table"]
        self.n_chunks: int = self._manifest["n_chunks"]
        if self.n_chunks == _UNKNOWN:
            raise ValueError(f"{folder} was not finished: give the command that wrote it again")
        self.chunks = [i for i in range(self.n_chunks) if chunk_name(i) in self._manifest["chunks"]]
        missing = [chunk_name(i) for i in sorted(set(range(self.n_chunks)) - set(self.chunks))]
        if missing and not partly:
            raise ValueError(
                f"{folder} has {self.n_chunks - len(missing)} of {self.n_chunks} chunks ({missing[0]} is the "
                "first missing): give the command that wrote it again to finish it"
            )

    def path_of(self, chunk: int) -> Path:
        """File of a chunk."""
        return self.folder / chunk_name(chunk)

    def read(self, chunk: int) -> pa.Table:
        """Read a chunk after checking its size and checksum.

        Raises:
            ValueError: if the file is missing, or not the one that was written.
        """
        path = self.path_of(chunk)
        entry = self._manifest["chunks"][path.name]
        if not path.is_file():
            raise ValueError(
                f"{path} is missing: the manifest beside it lists it with {entry['n_rows']} rows"
            )
        size = path.stat().st_size
        if size != entry["n_bytes"]:
            raise ValueError(
                f"{path} has {size} bytes and was written with {entry['n_bytes']}: it is truncated or "
                "foreign; delete it and give the command that wrote it again"
            )
        if sha256_of_file(path) != entry["sha256"]:
            raise ValueError(
                f"{path} does not have the SHA-256 in the manifest beside it: it is damaged or foreign; "
                "delete it and give the command that wrote it again"
            )
        return read_table(path)

    def __iter__(self) -> Iterator[pa.Table]:
        """Give the chunks in order."""
        return (self.read(chunk) for chunk in self.chunks)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file.

    Args:
        path: the file.
        columns: names of those to read; all if None.

    Raises:
        ValueError: if it is not Parquet, or damaged.
    """
    try:
        return pq.ParquetFile(path).read(columns)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from None


def _n_overflow(table: pa.Table) -> int:
    return json.loads(table.schema.metadata[BATCH_KEY]).get("n_overflow", 0)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is not a table folder of dmsim: it has no {MANIFEST}")
    manifest = read_json(path, "a manifest of dmsim")
    kind, chunks = manifest.get("table"), manifest.get("chunks")
    is_table = isinstance(kind, str) and kind in TABLES
    if not is_table or not isinstance(chunks, dict) or type(manifest.get("n_chunks")) is not int:
        raise ValueError(f"{path} is not a manifest of dmsim: table must be one of {', '.join(TABLES)}")
    if not 0 <= manifest["n_chunks"] <= _UNKNOWN:
        raise ValueError(f"{path} is damaged: n_chunks is {manifest['n_chunks']}")
    if not all(map(_is_entry, chunks.values())):
        raise ValueError(f"{path} is damaged: each chunk must have n_rows, n_bytes and sha256")
    return manifest


def _is_entry(entry: Any) -> bool:
    types = {"n_rows": int, "n_bytes": int, "sha256": str}
    return isinstance(entry, dict) and all(type(entry.get(name)) is kind for name, kind in types.items())


def remove_tables(out: Path) -> None:
    """Remove the tables in an output folder, and nothing that dmsim did not write.

    The manifests go first, so that a kill in between leaves no table that looks whole.
    """
    for kind in TABLES:
        folder = out / kind
        if not (folder / MANIFEST).is_file():
            continue
        (folder / MANIFEST).unlink()
        for pattern in ("[0-9]" * 6 + ".parquet", "*" + TEMPORARY_SUFFIX):
            for path in folder.glob(pattern):
                path.unlink()
