"""Shape of a single-photoelectron pulse, integrated over samples."""

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from dmsim.detector.model import Electronics


def sample_shares(
    phase_ns: Float[Array, "hit"], electronics: Electronics, *, n_samples: int
) -> Float[Array, "hit sample"]:
    """Share of a pulse's charge in each of its samples, the first holding the arrival.

    The pulse is (exp(-t/decay) - exp(-t/rise)) / (decay - rise): zero at arrival and after long times. Being
    integrated over the bins, it is continuous when the arrival crosses a sample border.

    Args:
        phase_ns: arrival after the start of its sample, in [0, sample_ns).
        electronics: rise and decay times, > 0 and not equal.
        n_samples: length of the window; what lies beyond is cut.

    Gradient: exact.
    Source: two-pole shaping of a fast current pulse; the times' own sources stand in the preset.
    """
    rise, decay = electronics.pulse_rise_ns, electronics.pulse_decay_ns
    edges = jnp.arange(1, n_samples + 1, dtype=phase_ns.dtype) * electronics.sample_ns
    slow = decay / (decay - rise) * jnp.exp(phase_ns / decay)[:, None] * jnp.exp(-edges / decay)
    fast = rise / (decay - rise) * jnp.exp(phase_ns / rise)[:, None] * jnp.exp(-edges / rise)
    cdf = 1 - slow + fast
    return jnp.diff(cdf, axis=1, prepend=0)


def pulse_transform(s: Complex[Array, "frequency"], electronics: Electronics) -> Complex[Array, "frequency"]:
    """Laplace transform of the same pulse, not cut at its window: two exponential delays in a row.

    Args:
        s: Laplace arguments [1/ns], real part > 0.
        electronics: rise and decay times, > 0.

    Gradient: exact.
    """
    return 1 / ((1 + s * electronics.pulse_rise_ns) * (1 + s * electronics.pulse_decay_ns))
