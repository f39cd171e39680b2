"""Random numbers: the generator is JAX's, the uniforms are open, counters and folds are independent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from dmsim import rng

N = 1 << 18
WORDS = rng.words_of(jax.random.key(2026))


def counters(n):
    return jnp.arange(n, dtype=jnp.uint32)


def test_blocks_equal_jaxs_threefry_bit_for_bit():
    ours = rng.threefry2x32(WORDS, counters(1001), counters(1001) + jnp.uint32(77))
    key = jnp.stack(WORDS)
    theirs = threefry_2x32(key, jnp.concatenate([counters(1001), counters(1001) + jnp.uint32(77)]))
    np.testing.assert_array_equal(np.concatenate(ours), np.asarray(theirs))


def test_blocks_equal_jax_random_bits_of_the_same_key():
    with jax.threefry_partitionable(True):  # JAX's layout: element i is the block of the 64-bit counter i
        bits = jax.random.bits(jax.random.key(2026), (1000,), jnp.uint32)
    first, second = rng.threefry2x32(WORDS, jnp.uint32(0), counters(1000))
    np.testing.assert_array_equal(np.asarray(bits), np.asarray(first ^ second))


def test_known_answer():
    # published with the generator (Random123, kat_vectors): threefry2x32, 20 rounds, all ones
    ones = jnp.uint32(0xFFFFFFFF)
    block = rng.threefry2x32(rng.Words(ones, ones), ones, ones)
    assert (int(block.first), int(block.second)) == (0x1CB996FC, 0xBB002BE7)


def test_fold_is_a_block_of_the_key_and_does_not_depend_on_the_batch():
    together = rng.fold(WORDS, jnp.arange(-3, 40), 5)
    for row, index in enumerate(range(-3, 40)):
        alone = rng.fold(WORDS, index, 5)
        assert int(alone.first) == int(together.first[row])
        assert int(alone.second) == int(together.second[row])
    block = rng.threefry2x32(WORDS, jnp.uint32(7), jnp.uint32(0))
    assert [int(w) for w in rng.fold(WORDS, 7)] == [int(w) for w in block]


def test_fold_is_the_same_compiled_and_not():
    again = jax.jit(lambda i: rng.fold(WORDS, i, 2))(jnp.arange(9))
    np.testing.assert_array_equal(np.stack(rng.fold(WORDS, jnp.arange(9), 2)), np.stack(again))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_uniforms_are_never_0_or_1(dtype, x64):
    lowest, highest = jnp.uint32(0), jnp.uint32(0xFFFFFFFF)
    low, high = rng._unit(lowest, dtype), rng._unit(highest, dtype)
    assert low.dtype == dtype
    assert 0 < low < 1e-7
    assert 1 - 1e-7 < high < 1
    assert np.isfinite(rng.normal_of(jnp.stack([low, high]))).all()
    assert float(rng.normal_of(high)) == pytest.approx(5.3, abs=0.2)


def streams(words):
    """Uniforms that must be independent: two halves of a block, next counters, other streams and keys."""
    u, v = rng.uniform_pair(words, counters(N), 0, dtype=jnp.float32)
    w, _ = rng.uniform_pair(words, counters(N), 1, dtype=jnp.float32)
    x, _ = rng.uniform_pair(rng.fold(words, 1), counters(N), 0, dtype=jnp.float32)
    y, _ = rng.uniform_pair(rng.fold(words, counters(N)), 0, 0, dtype=jnp.float32)
    return [np.asarray(a, np.float64) for a in (u, v, w, x, y, np.roll(u, 1))]


def test_uniforms_are_uniform_and_independent():
    # 6 tests of law + 15 of correlation at 1e-6 each: false positive 2e-5
    sets = streams(WORDS)
    for u in sets:
        observed = np.histogram(u, 256, (0, 1))[0]
        assert stats.chisquare(observed).pvalue > 1e-6
    limit = stats.norm.isf(0.5e-6) / np.sqrt(N)
    correlation = np.corrcoef(sets)[np.triu_indices(len(sets), 1)]
    assert np.abs(correlation).max() < limit


def test_the_correlation_test_sees_a_shared_percent():
    u, v = streams(WORDS)[:2]
    mixed = 0.99 * v + 0.01 * u
    assert abs(np.corrcoef(u, mixed)[0, 1]) > 0.9 * stats.norm.isf(0.5e-6) / np.sqrt(N)


def test_normals_have_their_moments():
    z, kurtosis = rng.normal_pair(WORDS, counters(N), 9, dtype=jnp.float32)[0], 0.0
    z = np.asarray(z, np.float64)
    limit = stats.norm.isf(0.5e-6)  # 4 moments at 1e-6: false positive 4e-6
    assert abs(z.mean()) < limit / np.sqrt(N)
    assert abs(z.var() - 1) < limit * np.sqrt(2 / N)
    assert abs(stats.skew(z)) < limit * np.sqrt(6 / N)
    assert abs(stats.kurtosis(z) - kurtosis) < limit * np.sqrt(24 / N)
    # the twin: a standard deviation of 1.01 is seen
    assert abs((1.01 * z).var() - 1) > limit * np.sqrt(2 / N)


def test_coarse_uniforms_are_two_independent_halves_of_a_word():
    word = rng.threefry2x32(WORDS, counters(N), jnp.uint32(3)).first
    halves = [np.asarray(u, np.float64) for u in rng.coarse_uniforms(word, dtype=jnp.float32)]
    for u in halves:  # 3 tests at 1e-6
        assert stats.chisquare(np.histogram(u, 256, (0, 1))[0]).pvalue > 1e-6
        assert 0 < u.min() < u.max() < 1
    assert abs(np.corrcoef(*halves)[0, 1]) < stats.norm.isf(0.5e-6) / np.sqrt(N)
    # P(u < p) is p to half a step
    grid = rng.coarse_uniforms(jnp.arange(2**16, dtype=jnp.uint32), dtype=jnp.float32)[1]
    for p in (0.04, 0.219, 0.7):
        assert abs(float((np.asarray(grid) < p).mean()) - p) <= 2.0**-17


@pytest.mark.parametrize(
    "key",
    [
        42,
        np.array([1, 2]),
        jnp.zeros(2, jnp.float32),
        jnp.zeros((3, 2), jnp.uint32),
        jax.random.split(jax.random.key(0), 3),
        jax.random.key(0, impl="rbg"),
        None,
        "seed",
    ],
)
def test_bad_key_is_refused(key):
    with pytest.raises(ValueError, match=r"key is .*: give one Threefry key, jax.random.key\(seed\)"):
        rng.words_of(key)


def test_typed_and_raw_keys_are_the_same():
    typed, raw = rng.words_of(jax.random.key(7)), rng.words_of(jax.random.PRNGKey(7))
    assert [int(w) for w in typed] == [int(w) for w in raw]
