"""A set of simulated pairs in a Parquet file: columns with names and units, row group by row group.

Beside the numbers the file says what they are of: prior, detector, key, the shape of each entry. It is
compared when the set is read, so that no set trains a posterior for another prior or detector. No pickle:
columns with checksums and one JSON text.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import PRNGKeyArray

import dmsim
from dmsim.io.files import write_whole
from inference.estimators.data import Cached, Layout, Simulate, check_finite
from inference.estimators.files import detector_identity
from inference.priors import Prior

FORMAT = 1  # grows when a file of an older library can no longer be read
_STATED = b"dmsim.cached"
_NO_SCORE = "these files hold (theta, x) alone: leave out the joint score and weights"
_ROWS = 65_536  # of a group: 40 MB for a set of 150 numbers an event


def prior_sha256(prior: Prior) -> str:
    """Hash of a prior's names, units and laws."""
    return hashlib.sha256(json.dumps(prior.to_json(), sort_keys=True).encode()).hexdigest()


def write_cached(
    path: Path | str,
    cached: Cached,
    prior: Prior,
    *,
    detector: Any = None,
    key: PRNGKeyArray | None = None,
    x_units: Mapping[str, str] | None = None,
    rows: int = _ROWS,
) -> None:
    """Write a set.

    Args:
        path: of the file.
        cached: the set.
        prior: that theta was drawn from.
        detector: that x was simulated with; its name and the hash of its numbers are kept.
        key: that the set was drawn with, kept as a note.
        x_units: by the names of x's entries; "" is the name where x is an array.
        rows: of a group, > 0: what is read at a time.

    Raises:
        ValueError: for a set that is empty, not finite, not of this prior, or with a joint score
            or weights.
    """
    if cached.score is not None or cached.weight is not None:
        raise ValueError(_NO_SCORE)
    parts = (
        Cached(cached.theta[i : i + rows], jax.tree.map(lambda part, i=i: part[i : i + rows], cached.x))
        for i in range(0, len(cached), rows)
    )
    _write(Path(path), parts, prior, len(cached), _origin(detector, key), x_units or {})


def draw_parquet(
    key: PRNGKeyArray,
    path: Path | str,
    simulate: Simulate,
    prior: Prior,
    n: int,
    *,
    detector: Any = None,
    x_units: Mapping[str, str] | None = None,
    rows: int = _ROWS,
) -> None:
    """Simulate a set into a file, a group at a time: it may be larger than memory.

    Args:
        key: of the simulations; the same key gives the same set as `Cached.draw` with chunks of `rows`.
        path: of the file.
        simulate: as estimators take it.
        prior: that it draws theta from.
        n: events, > 0.
        detector: as `write_cached`.
        x_units: as `write_cached`.
        rows: of a group, > 0.

    Raises:
        ValueError: as `write_cached`.
    """
    size, compiled = min(n, rows), jax.jit(simulate, static_argnums=1)

    def parts():
        for i in range(-(-n // size)):
            theta, x, *score = jax.tree.map(np.asarray, compiled(jax.random.fold_in(key, i), size))
            if score:
                raise ValueError(_NO_SCORE)
            left = min(size, n - i * size)
            yield Cached(theta[:left], jax.tree.map(lambda part, left=left: part[:left], x))

    _write(Path(path), parts(), prior, n, _origin(detector, key), x_units or {})


def read_cached(path: Path | str, prior: Prior, *, detector: Any = None) -> Cached:
    """The whole set of a file.

    Args:
        path: of the file.
        prior: of the estimator that is to be trained.
        detector: that its data are from; not compared if not given.

    Raises:
        ValueError: if the file is none of ours, damaged, of another prior or detector, or not finite.
        FileNotFoundError: if there is no file.
    """
    parts = list(iterate_cached(path, prior, detector=detector))
    theta, x = jax.tree.map(lambda *each: np.concatenate(each), *((part.theta, part.x) for part in parts))
    return Cached(theta, x)


def iterate_cached(path: Path | str, prior: Prior, *, detector: Any = None) -> Iterator[Cached]:
    """The sets of a file's groups, one in memory at a time; arguments and errors as `read_cached`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            stated = _stated(path, file)
            _compare(path, stated, prior, detector)
            for group in range(file.num_row_groups):
                yield _unpacked(path, file.read_row_group(group), stated, prior)
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"{path} is no Parquet file, or is damaged: {first}") from None


def _origin(detector: Any, key: PRNGKeyArray | None) -> dict[str, Any]:
    return {
        "detector": None if detector is None else detector_identity(detector),
        "key": None if key is None else np.asarray(jax.random.key_data(key)).tolist(),
    }


def _write(
    path: Path,
    parts: Iterable[Cached],
    prior: Prior,
    n: int,
    origin: dict[str, Any],
    x_units: Mapping[str, str],
) -> None:
    if n < 1:
        raise ValueError(f"a set of {n} events cannot be written: it needs one or more")

    def save(file):
        writer = None
        try:
            for part in parts:
                table = _packed(part, prior, n, origin, x_units)
                writer = writer or pq.ParquetWriter(
                    file, table.schema, compression="zstd", write_page_checksum=True
                )
                writer.write_table(table, row_group_size=len(part))
        finally:
            if writer is not None:
                writer.close()

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save)


def _packed(
    part: Cached, prior: Prior, n: int, origin: dict[str, Any], x_units: Mapping[str, str]
) -> pa.Table:
    """A group as a table."""
    if part.theta.ndim != 2 or part.theta.shape[1] != prior.n_parameters:
        raise ValueError(f"theta has shape {part.theta.shape}: the prior has {', '.join(prior.names)}")
    if not np.isfinite(part.theta).all():
        raise ValueError("theta is not finite")
    prior.check_inside(part.theta)
    check_finite(part.x)
    layout = Layout.of(part.x)
    entries = part.x if isinstance(part.x, Mapping) else {"": part.x}
    unknown = sorted(set(x_units) - set(entries))
    if unknown:
        raise ValueError(f"x has no entry {', '.join(map(repr, unknown))}, for which a unit is given")
    stated = {
        "format": FORMAT,
        "version": dmsim.__version__,
        "n_events": n,
        "prior": prior.to_json(),
        "prior_sha256": prior_sha256(prior),
        "layout": [[name, list(shape)] for name, shape in layout.entries],
        **origin,
    }
    fields, arrays = [], []
    for i, (name, unit) in enumerate(zip(prior.names, prior.units, strict=True)):
        column = pa.array(np.ascontiguousarray(part.theta[:, i]))
        fields.append(pa.field(f"theta.{name}", column.type, metadata={"unit": unit}))
        arrays.append(column)
    for name, shape in layout.entries:
        flat = pa.array(np.ascontiguousarray(entries[name]).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, math.prod(shape)) if shape else flat
        fields.append(pa.field(_column(name), column.type, metadata={"unit": x_units.get(name, "")}))
        arrays.append(column)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={_STATED: json.dumps(stated)}))


def _column(name: str) -> str:
    return f"x.{name}" if name else "x"


def _stated(path: Path, file: pq.ParquetFile) -> dict[str, Any]:
    """What the file says of itself, and all its columns are there."""
    text = (file.schema_arrow.metadata or {}).get(_STATED)
    if text is None:
        raise ValueError(f"{path} is no set of simulated pairs")
    stated = json.loads(text)
    if stated.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {stated.get('format')} of version {stated.get('version')}; this is version "
            f"{dmsim.__version__}, which reads format {FORMAT}: draw the set again"
        )
    wanted = [f"theta.{name}" for block in stated["prior"] for name in _names(block)]
    wanted += [_column(name) for name, _ in stated["layout"]]
    missing = [name for name in wanted if name not in file.schema_arrow.names]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}")
    if file.metadata.num_rows != stated["n_events"]:
        raise ValueError(
            f"{path} has {file.metadata.num_rows} rows: it was written with {stated['n_events']}"
        )
    return stated


def _names(block: dict[str, Any]) -> list[str]:
    return block["names"] if "names" in block else [block["name"]]


def _compare(path: Path, stated: dict[str, Any], prior: Prior, detector: Any) -> None:
    """Refuse a set of another prior or detector."""
    if stated["prior_sha256"] != prior_sha256(prior):
        names = [name for block in stated["prior"] for name in _names(block)]
        differs = (
            f"of {', '.join(names)}, not of {', '.join(prior.names)}"
            if names != list(prior.names)
            else "with other laws, ranges or units"
        )
        raise ValueError(f"{path} was drawn from another prior: {differs}")
    if detector is None:
        return
    kept, given = stated["detector"], detector_identity(detector)
    if kept is None:
        raise ValueError(f"{path} does not say which detector it was simulated with")
    if kept["name"] != given["name"]:
        raise ValueError(f"{path} was simulated with detector {kept['name']}, not {given['name']}")
    if kept["sha256"] != given["sha256"]:
        raise ValueError(
            f"{path} was simulated with {kept['name']}, but with other parameters than it has here"
        )


def _unpacked(path: Path, table: pa.Table, stated: dict[str, Any], prior: Prior) -> Cached:
    """A group as a set."""
    theta = np.stack([table[f"theta.{name}"].to_numpy() for name in prior.names], axis=-1)
    entries = {}
    for name, shape in stated["layout"]:
        column = table[_column(name)].combine_chunks()
        if column.null_count:
            raise ValueError(f"{path}: column {_column(name)} has {column.null_count} empty rows")
        flat = column.flatten() if shape else column
        entries[name] = flat.to_numpy(zero_copy_only=False).reshape(len(theta), *shape)
    x = entries[""] if set(entries) == {""} else entries
    try:
        if not np.isfinite(theta).all():
            raise ValueError("theta is not finite")
        check_finite(x)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Cached(theta, x)
