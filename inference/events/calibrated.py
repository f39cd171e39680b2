"""A posterior of single scatters held against simulated ones."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from inference.diagnostics.report import Report, calibrate
from inference.events.single import SingleScatters


class Whitened:
    """A posterior whose energy is counted from the anchor of the draw's own kind, in the anchor's widths.

    The kinds have energies of their own, far apart. Of a kind with a probability of 1e-3 few draws or none
    are seen, and the energy's spread is then wrong though the posterior is right: pulls need one mode.

    Args:
        events: whose summaries the posterior takes.
        posterior: with `sample`, `log_prob` and `names`.
    """

    def __init__(self, events: SingleScatters, posterior: Any):
        self.events, self.posterior, self.names = events, posterior, ("energy", *posterior.names[1:])

    def _anchor(self, label: Array, x: Float[Array, "event x"]) -> tuple[Array, Array]:
        """Mean and width of each entry of `label` [event, ...]."""
        kinds, size = max(self.events.n_kinds, 1), self.events.prior.n_unbounded
        anchors = jnp.asarray(x)[:, : 2 * kinds * size].reshape(-1, kinds, 2, size)[..., 0]
        chosen = (label if self.events.n_kinds else jnp.zeros_like(label)).astype(jnp.int32)
        flat = chosen.reshape(len(x), -1)
        mean, log_width = (jnp.take_along_axis(anchors[:, :, i], flat, axis=1) for i in (0, 1))
        return mean.reshape(label.shape), jnp.exp(log_width).reshape(label.shape)

    def to(
        self, theta: Float[Array, "event ... parameter"], x: Float[Array, "event x"]
    ) -> Float[Array, "event ... parameter"]:
        """Parameters with the energy whitened."""
        theta = jnp.asarray(theta)
        mean, width = self._anchor(theta[..., -1], x)
        u = self.events.prior.blocks[0].to_unbounded(theta[..., :1])[..., 0]
        return theta.at[..., 0].set((u - mean) / width)

    def back(
        self, theta: Float[Array, "event ... parameter"], x: Float[Array, "event x"]
    ) -> Float[Array, "event ... parameter"]:
        """The way back."""
        theta = jnp.asarray(theta)
        mean, width = self._anchor(theta[..., -1], x)
        u = (theta[..., 0] * width + mean)[..., None]
        return theta.at[..., 0].set(self.events.prior.blocks[0].to_physical(u)[..., 0])

    def sample(self, key: PRNGKeyArray, x: Float[Array, "event x"], n: int) -> Array:
        """Draws."""
        return self.to(self.posterior.sample(key, x, n), x)

    def log_prob(self, theta: Float[Array, "event ... parameter"], x: Float[Array, "event x"]) -> Array:
        """Log density in the original parameters, which orders points as well as any other function."""
        return self.posterior.log_prob(self.back(theta, x), x)


def calibrate_events(
    key: PRNGKeyArray,
    events: SingleScatters,
    posterior: Any,
    *,
    n_events: int = 4000,
    n_draws: int = 200,
    history: Mapping[str, Float[np.ndarray, "step"]] | None = None,
) -> Report:
    """`inference.calibrate` for single scatters: energy whitened, and bins of S1, radius and depth.

    Args:
        key: of everything random.
        events: the model that the posterior was trained on.
        posterior: trained on `events.simulate`.
        n_events: simulated, >= 100.
        n_draws: an event, >= 100.
        history: training curves, see `inference.diagnostics.training.check_training`.

    Raises:
        ValueError: as `inference.calibrate`; if too few of the drawn events are seen.
    """
    whitened, seen = Whitened(events, posterior), {}
    drawn = eqx.filter_jit(lambda events, key: events.draw(key, n_events))
    summarised = eqx.filter_jit(lambda events, columns: events.summary(columns))

    def simulate(key: PRNGKeyArray, n: int) -> tuple[Array, Array]:
        del n
        theta, columns = drawn(events, key)
        if not bool(events.seen(columns).all()):
            raise ValueError(f"oversample is {events.oversample}: too few of the drawn events are seen")
        seen["columns"], x = np.asarray(columns), summarised(events, columns)
        return whitened.to(theta, x), x

    def bins(x: Any, means: Float[np.ndarray, "event parameter"]) -> dict[str, np.ndarray]:
        del x
        radius = np.hypot(means[:, 1], means[:, 2])
        return {"log S1": np.log(seen["columns"][:, 0]), "radius": radius, "depth": -means[:, 3]}

    return calibrate(
        key, whitened, simulate, n_events=n_events, n_draws=n_draws, columns=bins, history=history
    )
