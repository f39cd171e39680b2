"""The dense steps over records in JAX, as whole numbers: the path of GPU and TPU, equal to the host's.

Every kernel works on a block of records of one shape. Sums are int64 and need 64-bit mode, which
`dmsim.reconstruction.xla` turns on around its calls and nowhere else. Gradient: none; a differentiable chain
is `mode="soft"`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_WINDOW = jax.lax.ScatterDimensionNumbers(
    update_window_dims=(1,), inserted_window_dims=(), scatter_dims_to_operand_dims=(0,)
)


def _inside(low: Array, high: Array, n_samples: int) -> Bool[Array, "record sample"]:
    sample = jnp.arange(n_samples)
    return (sample >= low[:, None]) & (sample < high[:, None])


def baseline(
    window: Int[Array, "record sample"],
    length: Int[Array, "record"],
    clip_adc: Float[Array, ""],
    *,
    per_adc: int,
) -> tuple[Int[Array, "record"], Float[Array, "record"]]:
    """Baseline [1/per_adc ADC] and rms of the samples in it [ADC]; see `host.pulses.baselines`.

    Args:
        window: first samples of each pulse.
        length: how many of them are valid, at least 1.
        clip_adc: largest distance to the median.
        per_adc: units of the baseline an ADC count.
    """
    window = window.astype(jnp.int64)
    valid = jnp.arange(window.shape[1]) < length[:, None]
    ordered = jnp.sort(jnp.where(valid, window, jnp.iinfo(jnp.int64).max), axis=1)
    middle = jnp.take_along_axis(ordered, (length[:, None].astype(jnp.int64) - 1) // 2, axis=1)
    d = window - middle
    kept = valid & (d >= -clip_adc) & (d <= clip_adc)
    d = jnp.where(kept, d, 0)
    count, total, squares = jnp.sum(kept, axis=1), jnp.sum(d, axis=1), jnp.sum(d * d, axis=1)
    mean = (2 * total * per_adc + count) // (2 * count)
    value = middle[:, 0] * per_adc + mean
    rms = jnp.sqrt((count * squares - total * total) / (count * count))
    return value.astype(jnp.int32), rms


def over_threshold(
    data: Int[Array, "record sample"], limit: Int[Array, "record"], length: Int[Array, "record"]
) -> Bool[Array, "record sample"]:
    """Which valid samples are over threshold, that is at or below `limit`."""
    return _inside(jnp.zeros_like(length), length, data.shape[1]) & (data <= limit[:, None])


def integrate(
    waveform: Int[Array, "time"],
    data: Int[Array, "record sample"],
    base: Int[Array, "record"],
    units: Int[Array, "record"],
    low: Int[Array, "record"],
    high: Int[Array, "record"],
    position: Int[Array, "record"],
    *,
    per_adc: int,
) -> tuple[Int[Array, "time"], Int[Array, "record"], Int[Array, "record"]]:
    """Add records to summed waveforms and integrate each.

    Args:
        waveform: sums so far; a record that sticks out of it is an error of the caller.
        data: samples [ADC].
        base: baseline of each record [1/per_adc ADC].
        units: of area a sample of 1/per_adc ADC.
        low: first sample of the record that counts.
        high: one past the last; high <= low for none.
        position: where the record's sample 0 falls in the waveform.
        per_adc: units of the baseline an ADC count.

    Returns:
        The sums, the area of each record, and its number of samples at the digitiser's floor, 0.
    """
    inside = _inside(low, high, data.shape[1])
    value = (base[:, None].astype(jnp.int64) - data.astype(jnp.int64) * per_adc) * units[:, None]
    value = jnp.where(inside, value, 0)
    waveform = jax.lax.scatter_add(
        waveform, position[:, None], value, _WINDOW, mode=jax.lax.GatherScatterMode.FILL_OR_DROP
    )
    return waveform, jnp.sum(value, axis=1), jnp.sum(inside & (data <= 0), axis=1)
