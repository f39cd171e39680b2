"""The generator of `dmsim.rng` on the host, bit for bit, in numpy: nothing to compile, doubles of 52 bits.

For what has no gradient and is made before the arrays' sizes are known: times on the clock, decay chains.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from dmsim import rng

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


class HostWords(NamedTuple):
    """A Threefry key, or one a row."""

    first: UInt32[np.ndarray, "..."]
    second: UInt32[np.ndarray, "..."]


def host_words(key: PRNGKeyArray) -> HostWords:
    """The two words of a Threefry key.

    Raises:
        ValueError: if it is none, or is being traced.
    """
    if isinstance(key, Tracer):
        raise ValueError("key is being traced by jax.jit or jax.vmap: events on a clock need its value")
    with jax.ensure_compile_time_eval():
        return HostWords(*(np.asarray(word)[None] for word in rng.words_of(key)))


def threefry(key: HostWords, counter_0: Array | np.ndarray, counter_1: Array | np.ndarray) -> HostWords:
    """As `dmsim.rng.threefry2x32`."""
    k0, k1 = key
    schedule = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0 = np.atleast_1d(counter_0).astype(np.uint32) + k0
    x1 = np.atleast_1d(counter_1).astype(np.uint32) + k1
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = (x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))
            x1 = x0 ^ x1
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return HostWords(x0, x1)


def fold(key: HostWords, *indices: Int[np.ndarray, "..."] | int) -> HostWords:
    """As `dmsim.rng.fold`; indices under 2^32."""
    for index in indices:
        key = threefry(key, np.asarray(index).astype(np.int64) & 0xFFFFFFFF, np.zeros(1, np.int64))
    return key


def uniforms(
    key: HostWords, *indices: Int[np.ndarray, "..."] | int, second: bool = False
) -> Float[np.ndarray, "..."]:
    """A uniform in (0, 1) for each broadcast element of the indices; or another one."""
    drawn = threefry(fold(key, *indices), np.full(1, int(second)), np.zeros(1, np.int64))
    high, low = (word.astype(np.uint64) for word in drawn)
    bits = (high << np.uint64(20)) | (low >> np.uint64(12))
    return (bits.astype(np.float64) + 0.5) * 2.0**-52
