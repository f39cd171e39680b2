"""Exact posterior of single events: the simulator's event likelihood times a prior, sampled by NUTS.

What amortised posteriors are held against. `EventDensity` is the density itself, for importance sampling.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim.detector import Detector
from inference.likelihood.event import (
    PARAMETERS,
    EventData,
    EventParameters,
    fisher_information,
    log_likelihood,
)
from inference.priors import Prior
from inference.sampling.many import ManyDraws, sample_many

_N_STEPS = 6  # of Fisher scoring: it converges in three or four from a reconstructed event
_LONGEST_STEP = 2.0  # standard deviations in each direction


class EventDensity(eqx.Module):
    """Log of likelihood times prior of one event, in the prior's parameters; others stay at the guess.

    Args:
        detector: that made the signals.
        prior: over some of `PARAMETERS`, no category among them.

    Raises:
        ValueError: for a parameter that an event does not have.
    """

    detector: Detector
    prior: Prior

    def __init__(self, detector: Detector, prior: Prior):
        unknown = [name for name in prior.names if name not in PARAMETERS]
        if unknown:
            raise ValueError(f"prior has {', '.join(unknown)}: an event has {', '.join(PARAMETERS)}")
        self.detector, self.prior = detector, prior

    @property
    def places(self) -> Array:
        """Where the prior's parameters are in `PARAMETERS`."""
        return jnp.array([PARAMETERS.index(name) for name in self.prior.names])

    def event(self, theta: Float[Array, "parameter"], guess: EventParameters) -> EventParameters:
        """The guess with these parameters. Gradient: exact."""
        return guess.at(guess.vector().at[self.places].set(theta))

    def __call__(
        self, theta: Float[Array, "parameter"], data: EventData, guess: EventParameters
    ) -> Float[Array, ""]:
        """Log density at theta, up to a constant of the event; minus infinity outside of the prior.

        Gradient: exact inside.
        """
        inside = self.prior.inside(theta)
        # the guess stands in outside, where the likelihood is not defined
        safe = jnp.where(inside, theta, guess.vector()[self.places])
        value = log_likelihood(self.detector, self.event(safe, guess), data) + self.prior.log_prob(safe)
        return jnp.where(inside, value, -jnp.inf)

    def unbounded(
        self, u: Float[Array, "parameter"], given: tuple[EventData, EventParameters]
    ) -> Float[Array, ""]:
        """The density of the prior's unbounded vector. Gradient: exact."""
        theta = self.prior.to_physical(u)
        data, guess = given
        value = log_likelihood(self.detector, self.event(theta, guess), data)
        return value + self.prior.log_prob(theta) + self.prior.log_jacobian(u)


class Laplace(NamedTuple):
    """Normal approximation of each event's posterior, around its mode in the unbounded vector."""

    mode: Float[Array, "event parameter"]  # in the prior's units
    covariance: Float[Array, "event parameter parameter"]
    u: Float[Array, "event parameter"]  # the mode, unbounded
    root: Float[Array, "event parameter parameter"]  # Cholesky factor of the covariance of u


@eqx.filter_jit
def laplace(density: EventDensity, data: EventData, guesses: EventParameters) -> Laplace:
    """Modes by Fisher scoring, and the inverse of Fisher information plus prior there.

    Args:
        density: of an event.
        data: one row an event.
        guesses: inside of the prior.

    Gradient: none meant.
    """
    prior, windows = density.prior, data.windows

    def root_at(u, guess):
        """Root of the covariance; the prior's share is 1 for laws that are uniform between two ends."""
        theta, slope = prior.to_physical(u), jax.jacfwd(prior.to_physical)(u)
        full = fisher_information(density.detector, density.event(theta, guess), windows=windows)
        places = density.places
        information = slope.T @ full[places][:, places] @ slope
        information = information + jnp.eye(len(u), dtype=u.dtype)
        # to unit diagonal first: parameters differ by decades in what is known of them
        scale = jnp.sqrt(jnp.diagonal(information))
        inverse = jnp.linalg.inv(information / scale[:, None] / scale)
        return jnp.linalg.cholesky((inverse + inverse.T) / 2) / scale[:, None], slope

    def one(data, guess):
        def step(carry, _):
            u = carry[0]
            root, slope = root_at(u, guess)
            score = jax.grad(density.unbounded)(u, (data, guess))
            # in whitened directions, so that the bound is one in standard deviations
            white = jnp.clip(root.T @ score, -_LONGEST_STEP, _LONGEST_STEP)
            return (u + root @ white, root, slope), None

        # one loop compiles information and score once; the root is the last step's, which moves no more
        start = prior.to_unbounded(guess.vector()[density.places])
        blank = jnp.zeros((len(start), len(start)), start.dtype)
        (u, root, slope), _ = jax.lax.scan(step, (start, blank, blank), None, length=_N_STEPS)
        outer = slope @ root
        return Laplace(prior.to_physical(u), outer @ outer.T, u, root)

    return jax.vmap(one)(data, guesses)


def sample_events(
    key: PRNGKeyArray,
    density: EventDensity,
    data: EventData,
    guesses: EventParameters,
    *,
    n_chains: int = 4,
    n_warmup: int = 150,
    n_samples: int = 250,
) -> ManyDraws:
    """Draw from the posterior of each event.

    Args:
        key: of all chains.
        density: of an event.
        data: one row an event.
        guesses: inside of the prior; about where the events are.
        n_chains: an event, > 1.
        n_warmup: draws a chain to adapt the step.
        n_samples: draws a chain.

    Returns:
        With r-hat and effective size of each event: `.trusted()`, `.trouble()`.

    Raises:
        ValueError: if a guess is outside of the prior's support.

    Gradient: none.
    """
    density.prior.check_inside(guesses.vector()[:, density.places])
    around = laplace(density, data, guesses)
    u, diverging = sample_many(
        key,
        density.unbounded,
        (data, guesses),
        around.u,
        around.root,
        n_chains=n_chains,
        n_warmup=n_warmup,
        n_samples=n_samples,
    )
    return ManyDraws.of(density.prior.to_physical(u), diverging, density.prior.names)
