"""Emission times of photons."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim import relax


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
    t = -jnp.log(u_when) * jnp.where(u_which < fast_fraction, fast_ns, slow_ns)
    fast, slow = jnp.exp(-relax.stop(t) / fast_ns), jnp.exp(-relax.stop(t) / slow_ns)
    cdf = 1 - fast_fraction * fast - (1 - fast_fraction) * slow
    pdf = fast_fraction / fast_ns * fast + (1 - fast_fraction) / slow_ns * slow
    return relax.implicit(t, cdf, pdf)
