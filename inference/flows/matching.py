"""Flow matching: a velocity field carries noise to values, and is trained without solving for the path.

Source: Lipman et al., arXiv:2210.02747 (optimal-transport path, equations 20 to 23); for posteriors: Dax et
al., arXiv:2305.17161. Draws and densities solve the ordinary differential equation with diffrax.
"""

from dataclasses import dataclass
from typing import ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from typing_extensions import override

from inference.flows.base import AbstractFlow, log_normal
from inference.flows.coupling import Conditioner

_N_WAVES = 4  # assumed: sines and cosines of t up to 4 half-turns


class MatchingFlow(AbstractFlow):
    """A velocity field v(t, value | condition), noise at t = 0 and values at t = 1."""

    size: int = eqx.field(static=True)
    n_condition: int = eqx.field(static=True)
    field: Conditioner
    least_noise: float = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)

    def _velocity(self, t: Float[Array, ""], value: Float[Array, "size"], condition: Array) -> Array:
        return self._velocities(t[None], value[None], condition[None])[0]

    def _velocities(
        self, t: Float[Array, "batch"], value: Float[Array, "batch size"], condition: Float[Array, "batch c"]
    ) -> Float[Array, "batch size"]:
        turns = jnp.pi * jnp.arange(1, _N_WAVES + 1)[:, None] * t
        vector = jnp.concatenate([value.T, t[None], jnp.sin(turns), jnp.cos(turns)])
        return self.field(vector[:, :, None], condition.T)[..., 0].T

    def _solve(self, slope, start, *, backwards: bool = False):
        ends = (1.0, 0.0) if backwards else (0.0, 1.0)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(slope),
            diffrax.Tsit5(),
            *ends,
            -0.05 if backwards else 0.05,
            start,
            stepsize_controller=diffrax.PIDController(rtol=self.tolerance, atol=self.tolerance),
            max_steps=1000,
            # gradients through draws are rarely wanted; forward mode needs no checkpoints
            adjoint=diffrax.ForwardMode(),
        )
        return jax.tree.map(lambda end: end[0], solution.ys)

    @override
    def loss(
        self,
        key: PRNGKeyArray,
        value: Float[Array, "batch size"],
        condition: Float[Array, "batch condition"],
    ) -> Float[Array, "batch"]:
        key_time, key_noise = jax.random.split(key)
        t = jax.random.uniform(key_time, value.shape[:1], value.dtype)
        noise = jax.random.normal(key_noise, value.shape, value.dtype)
        keep = 1 - (1 - self.least_noise) * t[:, None]
        velocity = value - (1 - self.least_noise) * noise
        error = self._velocities(t, keep * noise + t[:, None] * value, condition) - velocity
        return jnp.mean(error**2, axis=-1)

    @override
    def log_prob(
        self, value: Float[Array, "batch size"], condition: Float[Array, "batch condition"]
    ) -> Float[Array, "batch"]:
        def one(value, condition):
            def slope(t, state, _):
                def velocity(place):
                    return self._velocity(jnp.asarray(t), place, condition)

                # the exact trace: vectors are short
                return velocity(state[0]), jnp.trace(jax.jacfwd(velocity)(state[0]))

            noise, change = self._solve(slope, (value, jnp.zeros((), value.dtype)), backwards=True)
            return log_normal(noise) + change

        return jax.vmap(one)(value, condition)

    @override
    def push(
        self, noise: Float[Array, "batch draw size"], condition: Float[Array, "batch condition"]
    ) -> Float[Array, "batch draw size"]:
        # one step size for all draws: the solver's control then costs nothing a draw
        def slope(t, value, _):
            moments = jnp.full((noise.shape[0], 1, noise.shape[1]), t)
            turns = jnp.pi * jnp.arange(1, _N_WAVES + 1)[:, None, None] * moments[:, 0]
            vector = jnp.concatenate(
                [jnp.moveaxis(value, -1, 0), moments[None, :, 0], jnp.sin(turns), jnp.cos(turns)]
            )
            return jnp.moveaxis(self.field(vector, condition.T), 0, -1)

        return self._solve(slope, noise)


@dataclass(frozen=True)
class FlowMatching:
    """Description of a flow-matching velocity field.

    Args:
        width: of the hidden layers.
        n_blocks: residual blocks.
        least_noise: standard deviation of a path's end around its value.
        tolerance: of the solver, relative and absolute.
    """

    kind: ClassVar[str] = "flow_matching"
    width: int = 128
    n_blocks: int = 3
    least_noise: float = 1e-3
    tolerance: float = 1e-3

    def build(self, key: PRNGKeyArray, size: int, n_condition: int) -> MatchingFlow:
        """An untrained field, near zero."""
        n_vector = size + 1 + 2 * _N_WAVES
        field = Conditioner(key, n_vector, n_condition, size, width=self.width, n_blocks=self.n_blocks)
        return MatchingFlow(size, n_condition, field, self.least_noise, self.tolerance)
