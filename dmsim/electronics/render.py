"""Pulses, noise and digitisation in the flat sample buffer."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dmsim import relax, rng
from dmsim.detector.model import Electronics
from dmsim.electronics.pulse import sample_shares


def render(
    key: rng.Words,
    electronics: Electronics,
    charge_pe: Float[Array, "hit"],
    time_ns: Float[Array, "hit"],
    sample: Int[Array, "hit"],
    position: Int[Array, "hit"],
    event_number: Int[Array, "record"],
    channel: Int[Array, "record"],
    start_sample: Int[Array, "record"],
    length: Int[Array, "record"],
    pulse: Int[Array, "record"],
) -> tuple[Float[Array, "record sample"], Bool[Array, "record"]]:
    """Digitised samples of every record, and whether its pulse passes zero suppression.

    Args:
        key: of the electronics stage.
        electronics: of the detector.
        charge_pe: of each hit; 0 for empty slots.
        time_ns: arrival of each hit.
        sample: that holds each arrival, from the event's start.
        position: of each hit's first sample in the flat buffer; outside it for empty slots.
        event_number: of each record, in the run.
        channel: of each record.
        start_sample: of each record.
        length: valid samples of each record; the rest is zero.
        pulse: number of each record's pulse.

    Returns:
        ADC counts as integer-valued floats, negative-going from the baseline; and which records belong to a
        pulse that crosses the zero-suppression threshold.

    Gradient: exact through the pulse shape at (sample - arrival); straight-through in the rounding; zero in
        saturated samples, as the physics has it. Conditional in the zero suppression: a kept pulse scales
        with the probability that the noise at its highest sample lets it pass.
    """
    dtype = charge_pe.dtype
    n_records, per_record = event_number.shape[0], electronics.samples_per_record
    n_samples = electronics.pulse_samples
    phase = time_ns - sample.astype(dtype) * electronics.sample_ns
    shares = sample_shares(phase, electronics, n_samples=n_samples)
    windows = charge_pe[:, None] * electronics.adc_per_pe * shares
    signal = _add_windows(jnp.zeros(n_records * per_record, dtype), position, windows)
    signal = signal.reshape(n_records, per_record)

    offset = jnp.arange(per_record)
    series = rng.fold(key, event_number, channel)
    words = rng.threefry2x32(
        rng.Words(series.first[:, None], series.second[:, None]),
        start_sample[:, None] + offset,
        jnp.uint32(1),
    )
    noise = electronics.noise_adc * rng.popcount_normal(words, dtype=dtype)
    full_scale = 2**electronics.n_bits - 1
    analogue = electronics.baseline_adc + noise - signal
    inside = (analogue >= 0) & (analogue <= full_scale)
    adc = jnp.where(inside, relax.round_through(analogue), jnp.where(analogue < 0, 0.0, full_scale))
    used = offset < length[:, None]
    deepest = jnp.max(jnp.where(used, electronics.baseline_adc - adc, -jnp.inf), axis=1)
    crossed = (deepest >= electronics.zle_threshold_adc).astype(jnp.int32)
    kept = jax.ops.segment_max(crossed, pulse, num_segments=n_records, indices_are_sorted=True)[pulse] > 0
    highest = jax.ops.segment_max(
        jnp.max(jnp.where(used, signal, 0.0), axis=1), pulse, num_segments=n_records, indices_are_sorted=True
    )
    highest = jnp.maximum(highest, 0.0)  # of the empty records behind the last pulse it is -inf
    # rounding lets a pulse pass from half a count below the threshold on
    passed = relax.passed(highest - (electronics.zle_threshold_adc - 0.5), electronics.noise_adc)
    adc = electronics.baseline_adc + (adc - electronics.baseline_adc) * passed[pulse][:, None]
    return jnp.where(used, adc, 0.0), kept & (length > 0)


def _add_windows(
    buffer: Float[Array, "flat"], position: Int[Array, "hit"], windows: Float[Array, "hit sample"]
) -> Float[Array, "flat"]:
    """Add each hit's window at its position; windows outside the buffer are left out."""
    dimensions = jax.lax.ScatterDimensionNumbers(
        update_window_dims=(1,), inserted_window_dims=(), scatter_dims_to_operand_dims=(0,)
    )
    return jax.lax.scatter_add(
        buffer, position[:, None], windows, dimensions, mode=jax.lax.GatherScatterMode.FILL_OR_DROP
    )
