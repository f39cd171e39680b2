"""A training's state in a file: numbers and a JSON text, no pickle, written whole or not at all."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from inference.estimators.training import History, State


def digest(tree: Any) -> str:
    """SHA-256 of all arrays of a tree."""
    running = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, Array | np.ndarray):
            running.update(np.ascontiguousarray(leaf).tobytes())
    return running.hexdigest()


def write_archive(path: Path, arrays: dict[str, np.ndarray], stated: dict[str, Any]) -> None:
    """Write numbers and a JSON text, to a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = np.frombuffer(json.dumps(stated, sort_keys=True).encode(), np.uint8)
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays, json=text)  # pyright: ignore[reportArgumentType]
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_archive(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `write_archive` wrote; runs no code of the file.

    Raises:
        ValueError: if the file is something else.
        FileNotFoundError: if there is none.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        stated = json.loads(arrays.pop("json").tobytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except Exception as error:  # numpy and zipfile raise half a dozen kinds
        # numpy's own words advise to load pickles
        raise ValueError(f"{path} is not an archive of numbers and a JSON text, or is damaged") from error
    return arrays, stated


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The file of one training.

    Args:
        path: of the file; written after a while, and read if it is there.
        identity: what must be equal for the training to go on.
    """

    path: Path
    identity: dict[str, Any]

    def write(self, state: State, history: History) -> None:
        """Keep the state after a finished epoch."""
        leaves = jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))
        arrays = {f"state.{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        write_archive(self.path, arrays, {"identity": self.identity, "history": dataclasses.asdict(history)})

    def read(self, fresh: State, history: History) -> tuple[State, History]:
        """The state that was kept, or the fresh one if there is no file.

        Raises:
            ValueError: if the file is of another training or of another version's; says what differs.
        """
        if not self.path.exists():
            return fresh, history
        arrays, stated = read_archive(self.path)
        kept, own = stated.get("identity", {}), json.loads(json.dumps(self.identity))
        differing = [name for name in own if kept.get(name) != own[name]]
        if differing:
            raise ValueError(
                f"checkpoint {self.path} is of another training: {', '.join(differing)} differ; "
                "remove it, or give another name"
            )
        leaves, structure = jax.tree.flatten(fresh._replace(key=jax.random.key_data(fresh.key)))
        expected = {f"state.{i}": jnp.shape(leaf) for i, leaf in enumerate(leaves)}
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise ValueError(
                f"checkpoint {self.path} holds another state than this version keeps: remove it, or give "
                "another name"
            )
        read = [jnp.asarray(arrays[name]) for name in expected]
        state = jax.tree.unflatten(structure, read)
        return state._replace(key=jax.random.wrap_key_data(state.key)), History(**stated["history"])
