"""Masked autoregressive flow, from FlowJAX: each entry moves as those before it and the condition choose.

Its density takes one pass, a draw as many passes as the vector has entries.

Source: Papamakarios et al., arXiv:1705.07057; FlowJAX, Ward (2024).
"""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import paramax
from flowjax.bijections import AbstractBijection, RationalQuadraticSpline
from flowjax.distributions import StandardNormal
from flowjax.flows import masked_autoregressive_flow
from jaxtyping import Array, Float, PRNGKeyArray
from typing_extensions import override

from inference.flows.base import AbstractFlow, log_normal


class AutoregressiveFlow(AbstractFlow):
    """A FlowJAX bijection from noise to values."""

    size: int = eqx.field(static=True)
    n_condition: int = eqx.field(static=True)
    bijection: AbstractBijection

    @override
    def log_prob(
        self, value: Float[Array, "batch size"], condition: Float[Array, "batch condition"]
    ) -> Float[Array, "batch"]:
        bijection = paramax.unwrap(self.bijection)
        noise, log_determinant = jax.vmap(bijection.inverse_and_log_det)(value, condition)
        return log_normal(noise.T) + log_determinant

    @override
    def push(
        self, noise: Float[Array, "batch draw size"], condition: Float[Array, "batch condition"]
    ) -> Float[Array, "batch draw size"]:
        bijection = paramax.unwrap(self.bijection)
        return jax.vmap(jax.vmap(bijection.transform, (0, None)))(noise, condition)


@dataclass(frozen=True)
class Autoregressive:
    """Description of a masked autoregressive flow.

    Args:
        n_layers: > 0.
        width: of the masked networks' hidden layers; at least the vector's size.
        depth: hidden layers of a masked network.
        n_bins: of the splines that move each entry; 0 for a shift and a scale, as in the paper.
        bound: splines act on [-bound, bound] standard deviations.
    """

    kind: ClassVar[str] = "autoregressive"
    n_layers: int = 5
    width: int = 50
    depth: int = 2
    n_bins: int = 0
    bound: float = 5.0

    def build(self, key: PRNGKeyArray, size: int, n_condition: int) -> AutoregressiveFlow:
        """An untrained flow."""
        spline = RationalQuadraticSpline(knots=self.n_bins, interval=self.bound) if self.n_bins else None
        flow = masked_autoregressive_flow(
            key,
            base_dist=StandardNormal((size,)),
            transformer=spline,
            cond_dim=n_condition,
            flow_layers=self.n_layers,
            nn_width=self.width,
            nn_depth=self.depth,
            nn_activation=jnp.tanh,
        )
        return AutoregressiveFlow(size, n_condition, flow.bijection)
