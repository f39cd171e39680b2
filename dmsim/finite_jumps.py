"""Finite jumps: the unbiased derivative of a mean through counts, also where a count meets a threshold.

For a count k with distribution function F(k; theta) and any function f,

    d E[f(k)] = E[ -(dF(k)/P(k)) (f(k + 1) - f(k)) ] = E[ -(dF(k - 1)/P(k)) (f(k) - f(k - 1)) ],

so that the whole chain is run again with one kind of count of every event one up, and one down, and the
same random numbers; the mean of both sides is taken. What is continuous keeps its pathwise gradient. It
costs two runs for each discrete draw in the chain, and forward mode: a reference for the cheap rules of
`relax`, and an option where a hard cut lies at a few quanta.

Source: smoothed perturbation analysis, Fu & Hu, "Conditional Monte Carlo", 1997.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmsim import relax


class Derivative(NamedTuple):
    """One value an event; the mean over events estimates the derivative of the mean."""

    value: Float[Array, "event"]
    pathwise: Float[Array, "event"]  # with every count held
    jumps: Float[Array, "event"]  # through the counts

    @property
    def total(self) -> Float[Array, "event"]:
        """Both parts."""
        return self.pathwise + self.jumps


def derivative(
    evaluate: Callable[[Any], Float[Array, "event"]],
    parameters: Any,
    tangent: Any,
    *,
    event: Int[Array, "deposit"],
    n_events: int,
) -> Derivative:
    """The derivative of `evaluate` along a direction, event by event.

    Args:
        evaluate: one value an event, by a chain whose counts are drawn with `relax` one a deposit and which
            is traced anew at each call: it must not go through a compiled function of its own.
        parameters: where it is taken.
        tangent: the direction, of the same structure.
        event: of each deposit.
        n_events: of the batch.

    Returns:
        Value and derivative of each event. Unbiased but for counts that are rounded continuous draws of a
        spread below one: there the jump has the rate at the middle of the step, not at its edge.

    Raises:
        ValueError: if a draw of the chain is not one a deposit.
    """
    host = np.asarray(event)
    first = np.searchsorted(host, host)
    rank = jnp.asarray(np.arange(host.size) - first)  # of a deposit within its event: they jump in turn
    n_draws: list[int] = []

    def run(parameters, jumps):
        tape = relax.Tape(jumps)
        with tape:
            value = evaluate(parameters)
        n_draws[:] = [len(tape.draws)]
        return value, tape.draws

    nothing: tuple = ()
    shapes = jax.eval_shape(lambda p: run(p, nothing)[1], parameters)
    for number, draw in enumerate(shapes):
        if draw.variable.shape != host.shape:
            raise ValueError(
                f"draw {number} of the chain has shape {draw.variable.shape}: finite jumps need one count a "
                f"deposit, of shape {host.shape}"
            )
    still = jnp.zeros((n_draws[0], host.size), shapes[0].variable.dtype if shapes else float)

    @jax.jit
    def base(parameters, tangent):
        (value, draws), (slope, moved) = jax.jvp(lambda p: run(p, still), (parameters,), (tangent,))
        rates = [(d.up * m.variable, d.down * m.variable) for d, m in zip(draws, moved, strict=True)]
        return value, slope, jnp.asarray(rates).reshape(len(draws), 2, host.size)

    @jax.jit
    def jumped(parameters, jumps):
        return run(parameters, jumps)[0]

    value, pathwise, rates = base(parameters, tangent)
    total = jnp.zeros_like(value)
    for number in range(n_draws[0]):
        for member in range(int(rank.max(initial=0)) + 1):
            mine = rank == member
            for side, step in enumerate((1.0, -1.0)):
                moved = jumped(parameters, still.at[number].set(jnp.where(mine, step, 0.0)))
                rate = jnp.where(mine, rates[number, side], 0.0)
                by_event = jax.ops.segment_sum(rate, event, num_segments=n_events)
                total = total + 0.5 * by_event * step * (moved - value)
    return Derivative(value, pathwise, total)
