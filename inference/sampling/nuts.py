"""The No-U-Turn sampler of numpyro on a log density of an unconstrained vector."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS


class Chains(eqx.Module):
    """Draws of several chains and how far they can be trusted."""

    draws: Float[np.ndarray, "chain draw parameter"]
    r_hat: Float[np.ndarray, "parameter"]  # near 1 where chains agree
    effective_size: Float[np.ndarray, "parameter"]
    n_divergent: int

    @property
    def flat(self) -> Float[np.ndarray, "draw parameter"]:
        """All chains behind one another."""
        return self.draws.reshape(-1, self.draws.shape[-1])

    def trouble(self) -> list[str]:
        """What speaks against these draws, in words; empty if nothing does."""
        found = []
        if self.n_divergent:
            found.append(f"{self.n_divergent} divergent transitions")
        # 1.01 and 400: Vehtari et al., Bayesian Analysis 16 (2021) 667
        if np.any(self.r_hat > 1.01):
            found.append(f"r-hat up to {self.r_hat.max():.3f}")
        if np.any(self.effective_size < 400):
            found.append(f"effective sample size down to {self.effective_size.min():.0f}")
        return found


def sample(
    key: PRNGKeyArray,
    log_density: Callable[[Float[Array, "parameter"]], Float[Array, ""]],
    start: Float[Array, "parameter"],
    *,
    directions: Float[Array, "parameter parameter"] | None = None,
    n_chains: int = 4,
    n_warmup: int = 500,
    n_samples: int = 1000,
) -> Chains:
    """Draw from exp(log_density).

    Args:
        key: of all chains.
        log_density: of an unconstrained vector, Jacobian included.
        start: chains start around it.
        directions: a Cholesky factor of an estimated covariance, in which the sampler moves and the chains
            start; each parameter is its own direction if not given.
        n_chains: run side by side, > 1.
        n_warmup: draws a chain to adapt step and mass matrix, not kept.
        n_samples: draws a chain.
    """
    key_start, key_run = jax.random.split(key)
    directions = jnp.eye(start.shape[0], dtype=start.dtype) if directions is None else directions
    starts = jax.random.normal(key_start, (n_chains, start.shape[0]), start.dtype)
    kernel = NUTS(
        potential_fn=lambda position: -log_density(start + directions @ position),
        dense_mass=True,
        target_accept_prob=0.9,
    )
    mcmc = MCMC(
        kernel,
        num_warmup=n_warmup,
        num_samples=n_samples,
        num_chains=n_chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(key_run, init_params=starts, extra_fields=("diverging",))
    draws = np.asarray(start + mcmc.get_samples(group_by_chain=True) @ directions.T)
    return Chains(
        draws=draws,
        r_hat=np.atleast_1d(split_gelman_rubin(draws)),
        effective_size=np.atleast_1d(effective_sample_size(draws)),
        n_divergent=int(jnp.sum(mcmc.get_extra_fields()["diverging"])),
    )
