"""Profile likelihood of one rate, on bins for many experiments at once, or on single events.

    t(s) = -2 log L(s, best nuisances given s) / L(best s >= 0, best nuisances)

Nuisances are the other rates and a few shape parameters, each with a Gaussian auxiliary measurement whose
outcome belongs to the data. Source: Cowan, Cranmer, Gross, Vitells, Eur. Phys. J. C 71 (2011) 1554,
arXiv:1007.1727.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from inference.sampling.surrogate import Quadratic

_STEPS = 16  # of Newton's method; a fit takes about 8
_LEAST = 1e-12  # events in a bin


class Model(eqx.Module):
    """Expected counts in places: rates times templates, whose logarithms are quadratic in shape parameters.

    Places are bins. Or they are the densities at single events, and a last one with all that is expected in
    the window (`of_events`). Parameters stand in the order signal rate, other rates, shapes.
    """

    log_templates: Quadratic  # of the shapes -> component x bin, flat; component 0 is the signal
    aux_width: Float[Array, "parameter"]  # of the auxiliary measurements; inf where there is none
    nominal: Float[Array, "parameter"]
    n_components: int = eqx.field(static=True)
    of_events: bool = eqx.field(static=True, default=False)

    @classmethod
    def of(
        cls,
        log_templates: Quadratic,
        rates: Float[Array, "component"],
        rate_widths: Float[Array, "component"],
        *,
        shape_widths: Float[Array, "shape"],
        of_events: bool = False,
    ) -> "Model":
        """A model around nominal rates.

        Args:
            log_templates: logs of expected events a bin at a rate of 1, for each component; component 0 is
                the signal.
            rates: nominal, >= 0.
            rate_widths: of their auxiliary measurements, inf for those that only the data know.
            shape_widths: the same of the shapes, around the templates' centre.
            of_events: whether places are single events, and the last one all that is expected.
        """
        rates, widths = jnp.asarray(rates, jnp.float32), jnp.asarray(rate_widths, jnp.float32)
        return cls(
            log_templates,
            jnp.concatenate([widths, jnp.asarray(shape_widths, jnp.float32)]),
            jnp.concatenate([rates, log_templates.centre]),
            len(rates),
            of_events,
        )

    def expected(self, parameters: Float[Array, "parameter"]) -> Float[Array, "bin"]:
        """Expected counts. Gradient: exact."""
        rates, shapes = parameters[: self.n_components], parameters[self.n_components :]
        logs = self.log_templates(shapes).reshape(self.n_components, -1)
        return jnp.maximum(rates @ jnp.exp(logs), _LEAST)

    @property
    def is_number(self) -> Float[Array, "bin"]:
        """1 where what is expected in a place is a number of events, 0 where it is a density at one."""
        n, dtype = self.log_templates.value.shape[0] // self.n_components, self.aux_width.dtype
        return (jnp.arange(n) == n - 1).astype(dtype) if self.of_events else jnp.ones(n, dtype)

    def loss(
        self,
        parameters: Float[Array, "parameter"],
        counts: Float[Array, "bin"],
        aux: Float[Array, "parameter"],
    ) -> Float[Array, ""]:
        """-log L up to a constant of the counts, of an experiment and its auxiliary measurements.

        Gradient: exact.
        """
        expected = self.expected(parameters)
        # each bin against its best value, so that float32 adds up small numbers
        seen = jnp.maximum(counts, 1.0)
        deviance = self.is_number * expected - counts - counts * jnp.log(expected / seen)
        pulls = (parameters - aux) / self.aux_width
        return jnp.sum(deviance) + 0.5 * jnp.sum(pulls**2)


class Fitted(NamedTuple):
    """The end of a fit."""

    loss: Float[Array, ""]
    parameters: Float[Array, "parameter"]


def fit(
    model: Model,
    counts: Float[Array, "bin"],
    aux: Float[Array, "parameter"],
    *,
    start: Float[Array, "parameter"],
    signal: Float[Array, ""] | None = None,
) -> Fitted:
    """Best parameters with rates >= 0, by Fisher scoring with Levenberg's damping inside the bounds.

    Args:
        model: of the counts.
        counts: of the experiment.
        aux: outcomes of its auxiliary measurements.
        start: parameters to start from.
        signal: held at this rate; free if not given.

    Returns:
        Loss and parameters.
    """
    n_rates = model.n_components
    bounded = jnp.arange(start.shape[0]) < n_rates
    held = jnp.zeros(start.shape[0], bool)
    if signal is not None:
        start, held = start.at[0].set(signal), held.at[0].set(True)
    else:
        start = start.at[0].set(jnp.maximum(start[0], 0.1))

    def step(_, state):
        x, value, damping = state
        expected, push = jax.linearize(model.expected, x)
        jacobian = jax.vmap(push)(jnp.eye(x.shape[0], dtype=x.dtype))  # [parameter, bin]
        weight = 1 / model.aux_width**2
        slope = jacobian @ (model.is_number - counts / expected) + (x - aux) * weight
        # bins: the expected information, also of empty ones; events: that of those which were seen
        information = counts / expected**2 if model.of_events else 1 / expected
        fisher = (jacobian * information) @ jacobian.T + jnp.diag(weight)
        # a parameter at its bound that is pushed outwards stays there
        still = held | (bounded & (x <= 0) & (slope > 0))
        keep = ~still[:, None] & ~still
        diagonal = jnp.where(still, 1.0, jnp.diagonal(fisher) * (1 + damping) + 1e-12)
        fisher = jnp.where(keep, fisher, 0.0) * (1 - jnp.eye(x.shape[0])) + jnp.diag(diagonal)
        move = -jnp.linalg.solve(fisher, jnp.where(still, 0.0, slope))
        new = jnp.where(bounded, jnp.maximum(x + move, 0.0), x + move)
        found = model.loss(new, counts, aux)
        better = found <= value
        state = jnp.where(better, new, x), jnp.where(better, found, value)
        return *state, jnp.where(better, damping * 0.1, damping * 10 + 1e-3)

    begin = (start, model.loss(start, counts, aux), jnp.asarray(1e-3, start.dtype))
    parameters, loss, _ = jax.lax.fori_loop(0, _STEPS, step, begin)
    return Fitted(loss, parameters)


def _start(model: Model, aux: Float[Array, "parameter"]) -> Float[Array, "parameter"]:
    """Where auxiliary measurements say that the parameters are; the nominal values without them."""
    start = jnp.where(jnp.isfinite(model.aux_width), aux, model.nominal)
    return jnp.where(jnp.arange(len(start)) < model.n_components, jnp.maximum(start, 1e-3), start)


@eqx.filter_jit
def fit_many(model: Model, counts: Float[Array, "toy bin"], aux: Float[Array, "toy parameter"]) -> Fitted:
    """Best fits of experiments, signal >= 0."""
    return jax.vmap(lambda n, a: fit(model, n, a, start=_start(model, a)))(counts, aux)


@eqx.filter_jit
def scan_many(
    model: Model,
    counts: Float[Array, "toy bin"],
    aux: Float[Array, "toy parameter"],
    best: Fitted,
    signals: Float[Array, "signal"],
) -> Float[Array, "toy signal"]:
    """The statistic t of each experiment at each signal rate.

    Args:
        model: of the counts.
        counts: of the experiments.
        aux: outcomes of their auxiliary measurements.
        best: of `fit_many`.
        signals: >= 0.
    """

    def one(n, a, best):
        def at(signal):
            return fit(model, n, a, start=best.parameters, signal=signal).loss

        return jnp.maximum(2 * (jax.vmap(at)(signals) - best.loss), 0.0)

    return jax.vmap(one)(counts, aux, best)


@eqx.filter_jit
def conditional(
    model: Model, counts: Float[Array, "bin"], aux: Float[Array, "parameter"], signals: Float[Array, "signal"]
) -> Float[Array, "signal parameter"]:
    """Best nuisances of one experiment given each signal rate; the signal's rate in front."""

    def at(signal):
        return fit(model, counts, aux, start=_start(model, aux), signal=signal).parameters

    return jax.vmap(at)(signals)


@eqx.filter_jit
def draw(
    key: Array, model: Model, truth: Float[Array, "parameter"], n_toys: int
) -> tuple[Float[Array, "toy bin"], Float[Array, "toy parameter"]]:
    """Counts and auxiliary measurements of toy experiments, normal about the truth.

    Raises:
        ValueError: if the model is of single events, which has no bins to draw from.
    """
    if model.of_events:
        raise ValueError("toy experiments are drawn from bins: give the model of bins")
    key_counts, key_aux = jax.random.split(key)
    expected = model.expected(truth)
    counts = jax.random.poisson(key_counts, expected, (n_toys, expected.shape[0])).astype(jnp.float32)
    width = jnp.where(jnp.isfinite(model.aux_width), model.aux_width, 0.0)
    aux = truth + width * jax.random.normal(key_aux, (n_toys, truth.shape[0]))
    return counts, aux
