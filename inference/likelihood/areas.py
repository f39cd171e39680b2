"""Likelihood of one event's areas, drift time and position, as `dmsim.simulate_areas` makes them.

Given energy, place and interaction, position and drift time are normal and depend on the areas through the S2
alone. The areas are a mixture: quanta with their covariance (normal, with the skewness of recombination as a
half-normal deviate), detected S1 photons binomial in the photons, charge of a few photons exact, S2 normal
given its electrons. Sums over S1 photons and over quadrature nodes of the photons are done in closed form for
a batch.

What is approximate: the number of electrons in an S2 is S2 over gain in the scatter of its centre, an S2 of
few electrons has no separate peaks, and NEST's clipping at a few quanta is left out.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, logsumexp
from jaxtyping import Array, Float

from dmsim import charge
from dmsim.detector import Detector
from dmsim.light.detection import detection_probability
from dmsim.quanta.conditions import quantum_ev
from dmsim.quanta.fluctuations import fano_factor_er, recombination, skewness_er
from dmsim.quanta.stage import deposit_yields, drift_field, is_recoil_like
from dmsim.records import Areas, Deposits, Interaction

_N_COUNTS = 24  # of detected S1 photons in the sum: 4 standard deviations to both sides, or each integer
_EXACT_TO = 16  # photons up to which the charge is summed over photoelectrons
_LEAST_NS = 0.01  # standard deviation of a drift time from the surface, where nothing spreads it
_LEAST_PHOTONS = 0.05  # of a quadrature node
_SKEW_RANGE = (50.0, 4000.0)  # V/cm where recombination is skewed: as `fluctuate`
_HERMITE = tuple(zip(*np.polynomial.hermite_e.hermegauss(5), strict=True))


class AreaData(eqx.Module):
    """What is seen of each event, and the sum over detected S1 photons that does not depend on parameters."""

    s1_pe: Float[Array, "event"]
    s2_pe: Float[Array, "event"]  # > 0
    drift_time_ns: Float[Array, "event"]
    x_mm: Float[Array, "event"]
    y_mm: Float[Array, "event"]
    n_photons: Float[Array, "event count"]  # detected, candidates
    log_weight: Float[Array, "event count"]  # log p(S1 | n), with the step between candidates

    @property
    def columns(self) -> Float[Array, "event 5"]:
        """The five observables."""
        return jnp.stack([self.s1_pe, self.s2_pe, self.drift_time_ns, self.x_mm, self.y_mm], axis=-1)


class _Charge(NamedTuple):
    """Moments of a detected photon's charge in an area, as `light.photoelectrons.area` draws it."""

    mean: Float[Array, ""]
    variance: Float[Array, ""]


def _charge_of(detector: Detector) -> _Charge:
    electronics, sensors = detector.electronics, detector.light.sensors
    double = electronics.double_pe_probability
    of_one, variance = jnp.ones_like(double), electronics.spe_width**2
    if sensors.spe_quantiles is not None:
        of_one, variance = sensors.spe_moments()
    return _Charge(of_one * (1 + double), of_one**2 * double * (1 - double) + variance * (1 + double))


def area_data(
    detector: Detector,
    s1_pe: Float[Array, "event"],
    s2_pe: Float[Array, "event"],
    drift_time_ns: Float[Array, "event"],
    x_mm: Float[Array, "event"],
    y_mm: Float[Array, "event"],
) -> AreaData:
    """Data of events whose S2 is seen, for `log_likelihood`.

    Args:
        detector: its electronics count.
        s1_pe: uncorrected, >= 0.
        s2_pe: uncorrected, > 0.
        drift_time_ns: of each event.
        x_mm: reconstructed; may lie beyond the wall.
        y_mm: the same along y.

    Gradient: none meant.
    """
    charge_of = _charge_of(detector)
    mean = s1_pe / charge_of.mean
    # a third of the standard deviation of n given the area, where that is above 1
    step = jnp.maximum(1.0, jnp.round(jnp.sqrt(charge_of.variance * mean) / charge_of.mean / 3))
    first = jnp.maximum(jnp.round(mean) - step * (_N_COUNTS // 2), 0.0)
    n = first[:, None] + step[:, None] * jnp.arange(_N_COUNTS, dtype=s1_pe.dtype)
    weight = _log_charge(detector, charge_of, s1_pe[:, None], n) + jnp.log(step)[:, None]
    return AreaData(s1_pe, s2_pe, drift_time_ns, x_mm, y_mm, n, weight)


def data_of(detector: Detector, areas: Areas) -> AreaData:
    """The same from what `dmsim.simulate_areas` gives. Gradient: none meant."""
    return area_data(detector, areas.s1_pe, areas.s2_pe, areas.drift_time_ns, areas.x_mm, areas.y_mm)


def _log_normal(residual, variance):
    return -0.5 * (residual**2 / variance + jnp.log(2 * math.pi * variance))


def _log_charge(detector: Detector, charge_of: _Charge, s1_pe, n):
    """Log p(S1 | n detected photons): a sum over second photoelectrons, a normal for many photons."""
    double = detector.electronics.double_pe_probability
    some = jnp.maximum(n, 1.0)
    many = _log_normal(s1_pe - some * charge_of.mean, some * charge_of.variance)
    of_one, variance = charge_of.mean / (1 + double), detector.electronics.spe_width**2
    if detector.light.sensors.spe_quantiles is not None:
        of_one, variance = detector.light.sensors.spe_moments()
    few = jnp.minimum(some, _EXACT_TO)[..., None]
    second = jnp.arange(_EXACT_TO + 1, dtype=s1_pe.dtype)
    left = jnp.maximum(few - second, 0.0)
    log_binomial = gammaln(few + 1) - gammaln(second + 1) - gammaln(left + 1)
    log_binomial = log_binomial + second * jnp.log(double) + left * jnp.log1p(-double)
    electrons = few + second
    terms = log_binomial + _log_normal(s1_pe[..., None] - of_one * electrons, variance * electrons)
    exact = logsumexp(jnp.where(second <= few, terms, -jnp.inf), axis=-1)
    seen = jnp.where(some <= _EXACT_TO, exact, many)
    # no photon, no area
    nothing = jnp.where(s1_pe <= 0, 0.0, -jnp.inf)
    return jnp.where(n > 0, jnp.where(s1_pe > 0, seen, -jnp.inf), nothing)


def _log_place(detector: Detector, deposits: Deposits, data: AreaData):
    way = charge.drift(detector, deposits)
    gain = _gain_pe(detector, way.x_mm, way.y_mm)
    n_electrons = jnp.maximum(data.s2_pe / gain, 1.0)
    resolution = detector.resolution
    variance = (resolution.xy_mm_sqrt_pe / jnp.sqrt(data.s2_pe) + resolution.xy_floor_mm) ** 2
    variance = variance + way.spread_mm**2 / n_electrons
    total = _log_normal(data.x_mm - way.x_mm, variance) + _log_normal(data.y_mm - way.y_mm, variance)
    in_time = way.time_spread_ns**2 / n_electrons + _LEAST_NS**2
    return total + _log_normal(data.drift_time_ns - way.time_ns, in_time), way


def _gain_pe(detector: Detector, x_mm, y_mm):
    gain = detector.electron_gain_phd(x_mm, y_mm) * detector.light.s2_relative_yield(
        detector.geometry, x_mm, y_mm
    )
    return gain * _charge_of(detector).mean


class QuantaLaw(NamedTuple):
    """Photons and electrons of deposits: normal, and moved by `slope` x (h - mean of h), h half-normal."""

    n_photons: Float[Array, "*deposit"]
    n_electrons: Float[Array, "*deposit"]
    var_photons: Float[Array, "*deposit"]  # without the part of h
    var_electrons: Float[Array, "*deposit"]
    covariance: Float[Array, "*deposit"]
    slope: Float[Array, "*deposit"]  # of the electrons; photons move the other way


def quanta_law(
    detector: Detector, deposits: Deposits, *, interactions: tuple[Interaction, ...] | None = None
) -> QuantaLaw:
    """The law of the quanta that `sample_quanta` draws, but for its clipping.

    Args:
        detector: gives field, density and the emission models.
        deposits: of any mixture of interactions.
        interactions: all that can occur, if known.

    Gradient: exact; none through the step that switches the skewness off.
    Source: as `fluctuate`.
    """
    parameters, density = detector.quanta, detector.xenon.density_g_per_cm3
    yields = deposit_yields(detector, deposits, interactions=interactions)
    field, recoil_like = drift_field(detector, deposits), is_recoil_like(deposits)
    mean = yields.n_photons + yields.n_electrons
    ratio, p, omega = recombination(parameters, yields, recoil_like, field)
    ions, excitons, kept = mean / (1 + ratio), mean * ratio / (1 + ratio), 1 - p
    nr, rounding = parameters.nr_fluctuations, 1 / 12
    var_er = fano_factor_er(parameters.er_fluctuations, mean, field, density) * mean + rounding
    var_ions_nr = nr.fano_ions * ions + rounding
    var_quanta = jnp.where(recoil_like, var_ions_nr + nr.fano_excitons * excitons + rounding, var_er)
    var_ions_er = ions * ratio / (1 + ratio) + var_er / (1 + ratio) ** 2
    var_ions = jnp.where(recoil_like, var_ions_nr, var_ions_er)
    ions_quanta = jnp.where(recoil_like, var_ions_nr, var_er / (1 + ratio))
    energy_kev = 1e-3 * quantum_ev(parameters.work_function, density) * mean
    shape = jnp.where(recoil_like, nr.skewness, skewness_er(parameters.skewness, energy_kev, field))
    low, high = _SKEW_RANGE
    shape = jnp.where((mean <= 1e4) & (field >= low) & (field <= high), shape, 0.0)
    delta = shape / jnp.sqrt(1 + shape**2)
    unit = 1 - 2 / math.pi * delta**2  # variance of the skew-normal before it is scaled to 1
    var_drawn = p * kept * ions + omega**2 * (ions**2 + var_ions)
    var_electrons = kept**2 * var_ions + var_drawn * (1 - delta**2) / unit + rounding
    electrons_quanta = kept * ions_quanta
    n_electrons = kept * ions
    return QuantaLaw(
        n_photons=mean - n_electrons,
        n_electrons=n_electrons,
        var_photons=var_quanta + var_electrons - 2 * electrons_quanta,
        var_electrons=var_electrons,
        covariance=electrons_quanta - var_electrons,
        slope=delta * jnp.sqrt(jnp.maximum(var_drawn, 1e-12) / unit),
    )


def skew_nodes(detector: Detector) -> int:
    """Nodes that `log_likelihood` needs: one where no recombination is skewed. Runs on the host."""
    field = np.asarray(detector.xenon.field_v_per_cm)
    low, high = _SKEW_RANGE
    uniform = detector.drift_field is None
    return 1 if uniform and np.all((field < low) | (field > high)) else 24


def _half_normal(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a half-normal law; its mean for one node."""
    if n == 1:
        return np.array([math.sqrt(2 / math.pi)]), np.ones(1)
    place, weight = np.polynomial.legendre.leggauss(n)
    h = 2.5 * (place + 1)  # to 5: what is left out is 6e-7
    density = 2.5 * weight * np.sqrt(2 / math.pi) * np.exp(-0.5 * h**2)
    return h, density / density.sum()


class AreaLaw(NamedTuple):
    """S2 and S1 photons of deposits: S2 normal, photons given the S2 normal, both moved by h."""

    quanta: QuantaLaw
    detected: Float[Array, "*deposit"]  # probability of an S1 photon to be detected
    electron_pe: Float[Array, "*deposit"]  # mean S2 area of an electron of the deposit
    var_s2: Float[Array, "*deposit"]  # at the mean of h
    covariance: Float[Array, "*deposit"]  # of photons and S2 area


def s2_moments(law: QuantaLaw, survival, gain_phd, detector: Detector) -> tuple[Array, Array, Array]:
    """S2 area of an electron of the deposit, its variance in all, and its covariance with the photons.

    Gradient: exact.
    """
    charge_of = _charge_of(detector)
    gas = detector.electroluminescence
    extracted = law.n_electrons * survival
    var_extracted = survival**2 * law.var_electrons + extracted * (1 - survival)
    common = (gas.linear_noise * gain_phd * extracted) ** 2
    photons = extracted * gain_phd
    var_photons = gain_phd**2 * var_extracted + gas.se_fano * photons + common + 1 / 12
    of_electron = charge_of.mean * gain_phd * survival
    variance = charge_of.mean**2 * var_photons + photons * charge_of.variance
    return of_electron, variance, of_electron * law.covariance


def area_law(
    detector: Detector, deposits: Deposits, *, interactions: tuple[Interaction, ...] | None = None
) -> AreaLaw:
    """Law of the areas of deposits, one an event. Gradient: exact."""
    law = quanta_law(detector, deposits, interactions=interactions)
    way = charge.drift(detector, deposits)
    gain_phd = _gain_pe(detector, way.x_mm, way.y_mm) / _charge_of(detector).mean
    moments = s2_moments(law, way.survival, gain_phd, detector)
    return AreaLaw(law, detection_probability(detector, deposits), *moments)


def _deviance(x, mean):
    """X log(x / mean) + mean - x, without cancellation near the mean."""
    e = (x - mean) / mean
    small = jnp.abs(e) < 1e-2
    series = e**2 * (0.5 - e / 6 + e**2 / 12)
    safe = jnp.where(small, 0.0, jnp.maximum(e, -1 + 1e-7))
    return mean * jnp.where(small, series, (1 + safe) * jnp.log1p(safe) - safe)


def _stirling(x):
    """Log x! less Stirling's formula, to 1e-3 at x = 1."""
    return 1 / (12 * x) - 1 / (360 * x**3)


def _log_binomial(n, total, p):
    """Log probability of n of `total` (not an integer), for any size without cancellation.

    Source: Loader's saddle-point form, as in R's dbinom.
    """
    total = jnp.maximum(total, _LEAST_PHOTONS)
    left = total - n
    possible = left > -0.5
    some, rest = jnp.maximum(n, 1.0), jnp.maximum(left, 0.5)
    at = _deviance(some, total * p) + _deviance(rest, total * (1 - p))
    value = -at + 0.5 * jnp.log(total / (2 * math.pi * some * rest))
    value = value + _stirling(jnp.maximum(total, 1.0)) - _stirling(some) - _stirling(rest + 0.0)
    return jnp.where(possible, jnp.where(n > 0, value, total * jnp.log1p(-p)), -jnp.inf)


def log_likelihood(
    detector: Detector,
    deposits: Deposits,
    data: AreaData,
    *,
    interactions: tuple[Interaction, ...] | None = None,
    n_skew: int = 24,
) -> Float[Array, "event"]:
    """Log density of each event's five observables, given its one deposit.

    Args:
        detector: what makes the signals; made ready by `dmsim.charge.prepare` where it has a drift field.
        deposits: one an event, in the order of the data; energy > 0, inside of the active volume.
        data: of the same events.
        interactions: all that can occur, if known.
        n_skew: nodes over the recombination's skewness, as `skew_nodes` says.

    Gradient: exact.
    Source: detection and gain as in NEST, arXiv:2211.10726; quanta as `fluctuate`.
    """
    of_place, _ = _log_place(detector, deposits, data)
    return of_place + log_areas(detector, deposits, data, interactions=interactions, n_skew=n_skew)


def log_areas(
    detector: Detector,
    deposits: Deposits,
    data: AreaData,
    *,
    interactions: tuple[Interaction, ...] | None = None,
    n_skew: int = 24,
) -> Float[Array, "event"]:
    """Log density of S1 and S2 alone, for data whose place and time are told in other ways.

    Arguments and gradient as `log_likelihood`.
    """
    law = area_law(detector, deposits, interactions=interactions)
    quanta = law.quanta
    h, weight = _half_normal(n_skew)
    mean_h = math.sqrt(2 / math.pi)
    moved = quanta.slope[:, None] * jnp.asarray(h - mean_h, data.s1_pe.dtype)  # [event, h]
    electrons = jnp.maximum(quanta.n_electrons[:, None] + moved, 1e-3)
    photons = quanta.n_photons[:, None] - moved
    var_s2, covariance = law.var_s2[:, None], law.covariance[:, None]
    residual = data.s2_pe[:, None] - law.electron_pe[:, None] * electrons
    of_s2 = _log_normal(residual, var_s2)
    # photons given the S2
    photons = photons + covariance / var_s2 * residual
    spread = jnp.sqrt(jnp.maximum(quanta.var_photons[:, None] - covariance**2 / var_s2, 1e-6))
    nodes = jnp.asarray([z for z, _ in _HERMITE], data.s1_pe.dtype)
    share = np.array([w for _, w in _HERMITE]) / math.sqrt(2 * math.pi)
    total = photons[..., None] + spread[..., None] * nodes  # [event, h, node]
    n, log_weight = data.n_photons[:, None, None, :], data.log_weight[:, None, None, :]
    of_n = _log_binomial(n, total[..., None], law.detected[:, None, None, None]) + log_weight
    top = jax.lax.stop_gradient(jnp.max(of_n, axis=(1, 2, 3), keepdims=True))
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    of_s1 = jnp.sum(jnp.exp(of_n - top), axis=-1) @ jnp.asarray(share, data.s1_pe.dtype)  # [event, h]
    mixed = jnp.log(jnp.maximum(of_s1, 1e-37)) + top[:, :, 0, 0] + of_s2
    return logsumexp(mixed + jnp.log(jnp.asarray(weight, data.s1_pe.dtype)), axis=-1)
