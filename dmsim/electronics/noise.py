"""Noise on the baseline, read from banks.

Two periodic stretches of Gaussian noise, whose lengths have no common factor, are read from places that are
drawn for each sensor and readout window, and added up. Each sensor of each window so has noise that does not
repeat within 2e10 samples, at the price of two reads a sample, whatever the spectrum; it belongs to the
sample, and goes on from one pulse to the next. Two sensors meet the same sum with a probability of 4e-11.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dmsim import relax, rng
from dmsim.detector.model import Electronics
from dmsim.detector.pulses import Noise

LENGTHS = (2**17, 3**11)  # samples of each bank's period
_WHITE, _COLOURED = range(2)  # streams
_PLACE = 2**20  # streams from here on, one a channel


class NoiseBank(NamedTuple):
    """The two stretches [ADC counts], each with its begin repeated behind its end."""

    first: Float[Array, "sample_1"]
    second: Float[Array, "sample_2"]


class NoisePlace(NamedTuple):
    """Where each row of samples reads the banks, and where in its cycle the slow wander stands."""

    first: Int[Array, "row"]
    second: Int[Array, "row"]
    turn: Float[Array, "row"]  # in [0, 1)


def coloured_power(electronics: Electronics, noise: Noise, n_samples: int) -> Float[Array, "frequency"]:
    """Variance a frequency of a periodic stretch, at the frequencies of `jnp.fft.rfft`, times n_samples.

    Low-pass noise has the autocovariance correlated_adc^2 exp(-|t| / correlation_ns) at the samples; each
    band holds its part of band_power_adc2, evenly.

    Gradient: exact.
    """
    share = jnp.exp(-electronics.sample_ns / noise.correlation_ns)
    n = n_samples // 2 + 1
    turn = jnp.arange(n) * (2 * math.pi / n_samples)
    low_pass = (1 - share**2) / (1 - 2 * share * jnp.cos(turn).astype(share.dtype) + share**2)
    # of a stretch that is short against the correlation time, the sum differs from the integral
    copies = jnp.full(n, 2.0, share.dtype).at[0].set(1.0)
    copies = copies if n_samples % 2 else copies.at[-1].set(1.0)
    low_pass = low_pass * (n_samples / jnp.sum(copies * low_pass))
    n_bands = noise.band_power_adc2.shape[0]
    band = jnp.minimum(jnp.arange(n) * n_bands // n, n_bands - 1)
    in_band = jax.ops.segment_sum(copies, band, num_segments=n_bands)
    density = noise.band_power_adc2 * n_samples / in_band
    return noise.correlated_adc**2 * low_pass + density[band]


def make_bank(key: rng.Words, electronics: Electronics, noise: Noise | None, *, row: int) -> NoiseBank:
    """The banks of one key and detector.

    Args:
        key: of the electronics stage.
        electronics: its white noise.
        noise: what there is beside it.
        row: samples that are read at once.

    Gradient: exact in every parameter of the noise (at fixed random numbers).
    Source: noise of a given spectrum by filtering white noise in frequency: Timmer & König, A&A 300 (1995)
        707; exponential autocovariance: that of an RC low-pass.
    """
    dtype = electronics.noise_adc.dtype

    def stretch(index: int, n: int):
        def normals(stream):
            pairs = rng.normal_pair(key, jnp.arange(-(-n // 2)), 2 * stream + index, dtype=dtype)
            return jnp.concatenate(pairs)[:n]

        samples = electronics.noise_adc * normals(_WHITE)
        if noise is not None:
            spectrum = jnp.fft.rfft(normals(_COLOURED)) * relax.safe_sqrt(
                coloured_power(electronics, noise, n)
            )
            samples = samples + jnp.fft.irfft(spectrum, n=n)
        samples = samples * 0.5**0.5  # two of them are added up
        return jnp.concatenate([samples, samples[:row]]).astype(dtype)

    return NoiseBank(*(stretch(index, n) for index, n in enumerate(LENGTHS)))


def noise_places(
    key: rng.Words,
    window: Int[Array, "row"],
    channel: Int[Array, "row"],
    start_sample: Int[Array, "row"],
    electronics: Electronics,
    noise: Noise | None,
) -> NoisePlace:
    """Where rows of samples read the banks: drawn for each window and sensor, then on with time.

    Args:
        key: of the electronics stage.
        window: number in the run of the event, or readout window, of each row.
        channel: of each row.
        start_sample: of each row, from the window's start.
        electronics: the sample's length.
        noise: period of the wander.

    Gradient: exact in the wander's period.
    """
    drawn = rng.threefry2x32(key, window, channel + _PLACE)
    first, second = (
        (word % jnp.uint32(n)).astype(jnp.int32) + start_sample % n
        for word, n in zip(drawn, LENGTHS, strict=True)
    )
    dtype = electronics.noise_adc.dtype
    turn = jnp.zeros(window.shape, dtype)
    if noise is not None:
        # the first bank's place has used the lowest bits
        begin = (drawn.first >> 17).astype(dtype) * 2.0**-15
        cycles = start_sample.astype(dtype) * (electronics.sample_ns / noise.wander_period_ns)
        turn = begin + cycles - relax.stop(jnp.floor(cycles))
    return NoisePlace(first % LENGTHS[0], second % LENGTHS[1], turn)


def noise_rows(
    bank: NoiseBank, place: NoisePlace, electronics: Electronics, noise: Noise | None, *, row: int
) -> Float[Array, "row sample"]:
    """Noise [ADC counts] of rows of `row` samples.

    Gradient: exact in the banks and in the wander.
    """
    dimensions = jax.lax.GatherDimensionNumbers(
        offset_dims=(1,), collapsed_slice_dims=(), start_index_map=(0,)
    )

    def read(stretch, begin):
        in_bounds = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
        return jax.lax.gather(stretch, begin[:, None], dimensions, (row,), mode=in_bounds)

    samples = read(bank.first, place.first) + read(bank.second, place.second)
    if noise is not None:
        # sin(a + b) as a product of matrices: a sine a row and one a sample of the row, not one each
        step = 2 * math.pi * jnp.arange(row) * (electronics.sample_ns / noise.wander_period_ns)
        angle = 2 * math.pi * place.turn
        of_row = noise.wander_adc * jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=1)
        of_sample = jnp.stack([jnp.cos(step), jnp.sin(step)]).astype(samples.dtype)
        samples = samples + jnp.matmul(of_row, of_sample, precision=jax.lax.Precision.HIGHEST)
    return samples


def noise_spread(electronics: Electronics, noise: Noise | None) -> Float[Array, ""]:
    """Standard deviation of a sample [ADC counts], of all its noise. Gradient: exact."""
    if noise is None:
        return electronics.noise_adc
    coloured = noise.correlated_adc**2 + jnp.sum(noise.band_power_adc2) + noise.wander_adc**2 / 2
    return relax.safe_sqrt(electronics.noise_adc**2 + coloured)
