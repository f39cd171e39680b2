"""Ragged lists in fixed shapes: children of many parents in pages, capacities from a few buckets.

Each parent's children fill whole pages of one size, so that a page has one parent and what belongs to the
parent is fetched once a page. The number of pages is rounded up to a bucket, so that few shapes compile.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

_SMALLEST_BUCKET = 16
_LARGEST = 2**30
_BUCKETS_AN_OCTAVE = 2  # 9 % of slots empty on average; four would halve that and double the compilations


class Pages(NamedTuple):
    """Pages of children: whose they are and which of the parent's children they hold."""

    parent: Int[Array, "page"]
    child: Int[Array, "page slot"]  # number of the child within its parent
    valid: Bool[Array, "page slot"]
    n_overflow: Int[Array, ""]  # children without a slot


def paginate(counts: Int[Array, "parent"], *, page_size: int, n_pages: int) -> Pages:
    """Lay the children of all parents out in pages.

    Args:
        counts: children of each parent, >= 0.
        page_size: slots a page.
        n_pages: capacity; children beyond it are counted in `n_overflow`.

    Gradient: none (integers).
    """
    n_parents = counts.shape[0]
    if n_parents == 0:
        nothing = jnp.zeros((n_pages, page_size), jnp.int32)
        return Pages(jnp.zeros(n_pages, jnp.int32), nothing, nothing > 0, jnp.int32(0))
    pages = -(-counts // page_size)
    ends = jnp.cumsum(pages)
    starts = ends - pages
    # the parent of a page is the last one, with any pages, that starts at or before it
    target = jnp.where(pages > 0, starts, n_pages)
    marks = jnp.zeros(n_pages, jnp.int32).at[target].max(jnp.arange(n_parents, dtype=jnp.int32), mode="drop")
    parent = jax.lax.cummax(marks)
    page = jnp.arange(n_pages)
    child = (page - starts[parent])[:, None] * page_size + jnp.arange(page_size)
    valid = (child < counts[parent][:, None]) & (page < ends[-1])[:, None]
    stored = jnp.clip((n_pages - starts) * page_size, 0, counts)
    return Pages(parent, child, valid, jnp.sum(counts - stored))


def bucket(needed: float, *, page_size: int = 1) -> int:
    """The smallest capacity of the bucket ladder, 16 x 2^(k/2), that holds `needed`.

    Args:
        needed: pages, or rows.
        page_size: slots a page.

    Raises:
        ValueError: if that is more slots than the largest bucket has (2^30: a 32-bit index reaches them), or
            not a number.
    """
    if not needed * page_size <= _LARGEST:  # NaN is refused as well
        raise ValueError(
            f"{needed * page_size:.4g} slots are needed in one batch, more photons than the largest bucket "
            f"holds (2^30): simulate fewer events at a time, or look for NaN in deposits and detector"
        )
    step = 0
    while (size := math.ceil(_SMALLEST_BUCKET * 2 ** (step / _BUCKETS_AN_OCTAVE))) < needed:
        step += 1
    return size


def concrete(x: Array, *, what: str) -> np.ndarray:
    """The value of an array on the host, also under `jax.grad` and `jax.jvp`.

    Raises:
        ValueError: under `jax.jit` or `jax.vmap`, where there is no value yet.
    """
    try:
        return np.asarray(jax.lax.stop_gradient(x))
    except jax.errors.TracerArrayConversionError:
        raise ValueError(
            f"{what} needs concrete numbers to choose its array sizes, and runs here inside jax.jit or "
            "jax.vmap: call it outside (it compiles its own kernels, and jax.grad and jax.jvp work on it)"
        ) from None
