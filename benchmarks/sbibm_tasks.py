"""Four tasks of Lueckmann et al., arXiv:2101.04653 (appendix T), and their reference posteriors.

The references and observations are the data files of the sbibm wheel: `pip download sbibm --no-deps`, unzip,
and give its folder sbibm/tasks.
"""

import bz2
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from inference import priors


@dataclass(frozen=True)
class Task:
    """A uniform prior on [-bound, bound]^n and a simulator."""

    name: str
    n_parameters: int
    bound: float
    observe: Callable[[PRNGKeyArray, Array], Array]

    @property
    def prior(self) -> priors.Prior:
        """Of the parameters."""
        law = dist.Uniform(-self.bound, self.bound)
        return priors.Prior(*(priors.Scalar(f"theta_{i}", "", law) for i in range(1, self.n_parameters + 1)))

    def references(self, folder: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Observation `number` (from 1) and draws of its exact posterior."""
        here = folder / self.name / "files" / f"num_observation_{number}"
        with bz2.open(here / "reference_posterior_samples.csv.bz2", "rt") as file:
            draws = np.loadtxt(file, delimiter=",", skiprows=1, dtype=np.float32, ndmin=2)
        x = np.loadtxt(here / "observation.csv", delimiter=",", skiprows=1, dtype=np.float32, ndmin=1)
        return x, draws


def two_moons(key: PRNGKeyArray, theta: Float[Array, "n 2"]) -> Float[Array, "n 2"]:
    """T.8: a crescent, moved by |theta_1 + theta_2| and theta_2 - theta_1."""
    key_angle, key_radius = jax.random.split(key)
    angle = jax.random.uniform(key_angle, theta.shape[:1], minval=-math.pi / 2, maxval=math.pi / 2)
    radius = 0.1 + 0.01 * jax.random.normal(key_radius, theta.shape[:1])
    first = radius * jnp.cos(angle) + 0.25 - jnp.abs(theta[:, 0] + theta[:, 1]) / math.sqrt(2)
    second = radius * jnp.sin(angle) + (theta[:, 1] - theta[:, 0]) / math.sqrt(2)
    return jnp.stack([first, second], axis=-1)


def slcp(key: PRNGKeyArray, theta: Float[Array, "n 5"]) -> Float[Array, "n 8"]:
    """T.3: four draws of a normal in two dimensions, with squares and a tanh in its covariance."""
    first, second = theta[:, 2, None] ** 2, theta[:, 3, None] ** 2
    rho = jnp.tanh(theta[:, 4, None])
    one, two = jax.random.normal(key, (2, theta.shape[0], 4))
    x = theta[:, 0, None] + first * one
    y = theta[:, 1, None] + second * (rho * one + jnp.sqrt(1 - rho**2) * two)
    return jnp.stack([x, y], axis=-1).reshape(-1, 8)


def gaussian_linear_uniform(key: PRNGKeyArray, theta: Float[Array, "n 10"]) -> Float[Array, "n 10"]:
    """T.2: a normal of variance 0.1 around theta."""
    return theta + math.sqrt(0.1) * jax.random.normal(key, theta.shape)


def gaussian_mixture(key: PRNGKeyArray, theta: Float[Array, "n 2"]) -> Float[Array, "n 2"]:
    """T.7: normals of width 1 or 0.1 around theta, as likely."""
    key_choice, key_noise = jax.random.split(key)
    wide = jax.random.bernoulli(key_choice, 0.5, (theta.shape[0], 1))
    return theta + jnp.where(wide, 1.0, 0.1) * jax.random.normal(key_noise, theta.shape)


TASKS = {
    task.name: task
    for task in (
        Task("two_moons", 2, 1.0, two_moons),
        Task("slcp", 5, 3.0, slcp),
        Task("gaussian_linear_uniform", 10, 1.0, gaussian_linear_uniform),
        Task("gaussian_mixture", 2, 10.0, gaussian_mixture),
    )
}
