"""What is maximised: a figure of merit of the expected counts behind the cuts."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from inference.tuning.samples import Table


class Counts(NamedTuple):
    """Expected events behind the cuts, in each bin of the objective."""

    signal: Float[Array, "bin"]
    background: Float[Array, "bin"]
    background_error: Float[Array, "bin"]  # standard deviation


@dataclasses.dataclass(frozen=True)
class Objective:
    """A figure of merit and how counts are made for it.

    Attributes:
        figure: `figure(signal, background, background_error)`, arrays of one number a bin, to one number that
            is to be large; differentiable. The functions of `dmsim.selection.merit` are such.
        background_error: relative systematic error of the background in each bin, >= 0.
        penalise: whether the background holds what a finite sample leaves open: one event more of each class,
            in its expectation and its error, and the sum of squared weights in its error. Figures on held-out
            events are quoted without it.
        bins: a column and its edges, to count in bins; None counts all in one. Events outside count nowhere.
    """

    figure: Callable[..., Array]
    background_error: float = 0.0
    penalise: bool = True
    bins: tuple[str, tuple[float, ...]] | None = None

    def __post_init__(self):
        if not (np.isfinite(self.background_error) and self.background_error >= 0):
            raise ValueError(f"background_error is {self.background_error}: must be >= 0")
        if self.bins is not None:
            edges = np.asarray(self.bins[1])
            if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
                raise ValueError(f"edges of the bins in {self.bins[0]} must increase, and be 2 or more")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it reads beside those of the cuts."""
        return () if self.bins is None else (self.bins[0],)

    @property
    def n_bins(self) -> int:
        """Bins that are counted in."""
        return 1 if self.bins is None else len(self.bins[1]) - 1

    def bin_of(self, table: Table) -> np.ndarray:
        """Bin of each event, n_bins where it is outside."""
        if self.bins is None:
            return np.zeros(len(table), np.int32)
        column, edges = self.bins
        found = np.searchsorted(np.asarray(edges, np.float32), table.columns[column], side="right") - 1
        return np.where((found < 0) | (found >= self.n_bins), self.n_bins, found).astype(np.int32)

    def counts(
        self,
        signal: Any,
        backgrounds: Sequence[Any],
        squares: Any,
        floor: Any,
        shifts: Sequence[Any] = (),
        *,
        penalised: bool,
    ) -> Counts:
        """Counts with the background's whole error.

        Args:
            signal: events in each bin.
            backgrounds: the same of each background.
            squares: sum of squared weights of all backgrounds in each bin.
            floor: what one event of each background stands for.
            shifts: change of the background with each nuisance parameter, for one standard deviation.
            penalised: with the finite sample's error.
        """
        background = sum(backgrounds, jnp.zeros(self.n_bins))
        variance = (self.background_error * background) ** 2
        for shift in shifts:
            variance = variance + shift**2
        if penalised:
            # one event more of each: mean and variance of an expectation after a flat prior. Without it
            # a background that the sample happens not to show would look like none
            background = background + jnp.sum(jnp.asarray(floor))
            variance = variance + squares + jnp.sum(jnp.square(jnp.asarray(floor)))
        # no square root of zero: its gradient is not finite
        return Counts(signal, background, jnp.sqrt(jnp.maximum(variance, 1e-12)))

    def __call__(self, counts: Counts) -> Float[Array, ""]:
        """The figure. Gradient: that of `figure`."""
        return jnp.sum(jnp.asarray(self.figure(*counts)))
