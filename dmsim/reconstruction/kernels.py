"""The dense work over records, in JAX: baseline, threshold, integration, summed waveform.

Every kernel is pure and works on a block of records with integer windows [low, high) per record, so that a
gradient in `data` is that of the linear integration: conditional on the windows.
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


def baseline_shift(
    data: Float[Array, "record sample"], length: Int[Array, "record"], nominal: int, n_first: int
) -> Float[Array, "record"]:
    """Mean of the first `n_first` samples minus the nominal baseline [ADC]. Gradient: exact."""
    # differences to the nominal baseline first: float32 keeps 1e-3 ADC at 16000
    n = jnp.clip(length, 1, min(n_first, data.shape[1]))
    inside = _inside(jnp.zeros_like(n), n, data.shape[1])
    return jnp.sum(jnp.where(inside, data - nominal, 0.0), axis=1) / n


def signal(
    data: Float[Array, "record sample"],
    shift: Float[Array, "record"],
    low: Int[Array, "record"],
    high: Int[Array, "record"],
    nominal: int,
) -> Float[Array, "record sample"]:
    """Baseline minus samples in [low, high), 0 outside [ADC]. Gradient: exact."""
    return jnp.where(_inside(low, high, data.shape[1]), shift[:, None] + (nominal - data), 0.0)


def add_waveform(
    buffer: Float[Array, "time"], waveform: Float[Array, "record sample"], position: Int[Array, "record"]
) -> Float[Array, "time"]:
    """Add each row to the buffer from `position` on. Gradient: exact."""
    return jax.lax.scatter_add(
        buffer, position[:, None], waveform, _WINDOW, mode=jax.lax.GatherScatterMode.FILL_OR_DROP
    )


def measure(
    buffer: Float[Array, "time"],
    data: Float[Array, "record sample"],
    shift: Float[Array, "record"],
    low: Int[Array, "record"],
    high: Int[Array, "record"],
    position: Int[Array, "record"],
    *,
    nominal: int,
) -> tuple[Float[Array, "time"], Float[Array, "record"], Int[Array, "record"]]:
    """Integrate each record over its window.

    Args:
        buffer: summed waveforms so far [ADC].
        data: samples [ADC].
        shift: baseline minus `nominal` [ADC].
        low: first sample of the record that belongs to the peak.
        high: one past the last; high <= low for a record outside any peak.
        position: where the record's sample 0 falls in the buffer.
        nominal: nominal baseline [ADC].

    Returns:
        The buffer with the records added, the area of each record [ADC x samples], and its number of
        saturated samples (at the digitiser's floor, 0).

    Gradient: exact in `data` and `shift`, conditional on the windows; none for the saturated count.
    """
    waveform = signal(data, shift, low, high, nominal)
    saturated = jnp.sum(_inside(low, high, data.shape[1]) & (data <= 0), axis=1)
    return add_waveform(buffer, waveform, position), jnp.sum(waveform, axis=1), saturated


def above_threshold(
    data: Float[Array, "record sample"],
    shift: Float[Array, "record"],
    length: Int[Array, "record"],
    threshold: Float[Array, ""] | float,
    *,
    nominal: int,
) -> Bool[Array, "record sample"]:
    """Where a sample goes at least `threshold` below the baseline. Gradient: none (a mask)."""
    waveform = signal(data, shift, jnp.zeros_like(length), length, nominal)
    return waveform >= threshold
