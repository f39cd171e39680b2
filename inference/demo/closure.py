"""Three parameters of a detector, fitted to the reconstructed line of a calibration source.

Data are the uncorrected areas: for slices of drift time, the mean of ln S1 and the mean of ln S2. The model
is the areas level on its own events of the same source, with its random numbers held fixed, so that the
misfit is one smooth function of the detector and its gradient comes from differentiating the simulation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

import dmsim
from dmsim.records import Deposits
from inference.demo.calibration import Sample, median_and_spread
from inference.fitting import minimize
from inference.parameters import FreeParameters, get_leaf, resolve, set_leaf

PARAMETERS = ("g1", "lifetime", "se_gain")
LABELS = {"g1": "g1", "lifetime": "electron lifetime", "se_gain": "single-electron gain"}
WRONG_START = {"g1": 0.85, "lifetime": 0.5, "se_gain": 1.12}  # times the true value
_EVENTS_PER_SLICE, _MAX_SLICES = 40, 8
_MAX_RELATIVE_ERROR = 0.5
_LINE_FACTOR = 2.0  # events further than this from a slice's median area are not of the line
_N_STEPS, _LEARNING_RATE, _NEWTON_STEPS = 40, 0.3, 4
_STEP_SCALES = {"g1": 0.1, "lifetime": 0.5, "se_gain": 0.1}  # relative; the first steps are 0.3 of it


@dataclass(frozen=True)
class LineData:
    """Mean ln S1 and mean ln S2 of the line in slices of drift time; S1 first, then S2."""

    edges_us: Float[np.ndarray, "edge"]
    centre_us: Float[np.ndarray, "slice"]
    mean: Float[np.ndarray, "statistic"]
    covariance: Float[np.ndarray, "statistic statistic"]
    n_events: Int[np.ndarray, "slice"]
    n_left_out: int  # without S1 or S2, outside the slices, or not of the line


@dataclass(frozen=True)
class Closure:
    """A fit and what it is compared with."""

    data: LineData
    detector: dmsim.Detector  # fitted
    trajectory: Float[np.ndarray, "step parameter"]
    n_adam_steps: int  # those after are Gauss-Newton's
    last_step: Float[np.ndarray, "parameter"]  # what one more would be, in standard deviations
    paths: tuple[str, ...]
    units: tuple[str, ...]
    true: Float[np.ndarray, "parameter"]
    start: Float[np.ndarray, "parameter"]
    fitted: Float[np.ndarray, "parameter"]
    statistical: Float[np.ndarray, "parameter"]  # standard deviations
    systematic: Float[np.ndarray, "parameter"]  # shift that reconstruction's bias on the areas makes
    correlation: Float[np.ndarray, "parameter parameter"]
    chi2: float
    chi2_start: float
    chi2_adam: float
    n_freedom: int
    model_start: Float[np.ndarray, "statistic"]
    model_fitted: Float[np.ndarray, "statistic"]
    n_model_events: int

    @property
    def relative_error(self) -> Float[np.ndarray, "parameter"]:
        """Statistical standard deviation over the fitted value: that of its logarithm."""
        return self.statistical / self.fitted

    @property
    def pull(self) -> Float[np.ndarray, "parameter"]:
        """ln(fitted / true) over its statistical uncertainty; all three are scales, and positive."""
        return np.log(self.fitted / self.true) / self.relative_error

    @property
    def tolerance(self) -> Float[np.ndarray, "parameter"]:
        """What |ln(fitted / true)| may be: three standard deviations and the bias of the areas."""
        return 3 * self.relative_error + np.abs(self.systematic) / self.fitted

    @property
    def constrained(self) -> np.ndarray:
        """Whether the data tell each parameter at all: to 50 % or better (assumed)."""
        return self.relative_error <= _MAX_RELATIVE_ERROR

    @property
    def recovered(self) -> np.ndarray:
        """Whether each parameter is constrained and came back within its tolerance."""
        return self.constrained & (np.abs(np.log(self.fitted / self.true)) <= self.tolerance)


def wrong_detector(detector: dmsim.Detector) -> dmsim.Detector:
    """The detector as the analyst believes it before the fit."""
    for name, factor in WRONG_START.items():
        path = resolve(detector, name)
        detector = set_leaf(detector, path, factor * get_leaf(detector, path))
    return detector


def slices_us(detector: dmsim.Detector, n_events: int) -> Float[np.ndarray, "edge"]:
    """Edges of equal slices of drift time from gate to cathode."""
    low, high = (
        float(detector.electrons.drift_time_ns(jnp.asarray(z))) / 1e3
        for z in (0.0, -float(detector.geometry.drift_length_mm))
    )
    return np.linspace(low, high, int(np.clip(n_events // _EVENTS_PER_SLICE, 2, _MAX_SLICES)) + 1)


def measure_line(
    drift_us: Float[np.ndarray, "event"],
    s1_pe: Float[np.ndarray, "event"],
    s2_pe: Float[np.ndarray, "event"],
    edges_us: Float[np.ndarray, "edge"],
) -> LineData:
    """Means of the logarithms in each slice, and the covariance of those means.

    Raises:
        ValueError: if a slice has fewer than 8 events, too few for a covariance.
    """
    n_slices = len(edges_us) - 1
    where = np.digitize(drift_us, edges_us) - 1
    mean, covariance = np.zeros(2 * n_slices), np.zeros((2 * n_slices, 2 * n_slices))
    count = np.zeros(n_slices, int)
    for i in range(n_slices):
        inside = (where == i) & (s1_pe > 0) & (s2_pe > 0)  # False where nothing was found (NaN)
        logs = np.log(np.stack([s1_pe[inside], s2_pe[inside]]).astype(np.float64))
        on_line = np.all(np.abs(logs - np.median(logs, axis=1, keepdims=True)) < np.log(_LINE_FACTOR), axis=0)
        logs = logs[:, on_line]
        count[i] = logs.shape[1]
        if count[i] < 8:
            raise ValueError(
                f"only {count[i]} reconstructed events of the line between drift times {edges_us[i]:.0f} and "
                f"{edges_us[i + 1]:.0f} us: at least 8 are needed; give more --events"
            )
        places = [i, n_slices + i]
        mean[places] = logs.mean(axis=1)
        covariance[np.ix_(places, places)] = np.cov(logs) / count[i]
    centre = (edges_us[1:] + edges_us[:-1]) / 2
    return LineData(edges_us, centre, mean, covariance, count, len(s1_pe) - int(count.sum()))


def predict_line(
    detector: dmsim.Detector,
    *,
    key: PRNGKeyArray,
    deposits: Deposits,
    edges_us: Float[np.ndarray, "edge"],
) -> Float[Array, "statistic"]:
    """The same means from the areas level.

    Gradient: of the simulation; none through the borders of the slices.
    """
    areas = dmsim.simulate_areas(key, detector, deposits)
    n_slices = len(edges_us) - 1
    step = edges_us[1] - edges_us[0]
    place = jnp.floor((areas.drift_time_ns / 1e3 - edges_us[0]) / step).astype(jnp.int32)
    seen = (areas.s1_pe > 0) & (areas.s2_pe > 0) & (place >= 0) & (place < n_slices)
    place = jnp.where(seen, place, n_slices)  # the last row takes what is not used
    total = partial(jax.ops.segment_sum, segment_ids=place, num_segments=n_slices + 1)
    count = jnp.maximum(total(jnp.ones_like(areas.s1_pe)), 1.0)
    logs = [jnp.log(jnp.where(seen, pe, 1.0)) for pe in (areas.s1_pe, areas.s2_pe)]
    return jnp.concatenate([(total(values) / count)[:n_slices] for values in logs])


def drift_us_of(detector: dmsim.Detector, sample: Sample) -> Float[np.ndarray, "event"]:
    """Drift time of reconstructed events, without the mean delay of the light, from their depth."""
    speed, delay = float(detector.electrons.drift_speed_mm_per_us), float(detector.electrons.surface_delay_ns)
    return -sample.events.z_mm / speed + delay / 1e3


def fit_line(
    key: PRNGKeyArray,
    true_detector: dmsim.Detector,
    believed: dmsim.Detector,
    source: Callable[..., Deposits],
    line: Sample,
    *,
    n_model_events: int,
    on_step: Callable[[], None] = lambda: None,
) -> Closure:
    """Fit the free parameters to the line, from the believed detector on.

    Args:
        key: of the model's events, another than the data's.
        true_detector: only compared with.
        believed: start of the fit, and every parameter that is not free.
        source: of the line, called with key, detector, n_events and first_event.
        line: reconstructed events.
        n_model_events: of the model.
        on_step: called after each of `N_EVALUATIONS` steps.

    Gradient: matched-normal through the counts of the simulation.
    """
    edges = slices_us(believed, len(line.events))
    drift_us = drift_us_of(believed, line)
    data = measure_line(drift_us, line.events.s1_pe, line.events.s2_pe, edges)
    # the model's own scatter adds to the data's
    covariance = data.covariance * (1 + len(line.events) / n_model_events)
    precision = np.linalg.inv(covariance)
    deposits = source(key, believed, n_events=n_model_events, first_event=0)
    predict = partial(predict_line, key=key, deposits=deposits, edges_us=edges)

    def loss(detector):
        misfit = predict(detector) - data.mean
        return 0.5 * misfit @ jnp.asarray(precision, misfit.dtype) @ misfit

    free = FreeParameters.of(believed, PARAMETERS, relative_widths=_STEP_SCALES)
    fit = minimize(
        loss,
        free,
        believed,
        n_steps=_N_STEPS,
        learning_rate=_LEARNING_RATE,
        on_step=lambda _step, _loss: on_step(),
    )
    sensitivity = _sensitivity(predict, free, believed)
    _, model_start = sensitivity(free.values(free.pack(believed)))
    # S1 and S2 scatter against each other, which makes a narrow valley: Adam finds it, Newton its bottom
    best, last = _newton(sensitivity, free.values(fit.vector), data.mean, precision)
    jacobian, inverse, fitted = best[-1].jacobian, best[-1].inverse, best[-1].values
    sigma = np.sqrt(np.diag(inverse))

    # the same fit, to first order, on the areas that truly were: what reconstruction's bias does to it
    bias = _area_bias(line, drift_us, edges)
    paths = tuple(parameter.path for parameter in free)
    true = np.array([float(get_leaf(true_detector, path)) for path in paths])
    return Closure(
        data=data,
        detector=_with_values(believed, paths, jnp.asarray(fitted)),
        trajectory=np.concatenate([fit.value_trajectory, *(point.values[None] for point in best[1:])]),
        n_adam_steps=_N_STEPS,
        last_step=last / sigma,
        paths=paths,
        units=tuple(parameter.unit for parameter in free),
        true=true,
        start=np.array([float(get_leaf(believed, path)) for path in paths]),
        fitted=fitted,
        statistical=sigma,
        systematic=inverse @ jacobian.T @ precision @ bias,
        correlation=inverse / np.outer(sigma, sigma),
        chi2=best[-1].chi2,
        chi2_start=2 * float(fit.loss_trajectory[0]),
        chi2_adam=best[0].chi2,
        n_freedom=len(data.mean) - len(free),
        model_start=model_start,
        model_fitted=best[-1].predicted,
        n_model_events=n_model_events,
    )


N_EVALUATIONS = _N_STEPS + 1


def _with_values(detector: dmsim.Detector, paths: tuple[str, ...], values) -> dmsim.Detector:
    for i, path in enumerate(paths):
        detector = set_leaf(detector, path, values[i])
    return detector


def _sensitivity(predict, free: FreeParameters, believed: dmsim.Detector):
    """A function of the physical parameters: derivative of the model's means in them, and the means."""
    paths = tuple(parameter.path for parameter in free)

    def means(values):
        predicted = predict(_with_values(believed, paths, values))
        return predicted, predicted

    # forward: three tangents go along with one simulation
    compiled = eqx.filter_jit(jax.jacfwd(means, has_aux=True))

    def evaluate(values):
        jacobian, predicted = compiled(jnp.asarray(values))
        return np.asarray(jacobian, np.float64), np.asarray(predicted, np.float64)

    return evaluate


class _Point(NamedTuple):
    """A place on the way, and the model around it."""

    values: Float[np.ndarray, "parameter"]
    jacobian: Float[np.ndarray, "statistic parameter"]
    predicted: Float[np.ndarray, "statistic"]
    inverse: Float[np.ndarray, "parameter parameter"]  # of chi2 / 2's curvature: the covariance
    chi2: float


def _newton(sensitivity, values, measured, precision) -> tuple[list[_Point], Float[np.ndarray, "parameter"]]:
    """Gauss-Newton steps for as long as chi2 falls.

    A sum of squares needs first derivatives only. Steps are taken in the logarithms, which stay positive.

    Returns:
        The points that were accepted, the last of them the best, and the step that would come next.
    """
    values = np.asarray(values, np.float64)
    points: list[_Point] = []
    steps = [np.zeros_like(values)]
    for _ in range(_NEWTON_STEPS + 1):
        jacobian, predicted = sensitivity(values)
        misfit = measured - predicted
        chi2 = float(misfit @ precision @ misfit)
        if points and not chi2 < points[-1].chi2:
            break
        inverse = np.linalg.inv(jacobian.T @ precision @ jacobian)
        points.append(_Point(values, jacobian, predicted, inverse, chi2))
        steps.append(inverse @ jacobian.T @ precision @ misfit)
        values = values * np.exp(steps[-1] / values)
    return points, steps[-1]


def _area_bias(line: Sample, drift_us, edges) -> Float[np.ndarray, "statistic"]:
    """Median ln(reconstructed / true) area in each slice: S1, then S2."""
    where = np.digitize(drift_us, edges) - 1
    bias = []
    for found, true in ((line.events.s1_pe, line.truth.s1_pe), (line.events.s2_pe, line.truth.s2_pe)):
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.log(found / true)
        bias += [median_and_spread(ratio[where == i])[0] for i in range(len(edges) - 1)]
    return np.asarray(bias)
