"""Compiled programs in a file: what a training exports and production loads, with JAX and NumPy alone.

The file is an `.npz` without pickle: the program as jax.export writes it (StableHLO, for any number of
events), and one JSON text that names inputs and outputs.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMAT = "dmsim-exported-1"


class Exported(NamedTuple):
    """A loaded program."""

    call: Callable[..., dict[str, Any]]  # arrays with a leading event axis -> named arrays with one
    stated: dict[str, Any]  # inputs, outputs, units, detector: whatever the exporter wrote


def load_exported(path: Path | str) -> Exported:
    """Read a program; it is compiled for each new number of events: pad to a few sizes.

    Args:
        path: of the file.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is no such file, or for another kind of device than this process has.
    """
    import jax  # noqa: PLC0415  readers of the text alone need none
    from jax import export  # noqa: PLC0415

    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            stated = json.loads(bytes(archive["stated"]))
            program = archive["program"].tobytes()
    except FileNotFoundError:
        raise
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no exported program: {error}") from error
    if not isinstance(stated, dict) or stated.get("format") != FORMAT:
        raise ValueError(f"{path} is no exported program of format {FORMAT}")
    try:
        exported = export.deserialize(bytearray(program))
    except Exception as error:  # flatbuffers raises what it meets
        raise ValueError(f"{path} is damaged: its program cannot be read") from error
    if jax.default_backend() not in [name.replace("cuda", "gpu") for name in exported.platforms]:
        made = ", ".join(exported.platforms)
        raise ValueError(f"{path} is for {made}; this process computes on {jax.default_backend()}")
    return Exported(jax.jit(exported.call), stated)


def write_exported(path: Path | str, program: bytearray, stated: dict[str, Any]) -> None:
    """Write a program that `jax.export` has serialised, and what is said of it."""
    text = json.dumps({"format": FORMAT, **stated}).encode()
    with Path(path).open("wb") as file:
        np.savez(file, program=np.frombuffer(program, np.uint8), stated=np.frombuffer(text, np.uint8))
