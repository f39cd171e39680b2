"""Posteriors from a learned likelihood or ratio, drawn by the No-U-Turn sampler of blackjax."""

from typing import Any

import blackjax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.diagnostics import split_gelman_rubin
from typing_extensions import override

from inference.estimators.data import Layout
from inference.estimators.networks import LikelihoodNetwork, RatioNetwork
from inference.estimators.posterior import AbstractPosterior, bucket, padded
from inference.priors import Prior

_STARTS = 4096  # prior draws among which chains start, by their weight
_LARGEST_R_HAT = 1.1  # assumed: beyond this the chains have not seen the same law


def _log_density(network: Any, prior: Prior, u: Float[Array, "unbounded"], x: Any) -> Float[Array, ""]:
    """Log posterior density of u, up to a constant of x."""
    theta = prior.to_physical(u)
    one = jax.tree.map(lambda part: part[None], x)
    likelihood = network.log_likelihood(u[None], one)[0]
    return likelihood + prior.log_prob(theta) + prior.log_jacobian(u)


@eqx.filter_jit
def _chains(
    network: Any, prior: Prior, key: PRNGKeyArray, x: Any, *, n_chains: int, n_warmup: int, n_draws: int
) -> Float[Array, "chain draw unbounded"]:
    """Chains for one event; they start at prior draws chosen by their weight, so that every mode is met."""
    key_prior, key_choice, key_chains = jax.random.split(key, 3)

    def density(u):
        return _log_density(network, prior, u, x)

    drawn = prior.to_unbounded(prior.sample(key_prior, _STARTS))
    weights = jax.vmap(lambda u: density(u) - prior.log_prob(prior.to_physical(u)) - prior.log_jacobian(u))(
        drawn
    )
    starts = drawn[jax.random.categorical(key_choice, weights, shape=(n_chains,))]

    def one(key, start):
        key_warmup, key_run = jax.random.split(key)
        warmup = blackjax.window_adaptation(blackjax.nuts, density, target_acceptance_rate=0.8)
        (state, parameters), _ = warmup.run(key_warmup, start, num_steps=n_warmup)  # pyright: ignore
        kernel = blackjax.nuts(density, **parameters).step

        def step(state, key):
            state, _ = kernel(key, state)
            return state, state.position  # pyright: ignore[reportAttributeAccessIssue]

        return jax.lax.scan(step, state, jax.random.split(key_run, n_draws))[1]

    return jax.vmap(one)(jax.random.split(key_chains, n_chains), starts)


@eqx.filter_jit
def _densities(
    network: Any, prior: Prior, theta: Float[Array, "row parameter"], x: Any
) -> Float[Array, "row"]:
    likelihood = network.log_likelihood(prior.to_unbounded(theta), x)
    return jnp.where(prior.inside(theta), likelihood + prior.log_prob(theta), -jnp.inf)


class SampledPosterior(AbstractPosterior):
    """A learned likelihood (NLE) or ratio (NRE) times the prior, drawn from by NUTS.

    Args:
        prior: of the parameters.
        network: trained.
        layout: of one event's data.
        n_chains: for each event, > 1.
        n_warmup: steps a chain to adapt step and metric.
    """

    prior: Prior
    network: LikelihoodNetwork | RatioNetwork
    layout: Layout = eqx.field(static=True)
    n_chains: int = eqx.field(static=True, default=8)
    n_warmup: int = eqx.field(static=True, default=300)

    @override
    def sample(self, key: PRNGKeyArray, x: Any, n: int) -> Float[Array, "... n parameter"]:
        """Draws of theta, the events of a batch one after another through one compiled sampler.

        Args:
            key: of all chains.
            x: one event or a batch.
            n: draws an event, > 0.

        Raises:
            ValueError: for data of other names or shapes than trained for or not finite, or if the chains of
                an event disagree.
        """
        if n < 1:
            raise ValueError(f"n is {n}: at least one draw is needed")
        x, batched = self.layout.batched(x)
        n_events = jax.tree.leaves(x)[0].shape[0]
        each = max(bucket(-(-n // self.n_chains)), 64)
        done = []
        for event in range(n_events):
            chains = _chains(
                self.network,
                self.prior,
                jax.random.fold_in(key, event),
                jax.tree.map(lambda part, event=event: part[event], x),
                n_chains=self.n_chains,
                n_warmup=self.n_warmup,
                n_draws=each,
            )
            r_hat = float(np.max(split_gelman_rubin(np.asarray(chains))))
            if not r_hat < _LARGEST_R_HAT:
                raise ValueError(
                    f"chains of event {event} disagree (r-hat {r_hat:.2f}): raise n_warmup, now "
                    f"{self.n_warmup}, or use NPE if the posterior has several modes"
                )
            mixed = chains.swapaxes(0, 1).reshape(-1, chains.shape[-1])
            done.append(self.prior.to_physical(mixed[np.linspace(0, len(mixed) - 1, n).astype(int)]))
        draws = jnp.stack(done)
        return draws if batched else draws[0]

    @override
    def log_prob(self, theta: Float[Array, "... parameter"], x: Any) -> Float[Array, "..."]:
        """Log density of theta up to a constant of x; -inf outside the prior's support."""
        rows, x, shape = self._rows(theta, x)
        flat = rows.reshape(-1, rows.shape[-1])
        each = jax.tree.map(lambda part: jnp.repeat(part, rows.shape[1], axis=0), x)
        here = padded((flat, each), bucket(len(flat)))
        return _densities(self.network, self.prior, *here)[: len(flat)].reshape(shape)
