"""Where an output came from: everything that must be equal for two runs to give the same files."""

import hashlib
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import numpy as np

import dmsim
from dmsim.detector import Detector
from dmsim.io.files import TEMPORARY_SUFFIX, read_json, sha256_of_json, write_json

FILE_NAME = "provenance.json"


def source_sha256(package: ModuleType = dmsim) -> str:
    """SHA-256 of an installed package's Python files: names and content, in order of name."""
    digest = hashlib.sha256()
    root = Path(package.__file__ or "").parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


@dataclass(frozen=True)
class Provenance:
    """What an output depends on. Two runs with equal provenance write equal tables."""

    command: str
    settings: dict[str, Any]  # options of the command, as given; JSON values only
    detector: str
    detector_sha256: str
    seed: int | None
    chunks: dict[str, int]  # the chunk plan, such as {"n_events": 1000, "events_per_chunk": 250}
    inputs: dict[str, str] = field(default_factory=dict)  # name -> digest of what was read
    version: str = field(default_factory=lambda: dmsim.__version__)
    source_sha256: str = field(default_factory=source_sha256)
    jax_version: str = jax.__version__
    jax_backend: str = field(default_factory=jax.default_backend)
    precision: str = "float32"

    def as_dict(self) -> dict[str, Any]:
        """All fields, the hash of the settings, and the digest of the whole."""
        content = asdict(self)
        content["settings_sha256"] = sha256_of_json(self.settings)
        return {**content, "digest": sha256_of_json(content)}

    @property
    def digest(self) -> str:
        """SHA-256 of every field: equal digests mean equal outputs."""
        return self.as_dict()["digest"]


def tree_sha256(tree: Any) -> str:
    """SHA-256 of a tree's arrays (with their paths and types) and static fields."""
    digest = hashlib.sha256()
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    for path, leaf in leaves:
        array = np.ascontiguousarray(leaf) if eqx.is_array_like(leaf) else None
        digest.update(jax.tree_util.keystr(path).encode() + b"\0")
        if array is None:
            digest.update(repr(leaf).encode())
        else:
            digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    # static fields stand in the structure; functions among them print their address, which changes
    digest.update(re.sub(r" at 0x[0-9a-f]+", "", repr(structure)).encode())
    return digest.hexdigest()


def precision_of(detector: Detector) -> str:
    """Name of the type of the detector's float leaves."""
    return str(detector.xenon.temperature_k.dtype)


def check_output(folder: Path, provenance: Provenance) -> bool:
    """Whether an output folder already holds a run of this provenance, finished or not.

    Args:
        folder: may be missing or empty.
        provenance: of the run that wants to write there.

    Raises:
        ValueError: if the folder holds something else.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise ValueError(f"output {folder} is a file: give a folder with --out")
    path = folder / FILE_NAME
    if not path.exists():
        ours = (
            entry.name.startswith(FILE_NAME) and entry.suffix == TEMPORARY_SUFFIX
            for entry in folder.iterdir()
        )
        if not all(ours):
            raise ValueError(
                f"output folder {folder} holds files but no {FILE_NAME}: "
                "give an empty or a new folder with --out"
            )
        return False
    found, wanted = read_json(path, "a provenance file of dmsim"), provenance.as_dict()
    if found.get("digest") == wanted["digest"]:
        return True
    different = sorted(key for key in wanted if key not in _DERIVED and found.get(key) != wanted[key])
    raise ValueError(
        f"output folder {folder} holds a run with another provenance "
        f"({', '.join(different) or 'format'} differ): give --overwrite, or another folder with --out"
    )


_DERIVED = ("digest", "settings_sha256")


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write `provenance.json` into a folder, which is made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE_NAME, provenance.as_dict())


def read_provenance(folder: Path) -> dict[str, Any]:
    """The content of a folder's `provenance.json`.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise ValueError(f"{folder} is not an output of dmsim: it has no {FILE_NAME}")
    content = read_json(path, "a provenance file of dmsim")
    without_digest = {key: value for key, value in content.items() if key != "digest"}
    if content.get("digest") != sha256_of_json(without_digest):
        raise ValueError(
            f"{path} was changed by hand or is damaged: its digest does not belong to its content"
        )
    return content


def provenance_of(folder: Path) -> Provenance:
    """`Provenance` of an output folder, to hand on with what is made of its tables.

    Raises:
        ValueError: as `read_provenance`.
    """
    content = read_provenance(folder)
    return Provenance(**{name: value for name, value in content.items() if name not in _DERIVED})
