"""Shape of a single-photoelectron pulse, integrated over samples."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from dmsim.detector.model import Electronics


def sample_shares(
    phase_ns: Float[Array, "hit"],
    electronics: Electronics,
    *,
    n_samples: int,
    charge: Float[Array, "hit"] | None = None,
) -> Float[Array, "hit sample"]:
    """Share of a pulse's charge in each of its samples, the first holding the arrival.

    The pulse is (exp(-t/decay) - exp(-t/rise)) / (decay - rise): zero at arrival and after long times. Being
    integrated over the bins, it is continuous when the arrival crosses a sample border.

    Args:
        phase_ns: arrival after the start of its sample, in [0, sample_ns).
        electronics: rise and decay times, > 0 and not equal.
        n_samples: length of the window; what lies beyond is cut.
        charge: of each hit, that its shares are multiplied with; 1 if not given.

    Gradient: exact.
    Source: two-pole shaping of a fast current pulse; the times' own sources stand in the preset.
    """
    rise, decay, step = electronics.pulse_rise_ns, electronics.pulse_decay_ns, electronics.sample_ns
    charge = jnp.ones_like(phase_ns) if charge is None else charge
    # the CDF at the end of sample k, 1 - slow exp(-k step / decay) + fast exp(-k step / rise), falls apart
    # into a part of the hit and one of the sample: a product of matrices, with two exponentials a hit
    slow = decay / (decay - rise) * jnp.exp((phase_ns - step) / decay)
    fast = rise / (decay - rise) * jnp.exp((phase_ns - step) / rise)
    of_hit = charge * jnp.stack([jnp.ones_like(slow), slow, fast])
    sample = jnp.arange(n_samples, dtype=phase_ns.dtype)

    def differences(lifetime):
        end = jnp.exp(-sample * step / lifetime)
        return jnp.concatenate([-end[:1], end[:-1] - end[1:]])

    of_sample = jnp.stack([(sample == 0).astype(phase_ns.dtype), differences(decay), -differences(rise)])
    contracted = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(of_hit, of_sample, contracted, precision=jax.lax.Precision.HIGHEST)


def pulse_transform(s: Complex[Array, "frequency"], electronics: Electronics) -> Complex[Array, "frequency"]:
    """Laplace transform of the same pulse, not cut at its window: two exponential delays in a row.

    Args:
        s: Laplace arguments [1/ns], real part > 0.
        electronics: rise and decay times, > 0.

    Gradient: exact.
    """
    return 1 / ((1 + s * electronics.pulse_rise_ns) * (1 + s * electronics.pulse_decay_ns))
