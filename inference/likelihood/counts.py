"""Probabilities of counts, to sum over the outcomes of a last stage instead of drawing one."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def binomial_log_pmf(
    k: Float[Array, "..."], n: Float[Array, "..."], p: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Log probability of k successes in n trials, smooth in n; -inf where k > n.

    Written without the difference of two large log-gammas, which float32 cannot hold:
    log[n!/(n-k)!] = k log n - (n - k + 1/2) log(1 - k/n) - k + (1/n - 1/(n-k))/12 (Stirling's series,
    under 3e-3 off at n - k = 1, 4e-5 from 3 on; the term k = n is exact).

    Args:
        k: counts, integer-valued, >= 0.
        n: trials, >= 0.
        p: probability in (0, 1).

    Gradient: exact in n and p; at k = n that of n is left out.
    """
    # whatever depends on n or k alone is left unbroadcast: one logarithm an element remains
    inside, all_of_them = k < n, k == n
    trials, rest = jnp.maximum(n, 1.0), jnp.maximum(n - k, 1.0)
    ratio = jnp.where(inside, k / trials, 0.0)
    log_pmf = k * (jnp.log(trials) + jnp.log(p) - 1) - (rest + 0.5) * jnp.log1p(-ratio)
    log_pmf = log_pmf + rest * jnp.log1p(-p) + (1 / trials - 1 / rest) / 12 - jax.lax.lgamma(k + 1)
    return jnp.where(inside, log_pmf, jnp.where(all_of_them, k * jnp.log(p), -jnp.inf))
