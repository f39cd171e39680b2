"""The No-U-Turn sampler on many small problems of one shape at once, one compiled program for all."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer.hmc import hmc

_DEEPEST = 6  # doublings: 63 steps; in a space that is white by then, three to seven are taken


@eqx.filter_jit
def sample_many(
    key: PRNGKeyArray,
    log_density: Callable[[Float[Array, "parameter"], Any], Float[Array, ""]],
    data: Any,
    starts: Float[Array, "problem parameter"],
    roots: Float[Array, "problem parameter parameter"],
    *,
    n_chains: int = 4,
    n_warmup: int = 150,
    n_samples: int = 250,
) -> tuple[Float[Array, "problem chain draw parameter"], Bool[Array, "problem chain draw"]]:
    """Draw from exp(log_density) of each problem.

    All problems and chains run side by side, and each waits for the longest trajectory among them: the roots
    make these about equal. Only the step size is adapted.

    Args:
        key: of all chains.
        log_density: (unconstrained vector, one problem's data) -> log density, Jacobian included.
        data: problems first in every array.
        starts: of each problem; chains start around it.
        roots: Cholesky factors of about the covariance of each problem.
        n_chains: > 1, so that r-hat can be told.
        n_warmup: draws a chain to adapt the step, not kept.
        n_samples: draws a chain.

    Returns:
        Draws, and which transitions diverged.

    Gradient: none meant.
    """

    def chain(key, given, start, root):
        key_start, key_run = jax.random.split(key)
        begin, step = hmc(potential_fn=lambda white: -log_density(start + root @ white, given), algo="NUTS")
        state = begin(
            jax.random.normal(key_start, start.shape, start.dtype),
            n_warmup,
            step_size=0.5,
            adapt_mass_matrix=False,
            target_accept_prob=0.85,
            max_tree_depth=_DEEPEST,
            rng_key=key_run,
        )

        def one(state, number):
            state = step(state)
            return state, (start + root @ state.z, state.diverging)

        _, (draws, diverging) = jax.lax.scan(one, state, jnp.arange(n_warmup + n_samples))
        return draws[n_warmup:], diverging[n_warmup:]

    def problem(key, given, start, root):
        return jax.vmap(lambda key: chain(key, given, start, root))(jax.random.split(key, n_chains))

    return jax.vmap(problem)(jax.random.split(key, len(starts)), data, starts, roots)


class ManyDraws(eqx.Module):
    """Draws of many problems, and how far each can be trusted."""

    draws: Float[np.ndarray, "problem chain draw parameter"]
    r_hat: Float[np.ndarray, "problem parameter"]  # near 1 where chains agree
    effective_size: Float[np.ndarray, "problem parameter"]
    n_divergent: Float[np.ndarray, "problem"]
    names: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def of(
        cls, draws: Float[Array, "problem chain draw parameter"], diverging: Array, names: tuple[str, ...]
    ):
        """With r-hat and effective size of each problem and parameter."""
        values = np.asarray(draws)
        # numpyro's take [chain, draw, ...]
        chains_first = values.transpose(1, 2, 0, 3)
        return cls(
            draws=values,
            r_hat=np.asarray(split_gelman_rubin(chains_first)),
            effective_size=np.asarray(effective_sample_size(chains_first)),
            n_divergent=np.sum(np.asarray(diverging), axis=(1, 2)),
            names=names,
        )

    @property
    def flat(self) -> Float[np.ndarray, "problem draw parameter"]:
        """All chains of a problem behind one another."""
        return self.draws.reshape(len(self.draws), -1, self.draws.shape[-1])

    def trusted(self, *, largest_r_hat: float = 1.05, least_size: float = 100) -> Bool[np.ndarray, "problem"]:
        """Problems without divergences whose chains agree.

        Args:
            largest_r_hat: with a few hundred draws a chain, 1.01 is within its own scatter.
            least_size: effective draws of each parameter.
        """
        agreed = np.all(self.r_hat <= largest_r_hat, axis=1) & np.all(
            self.effective_size >= least_size, axis=1
        )
        return agreed & (self.n_divergent == 0)

    def trouble(self) -> list[str]:
        """What speaks against these draws, in words; empty if nothing does."""
        bad = np.flatnonzero(~self.trusted())
        if not len(bad):
            return []
        shown = ", ".join(str(i) for i in bad[:5]) + (", ..." if len(bad) > 5 else "")
        r_hat, size = self.r_hat[bad].max(), self.effective_size[bad].min()
        return [
            f"{len(bad)} of {len(self.draws)} problems ({shown}): r-hat up to {r_hat:.3f}, "
            f"effective size down to {size:.0f}, {int(self.n_divergent[bad].sum())} divergences"
        ]
