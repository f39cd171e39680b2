"""Runs of records in strax folders: raw_records, and beside them what strax has no field for."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from dmsim.io.files import TEMPORARY_SUFFIX, read_json
from dmsim.io.provenance import Provenance
from dmsim.io.strax_folders import TEMP, FolderReader, FolderWriter, endtime_ns, find_folder
from dmsim.io.strax_records import (
    EVENT_START_DTYPE,
    RECORD_EVENT_DTYPE,
    StraxRecords,
    records_from_strax,
    records_to_strax,
    split_into_events,
)
from dmsim.records import RawRecords
from dmsim.strax_layout import SAMPLES_PER_RECORD, raw_record_dtype

_TYPES: dict[str, tuple[np.dtype, str]] = {
    "raw_records": (raw_record_dtype(SAMPLES_PER_RECORD), "raw_records"),
    "record_events": (RECORD_EVENT_DTYPE, "raw_records"),
    "event_starts": (EVENT_START_DTYPE, "event_starts"),
}


class StraxWriter:
    """Writes records as raw_records, with the event numbers and starts that strax has no field for beside."""

    def __init__(
        self,
        out: Path,
        run_id: str,
        provenance: Provenance,
        *,
        n_chunks: int,
        samples: int = SAMPLES_PER_RECORD,
    ):
        """Open the three folders.

        Args:
            out: the folder that holds the runs' folders.
            run_id: name of the run.
            provenance: of the run.
            n_chunks: chunks of the whole run.
            samples: samples a record.
        """
        digest = provenance.digest
        self.n_chunks = n_chunks
        self._writers = {
            name: FolderWriter(
                out,
                run_id,
                name,
                raw_record_dtype(samples) if name == "raw_records" else dtype,
                # the plugin's version carries the digest, so that strax tells different runs apart
                lineage={name: [plugin_name(name), f"{provenance.version}+{digest[:12]}", {}]},
                provenance=provenance.as_dict(),
                data_kind=kind,
            )
            for name, (dtype, kind) in _TYPES.items()
        }
        self.folder = self._writers["raw_records"].folder

    def has(self, chunk: int) -> bool:
        """Whether a chunk is written."""
        return all(writer.n_chunks > chunk for writer in self._writers.values())

    def write_records(self, chunk: int, records: RawRecords) -> None:
        """Write the next chunk.

        Raises:
            ValueError: if events overlap in time with those of the chunk before, or records overflowed.
        """
        arrays = records_to_strax(records)
        begins = [int(array["time"].min()) for array in arrays if array.size]
        ends = [int(endtime_ns(array).max()) for array in arrays if array.size]
        for name, array in zip(_TYPES, arrays, strict=True):
            writer = self._writers[name]
            if writer.n_chunks > chunk:
                continue  # a kill came between the three folders
            start = min(begins) if writer.end_ns is None else writer.end_ns
            if min(begins) < start:
                raise ValueError(
                    f"events of chunk {chunk} start {start - min(begins)} ns before chunk {chunk - 1} ends, "
                    "and strax's chunks must not overlap: put them into one chunk, or space the events"
                )
            extra = {"n_overflow": int(records.n_overflow)} if name == "raw_records" else {}
            writer.write(array, start_ns=start, end_ns=max(ends), **extra)

    @property
    def is_finished(self) -> bool:
        """Whether the folders have their final names."""
        return all(writer.is_closed for writer in self._writers.values())

    def finish(self, n_chunks: int) -> None:
        """Say how many chunks there are, and close."""
        self.n_chunks = n_chunks
        self.close()

    def close(self) -> None:
        """Give the folders their final names."""
        for writer in self._writers.values():
            writer.close()

    @property
    def n_rows(self) -> int:
        """Records written."""
        return self._writers["raw_records"].n_rows

    @property
    def n_overflow(self) -> int:
        """Records that no slot was left for."""
        return self._writers["raw_records"].total("n_overflow")


def plugin_name(data_type: str) -> str:
    """Name of the strax plugin that stands for what we wrote, such as DmsimRawRecords."""
    return "Dmsim" + "".join(word.capitalize() for word in data_type.split("_"))


class RecordsReader:
    """Reads raw_records, of dmsim or of strax, as `RawRecords`."""

    def __init__(self, folder: Path, *, gap_ns: int):
        """Open a folder of raw_records.

        Args:
            folder: RUN-raw_records-HASH; our two folders of events beside it are used if they are there.
            gap_ns: silence that separates events, used where the event numbers are not known.

        Raises:
            ValueError: if it does not hold raw_records.
        """
        self._raw = FolderReader(folder)
        names = raw_record_dtype().names or ()
        wanted = {name: raw_record_dtype()[name].base for name in names}
        found = self._raw.dtype
        wrong = [n for n, base in wanted.items() if n not in (found.names or ()) or found[n].base != base]
        if wrong:
            raise ValueError(
                f"{folder} does not hold raw_records: fields {', '.join(wrong)} are missing or differ"
            )
        run_id = self._raw.metadata["run_id"]
        beside = [
            find_folder(folder.parent, name, run_id=run_id) for name in ("record_events", "event_starts")
        ]
        self._beside = None
        if all(beside) and "dmsim" in self._raw.metadata:
            self._beside = [FolderReader(path) for path in beside if path is not None]
            if any(reader.n_chunks != self._raw.n_chunks for reader in self._beside):
                raise ValueError(f"{folder} and {beside} have different numbers of chunks: make them again")
        self._gap_ns = gap_ns
        self._next_event = 0
        self.n_chunks = self._raw.n_chunks

    @property
    def has_events(self) -> bool:
        """Whether event numbers are known, not made from gaps in time."""
        return self._beside is not None

    def __iter__(self) -> Iterator[RawRecords]:
        """The chunks in order."""
        self._next_event = 0
        for chunk in range(self.n_chunks):
            yield self.read(chunk)

    def read_raw(self, chunk: int) -> np.ndarray:
        """The array of raw_records of a chunk."""
        return self._raw.read(chunk)

    def path_of(self, chunk: int) -> Path:
        """File of a chunk."""
        return self._raw.folder / str(self._raw.metadata["chunks"][chunk].get("filename", ""))

    def read(self, chunk: int, *, dtype: type[np.generic] = np.float32) -> RawRecords:
        """Read a chunk; without event numbers, chunks must be read in order."""
        raw = self._raw.read(chunk)
        if self._beside is not None:
            beside = (reader.read(chunk) for reader in self._beside)
            records = records_from_strax(StraxRecords(raw, *beside), dtype=dtype)
            n_overflow = self._raw.metadata["chunks"][chunk].get("n_overflow", 0)
            return replace(records, n_overflow=np.asarray(n_overflow, np.int32))
        batch = split_into_events(raw, first_event=self._next_event, gap_ns=self._gap_ns)
        self._next_event += batch.event_starts.size
        return records_from_strax(batch, dtype=dtype)


def remove_strax_folders(out: Path) -> None:
    """Remove the strax folders in an output folder that dmsim wrote, finished or not, and nothing else."""
    for name in _TYPES:
        for folder in out.glob(f"*-{name}-*"):
            prefix = "-".join(folder.name.removesuffix(TEMP).split("-")[1:])
            metadata = folder / f"{prefix}-metadata.json"
            if not metadata.is_file() or "dmsim" not in read_json(metadata, "strax's metadata"):
                continue
            metadata.unlink()  # first, so that a kill leaves no folder that looks whole
            for pattern in (f"{prefix}-" + "[0-9]" * 6, "*" + TEMPORARY_SUFFIX):
                for path in folder.glob(pattern):
                    path.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()
