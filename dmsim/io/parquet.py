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
from dmsim.io.files import TEMPORARY_SUFFIX, read_json, sha256_of_file, write_json, write_whole
from dmsim.io.provenance import Provenance

MANIFEST = "manifest.json"
_UNKNOWN = 10**6  # chunks of a table that is being written and does not know: more than fit its file names
_PROVENANCE_KEY = b"dmsim.provenance"


def chunk_name(chunk: int) -> str:
    """File name of a chunk, such as 000000.parquet."""
    return f"{chunk:06d}.parquet"


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
        self.folder = out / kind
        self._provenance = provenance.as_dict()
        self._manifest: dict[str, Any] = {
            "table": kind,
            "n_chunks": _UNKNOWN if n_chunks is None else n_chunks,
            "provenance": self._provenance["digest"],
            "chunks": {},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
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
        entry = self._manifest["chunks"].get(chunk_name(chunk))
        path = self.folder / chunk_name(chunk)
        return entry is not None and path.is_file() and path.stat().st_size == entry["n_bytes"]

    def write(self, chunk: int, table: pa.Table) -> Path:
        """Write a chunk and enter it into the manifest."""
        path = self.folder / chunk_name(chunk)
        metadata = {
            **(table.schema.metadata or {}),
            _PROVENANCE_KEY: json.dumps(self._provenance, sort_keys=True).encode(),
        }
        whole = table.replace_schema_metadata(metadata)
        write_whole(path, lambda file: pq.write_table(whole, file, compression="zstd"))
        self._manifest["chunks"][path.name] = {
            "n_rows": table.num_rows,
            "n_overflow": _n_overflow(table),
            "n_bytes": path.stat().st_size,
            "sha256": sha256_of_file(path),
        }
        write_json(self.folder / MANIFEST, self._manifest)
        return path

    @property
    def is_finished(self) -> bool:
        """Whether all chunks are written; False as long as their number is not known."""
        return all(self.has(chunk) for chunk in range(self._manifest["n_chunks"]))

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

    def __init__(self, folder: Path):
        """Open the folder of one table.

        Raises:
            ValueError: if it is not such a folder, or its run did not finish.
        """
        self.folder = folder
        self._manifest = _read_manifest(folder)
        self.kind: str = self._manifest["table"]
        self.n_chunks: int = self._manifest["n_chunks"]
        if self.n_chunks == _UNKNOWN:
            raise ValueError(f"{folder} was not finished: give the command that wrote it again")
        missing = [
            name for name in map(chunk_name, range(self.n_chunks)) if name not in self._manifest["chunks"]
        ]
        if missing:
            raise ValueError(
                f"{folder} has {self.n_chunks - len(missing)} of {self.n_chunks} chunks ({missing[0]} is the "
                "first missing): give the command that wrote it again to finish it"
            )

    def read(self, chunk: int) -> pa.Table:
        """Read a chunk after checking its size and checksum.

        Raises:
            ValueError: if the file is missing, or not the one that was written.
        """
        path = self.folder / chunk_name(chunk)
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
        return (self.read(chunk) for chunk in range(self.n_chunks))


def read_table(path: Path) -> pa.Table:
    """Read one Parquet file.

    Raises:
        ValueError: if it is not Parquet.
    """
    try:
        return pq.ParquetFile(path).read()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from None


def _n_overflow(table: pa.Table) -> int:
    return json.loads(table.schema.metadata[BATCH_KEY]).get("n_overflow", 0)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is not a table folder of dmsim: it has no {MANIFEST}")
    manifest = read_json(path, "a manifest of dmsim")
    kind, chunks = manifest.get("table"), manifest.get("chunks")
    if kind not in TABLES or not isinstance(chunks, dict) or not isinstance(manifest.get("n_chunks"), int):
        raise ValueError(f"{path} is not a manifest of dmsim: table must be one of {', '.join(TABLES)}")
    return manifest


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
