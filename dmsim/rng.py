"""Counter-based random numbers: a draw is a pure function of (key, event, stream, indices).

Nothing depends on how events were batched, padded or chunked, and a later stage can draw again what an
earlier one drew. The generator is Threefry-2x32 with 20 rounds, written without loops so that XLA fuses it
into whatever consumes the numbers; it is bit-identical to the one behind `jax.random`.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11, doi:10.1145/2063384.2063405.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry2x32_p
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA  # Threefish key-schedule constant C_240, low word


class Words(NamedTuple):
    """Two 32-bit words: a Threefry key, or one block of output."""

    first: UInt32[Array, "..."]
    second: UInt32[Array, "..."]


def threefry2x32(key: Words, counter_0: Array, counter_1: Array) -> Words:
    """One Threefry-2x32-20 block for each broadcast element of key and counters.

    Gradient: none (integers).
    """
    k0, k1 = key
    schedule = (k0, k1, k0 ^ k1 ^ jnp.uint32(_PARITY))
    x0 = jnp.asarray(counter_0).astype(jnp.uint32) + k0
    x1 = jnp.asarray(counter_1).astype(jnp.uint32) + k1
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = (x1 << rotation) | (x1 >> (32 - rotation))
            x1 = x0 ^ x1
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return Words(x0, x1)


def words_of(key: PRNGKeyArray) -> Words:
    """The two words of a typed or raw Threefry key.

    Raises:
        ValueError: if the key is not a single Threefry key (two 32-bit words).
    """
    data = key
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(key)
    shape, dtype = getattr(data, "shape", None), getattr(data, "dtype", type(data).__name__)
    if shape != (2,) or dtype != jnp.uint32:
        raise ValueError(f"key is {dtype} of shape {shape}: give one Threefry key, jax.random.key(seed)")
    return Words(data[0], data[1])


def fold(key: Words, *indices: Int[Array, "..."] | int) -> Words:
    """Derive one key for each broadcast element of the indices, one level an index."""
    for index in indices:
        first, second, counter = jnp.broadcast_arrays(*key, jnp.asarray(index).astype(jnp.uint32))
        # jax's own primitive, a loop on CPUs: XLA keeps its result, where it would compute a straight-line
        # chain of folds again inside everything that draws with the key
        key = Words(*threefry2x32_p.bind(first, second, counter, jnp.zeros_like(counter)))
    return key


def _unit(bits: UInt32[Array, "..."], dtype: jnp.dtype) -> Float[Array, "..."]:
    # 23-bit midpoints: neither 0 nor 1 can occur, also after rounding to float32
    return ((bits >> 9).astype(dtype) + 0.5) * (2.0**-23)


def uniform_pair(
    key: Words, counter_0: Array | int, counter_1: Array | np.integer | int, *, dtype: jnp.dtype
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Two independent uniforms in the open interval (0, 1) for each broadcast element."""
    words = threefry2x32(key, jnp.asarray(counter_0), jnp.asarray(counter_1))
    return _unit(words.first, dtype), _unit(words.second, dtype)


def uniform_of(word: UInt32[Array, "..."], *, dtype: jnp.dtype) -> Float[Array, "..."]:
    """A uniform in the open interval (0, 1) from one word, in steps of 2^-23."""
    return _unit(word, dtype)


def coarse_uniforms(
    word: UInt32[Array, "..."], *, dtype: jnp.dtype
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Two independent uniforms in (0, 1) from one word, in steps of 2^-16: to compare with a probability.

    The event happens with that probability to 8e-6.
    """
    high, low = (word >> 16).astype(dtype), (word & jnp.uint32(0xFFFF)).astype(dtype)
    return (high + 0.5) * 2.0**-16, (low + 0.5) * 2.0**-16


def normal_of(uniform: Float[Array, "..."]) -> Float[Array, "..."]:
    """The standard normal with this lower-tail probability."""
    return jnp.sqrt(2.0).astype(uniform.dtype) * jax.lax.erf_inv(2.0 * uniform - 1.0)


def normal_pair(
    key: Words, counter_0: Array | int, counter_1: Array | np.integer | int, *, dtype: jnp.dtype
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Two independent standard normals (cut at 5.3 sigma) for each broadcast element."""
    first, second = uniform_pair(key, counter_0, counter_1, dtype=dtype)
    return normal_of(first), normal_of(second)
