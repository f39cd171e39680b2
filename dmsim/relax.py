"""Gradients through discrete randomness and hard decisions: the only place where they are defined.

Forward values are exact (integers, real thresholds). Each rule is one of

- *matched-normal*: a count k with mean m and variance s^2 is read as m + s z with z held fixed, so
  dk = dm + z ds. This equals the mean of the left and right finite-jump weights (smoothed perturbation).
- *weight*: what a count or a choice multiplies carries a factor x / stop(x), which is 1 forward.
- *implicit*: a draw from a law with CDF F(t; theta) has dt/dtheta = -(dF/dtheta) / pdf.
- *conditional*: what passed a threshold under Gaussian noise carries P / stop(P), P the probability to pass.
- *finite-jump*: what a function of a count loses with one of the counted, times how likely that one is.
- *straight-through*: the gradient of a smooth stand-in, the value of the hard one.
- *jitter*: a decision margin > 0 is read as its probability when the margin is jittered by logistic noise.

`finite_jumps` reruns the chain with moved counts instead: unbiased, and dearer.

Source of the rules: Figurnov et al., arXiv:1805.08498 (implicit); Bengio et al., arXiv:1308.3432
(straight-through); Fu & Hu, "Conditional Monte Carlo", 1997 (smoothed perturbation analysis).
"""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim import rng

_SMALL_MEAN = 12.0  # below this mean the inverse CDF is summed term by term, above it is expanded
_UNROLLED = 10
_SMALL_STEPS = 40  # P(k >= 40 | mean 12) = 7e-11, under the 2^-24 grain of the uniforms
_NEGLIGIBLE = 1e-9  # probability under that grain, and under the least pmf(0), 2^-23 of Binomial(23, 1/2)


stop = jax.lax.stop_gradient


class Draw(NamedTuple):
    """One discrete draw of a chain, as `finite_jumps` needs it."""

    variable: Array  # that the law depends on
    up: Array  # rate at which the count goes one up as the variable grows
    down: Array  # the same, from one below


class Tape:
    """While it is entered, draws are noted on it, moved by its jumps and cut from the gradient."""

    def __init__(self, jumps: Sequence[Array] | Array):
        self._jumps = jumps
        self.draws: list[Draw] = []

    def __enter__(self) -> "Tape":
        self._token = _TAPE.set(self)
        return self

    def __exit__(self, *_) -> None:
        _TAPE.reset(self._token)

    def note(self, count: Array, variable: Array, up: Array, down: Array) -> Array:
        """The count, moved. Gradient: none; it is in the draw's rates."""
        number = len(self.draws)
        self.draws.append(Draw(variable, stop(up), stop(down)))
        return stop(count) + self._jumps[number] if number < len(self._jumps) else stop(count)


_TAPE: ContextVar[Tape | None] = ContextVar("tape", default=None)


def round_through(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Round to the nearest integer. Gradient: straight-through (that of x)."""
    tape = _TAPE.get()
    if tape is not None:
        return tape.note(jnp.round(x), x, jnp.ones_like(x), jnp.ones_like(x))
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def decide(
    margin: Float[Array, "..."],
    temperature: Float[Array, "..."] | float,
    *,
    at_zero: bool = False,
    straight_through: bool = False,
) -> Float[Array, "..."]:
    """Probability that a decision is taken: that of margin + noise > 0 under logistic noise of this scale.

    At temperature 0 it is the hard decision: 1 where margin > 0, else 0. A margin that is NaN decides
    nothing: 0.

    Args:
        margin: signed distance from the threshold, any unit.
        temperature: scale of the noise, >= 0, same unit.
        at_zero: the hard decision at a margin of exactly 0.
        straight_through: give the hard decision with this gradient.

    Gradient: jitter (exact in margin and temperature; none at temperature 0), or straight-through.
    """
    defined = ~jnp.isnan(margin)
    margin = jnp.where(defined, margin, 0.0)
    warm = jnp.asarray(temperature) > 0
    hard = (defined & ((margin >= 0) if at_zero else (margin > 0))).astype(jnp.result_type(margin, float))
    soft = jnp.where(defined, jax.nn.sigmoid(margin / jnp.where(warm, temperature, 1.0)), 0.0)
    chosen = jnp.where(warm, soft, hard)
    return hard + (chosen - stop(chosen)) if straight_through else chosen


def weight(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 wherever x is not zero, with the gradient of log x; 1 and no gradient at zero.

    Multiply whatever a count or a choice probability scales by it. Gradient: weight.
    """
    held = jax.lax.stop_gradient(x)
    nonzero = held != 0
    return jnp.where(nonzero, jnp.where(nonzero, x, 1.0) / jnp.where(nonzero, held, 1.0), 1.0)


def count_weight(
    count: Float[Array, "..."], n: Float[Array, "..."], p: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Weight for the items of a Binomial(n, p) count: 1, with the gradient of how many there are.

    Where many are expected it is that of the drawn count, whose spread it gets right too. Where fewer than
    12 are, none may be there to carry it, and the weight is that of n and p: right for any sum over the
    items, while the spread of the sum gets up to twice its gradient.

    Args:
        count: as drawn, with its matched-normal gradient.
        n: trials.
        p: probability.

    Gradient: weight.
    """
    few = stop(n * p) < _SMALL_MEAN
    return jnp.where(few, weight(n) * weight(p), weight(count))


def removal(
    step: Float[Array, "..."], count: Float[Array, "..."], mean: Float[Array, "..."]
) -> Float[Array, "..."]:
    """0, with the gradient of f(count) through the count's mean, for f that jumps between few counts.

    Each of the counted is there with a probability that grows as the mean, so that
    d E[f] = E[count (f(count) - f(count - 1))] d log(mean): exact for binomial and Poisson counts.

    Args:
        step: f(count) - f(count - 1).
        count: as drawn.
        mean: of the count.

    Gradient: finite-jump.
    """
    if _TAPE.get() is not None:  # the tape's own jumps carry it
        return jnp.zeros(jnp.broadcast_shapes(step.shape, count.shape), step.dtype)
    return stop(step * count) * (weight(mean) - 1)


def implicit(
    t: Float[Array, "..."], cdf: Float[Array, "..."], pdf: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The draw t, with the gradient -(d cdf)/pdf of its law's parameters.

    Args:
        t: a draw, any unit.
        cdf: the law's CDF at stop_gradient(t), differentiable in the parameters.
        pdf: the law's density at t, > 0.

    Gradient: implicit.
    """
    t, pdf = jax.lax.stop_gradient((t, pdf))
    return t - (cdf - jax.lax.stop_gradient(cdf)) / pdf


def safe_sqrt(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Square root of x >= 0 (0 below), with gradient 0 instead of infinity at 0.

    Gradient: exact for x > 0.
    """
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _invert_small(u: Array, first: Array, ratio, large: Array) -> tuple[Array, Array]:
    """Inverse CDF by summing pmf(0) = first, pmf(k + 1) = pmf(k) ratio(k); and `large`, unchanged.

    A loop of a few unrolled steps: it vectorises, and XLA keeps what a loop carries, where it would
    compute a straight line again inside every consumer (compilation took minutes).
    """

    def steps(block, carry):
        k, pmf, cdf, large = carry
        for step in range(_UNROLLED):
            pmf = pmf * ratio(block * _UNROLLED + step)
            # a float32 sum may stop short of 1: without the second condition the largest u runs on to the end
            k = k + ((u > cdf) & (pmf > _NEGLIGIBLE))
            cdf = cdf + pmf
        return k, pmf, cdf, large

    start = (jnp.zeros_like(u), first, first, large)
    k, _, _, large = jax.lax.fori_loop(0, _SMALL_STEPS // _UNROLLED, steps, start)
    return k, large


def _expand(u: Array, mean: Array, std: Array, skew: Array, kurtosis: Array) -> Array:
    """Inverse CDF by the Cornish-Fisher expansion, rounded to the lattice."""
    z = rng.normal_of(u)
    w = z + skew * (z**2 - 1) / 6 + kurtosis * (z**3 - 3 * z) / 24 - skew**2 * (2 * z**3 - 5 * z) / 36
    # Sheppard: a lattice law of variance s^2 is the rounding of a continuous one of variance s^2 - 1/12
    spread = jnp.sqrt(jnp.maximum(std**2 - 1.0 / 12.0, 0.0))
    return jnp.round(mean + spread * w)


def binomial(u: Float[Array, "..."], n: Float[Array, "..."], p: Float[Array, "..."]) -> Float[Array, "..."]:
    """The Binomial(n, p) count at lower-tail probability u, as a float.

    Exact where n min(p, 1-p) < 12; above, a Cornish-Fisher expansion (total variation under 2e-3).

    Args:
        u: uniforms in (0, 1).
        n: trials, integer-valued, >= 0.
        p: probability in [0, 1]; values outside are clipped.

    Gradient: matched-normal, in n and in p.
    """
    count, tape = _binomial(u, n, p), _TAPE.get()
    if tape is None:
        return count
    held = jnp.clip(stop(p), 0.0, 1.0)
    inside = (held > 0) & (held < 1)
    chance = jnp.where(inside, held, 0.5)
    # n moves with the draw that made it: only p is this draw's own
    p = jnp.broadcast_to(p, count.shape)
    return tape.note(
        count, p, jnp.where(inside, (n - count) / (1 - chance), n), jnp.where(inside, count / chance, n)
    )


@jax.custom_jvp
def _binomial(u, n, p):
    dtype = jnp.result_type(u, n, p)
    u, n, p = jnp.broadcast_arrays(jnp.asarray(u, dtype), jnp.asarray(n, dtype), jnp.asarray(p, dtype))
    p = jnp.clip(p, 0.0, 1.0)
    flip = p > 0.5
    q = jnp.where(flip, 1 - p, p)
    v = jnp.where(flip, 1 - u, u)
    small = n * q < _SMALL_MEAN
    odds = q / (1 - q)
    n_small = jnp.where(small, n, 0.0)
    first = jnp.exp(n_small * jnp.log1p(-q))
    variance = jnp.where(small, 1.0, n * q * (1 - q))
    std = jnp.sqrt(variance)
    k_large = _expand(v, n * q, std, (1 - 2 * q) / std, (1 - 6 * q * (1 - q)) / variance)
    k_small, k_large = _invert_small(
        v, first, lambda k: jnp.maximum(n_small - k, 0.0) / (k + 1) * odds, k_large
    )
    k = jnp.clip(jnp.where(small, k_small, k_large), 0.0, jnp.maximum(n, 0.0))
    return jnp.where(flip, n - k, k)


@_binomial.defjvp
def _binomial_jvp(primals, tangents):
    u, n, p = primals
    _, dn, dp = tangents
    k = _binomial(u, n, p)
    n, p = jnp.asarray(n, k.dtype), jnp.clip(jnp.asarray(p, k.dtype), 0.0, 1.0)
    excess = k - n * p
    inside = (p > 0) & (p < 1)
    by_p = n + jnp.where(inside, excess * (1 - 2 * p) / jnp.where(inside, 2 * p * (1 - p), 1.0), 0.0)
    by_n = p + jnp.where(n > 0, excess / jnp.where(n > 0, 2 * n, 1.0), 0.0)
    return k, by_n * dn + by_p * dp


def poisson(u: Float[Array, "..."], mean: Float[Array, "..."]) -> Float[Array, "..."]:
    """The Poisson count at lower-tail probability u, as a float.

    Exact for means under 12; above, a Cornish-Fisher expansion (total variation under 2e-3).

    Args:
        u: uniforms in (0, 1).
        mean: expected count, >= 0; negative values count as 0.

    Gradient: matched-normal.
    """
    count, tape = _poisson(u, mean), _TAPE.get()
    if tape is None:
        return count
    mean = jnp.broadcast_to(mean, count.shape)
    some = stop(mean) > 0
    down = jnp.where(some, count / jnp.where(some, stop(mean), 1.0), 1.0)
    return tape.note(count, mean, jnp.ones_like(count), down)


@jax.custom_jvp
def _poisson(u, mean):
    dtype = jnp.result_type(u, mean)
    u, mean = jnp.broadcast_arrays(jnp.asarray(u, dtype), jnp.asarray(mean, dtype))
    mean = jnp.maximum(mean, 0.0)
    small = mean < _SMALL_MEAN
    low = jnp.where(small, mean, 0.0)
    high = jnp.where(small, 1.0, mean)
    std = jnp.sqrt(high)
    k_large = _expand(u, high, std, 1 / std, 1 / high)
    k_small, k_large = _invert_small(u, jnp.exp(-low), lambda k: low / (k + 1), k_large)
    return jnp.where(small, k_small, jnp.maximum(k_large, 0.0))


@_poisson.defjvp
def _poisson_jvp(primals, tangents):
    u, mean = primals
    _, dmean = tangents
    k = _poisson(u, mean)
    mean = jnp.asarray(mean, k.dtype)
    positive = mean > 0
    rate = jnp.where(positive, (k + mean) / jnp.where(positive, 2 * mean, 1.0), 1.0)
    return k, rate * dmean


def rounded_normal(
    z: Float[Array, "..."], mean: Float[Array, "..."], std: Float[Array, "..."]
) -> Float[Array, "..."]:
    """A count >= 0 from a normal of this mean and standard deviation, rounded.

    The lattice adds 1/12 to the variance; it is taken off `std` first, so that the count's is std^2.

    Args:
        z: standard normals.
        mean: expected count.
        std: its standard deviation, >= 0.

    Gradient: matched-normal (pathwise at fixed z, straight through the rounding).
    """
    spread = jnp.sqrt(jnp.maximum(std**2 - 1.0 / 12.0, 1e-12))
    return round_through(jnp.maximum(mean + z * spread, 0.0))


@jax.custom_jvp
def passed(margin: Float[Array, "..."], spread: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 for each thing that passed a threshold; multiply what it contributes by it.

    Args:
        margin: by which it lies above the threshold without noise, any sign.
        spread: standard deviation of the noise on it, >= 0, same unit.

    Gradient: conditional (that of the log of the probability to pass).
    """
    return jnp.ones(jnp.broadcast_shapes(jnp.shape(margin), jnp.shape(spread)), jnp.result_type(margin))


@passed.defjvp
def _passed_jvp(primals, tangents):
    margin, spread = primals
    noisy = spread > 0
    ratio, slope = jax.jvp(lambda m, s: m / jnp.where(noisy, s, 1.0), primals, tangents)
    hazard = jnp.exp(jax.scipy.stats.norm.logpdf(ratio) - jax.scipy.special.log_ndtr(ratio))
    return passed(margin, spread), jnp.where(noisy, hazard * slope, 0.0)


@jax.custom_jvp
def bernoulli(u: Float[Array, "..."], p: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 where u < p, else 0.

    Gradient: matched-normal, right in the mean for any function of the result up to its square.
    """
    return (u < p).astype(jnp.result_type(u, p))


@bernoulli.defjvp
def _bernoulli_jvp(primals, tangents):
    u, p = primals
    k = bernoulli(u, p)
    inside = (p > 0) & (p < 1)
    chance = jnp.where(k > 0, p, 1 - p)
    return k, jnp.where(inside, 0.5 / jnp.where(inside, chance, 1.0), 1.0) * tangents[1]
