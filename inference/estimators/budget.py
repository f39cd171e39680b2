"""How much to simulate and how to train on it: what a user states, and the schedule made of it."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclass(frozen=True)
class Budget:
    """How much to simulate and how to train on it.

    With one pass, every step simulates its own batch and no event is seen twice; with more, a set is drawn
    once and used pass after pass.

    Args:
        n_simulations: events simulated for training, validation included if there is more than one pass.
        n_passes: times that each is used.
        batch_size: events of a step.
        n_validation: events on which the loss is reported; a tenth of the simulations at most if they are a
            fixed set, further ones if not.
        peak_rate: highest learning rate of the schedule.
        warmup: share of all steps over which the rate rises; it then falls as a cosine to 0.
        clip: longest gradient, in units of the weights' space.
        averaging: decay a step of the averaged weights, which are the ones that are kept.
        epoch_steps: steps between two reports when each step simulates; a pass is one otherwise.
        joint_score: weight of a term that fits the simulator's own gradient, see
            `inference.estimators.joint_score`; 0 for none. NPE only.
        patience: epochs without a lower validation loss after which training stops, the weights of the lowest
            kept: for small sets, which many passes overfit. None for all epochs and the last weights.
        weight_decay: share of a weight that a step at rate 1 takes off, beside Adam (Loshchilov and Hutter,
            arXiv:1711.05101), against overfitting of small sets; 0 for none.
    """

    n_simulations: int
    n_passes: int = 1
    batch_size: int = 256
    n_validation: int = 2048
    peak_rate: float = 1e-3
    warmup: float = 0.03
    clip: float = 5.0
    averaging: float = 0.998
    epoch_steps: int = 200
    joint_score: float = 0.0
    patience: int | None = None
    weight_decay: float = 0.0

    def __post_init__(self):
        for name in ("n_simulations", "n_passes", "batch_size", "n_validation", "epoch_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.n_simulations < 2 * self.batch_size:
            raise ValueError(
                f"n_simulations is {self.n_simulations}: it must be at least two batches of {self.batch_size}"
            )
        for name, low, high in (
            ("peak_rate", 0, 1),
            ("warmup", 0, 1),
            ("averaging", 0, 1),
            ("clip", 0, np.inf),
        ):
            if not low < getattr(self, name) < high:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie between {low} and {high}")
        for name in ("joint_score", "weight_decay"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience is {self.patience}: it must be at least 1, or None")


class Schedule(NamedTuple):
    """Numbers that an epoch takes as arguments, so that a change compiles nothing."""

    peak_rate: Array
    n_warmup: Array
    n_steps: Array
    averaging: Array
    weight_decay: Array
    score_weight: Array | None = None  # none: the term is not compiled
    score_scale: Array | None = None

    def rate(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """Linear rise, then half a cosine to 0."""
        rise = (step + 1) / self.n_warmup
        fall = (step - self.n_warmup) / jnp.maximum(self.n_steps - self.n_warmup, 1)
        return self.peak_rate * jnp.where(rise < 1, rise, 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(fall, 0, 1))))
