"""The posterior of a population: its mode by Fisher scoring, its draws by NUTS on a quadratic stand-in."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from inference.likelihood.population import PopulationLikelihood
from inference.likelihood.population_response import Bins
from inference.sampling.nuts import Chains, sample
from inference.sampling.surrogate import Quadratic, expand

# of the stand-in's error in log likelihood: draws reweighted to the model are worth about exp(-spread^2) of
# their number, 78 % at this bound, which is our choice
MAX_SPREAD = 0.5
_MAX_STEPS = 20  # to the mode
_HALVINGS = 5  # of a step that leads down
_ROUNDING = 1e-6  # of a log posterior in float32
_CLOSE = 0.05  # posterior standard deviations: where the mode counts as found
_REACH = 1.5  # prior standard deviations of a step in any parameter
_HALF_DISTANCE = 1.5  # posterior standard deviations: of the differences of Jacobians

Progress = Callable[[str, int, int], None]


class StandInCheck(eqx.Module):
    """The stand-in against the model at draws of the posterior."""

    n_points: int
    spread: float  # standard deviation of the difference of log likelihoods
    model_spread: float  # of the model's log likelihood over the same draws
    efficiency: float  # of importance weights from the stand-in to the model, effective draws over draws

    def trouble(self) -> list[str]:
        """What speaks against the stand-in, in words; empty if nothing does."""
        if self.spread <= MAX_SPREAD:  # NaN is trouble
            return []
        return [
            f"the quadratic stand-in is off by {self.spread:.2f} in log likelihood (at most {MAX_SPREAD:g})"
        ]


class PopulationFit(eqx.Module):
    """What a fit found."""

    likelihood: PopulationLikelihood
    mode: Float[np.ndarray, "parameter"]  # unconstrained
    values: Float[np.ndarray, "parameter"]  # of the mode, physical
    chains: Chains  # unconstrained
    draws: Float[np.ndarray, "draw parameter"]  # physical
    check: StandInCheck
    surrogate: Quadratic  # of the log predictions, in the leaves
    found: bool  # whether the last step to the mode was small

    def trouble(self) -> list[str]:
        """What speaks against this fit, in words; empty if nothing does."""
        lost = [] if self.found else ["the mode was not found"]
        return [*lost, *self.chains.trouble(), *self.check.trouble()]


def stand_in(surrogate: Callable[[Array], Array] | Quadratic, n_components: int) -> Callable[[Array], Array]:
    """Log predictions [component, place] of a stand-in whose output is flat."""
    return lambda leaves: surrogate(leaves).reshape(n_components, -1)


def log_posterior(
    likelihood: PopulationLikelihood, predict: Callable[[Array], Array], vector: Float[Array, "parameter"]
) -> Float[Array, ""]:
    """Log posterior density of a vector with the predictions of a stand-in. Gradient: exact."""
    leaves, rates = likelihood.population.split(vector)
    return likelihood.log_likelihood(predict(leaves), rates) + likelihood.population.log_prior(vector)


@eqx.filter_jit
def _height(likelihood: PopulationLikelihood, vector: Array, value: Array) -> Array:
    """Log posterior of a vector with its own predictions."""
    n_components = len(likelihood.population.components)
    return log_posterior(likelihood, lambda _: value.reshape(n_components, -1), vector)


@eqx.filter_jit
def _scoring(
    likelihood: PopulationLikelihood, leaves: Array, vector: Array, value: Array, jacobian: Array
) -> tuple[Array, Array]:
    """Slope of the log posterior at a vector, and the expected curvature of its negative (Fisher's)."""
    shape = (len(likelihood.population.components), -1)
    flat = jnp.zeros((value.shape[0], leaves.shape[0], leaves.shape[0]), value.dtype)
    plane = stand_in(Quadratic(leaves, value, jacobian, flat), shape[0])
    slope = jax.grad(lambda v: log_posterior(likelihood, plane, v))(vector)

    def log_expected(v):
        leaves, rates = likelihood.population.split(v)
        return jnp.log(rates @ jnp.exp(plane(leaves)))[:-1]

    of_place = jax.jacfwd(log_expected)(vector)
    # bins: what is expected in them, which has no empty ones; events: those that were seen
    expected = jnp.exp(log_expected(vector))
    weight = expected if isinstance(likelihood.where, Bins) else likelihood.counts
    # vectors are in units of the prior's width
    return slope, (of_place.T * weight) @ of_place + jnp.eye(len(vector), dtype=vector.dtype)


def find_mode(
    likelihood: PopulationLikelihood, *, on_progress: Progress
) -> tuple[Float[Array, "parameter"], Float[Array, "parameter parameter"], bool]:
    """The posterior's mode by Fisher scoring, its covariance there, and whether the last step was small."""
    population = likelihood.population
    n_leaves = len(population.free)
    vector = population.start()
    value, jacobian = likelihood.linearised(vector[:n_leaves])
    height = float(_height(likelihood, vector, value))
    covariance = jnp.eye(len(vector), dtype=vector.dtype)
    for number in range(_MAX_STEPS):
        on_progress("finding the mode", number, _MAX_STEPS)
        slope, curvature = _scoring(likelihood, vector[:n_leaves], vector, value, jacobian)
        covariance = jnp.linalg.inv(curvature)
        move = covariance @ slope
        sizes = jnp.abs(move) / jnp.sqrt(jnp.diagonal(covariance))
        if not bool(jnp.all(jnp.isfinite(move))):
            return vector, covariance, False
        if float(jnp.max(sizes)) < _CLOSE:
            on_progress("finding the mode", _MAX_STEPS, _MAX_STEPS)
            return vector, covariance, True
        move = move * jnp.minimum(1.0, _REACH / jnp.max(jnp.abs(move)))
        for _ in range(_HALVINGS):
            value, jacobian = likelihood.linearised((vector + move)[:n_leaves])
            new = float(_height(likelihood, vector + move, value))
            if new > height - _ROUNDING * abs(height):
                break
            move = move / 2
        vector, height = vector + move, new
    return vector, covariance, False


def fit_population(
    key: PRNGKeyArray,
    likelihood: PopulationLikelihood,
    *,
    n_samples: int = 1000,
    n_warmup: int = 500,
    n_check: int = 16,
    on_progress: Progress | None = None,
) -> PopulationFit:
    """Find the posterior's mode, then draw from it by NUTS.

    NUTS runs on a quadratic expansion, around the mode, of the log probabilities of bins or events in the
    detector's free leaves; the rates enter exactly. The expansion is compared with the model at draws of the
    posterior (`check`).

    Args:
        key: of the sampler; the model has its own.
        likelihood: from `binned` or `unbinned`.
        n_samples: draws a chain, of 4 chains.
        n_warmup: draws a chain before those.
        n_check: draws at which the expansion is compared with the model, > 1.
        on_progress: called with what is being done, done and to do.

    Raises:
        ValueError: where predictions stop being finite.
    """
    population = likelihood.population
    report = on_progress or (lambda what, done, total: None)
    n_leaves, n_components = len(population.free), len(population.components)
    vector, covariance, found = find_mode(likelihood, on_progress=report)
    values = np.asarray(population.values(vector))
    if not np.all(np.isfinite(values)):
        at = ", ".join(f"{n} = {v:.4g}" for n, v in zip(population.names, values, strict=True))
        raise ValueError(f"the likelihood is not finite on the way to its maximum: {at}")
    steps = _HALF_DISTANCE * jnp.linalg.cholesky(covariance[:n_leaves, :n_leaves])
    if n_leaves:
        surrogate = expand(
            likelihood.linearised,
            vector[:n_leaves],
            steps,
            on_evaluation=lambda i, n: report("expanding the predictions", i, n),
        )
    else:
        value, jacobian = likelihood.linearised(vector[:0])
        surrogate = Quadratic(vector[:0], value, jacobian, jnp.zeros((value.shape[0], 0, 0), value.dtype))
    predict = stand_in(surrogate, n_components)
    reference = log_posterior(likelihood, predict, vector)  # float32: only differences are small numbers
    report("sampling", 0, 1)
    chains = sample(
        key,
        lambda v: log_posterior(likelihood, predict, v) - reference,
        vector,
        directions=jnp.linalg.cholesky(covariance),
        n_samples=n_samples,
        n_warmup=n_warmup,
    )
    report("sampling", 1, 1)
    return PopulationFit(
        likelihood=likelihood,
        mode=np.asarray(vector),
        values=values,
        chains=chains,
        draws=np.asarray(jax.vmap(population.values)(jnp.asarray(chains.flat))),
        check=check_stand_in(likelihood, predict, chains.flat, n_check, report),
        surrogate=surrogate,
        found=found,
    )


def check_stand_in(
    likelihood: PopulationLikelihood,
    predict: Callable[[Array], Array],
    draws: Float[np.ndarray, "draw parameter"],
    n_check: int,
    report: Progress,
) -> StandInCheck:
    """Compare a stand-in's log likelihood with the model's at some draws."""
    population = likelihood.population
    of_model, of_stand_in = [], []
    for number, draw in enumerate(draws[:: max(len(draws) // n_check, 1)][:n_check], start=1):
        leaves, rates = population.split(jnp.asarray(draw))
        exact = likelihood.linearised(leaves)[0].reshape(len(population.components), -1)
        of_model.append(float(likelihood.log_likelihood(exact, rates)))
        of_stand_in.append(float(likelihood.log_likelihood(predict(leaves), rates)))
        report("checking", number, n_check)
    off = np.asarray(of_model) - np.asarray(of_stand_in)
    weight = np.exp(off - off.max())
    return StandInCheck(
        n_points=len(off),
        spread=float(off.std()),
        model_spread=float(np.std(of_model)),
        efficiency=float(weight.sum() ** 2 / (len(weight) * (weight**2).sum())),
    )
