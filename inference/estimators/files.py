"""A trained posterior in a file: numbers by their place in the network, and a JSON text that describes it.

Reading builds the described network afresh and puts the numbers in; nothing of the file is executed.
"""

import dataclasses
import hashlib
import inspect
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import dmsim
from inference import embeddings, flows, priors
from inference.estimators.base import AbstractEstimator, Fit
from inference.estimators.checkpoints import read_archive, write_archive
from inference.estimators.data import Layout
from inference.estimators.fmpe import FMPE
from inference.estimators.nle import NLE
from inference.estimators.npe import NPE
from inference.estimators.nre import NRE

FORMAT = 1  # grows when a file of an older library can no longer be read
ESTIMATORS: dict[str, type[AbstractEstimator]] = {e.__name__: e for e in (NPE, FMPE, NLE, NRE)}
_NETWORK = "network."


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A posterior from a file and what the file says of it."""

    posterior: Any
    history: dict[str, list[float]]
    diagnostics: dict[str, Any]
    detector: dict[str, str] | None
    version: str
    events: dict[str, Any] | None = None  # event model whose summaries the posterior takes, if it takes any


def detector_identity(detector: Any) -> dict[str, str]:
    """Name of a detector, and a hash of all its numbers."""
    running = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(detector, eqx.is_array)):
        running.update(jax.tree_util.keystr(path).encode() + np.ascontiguousarray(leaf).tobytes())
    return {"name": str(detector.name), "sha256": running.hexdigest()}


def _numbers(network: Any) -> dict[str, jax.Array]:
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(network, eqx.is_array))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def save_posterior(
    path: Path | str,
    fit: Fit,
    *,
    detector: Any = None,
    diagnostics: dict[str, Any] | None = None,
    events: dict[str, Any] | None = None,
) -> None:
    """Write a trained posterior.

    Args:
        path: of the file, ".npz".
        fit: from an estimator.
        detector: that the simulations were made with, so that a posterior is not used for another.
        diagnostics: what was found out about the posterior, as JSON.
        events: of the event model's `to_json`, if the posterior takes summaries that a model of
            `inference.events` makes; without it the posterior's data are columns of a table.
    """
    arrays = {_NETWORK + name: np.asarray(leaf) for name, leaf in _numbers(fit.posterior.network).items()}
    stated = {
        "format": FORMAT,
        "version": dmsim.__version__,
        "architecture": fit.estimator.describe(),
        "layout": [[name, list(shape)] for name, shape in fit.posterior.layout.entries],
        "prior": fit.estimator.prior.to_json(),
        "budget": dataclasses.asdict(fit.budget),
        "history": dataclasses.asdict(fit.history),
        "detector": None if detector is None else detector_identity(detector),
        "diagnostics": diagnostics or {},
        "events": events,
    }
    write_archive(Path(path), arrays, stated)


def load_posterior(path: Path | str, *, detector: Any = None) -> Loaded:
    """Read a trained posterior.

    Args:
        path: of the file.
        detector: that the data are from; not compared if not given.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is no such file, of another version or detector, or its numbers do not fit what it
            describes.
    """
    path = Path(path)
    arrays, stated = read_archive(path)
    if stated.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {stated.get('format')} of version {stated.get('version')}; this is version "
            f"{dmsim.__version__}, which reads format {FORMAT}: train the posterior again"
        )
    if detector is not None:
        _compare_detector(path, stated["detector"], detector_identity(detector))
    try:
        estimator = _estimator(stated["architecture"], priors.from_json(stated["prior"]))
        layout = Layout(tuple((name, tuple(shape)) for name, shape in stated["layout"]))
        network = estimator.untrained(jax.random.key(0), layout)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} describes a posterior that this version cannot build: {error}") from error
    network = _filled(path, network, arrays)
    posterior = estimator.posterior(network, layout)
    told = (stated[name] for name in ("history", "diagnostics", "detector", "version"))
    return Loaded(posterior, *told, events=stated.get("events"))


def _compare_detector(path: Path, kept: dict[str, str] | None, given: dict[str, str]) -> None:
    if kept is None:
        raise ValueError(f"{path} does not say which detector it was trained for")
    if kept["name"] != given["name"]:
        raise ValueError(f"{path} was trained for detector {kept['name']}, the data are from {given['name']}")
    if kept["sha256"] != given["sha256"]:
        raise ValueError(f"{path} was trained for {kept['name']} with other parameters than this one has")


def _filled(path: Path, network: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The network with the file's numbers."""
    wanted = _numbers(network)
    given = {
        name.removeprefix(_NETWORK): array for name, array in arrays.items() if name.startswith(_NETWORK)
    }
    if set(given) != set(wanted):
        odd = ", ".join(sorted(set(given) ^ set(wanted))[:3])
        raise ValueError(f"{path} and the network it describes differ in {odd}")
    for name, leaf in wanted.items():
        if given[name].shape != leaf.shape or given[name].dtype.kind != np.dtype(leaf.dtype).kind:
            shapes = f"{given[name].shape} {given[name].dtype} instead of {leaf.shape} {leaf.dtype}"
            raise ValueError(f"{path}: {name} is {shapes}")
        if leaf.dtype.kind == "f" and not np.isfinite(given[name]).all():
            raise ValueError(f"{path}: {name} is not finite")
    held, rest = eqx.partition(network, eqx.is_array)
    leaves = [jnp.asarray(given[name], leaf.dtype) for name, leaf in wanted.items()]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(held), leaves), rest)


def _estimator(stated: dict[str, Any], prior: priors.Prior) -> AbstractEstimator:
    """The estimator that a file describes; only known ones, with numbers as arguments."""
    stated = dict(stated)
    estimator = ESTIMATORS[stated.pop("estimator")]
    if "flow" in stated:
        stated["flow"] = _described(flows.KINDS, stated["flow"])
    if "embedding" in stated:
        stated["embedding"] = _described(embeddings.KINDS, stated["embedding"])
    return estimator(prior, **stated)


def _described(kinds: dict[str, Any], stated: dict[str, Any]) -> Any:
    numbers = {name: _tuples(value) for name, value in stated.items() if name != "kind"}
    if stated["kind"] not in kinds:
        raise ValueError(f"{stated['kind']!r} is none of {', '.join(kinds)}")
    unknown = set(numbers) - set(inspect.signature(kinds[stated["kind"]]).parameters)
    if unknown:
        raise ValueError(f"{stated['kind']} has no argument {', '.join(sorted(unknown))}")
    return kinds[stated["kind"]](**numbers)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that descriptions hold."""
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
