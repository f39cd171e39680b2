"""Truncated sequential rounds: simulate where the posterior of one observation may lie.

Each round draws parameters from the prior cut to the region that holds all but a small part of the last
round's posterior. Inside the last region the sum of all rounds' draws is still proportional to the prior, so
the plain loss stays right and no correction is needed.

Source: Deistler et al., arXiv:2210.04815.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from inference.estimators.base import Fit
from inference.estimators.data import Cached
from inference.estimators.npe import NPE
from inference.estimators.posterior import DirectPosterior
from inference.estimators.training import Budget

_AT_ONCE = 8192
_LEAST_ACCEPTED = 1e-5


@dataclass(frozen=True)
class Round:
    """What one round did: the share of the prior that it simulated in, and its fit."""

    accepted: float
    fit: Fit


def draw_truncated(
    key: PRNGKeyArray, posterior: DirectPosterior, x: Any, n: int, *, left_out: float
) -> tuple[Float[np.ndarray, "n parameter"], float]:
    """Prior draws inside the region that holds all but `left_out` of the posterior, and the share accepted.

    Raises:
        ValueError: if the region is too small a part of the prior to be met by chance.
    """
    key_level, key_draws = jax.random.split(key)
    inside = posterior.sample(key_level, x, _AT_ONCE)
    level = jnp.quantile(posterior.log_prob(inside, x), left_out)
    kept, n_tried, n_kept = [], 0, 0
    while n_kept < n:
        theta = posterior.prior.sample(jax.random.fold_in(key_draws, n_tried), _AT_ONCE)
        kept.append(np.asarray(theta[posterior.log_prob(theta, x) >= level]))
        n_tried, n_kept = n_tried + _AT_ONCE, n_kept + len(kept[-1])
        if n_tried > 20 * _AT_ONCE and n_kept < _LEAST_ACCEPTED * n_tried:
            raise ValueError(
                f"{n_kept} of {n_tried} prior draws lie in the truncated region: it is too small"
            )
    return np.concatenate(kept)[:n], n_kept / n_tried


def fit_truncated(
    key: PRNGKeyArray,
    npe: NPE,
    observe: Callable[[PRNGKeyArray, Array], Any],
    x: Any,
    budgets: Sequence[Budget],
    *,
    left_out: float = 1e-4,
) -> list[Round]:
    """Fit to one observation in rounds; the last round's posterior is the result.

    Args:
        key: of all rounds.
        npe: prior and networks.
        observe: (key, theta[n, parameter]) -> x[n, ...], which jax can compile.
        x: the observation, one event.
        budgets: of each round; `n_simulations` are its new ones, and it trains on all so far.
        left_out: share of a posterior that the next round may leave out, > 0.
    """
    rounds: list[Round] = []
    theta_so_far, x_so_far = [], []
    simulate = jax.jit(observe)
    for number, budget in enumerate(budgets):
        key_theta, key_x, key_order, key_fit = jax.random.split(jax.random.fold_in(key, number), 4)
        if not rounds:
            theta, accepted = np.asarray(npe.prior.sample(key_theta, budget.n_simulations)), 1.0
        else:
            last = rounds[-1].fit.posterior
            theta, accepted = draw_truncated(key_theta, last, x, budget.n_simulations, left_out=left_out)
        theta_so_far.append(theta)
        x_so_far.append(jax.tree.map(np.asarray, simulate(key_x, jnp.asarray(theta))))
        # mixed, because validation takes the last of a set
        order = np.asarray(jax.random.permutation(key_order, sum(map(len, theta_so_far))))
        together = jax.tree.map(lambda *parts: np.concatenate(parts), *x_so_far)
        mixed = jax.tree.map(lambda part, order=order: part[order], together)
        cached = Cached(np.concatenate(theta_so_far)[order], mixed)
        whole = Budget(**{**vars(budget), "n_simulations": len(cached)})
        rounds.append(Round(accepted, npe.fit(key_fit, cached, whole)))
    return rounds
