"""Draws and densities of a posterior for many events, in chunks of one shape."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from inference.diagnostics.check import need_rows


def _n_events(x: Any) -> int:
    sizes = {np.shape(leaf)[0] for leaf in jax.tree.leaves(x)}
    if len(sizes) != 1:
        raise ValueError(f"x has leading axes of {sorted(sizes)} events: must be one number")
    return sizes.pop()


def _chunks(n: int, chunk: int):
    """Slices of one length: the last reaches back, so that nothing is compiled for what is left."""
    chunk = min(chunk, n)
    for first in range(0, n, chunk):
        yield slice(min(first, n - chunk), min(first, n - chunk) + chunk)


def draw(
    key: PRNGKeyArray,
    sample: Callable[[PRNGKeyArray, Any, int], Float[Any, "event draw parameter"]],
    x: Any,
    *,
    n_draws: int,
    chunk: int = 250,
) -> Float[np.ndarray, "event draw parameter"]:
    """Draws of the posterior of each event.

    Args:
        key: split over the chunks.
        sample: (key, x, n) -> [event, n, parameter].
        x: data, events first in every array.
        n_draws: an event.
        chunk: events at a time.

    Raises:
        ValueError: if what comes back has another shape, or a draw is not finite.
    """
    n = _n_events(x)
    found = None
    for number, part in enumerate(_chunks(n, chunk)):
        given = jax.tree.map(lambda leaf, part=part: leaf[part], x)
        rows = np.asarray(sample(jax.random.fold_in(key, number), given, n_draws))
        need_rows("what sample returns", rows, (part.stop - part.start, n_draws, None))
        found = np.empty((n, *rows.shape[1:]), rows.dtype) if found is None else found
        found[part] = rows
    assert found is not None
    return found


def log_densities(
    log_prob: Callable[[Any, Any], Any],
    theta: Float[np.ndarray, "event parameter"],
    draws: Float[np.ndarray, "event draw parameter"],
    x: Any,
    *,
    chunk: int = 250,
) -> tuple[Float[np.ndarray, "event"], Float[np.ndarray, "event draw"]]:
    """Log-density of the posterior at the truths and at its draws.

    Args:
        log_prob: (theta[event, point, parameter], x[event, ...]) -> [event, point].
        theta: truths.
        draws: of each event.
        x: data, events first in every array.
        chunk: events at a time.

    Raises:
        ValueError: if what comes back has another shape.
    """
    n, n_draws, _ = draws.shape
    found = np.empty((n, n_draws + 1))
    for part in _chunks(n, chunk):
        points = np.concatenate([theta[part, None], draws[part]], axis=1)
        given = jax.tree.map(lambda leaf, part=part: leaf[part], x)
        values = np.asarray(log_prob(jnp.asarray(points, jnp.float32), given))
        if values.shape != points.shape[:2]:
            raise ValueError(f"what log_prob returns has shape {values.shape}: must be {points.shape[:2]}")
        found[part] = values
    return found[:, 0], found[:, 1:]
