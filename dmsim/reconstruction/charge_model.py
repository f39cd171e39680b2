"""What a sensor's charge says of its photons: the law of the area A of a sensor that expects mu photons.

k photons, Poisson, each of one or two photoelectrons with the sensor's charge spectrum, and the noise of one
readout: p(A | mu) = exp(-mu) sum_k mu^k / k! f_k(A). The law is tabulated up to `TABLE_PE`; above, the
sum is about a normal law, and the quasi-likelihood (a log mu - mu) / F of its mean and variance takes its
place, with a = A / m, m the mean charge of a photon and F = 1 + var / m^2 the excess noise factor.

So a photon whose charge spread hides nothing (alone in its sensor) counts in full, and one in a crowd
1 / F: 0.80 of it with the xenonnt preset.
"""

import functools
import hashlib
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln, ndtr

from dmsim.detector import Detector

LEAST_PE = 0.1  # a smaller area counts as no light: a photon's is smaller in some per cent of cases
TABLE_PE = 16.0
_STEP_PE = 0.05
_MOST_PHOTONS = 33  # in the table; more photons than that hardly make TABLE_PE or less
_NOTHING = 1e-8  # of the largest f_k
_WIDE_PE, _WIDE_PHOTONS = 48.0, 80  # of the tables in mu, whose laws go further
_LEAST_MU, _MOST_MU, _N_MU = 1e-4, 16.0, 97


class ChargeModel(NamedTuple):
    """Tables of the law, and of what follows from it for each mu."""

    photon_pe: float  # mean charge of a detected photon
    excess: float  # F
    step_pe: float
    weight: Float[np.ndarray, "area photon"]  # f_k(A) / k! at A = row x step, k = column
    most: Int[np.ndarray, "area"]  # photons beyond which f_k(A) is nothing
    saturated: Float[np.ndarray, "area"]  # largest log p(A | mu) of any mu
    log_mu: Float[np.ndarray, "mu"]  # ascending, equally spaced
    information: Float[np.ndarray, "mu"]  # mu x Fisher information in mu: 1 where the charge hides nothing
    deviance: Float[np.ndarray, "mu"]  # mean of 2 (saturated - log p)
    deviance_variance: Float[np.ndarray, "mu"]


def charge_model(detector: Detector) -> ChargeModel:
    """Of this detector's top array: mean spectrum and mean noise of its live sensors. Made once for each.

    Where sensors have gains of their own, noise in PE is the root mean square of theirs.

    Raises:
        TypeError: if the detector's electronics are being traced.
    """
    electronics, sensors = detector.electronics, detector.light.sensors
    samples = electronics.zle_samples_before + electronics.pulse_samples + electronics.zle_samples_after
    live = np.asarray(sensors.efficiency)[: sensors.n_top] > 0
    with jax.ensure_compile_time_eval():  # known values also inside another function's trace
        adc_per_pe = np.asarray(electronics.adc_per_pe, np.float64)
        if adc_per_pe.ndim:  # a gain for each sensor
            adc_per_pe = np.mean(adc_per_pe[: sensors.n_top][live] ** -2.0) ** -0.5
        noise = float(electronics.noise_adc) * np.sqrt(samples) / adc_per_pe
    spectrum = None
    if sensors.spe_quantiles is not None:
        spectrum = tuple(np.asarray(sensors.spe_quantiles, np.float64)[: sensors.n_top][live].mean(axis=0))
    return _tables(
        float(electronics.double_pe_probability), float(electronics.spe_width), float(noise), spectrum
    )


def _spe(edges: np.ndarray, width: float, quantiles: tuple[float, ...] | None) -> np.ndarray:
    """Probability of one photoelectron's charge in each bin; what lies below the first edge is in bin 0."""
    if quantiles is None:
        below = ndtr((edges - 1) / max(width, 1e-3))
    else:
        from dmsim.detector.sensors import SPE_SCORES  # noqa: PLC0415

        charge, place = np.unique(quantiles, return_index=True)
        below = np.interp(edges, charge, ndtr(SPE_SCORES)[place], left=0.0, right=1.0)
    below[0] = 0.0
    return np.diff(below)


def _folds(n_bins: int, n_photons: int, photon: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Density of the area of k photons, with the noise of one readout, in each bin."""
    out = np.zeros((n_bins, n_photons))
    law = np.zeros(n_bins)
    law[0] = 1.0
    half = len(noise) // 2
    for k in range(1, n_photons):
        law = np.convolve(law, photon)[:n_bins]
        out[:, k] = np.convolve(law, noise)[half : half + n_bins] / _STEP_PE
    return out


@functools.lru_cache(maxsize=8)
def _tables(double: float, width: float, noise_pe: float, quantiles: tuple[float, ...] | None) -> ChargeModel:
    n_wide = round(_WIDE_PE / _STEP_PE) + 1
    edges = (np.arange(n_wide + 1) - 0.5) * _STEP_PE
    one = _spe(edges, width, quantiles)
    photon = (1 - double) * one + double * np.convolve(one, one)[:n_wide]
    area = np.arange(n_wide) * _STEP_PE
    mean = float(photon @ area)
    excess = float(photon @ area**2) / mean**2
    reach = np.arange(-20, 21) * _STEP_PE
    noise = np.exp(-0.5 * (reach / max(noise_pe, _STEP_PE)) ** 2)
    folds = _folds(n_wide, _WIDE_PHOTONS, photon, noise / noise.sum())
    weight = folds * np.exp(-gammaln(np.arange(_WIDE_PHOTONS) + 1.0))
    # bits below those of a sum's rounding depend on the processor: cut them off
    weight = weight.astype(np.float32).astype(np.float64)
    rows = round(TABLE_PE / _STEP_PE) + 1
    table = weight[:rows, :_MOST_PHOTONS]
    law = folds[:rows, :_MOST_PHOTONS]
    counts = np.arange(_MOST_PHOTONS)
    most = np.max(np.where(law > _NOTHING * law.max(axis=1, keepdims=True), counts, 1), axis=1)
    log_mu = np.linspace(np.log(_LEAST_MU), np.log(_MOST_MU), _N_MU)
    saturated = _saturated(table)
    return ChargeModel(
        mean, excess, _STEP_PE, np.ascontiguousarray(table), most, saturated, log_mu,
        *_expectations(weight, area, saturated, np.exp(log_mu), mean, excess),
    )  # fmt: skip


def _saturated(weight: np.ndarray) -> np.ndarray:
    """Largest log p(A | mu) over mu, for each row."""
    mu = np.linspace(0.01, TABLE_PE * 1.2, 2400)
    powers = mu[:, None] ** np.arange(weight.shape[1])
    with np.errstate(divide="ignore"):
        return np.max(np.log(powers @ weight.T) - mu[:, None], axis=0)


def _expectations(weight, area, saturated, mu, mean, excess) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Information x mu, mean and variance of the deviance, for each mu."""
    k = np.arange(weight.shape[1])
    seen = area >= LEAST_PE
    out = np.zeros((3, len(mu)))
    for i, m in enumerate(mu):
        powers = m**k
        total = weight @ powers
        slope = weight @ (k * powers) / np.maximum(total, 1e-300) / m - 1
        chance = np.where(seen, total, 0.0) * np.exp(-m) * _STEP_PE
        dark = max(1 - chance.sum(), 0.0)
        a = np.maximum(area / mean, 1e-9)
        crowd = 2 / excess * (a * np.log(a / m) - (a - m))
        exact = np.zeros_like(area)
        rows = len(saturated)
        exact[:rows] = 2 * (saturated - np.log(np.maximum(total[:rows], 1e-300)) + m)
        deviance = np.where(area < TABLE_PE, exact, crowd)
        out[0, i] = m * (dark + chance @ slope**2)
        out[1, i] = dark * 2 * m + chance @ deviance
        out[2, i] = dark * (2 * m) ** 2 + chance @ deviance**2 - out[1, i] ** 2
    return out[0], out[1], out[2]


def digest(*values: np.ndarray | str) -> str:
    """Key of arrays and words, to keep what was made from them."""
    sha = hashlib.sha256()
    for value in values:
        array = np.asarray(value)
        sha.update(f"{array.shape} {array.dtype}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
