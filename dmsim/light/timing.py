"""Emission times of photons."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def two_exponentials(
    u_which: Float[Array, "..."],
    u_when: Float[Array, "..."],
    *,
    fast_fraction: Float[Array, "..."],
    fast_ns: Float[Array, "..."],
    slow_ns: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Decay time [ns] of a singlet (fast) or triplet (slow) excimer.

    Args:
        u_which: uniforms in (0, 1); below `fast_fraction` the decay is fast.
        u_when: uniforms in (0, 1).
        fast_fraction: in (0, 1).
        fast_ns: lifetime, > 0.
        slow_ns: lifetime, > 0.

    Gradient: implicit, in the fraction and both lifetimes.
    """
    return _two_exponentials(u_which, u_when, fast_fraction, fast_ns, slow_ns)


@jax.custom_jvp
def _two_exponentials(u_which, u_when, fast_fraction, fast_ns, slow_ns):
    return -jnp.log(u_when) * jnp.where(u_which < fast_fraction, fast_ns, slow_ns)


@_two_exponentials.defjvp
def _two_exponentials_jvp(primals, tangents):
    # as `relax.implicit`, whose CDF and density are not worth their two exponentials where nobody asks
    t = _two_exponentials(*primals)
    _, _, fraction, fast_ns, slow_ns = primals
    _, _, d_fraction, d_fast, d_slow = tangents
    fast, slow = jnp.exp(-t / fast_ns), jnp.exp(-t / slow_ns)
    pdf = fraction / fast_ns * fast + (1 - fraction) / slow_ns * slow
    # of the CDF 1 - fraction fast - (1 - fraction) slow
    by_fraction = (slow - fast) / pdf
    by_fast = -fraction * fast * t / (fast_ns**2 * pdf)
    by_slow = -(1 - fraction) * slow * t / (slow_ns**2 * pdf)
    return t, -(by_fraction * d_fraction + by_fast * d_fast + by_slow * d_slow)
