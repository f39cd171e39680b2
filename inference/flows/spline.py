"""Monotone rational-quadratic splines on [-B, B], the identity outside.

Bins lie along the first axis and the batch along the last, so that on a CPU every operation runs over
contiguous numbers. A value needs its own bin only: the ends and slopes of that bin are picked, and their
derivatives in the raw numbers are stated by hand, a few operations over the bins instead of the way back
through all of them. The splines of a training step of ten parameters took a fifth of the time by that.

Source: Durkan et al., "Neural Spline Flows", arXiv:1906.04032, equations 4 to 8.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_MIN_SHARE = 1e-3  # least width and height of a bin over 2 B, as in the paper's code
_MIN_SLOPE = 1e-3
_AT_ONE = math.log(math.expm1(1 - _MIN_SLOPE))  # softplus(_AT_ONE) + _MIN_SLOPE = 1


class Raw(NamedTuple):
    """Unconstrained numbers of a spline; zeros are the identity."""

    widths: Float[Array, "bin ..."]
    heights: Float[Array, "bin ..."]
    slopes: Float[Array, "inner ..."]  # at the knots between bins; 1 at both ends


class Bin(NamedTuple):
    """The bin that a value lies in."""

    x: Float[Array, "..."]  # left end
    width: Float[Array, "..."]
    y: Float[Array, "..."]
    height: Float[Array, "..."]
    left: Float[Array, "..."]  # slope at the left end
    right: Float[Array, "..."]


def n_raw(n_bins: int) -> int:
    """Raw numbers that one spline takes: widths, heights, inner slopes."""
    return 3 * n_bins - 1


def _exponentials(raw: Float[Array, "bin ..."]) -> tuple[Array, Array]:
    """Softmax's numerators, and their running sums."""
    top = jax.lax.stop_gradient(functools.reduce(jnp.maximum, list(raw)))
    each = jnp.exp(raw - top)
    # a product with a triangle: XLA has the running sum as a slow window
    triangle = jnp.tril(jnp.ones((len(raw), len(raw)), raw.dtype))
    # a GPU would round to TF32, and bins would no longer meet
    return each, jnp.tensordot(triangle, each, axes=1, precision=jax.lax.Precision.HIGHEST)


def _right_ends(running: Float[Array, "bin ..."], bound: float) -> Float[Array, "bin ..."]:
    n = running.shape[0]
    number = jnp.arange(1, n + 1, dtype=running.dtype).reshape(-1, *(1,) * (running.ndim - 1))
    share = _MIN_SHARE * number + running * ((1 - _MIN_SHARE * n) / running[-1])
    return 2 * bound * share - bound


def _slope(raw: Float[Array, "..."]) -> Float[Array, "..."]:
    return _MIN_SLOPE + jnp.logaddexp(raw + _AT_ONE, 0.0)


def _pick(above: Bool[Array, "inner ..."], rows: Sequence[Array]) -> Array:
    """The row of the bin; `above` says which inner knots the value lies above."""
    found = rows[0]
    for beyond, row in zip(above, rows[1:], strict=True):
        found = jnp.where(beyond, row, found)
    return found


def _found(value: Array, raw: Raw, bound: float, axis: str) -> tuple[Bin, tuple[Array, ...]]:
    """The bin, and what its derivative needs."""
    (x, x_running), (y, y_running) = _exponentials(raw.widths), _exponentials(raw.heights)
    x_ends, y_ends = _right_ends(x_running, bound), _right_ends(y_running, bound)
    above = value >= (x_ends if axis == "x" else y_ends)[:-1]
    zero = jnp.zeros_like(value)

    def side(ends):
        low, high = _pick(above, [zero - bound, *ends[:-1]]), _pick(above, list(ends))
        return low, high - low

    inner = list(raw.slopes)
    left, right = _pick(above, [zero, *inner]), _pick(above, [*inner, zero])
    found = Bin(*side(x_ends), *side(y_ends), _slope(left), _slope(right))
    return found, (x, x_running[-1], y, y_running[-1], left, right, above)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _bin_of(value: Float[Array, "..."], raw: Raw, bound: float, axis: str) -> Bin:
    """The bin that a value of x or y lies in. Gradient: in the raw numbers; a bin stays as it is."""
    return _found(value, raw, bound, axis)[0]


@_bin_of.defjvp
def _bin_of_jvp(bound, axis, primals, tangents):
    value, raw = primals
    found, (x, x_total, y, y_total, left, right, above) = _found(value, raw, bound, axis)
    n = raw.widths.shape[0]
    beyond = above.astype(raw.widths.dtype)
    one = jnp.ones_like(beyond[:1])
    below = jnp.concatenate([beyond, 0 * one])  # 1 for bins below the value's
    here = jnp.concatenate([one, beyond]) - below
    n_below, free = jnp.sum(below, axis=0), 1 - _MIN_SHARE * n
    # with shares s = each / total and S = sum of s below: d S / d raw_j = s_j (below_j - S) and
    # d s_here / d raw_j = s_j (here_j - s_here). Every rule ends in a division: a quotient is computed once,
    # where XLA would fuse a product into the loop over bins and compute it for each
    moved = []
    for each, total, low, size, tangent in (
        (x, x_total, found.x, found.width, tangents[1].widths),
        (y, y_total, found.y, found.height, tangents[1].heights),
    ):
        share_below = ((low + bound) / (2 * bound) - _MIN_SHARE * n_below) / free
        share_here = (size / (2 * bound) - _MIN_SHARE) / free
        unit = total / (2 * bound * free)
        moved.append(jnp.sum(each * (below - share_below) * tangent, axis=0) / unit)
        moved.append(jnp.sum(each * (here - share_here) * tangent, axis=0) / unit)
    slopes = tangents[1].slopes
    # the exponents are held where they would overflow, and the second derivative be NaN
    moved.append(jnp.sum(here[1:] * slopes, axis=0) / (1 + jnp.exp(jnp.minimum(-left - _AT_ONE, 40.0))))
    moved.append(jnp.sum(here[:-1] * slopes, axis=0) / (1 + jnp.exp(jnp.minimum(-right - _AT_ONE, 40.0))))
    return found, Bin(*moved)


def _log_slope(xi: Array, secant: Array, here: Bin) -> Array:
    """Log dy/dx inside a bin: equation 5."""
    mixed = xi * (1 - xi)
    top = secant**2 * (here.right * xi**2 + 2 * secant * mixed + here.left * (1 - xi) ** 2)
    return jnp.log(top) - 2 * jnp.log(secant + (here.right + here.left - 2 * secant) * mixed)


def forward(
    x: Float[Array, "..."], raw: Raw, *, bound: float
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The spline's value and log slope.

    Args:
        x: where.
        raw: of each spline.
        bound: B, > 0.

    Returns:
        y, and log dy/dx.

    Gradient:
        In x and raw, stated by hand; the slope's own derivative jumps at knots.
    """
    inside = jnp.abs(x) < bound
    place = jnp.where(inside, x, 0.0)
    here = _bin_of(place, raw, bound, "x")
    xi, secant = (place - here.x) / here.width, here.height / here.width
    mixed = xi * (1 - xi)
    bend = here.right + here.left - 2 * secant
    y = here.y + here.height * (secant * xi**2 + here.left * mixed) / (secant + bend * mixed)
    return jnp.where(inside, y, x), jnp.where(inside, _log_slope(xi, secant, here), 0.0)


def inverse(
    y: Float[Array, "..."], raw: Raw, *, bound: float
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The inverse's value and log slope; arguments as of `forward`.

    Gradient:
        In y and raw, as of `forward`; a discriminant that rounding takes below 1e-12 passes none.
    """
    inside = jnp.abs(y) < bound
    place = jnp.where(inside, y, 0.0)
    here = _bin_of(place, raw, bound, "y")
    secant = here.height / here.width
    # equations 6 to 8: the root of a quadratic, in the form that does not cancel
    above, bend = place - here.y, here.right + here.left - 2 * secant
    a = here.height * (secant - here.left) + above * bend
    b = here.height * here.left - above * bend
    c = -secant * above
    # the discriminant is positive but for rounding, where a root of 0 would have an infinite gradient
    root = jnp.sqrt(jnp.maximum(b**2 - 4 * a * c, 1e-12))
    xi = 2 * c / (-b - root)
    return jnp.where(inside, xi * here.width + here.x, y), jnp.where(
        inside, -_log_slope(xi, secant, here), 0.0
    )
