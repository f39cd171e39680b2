"""Fit a detector to a measured band: the best values, their uncertainties, and how good both are."""

from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim.detector import Detector
from inference.fitting import FitResult, minimize
from inference.likelihood.band import SETTINGS, BandModel, BandSettings, PredictedBand
from inference.likelihood.band_data import Band
from inference.likelihood.band_events import make_band_model
from inference.likelihood.band_likelihood import BandLikelihood, Residuals, residuals
from inference.parameters import FreeParameters
from inference.sampling.nuts import Chains, sample
from inference.sampling.surrogate import Linearised, expand

DEFAULT_FREE = ("g1", "se_gain", "extraction", "recombination")

# relative widths of priors; where nothing stands here, `parameters.DEFAULT_RELATIVE_WIDTH` is taken
RELATIVE_WIDTHS = {
    "lux": {
        "g1": 0.003 / 0.117,  # arXiv:1910.04211
        "se_gain": 0.05,  # assumed: E_gas 6.25 and 6.55 kV/cm are both in use, 8 % apart in yield
        "extraction": 0.05,  # assumed, for the same reason
    }
}

# of the stand-in's error in log likelihood. Draws reweighted to the model would be worth a share
# exp(-spread^2) of their number if the error is normal: 78 % at this bound, which is our choice
MAX_LOG_DENSITY_SPREAD = 0.5

_MIN_LEARNING_RATE = 0.5  # posterior standard deviations

Progress = Callable[[str, int, int], None]  # what, done, to do


class SurrogateCheck(eqx.Module):
    """The stand-in on which NUTS ran against the full model, at draws of the posterior."""

    n_points: int
    mean_rms_dex: float  # of stand-in - model in the band's means
    width_rms_dex: float
    log_density_spread: float  # standard deviation of the difference of log likelihoods
    log_density_model_spread: float  # of the model's log likelihood over the same draws

    def trouble(self) -> list[str]:
        """What speaks against the stand-in, in words; empty if nothing does."""
        if self.log_density_spread <= MAX_LOG_DENSITY_SPREAD:  # NaN is trouble
            return []
        return [
            f"the quadratic stand-in is off by {self.log_density_spread:.2f} in log likelihood, "
            f"and may be by {MAX_LOG_DENSITY_SPREAD:g}"
        ]


class BandFit(eqx.Module):
    """Everything that a fit to a band found out."""

    likelihood: BandLikelihood
    free: FreeParameters
    fit: FitResult
    before: PredictedBand  # nothing fitted; independent events
    after: PredictedBand  # at the best fit; independent events
    residuals_before: Residuals
    residuals_after: Residuals
    chains: Chains  # unconstrained
    draws: Float[np.ndarray, "draw parameter"]  # physical values
    check: SurrogateCheck


def settings_for(detector: Detector) -> BandSettings:
    """How bands of this detector were measured; S1 areas in the whole volume where nothing is known."""
    return SETTINGS.get(detector.name, BandSettings())


def default_free(
    detector: Detector,
    names: Sequence[str] = DEFAULT_FREE,
    *,
    priors: Mapping[str, dist.Distribution] | None = None,
) -> FreeParameters:
    """Free parameters with the priors that are published for this detector.

    Args:
        detector: gives values and name.
        names: which leaves.
        priors: in place of the published or assumed ones.

    Raises:
        ValueError: as `FreeParameters.of`.
    """
    return FreeParameters.of(
        detector, names, priors=priors, relative_widths=RELATIVE_WIDTHS.get(detector.name, {})
    )


@eqx.filter_jit
def _predict(model: BandModel, detector: Detector) -> PredictedBand:
    return model(detector)


def predict_band(
    key: PRNGKeyArray,
    detector: Detector,
    band: Band,
    *,
    calibration: Detector | None = None,
    settings: BandSettings,
    source: str = "ch3t",
    n_events: int = 20_000,
    n_replicas: int = 4,
) -> PredictedBand:
    """The band from several independent sets of events, averaged: n_replicas x n_events in all.

    Gradient: as `BandModel`.
    """
    calibration = detector if calibration is None else calibration
    bands = [
        _predict(
            make_band_model(k, calibration, band, settings=settings, source=source, n_events=n_events),
            detector,
        )
        for k in jax.random.split(key, n_replicas)
    ]
    mean = jnp.mean(jnp.stack([b.mean for b in bands]), axis=0)
    square = jnp.mean(jnp.stack([b.width**2 + (b.mean - mean) ** 2 for b in bands]), axis=0)
    return PredictedBand(mean, jnp.sqrt(square), sum((b.n_effective for b in bands), jnp.zeros(())))


def _compare(stand_in: Array, exact: Array, log_likelihood: Callable[[Array], Array]) -> SurrogateCheck:
    off = np.asarray(stand_in - exact).reshape(len(exact), 2, -1)
    rms = np.sqrt(np.mean(off**2, axis=(0, 2)))
    logs = log_likelihood(exact)
    return SurrogateCheck(
        n_points=len(exact),
        mean_rms_dex=float(rms[0]),
        width_rms_dex=float(rms[1]),
        log_density_spread=float(jnp.std(log_likelihood(stand_in) - logs)),
        log_density_model_spread=float(jnp.std(logs)),
    )


def fit_band(
    key: PRNGKeyArray,
    detector: Detector,
    band: Band,
    free: FreeParameters,
    *,
    settings: BandSettings | None = None,
    source: str = "ch3t",
    n_events: int = 40_000,
    n_steps: int = 60,
    n_samples: int = 1000,
    n_check: int = 8,
    on_progress: Progress | None = None,
) -> BandFit:
    """Fit to the posterior mode by Adam, then sample the posterior by NUTS.

    NUTS runs on a quadratic expansion of the band's means and widths around the mode, whose coefficients are
    the model's gradients; it is compared with the model itself at draws of the posterior (`check`). Bands
    before and after are made from events that the fit has not seen.

    Args:
        key: of everything random.
        detector: start of the fit, centre of the corrections.
        band: the data.
        free: which leaves, with priors.
        settings: how the band was measured; those of the detector's name if not given.
        source: of the events.
        n_events: in the model that is fitted.
        n_steps: of Adam.
        n_samples: draws a chain, of 4 chains.
        n_check: draws at which the expansion is compared with the model, > 1.
        on_progress: called with what is being done, done and to do.

    Raises:
        ValueError: for an unknown source, or where loss or gradient stop being finite.
    """
    settings = settings_for(detector) if settings is None else settings
    key_model, key_sample, key_check = jax.random.split(key, 3)
    model = make_band_model(key_model, detector, band, settings=settings, source=source, n_events=n_events)
    likelihood = BandLikelihood(model, band)
    report = on_progress or (lambda what, done, total: None)

    linearised = Linearised(lambda vector: jnp.concatenate(model(free.unpack(vector, detector)).curves()))
    target = jnp.concatenate([jnp.asarray(band.mean), jnp.asarray(band.width)])

    def whiten(vector, error):
        """A factor of the covariance, and Newton's step in it, with the prior's as unit."""
        value, jacobian = linearised(vector)
        scaled = jacobian / error[:, None]
        eigen, axes = jnp.linalg.eigh(scaled.T @ scaled + jnp.eye(len(free)))
        factor = axes / jnp.sqrt(eigen)
        return factor, factor.T @ (scaled.T @ ((target - value) / error))

    start = free.pack(detector)
    report("expanding", 0, 1)
    directions, newton = whiten(start, jnp.concatenate(likelihood.errors(_predict(model, detector))))
    fit = minimize(
        lambda d: -likelihood.log_density(d),
        free,
        detector,
        n_steps=n_steps,
        learning_rate=max(_MIN_LEARNING_RATE, 4 * float(jnp.max(jnp.abs(newton))) / n_steps),
        start=start,
        directions=directions,
        prior_weight=1.0,
        on_step=lambda step, _: report("fitting", step, n_steps),
    )
    error = jnp.concatenate(likelihood.errors(_predict(model, fit.detector)))
    directions, _ = whiten(fit.vector, error)
    surrogate = expand(
        linearised, fit.vector, directions, on_evaluation=lambda i, n: report("expanding", i, n)
    )

    def log_likelihood(prediction):
        return -0.5 * jnp.sum(((prediction - target) / error) ** 2)

    def log_posterior(vector):
        return log_likelihood(surrogate(vector)) + free.log_prior(vector) + free.log_jacobian(vector)

    report("sampling", 0, 1)
    chains = sample(key_sample, log_posterior, fit.vector, directions=directions, n_samples=n_samples)
    report("sampling", 1, 1)

    points = jnp.asarray(chains.flat[:: max(len(chains.flat) // n_check, 1)][:n_check])
    exact = []
    for number, point in enumerate(points, start=1):
        exact.append(jnp.concatenate(_predict(model, free.unpack(point, detector)).curves()))
        report("checking", number, len(points))
    check = _compare(jax.vmap(surrogate)(points), jnp.stack(exact), jax.vmap(log_likelihood))

    def independent(d):
        return predict_band(
            key_check, d, band, calibration=detector, settings=settings, source=source, n_events=n_events
        )

    before, after = independent(detector), independent(fit.detector)
    return BandFit(
        likelihood=likelihood,
        free=free,
        fit=fit,
        before=before,
        after=after,
        residuals_before=residuals(likelihood, before),
        residuals_after=residuals(likelihood, after),
        chains=chains,
        draws=np.asarray(jax.vmap(free.values)(jnp.asarray(chains.flat))),
        check=check,
    )
