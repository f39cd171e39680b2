"""Pulses, noise and digitisation in the flat sample buffer, and the records that are cut from it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dmsim import relax
from dmsim.detector.model import Electronics
from dmsim.detector.pulses import Noise
from dmsim.electronics.layout import ROW
from dmsim.electronics.noise import NoiseBank, NoisePlace, noise_rows, noise_spread
from dmsim.electronics.pulse import sample_shares


class Samples(NamedTuple):
    """The sample buffer; flat, row behind row, it is what positions count."""

    adc: Float[Array, "row sample"]  # digitised, integer-valued, negative-going from the baseline
    signal_adc: Float[Array, "row sample"] | None  # below the baseline without noise; on request


def render(
    electronics: Electronics,
    noise: Noise | None,
    bank: NoiseBank,
    place: NoisePlace,
    charge_pe: Float[Array, "hit"],
    time_ns: Float[Array, "hit"],
    sample: Int[Array, "hit"],
    position: Int[Array, "hit"],
    *,
    keep_signal: bool = False,
) -> Samples:
    """Digitised samples of a layout of hits.

    Args:
        electronics: of the detector.
        noise: what there is beside white noise.
        bank: of the noise.
        place: where each row of samples reads it; as many rows as the buffer has.
        charge_pe: of each hit; 0 for empty slots.
        time_ns: arrival of each hit.
        sample: that holds each arrival, from the event's start.
        position: of each hit's first sample in the buffer; outside it for empty slots.
        keep_signal: whether the signal without noise is handed on, as the gradient of the zero suppression
            needs it.

    Gradient: exact through the pulse shape at (sample - arrival) and in the noise; straight-through in the
        rounding; zero in saturated samples, as the physics has it.
    """
    dtype = charge_pe.dtype
    samples = noise_rows(bank, place, electronics, noise, row=ROW)
    phase = time_ns - sample.astype(dtype) * electronics.sample_ns
    # an empty slot's time is none: its pulse would overflow, and zero times infinity spoil the gradient
    phase = jnp.where(position < samples.size, phase, 0)
    windows = sample_shares(
        phase,
        electronics,
        n_samples=electronics.pulse_samples,
        charge=charge_pe * electronics.adc_per_pe,
    )
    signal = _add_windows(jnp.zeros(samples.size, dtype), position, windows).reshape(samples.shape)
    full_scale = 2**electronics.n_bits - 1
    analogue = electronics.baseline_adc + samples - signal
    inside = (analogue >= 0) & (analogue <= full_scale)
    adc = jnp.where(inside, relax.round_through(analogue), jnp.where(analogue < 0, 0.0, full_scale))
    return Samples(adc, signal if keep_signal else None)


def cut(
    electronics: Electronics,
    noise: Noise | None,
    samples: Samples,
    position: Int[Array, "record"],
    length: Int[Array, "record"],
    pulse: Int[Array, "record"],
) -> Float[Array, "record sample"]:
    """Samples of each record; those behind its length are zero.

    Args:
        electronics: of the detector.
        noise: what there is beside white noise.
        samples: the buffer, longer by a record at least than what is in use.
        position: of each record's first sample in the buffer.
        length: samples in use of each record.
        pulse: number of each record's pulse.

    Gradient: conditional in the zero suppression, where the samples hold the signal: a kept pulse scales with
        the probability that the noise at its highest sample lets it pass. Else that of the samples.
    """
    per_record = electronics.samples_per_record
    used = jnp.arange(per_record) < length[:, None]
    data = _read_windows(samples.adc, position, per_record)
    if samples.signal_adc is not None:
        n_records = position.shape[0]
        signal = jnp.where(used, _read_windows(samples.signal_adc, position, per_record), 0.0)
        highest = jax.ops.segment_max(jnp.max(signal, axis=1), pulse, num_segments=n_records)
        highest = jnp.maximum(highest, 0.0)  # where there is no pulse it is -inf
        # rounding lets a pulse pass from half a count below the threshold on
        margin = highest - (electronics.zle_threshold_adc - 0.5)
        passed = relax.passed(margin, noise_spread(electronics, noise))
        baseline = electronics.baseline_adc
        data = baseline + (data - baseline) * passed[pulse][:, None]
    return jnp.where(used, data, 0.0)


def _read_windows(
    buffer: Float[Array, "row sample"], position: Int[Array, "record"], n_samples: int
) -> Float[Array, "record n_samples"]:
    """Samples of the buffer from each position on."""
    dimensions = jax.lax.GatherDimensionNumbers(
        offset_dims=(1,), collapsed_slice_dims=(), start_index_map=(0,)
    )
    in_bounds = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return jax.lax.gather(buffer.reshape(-1), position[:, None], dimensions, (n_samples,), mode=in_bounds)


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
