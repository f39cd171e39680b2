"""Arrival-time profiles on a sample grid, exact in their parameters.

A photoelectron's time is a sum of independent delays, so the Laplace transform E[exp(-s t)] of its law is a
product of simple factors, one a delay. The product is inverted by a Fourier series on the line
Re s = a > 0 (damped by exp(-a t)): what wraps around from beyond the window is suppressed by exp(-a T), and
twice the window is computed, so that what wraps from before its start falls into the half thrown away.

Source: Abate & Whitt, "The Fourier-series method for inverting transforms of probability distributions",
Queueing Systems 10 (1992) 5, doi:10.1007/BF01158520.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

_DAMPING = 5.0  # a T: wrap-around is suppressed by e^-5, rounding amplified by e^2.5 at most
_MARGIN = 5.0  # standard deviations kept before the mean of the normal delays
_LOG_STEP = 0.625  # of the quadrature below: its error is exp(-pi^2 / step) = 1e-7
_DELAY_LOG_RATES = np.arange(-12.0, 3.2, _LOG_STEP)


class TimeGrid(NamedTuple):
    """Samples of one profile; part of what is compiled."""

    n_samples: int
    sample_ns: int
    oversampling: int = 4  # points a sample: the series ends at their Nyquist frequency

    @property
    def length_ns(self) -> int:
        """Of the window."""
        return self.n_samples * self.sample_ns

    def arguments(self, dtype) -> Complex[Array, "frequency"]:
        """Laplace arguments s [1/ns] at which a transform is needed."""
        return jnp.asarray(self._arguments(), jnp.result_type(dtype, jnp.complex64))

    def _arguments(self) -> np.ndarray:
        period = 2 * self.length_ns
        return (_DAMPING + 2j * np.pi * np.arange(self.oversampling * self.n_samples + 1)) / period

    def begin(
        self,
        mean_ns: Float[Array, "deposit"],
        spread_ns: Float[Array, "deposit"],
        start: Int[Array, "deposit"] | None = None,
    ) -> tuple[Int[Array, "deposit"], Float[Array, "deposit"]]:
        """First sample of each window, and the mean time counted from its start.

        Args:
            mean_ns: of the normal and fixed delays.
            spread_ns: standard deviation of the normal delays.
            start: first sample, where it is given and not to follow the means.

        Gradient: exact in the phase, none in the sample.
        """
        if start is None:
            held = jax.lax.stop_gradient(mean_ns - _MARGIN * spread_ns)
            start = jnp.floor(held / self.sample_ns).astype(jnp.int32)
        return start, mean_ns - start.astype(mean_ns.dtype) * self.sample_ns

    def shares(self, transform: Complex[Array, "deposit frequency"]) -> Float[Array, "deposit sample"]:
        """Probability in each sample, of the law with this transform at `arguments`.

        Gradient: exact, zero where rounding made a share negative.
        """
        s, n_points = self._arguments(), 2 * self.oversampling * self.n_samples
        width_ns = self.sample_ns / self.oversampling  # of a step; only the sample borders are kept
        sample = np.expm1(s * self.sample_ns) / s  # integral from each point over the sample that follows
        growth = np.exp(s[0].real * width_ns * np.arange(n_points)) / width_ns
        points = jnp.fft.irfft(transform * jnp.asarray(sample, transform.dtype), n=n_points)
        values = points * jnp.asarray(growth, points.dtype)
        return jnp.maximum(values[:, : n_points // 2 : self.oversampling], 0.0)


def at(time_ns, s):
    """A fixed time. Gradient: exact."""
    return jnp.exp(-s * time_ns)


def normal(spread_ns, s):
    """A normal of mean zero. Gradient: exact."""
    return jnp.exp(0.5 * (s * spread_ns) ** 2)


def uniform(length_ns, s):
    """Uniform from zero to a length > 0. Gradient: exact."""
    return -jnp.expm1(-s * length_ns) / (s * length_ns)


def exponential(mean_ns, s):
    """Exponential of mean >= 0. Gradient: exact."""
    return 1 / (1 + s * mean_ns)


def reciprocal(scale_ns, s):
    """Of scale (1/u - 1), u uniform: density scale / (t + scale)^2.

    The law is that of an exponential whose rate is itself exponential with mean 1 / scale, so that the
    transform is the integral of v exp(-v) / (v + s scale) dv; summed over equal steps of log v.

    Gradient: exact.
    """
    rates = np.exp(_DELAY_LOG_RATES)
    weights = rates * np.exp(-rates)
    weights = weights / weights.sum()
    real = imaginary = jnp.zeros(jnp.broadcast_shapes(jnp.shape(scale_ns), s.shape), s.real.dtype)
    for weight, rate in zip(weights.tolist(), rates.tolist(), strict=True):
        # weight / (1 + s scale / rate) in real numbers: XLA's complex division is slow on CPUs
        a, b = 1 + s.real * (scale_ns / rate), s.imag * (scale_ns / rate)
        share = weight / (a * a + b * b)
        real, imaginary = real + share * a, imaginary - share * b
    return jax.lax.complex(real, imaginary)
