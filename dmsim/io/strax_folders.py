"""strax's folders without strax: `<run>-<type>-<hash>/` with compressed chunks and a metadata JSON.

The layout is that of strax 2.2.3 (storage/files.py and storage/common.py, read for facts): a chunk file
is the compressed bytes of a structured array; the metadata carry its dtype as the text of a list. While it is
being written a folder's name ends in `_temp`. Nothing here unpickles or evaluates what it reads.
"""

import ast
import base64
import bz2
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import blosc
import lz4.frame
import numpy as np
import zstandard

from dmsim.io.files import read_json, remove_temporary, sha256_of_file, write_json, write_whole

LAYOUT_OF = "2.2.3"  # the strax whose layout this is; strax refuses folders that name none
TEMP = "_temp"


class Codec(NamedTuple):
    """One of strax's compressors."""

    compress: Callable[[bytes], bytes]
    # of at most so many bytes and one more: a damaged file may claim any size
    decompress: Callable[[bytes, int], bytes | np.ndarray]


def _blosc(packed: bytes, n_bytes: int) -> bytes:
    # bytes 4 to 7 of the header say how much there is (c-blosc, README_CHUNK_FORMAT)
    claimed = int.from_bytes(packed[4:8], "little")
    if len(packed) < 16:
        raise ValueError("it ends in its header")
    if claimed != n_bytes:
        raise ValueError(f"its header claims {claimed} bytes, {n_bytes} are expected")
    return blosc.decompress(packed)


_PIECE = 1 << 18  # of packed bytes; unpacked at most 255 times as many


def _lz4(packed: bytes, n_bytes: int) -> np.ndarray:
    # in pieces: at once, lz4 would hold what it unpacks twice
    out, filled, frame = np.empty(n_bytes, np.uint8), 0, lz4.frame.LZ4FrameDecompressor()
    for begin in range(0, len(packed), _PIECE):
        part = np.frombuffer(frame.decompress(packed[begin : begin + _PIECE]), np.uint8)
        if filled + part.size > n_bytes:
            raise ValueError(f"it holds more than the {n_bytes} bytes that are expected")
        out[filled : filled + part.size] = part
        filled += part.size
        if frame.eof:
            break
    return out[:filled]


CODECS = {
    "blosc": Codec(lambda data: blosc.compress(data, shuffle=blosc.NOSHUFFLE), _blosc),
    "zstd": Codec(
        lambda data: zstandard.ZstdCompressor(level=3).compress(data),
        lambda data, n_bytes: zstandard.ZstdDecompressor().stream_reader(data).read(n_bytes + 1),
    ),
    "lz4": Codec(lz4.frame.compress, _lz4),
    "bz2": Codec(bz2.compress, lambda data, n_bytes: bz2.BZ2Decompressor().decompress(data, n_bytes + 1)),
}


def lineage_hash(lineage: dict[str, Any]) -> str:
    """Hash of a lineage as strax makes it: 10 characters of the base-32 SHA-1 of its sorted JSON."""
    text = json.dumps(_sorted_pairs(lineage))
    return base64.b32encode(hashlib.sha1(text.encode("ascii")).digest())[:10].decode().lower()


def _sorted_pairs(value: Any) -> Any:
    if isinstance(value, dict):
        return [[key, _sorted_pairs(item)] for key, item in sorted(value.items())]
    if isinstance(value, list | tuple):
        return [_sorted_pairs(item) for item in value]
    return value


def check_run_id(run_id: str) -> None:
    """Refuse names of runs that strax's folders cannot have.

    Raises:
        ValueError: if the name has a "-" or "/", starts with "_", or is empty.
    """
    if "-" in run_id or "/" in run_id or run_id.startswith("_") or not run_id:
        raise ValueError(
            f'run id {run_id!r}: strax folders need one without "-" or "/" that does not start with "_"'
        )


class FolderWriter:
    """Writes one data type of one run; goes on with what an interrupted writer left."""

    def __init__(
        self,
        out: Path,
        run_id: str,
        data_type: str,
        dtype: np.dtype,
        *,
        lineage: dict[str, Any],
        provenance: dict[str, Any],
        data_kind: str | None = None,
        compressor: str = "blosc",
    ):
        """Open the folder.

        Args:
            out: the folder that holds the runs' folders.
            run_id: name of the run, without "-" and not starting with "_".
            data_type: strax's name of the data.
            dtype: of the rows; it needs the field `time`.
            lineage: strax's record of how the data came to be.
            provenance: ours, kept in the metadata; JSON values only.
            data_kind: data of one kind have the same rows; the data type if not given.
            compressor: a name in `CODECS`.

        Raises:
            ValueError: for a name that strax does not understand, or data of another provenance.
        """
        check_run_id(run_id)
        if compressor not in CODECS:
            raise ValueError(f"compressor {compressor!r} is not known: choose one of {', '.join(CODECS)}")
        self.prefix = f"{data_type}-{lineage_hash(lineage)}"
        self.folder = out / f"{run_id}-{self.prefix}"
        self._temporary = out / f"{run_id}-{self.prefix}{TEMP}"
        self._metadata: dict[str, Any] = {
            "run_id": run_id,
            "data_type": data_type,
            "data_kind": data_kind or data_type,
            "dtype": repr(dtype.descr),
            "lineage_hash": lineage_hash(lineage),
            "lineage": lineage,
            "compressor": compressor,
            "chunk_target_size_mb": 200,
            "strax_version": LAYOUT_OF,
            "writing_started": time.time(),
            "chunks": [],
            "dmsim": provenance,
        }
        self.is_closed = self.folder.exists()
        current = self.folder if self.is_closed else self._temporary
        path = current / f"{self.prefix}-metadata.json"
        if path.exists():
            found = read_metadata(current)
            if found.get("dmsim") != provenance or found["dtype"] != self._metadata["dtype"]:
                raise ValueError(f"{current} holds data of another run: give another folder")
            self._metadata = found
        elif self.is_closed:
            raise ValueError(f"{current} has no {path.name}: it is not a strax folder")
        else:
            current.mkdir(parents=True, exist_ok=True)
        if not self.is_closed:
            remove_temporary(current)

    @property
    def n_chunks(self) -> int:
        """Chunks written."""
        return len(self._metadata["chunks"])

    @property
    def n_rows(self) -> int:
        """Rows in all written chunks."""
        return sum(chunk["n"] for chunk in self._metadata["chunks"])

    def total(self, name: str) -> int:
        """Sum of an extra number over all written chunks."""
        return sum(chunk.get(name, 0) for chunk in self._metadata["chunks"])

    @property
    def end_ns(self) -> int | None:
        """End of the last chunk; None if there is none."""
        return self._metadata["chunks"][-1]["end"] if self.n_chunks else None

    def write(self, array: np.ndarray, *, start_ns: int, end_ns: int, **extra: Any) -> None:
        """Append a chunk.

        Args:
            array: rows sorted by time, all inside [start_ns, end_ns].
            start_ns: start of the chunk: the end of the one before, as strax wants a run without holes.
            end_ns: end of the chunk.
            **extra: further numbers for the chunk's metadata.

        Raises:
            ValueError: if the chunk breaks one of these rules.
        """
        number = self.n_chunks
        name = f"{self.folder.name}, chunk {number}"
        if self.end_ns is not None and start_ns != self.end_ns:
            raise ValueError(f"{name} starts at {start_ns} ns: it must start at {self.end_ns} ns")
        info: dict[str, Any] = {
            "chunk_i": number,
            "n": int(array.size),
            "start": int(start_ns),
            "end": int(end_ns),
            "run_id": self._metadata["run_id"],
            "subruns": None,
            "nbytes": int(array.nbytes),
            **extra,
        }
        if array.size:
            ends = endtime_ns(array)
            if np.any(np.diff(array["time"]) < 0):
                raise ValueError(f"{name}: rows are not sorted by time")
            if array["time"][0] < start_ns or ends.max() > end_ns:
                raise ValueError(f"{name}: rows reach out of {start_ns} to {end_ns} ns")
            for key, row in (("first", 0), ("last", -1)):
                info[f"{key}_time"], info[f"{key}_endtime"] = int(array["time"][row]), int(ends[row])
            if array.nbytes >= blosc.MAX_BUFFERSIZE:
                raise ValueError(
                    f"{name} has {array.nbytes} bytes and strax's limit is 2 GB: write smaller chunks"
                )
            packed = CODECS[self._metadata["compressor"]].compress(array.tobytes())
            path = self._temporary / f"{self.prefix}-{number:06d}"
            write_whole(path, lambda file: file.write(packed))
            info |= {"filename": path.name, "filesize": len(packed), "sha256": sha256_of_file(path)}
        chunks = [*self._metadata["chunks"], info]
        self._metadata |= {"chunks": chunks, "start": chunks[0]["start"], "end": chunks[-1]["end"]}
        write_json(self._temporary / f"{self.prefix}-metadata.json", self._metadata)

    def close(self) -> None:
        """Give the folder its final name. Does nothing if it has it."""
        if self.is_closed:
            return
        self._metadata["writing_ended"] = time.time()
        write_json(self._temporary / f"{self.prefix}-metadata.json", self._metadata)
        self._temporary.rename(self.folder)
        self.is_closed = True


def endtime_ns(array: np.ndarray) -> np.ndarray:
    """Exclusive end of each row."""
    if "endtime" in (array.dtype.names or ()):
        return array["endtime"]
    return array["time"] + array["length"].astype(np.int64) * array["dt"]


def read_metadata(folder: Path) -> dict[str, Any]:
    """The metadata of a folder, with what strax's layout needs.

    Raises:
        ValueError: if it is not a strax folder.
    """
    parts = folder.name.removesuffix(TEMP).split("-")
    if len(parts) != 3:
        raise ValueError(f"{folder} is not a strax folder: its name must be RUN-TYPE-HASH")
    path = folder / f"{parts[1]}-{parts[2]}-metadata.json"
    if not path.is_file():
        path = folder / "metadata.json"  # of strax before 0.9
    if not path.is_file():
        raise ValueError(f"{folder} is not a strax folder: it has no {parts[1]}-{parts[2]}-metadata.json")
    metadata = read_json(path, "strax's metadata")
    missing = [key for key in ("run_id", "data_type", "dtype", "compressor", "chunks") if key not in metadata]
    if missing:
        raise ValueError(f"{path} is not strax's metadata: it has no {', '.join(missing)}")
    if not isinstance(metadata["compressor"], str) or metadata["compressor"] not in CODECS:
        raise ValueError(f"{path}: compressor {metadata['compressor']!r} is not one of {', '.join(CODECS)}")
    if "exception" in metadata:
        raise ValueError(f"{path} says that writing failed: make the data again")
    if not (isinstance(metadata["chunks"], list) and all(map(_is_chunk, metadata["chunks"]))):
        raise ValueError(f"{path} is damaged: chunks must be a list of objects with the number of rows n")
    return metadata


def _is_chunk(info: Any) -> bool:
    """Whether a chunk's entry has the types that reading relies on."""
    if not isinstance(info, dict) or type(info.get("n")) is not int:
        return False
    size, name = info.get("filesize", 0), info.get("filename", "")
    return 0 <= info["n"] < 2**40 and isinstance(size, int) and isinstance(name, str) and "\0" not in name


class FolderReader:
    """Reads one data type of one run."""

    def __init__(self, folder: Path):
        """Open a folder.

        Raises:
            ValueError: if it is not a strax folder, or was not finished.
        """
        if folder.name.endswith(TEMP):
            raise ValueError(f"{folder} was not finished: give the command that wrote it again")
        self.folder = folder
        self.metadata = read_metadata(folder)
        self.data_type: str = self.metadata["data_type"]
        self.dtype = _parse_dtype(self.metadata["dtype"], folder)
        self.n_chunks = len(self.metadata["chunks"])

    def read(self, chunk: int) -> np.ndarray:
        """Read a chunk.

        Raises:
            ValueError: if the file is missing, damaged, or not what the metadata say.
        """
        info = self.metadata["chunks"][chunk]
        if info["n"] == 0:
            return np.empty(0, self.dtype)
        name = str(info.get("filename", ""))
        path = self.folder / name
        if not name or Path(name).name != name:
            raise ValueError(
                f"{self.folder}: chunk {chunk} names the file {name!r}, which is not one of the folder"
            )
        if not path.is_file():
            raise ValueError(f"{path} is missing: the metadata list it with {info['n']} rows")
        packed = path.read_bytes()
        if "filesize" in info and len(packed) != info["filesize"]:
            raise ValueError(
                f"{path} has {len(packed)} bytes and was written with {info['filesize']}: truncated?"
            )
        if "sha256" in info and hashlib.sha256(packed).hexdigest() != info["sha256"]:
            raise ValueError(f"{path} does not have the SHA-256 in the metadata: it is damaged or foreign")
        codec = self.metadata["compressor"]
        expected = info["n"] * self.dtype.itemsize
        try:
            data = CODECS[codec].decompress(packed, expected)
        except Exception as error:  # each compressor raises its own
            raise ValueError(f"{path} is not readable as {codec}: {error}") from None
        if len(data) != expected:
            raise ValueError(
                f"{path} holds {'more' if len(data) > expected else len(data)} bytes: "
                f"{info['n']} rows of {self.dtype.itemsize} are expected"
            )
        return np.frombuffer(data, self.dtype)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The chunks in order."""
        return (self.read(chunk) for chunk in range(self.n_chunks))


def _parse_dtype(text: str, folder: Path) -> np.dtype:
    try:
        dtype = np.dtype(ast.literal_eval(text))
    except (
        ValueError,
        SyntaxError,
        TypeError,
        MemoryError,
        RecursionError,
        OverflowError,
        KeyError,
    ) as error:
        raise ValueError(f"{folder}: the metadata's dtype is not a list of fields ({error})") from None
    if dtype.hasobject or dtype.names is None or not dtype.itemsize:
        raise ValueError(f"{folder}: the metadata's dtype must have named fields of plain numbers")
    return dtype


def find_folder(where: Path, data_type: str, *, run_id: str | None = None) -> Path | None:
    """The finished folder of a data type in a folder of runs; None if there is none.

    Raises:
        ValueError: if there are several.
    """
    found = sorted(path for path in where.glob(f"{run_id or '*'}-{data_type}-*") if _is_finished(path))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{where} has several folders of {data_type} ({names}): give one of them")
    return found[0] if found else None


def _is_finished(path: Path) -> bool:
    return path.is_dir() and len(path.name.split("-")) == 3 and not path.name.endswith(TEMP)
