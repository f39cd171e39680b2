"""What a task of a long run leaves behind: its files, counted and checksummed, and border records.

A task is done once its receipt is written, which happens last. Tasks write no file that another task
writes, so that any number of them may run at once, on any machine that sees the folder.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from dmsim.io.files import read_json, write_json, write_whole
from dmsim.io.parquet import is_written
from dmsim.io.record_columns import RecordColumns

FOLDER = "chunks"


def write_receipt(out: Path, name: str, content: dict[str, Any]) -> None:
    """Write the receipt of a task.

    Args:
        out: output folder of the run.
        name: of the task.
        content: JSON; `files` maps paths in `out` to their entries, `provenance` is the run's digest.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", content)


def read_receipt(out: Path, name: str, digest: str) -> dict[str, Any] | None:
    """The receipt of a task that was done in this run and whose files are there still; else None."""
    path = out / FOLDER / f"{name}.json"
    if not path.is_file():
        return None
    try:
        content = read_json(path, "a receipt")
        files = content["files"].items()
        whole = all(is_written(out / file, entry) for file, entry in files)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged: the task is done again
    return content if whole and content.get("provenance") == digest else None


def write_borders(path: Path, parts: dict[str, RecordColumns]) -> dict[str, Any]:
    """Write the records at the borders of a chunk.

    Returns:
        Size and checksum, for the receipt.
    """
    arrays = {
        f"{part}.{name}": np.asarray(column)
        for part, columns in parts.items()
        for name, column in zip(RecordColumns._fields, columns, strict=True)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
    return {"n_bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def read_borders(path: Path, parts: tuple[str, ...]) -> dict[str, RecordColumns]:
    """Read what `write_borders` wrote."""
    with np.load(path, allow_pickle=False) as found:
        columns: dict[str, dict[str, Any]] = {
            part: {name: found[f"{part}.{name}"] for name in RecordColumns._fields} for part in parts
        }
    for of_part in columns.values():
        of_part["sample_ns"] = int(of_part["sample_ns"])
    return {part: RecordColumns(**of_part) for part, of_part in columns.items()}


def remove_receipts(out: Path) -> None:
    """Remove receipts and border records, and nothing else."""
    folder = out / FOLDER
    for pattern in ("[0-9]" * 6 + ".json", "[0-9]" * 6 + ".npz", "joined.json"):
        for path in folder.glob(pattern):
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
