"""What every conditional flow can do, on standardised unbounded vectors."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class AbstractFlow(eqx.Module):
    """A law of a vector of `size` given a condition of `n_condition`.

    A new flow states `log_prob` and `push`, and trains by its negative log density unless it brings its own
    `loss`. Its description (a frozen dataclass with `build`) gets a line in `inference.flows.KINDS`.
    """

    size: eqx.AbstractVar[int]
    n_condition: eqx.AbstractVar[int]

    @abstractmethod
    def log_prob(
        self, value: Float[Array, "batch size"], condition: Float[Array, "batch condition"]
    ) -> Float[Array, "batch"]:
        """Log density. Gradient: exact."""

    @abstractmethod
    def push(
        self, noise: Float[Array, "batch draw size"], condition: Float[Array, "batch condition"]
    ) -> Float[Array, "batch draw size"]:
        """Draws made of standard normal noise. Gradient: pathwise."""

    def loss(
        self,
        key: PRNGKeyArray,
        value: Float[Array, "batch size"],
        condition: Float[Array, "batch condition"],
    ) -> Float[Array, "batch"]:
        """What training makes small; the key is for flows whose loss draws."""
        del key
        return -self.log_prob(value, condition)

    def sample(
        self, key: PRNGKeyArray, condition: Float[Array, "batch condition"], n: int
    ) -> Float[Array, "batch n size"]:
        """Draws for each condition. Gradient: pathwise."""
        noise = jax.random.normal(key, (condition.shape[0], n, self.size), condition.dtype)
        return self.push(noise, condition)


def log_normal(noise: Float[Array, "size ..."]) -> Float[Array, "..."]:
    """Log density of independent standard normals, summed over the first axis."""
    size = noise.shape[0]
    return -0.5 * jnp.sum(noise**2, axis=0) - 0.5 * size * jnp.log(2 * jnp.pi)
