"""Mean light of each deposit: photoelectrons a sensor, and their share in each sample."""

import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Complex, Float

from dmsim import relax
from dmsim.detector import Detector
from dmsim.detector.model import Electronics
from dmsim.light import profile
from dmsim.light.profile import TimeGrid
from dmsim.light.s1 import RECOMBINATION_CUTOFF_NS, _delays_ns, _kinds, _singlet_fraction
from dmsim.records import Deposits, ElectronClouds, ExpectedSignal, Quanta


def _clipped_mean(mean, spread):
    """Mean of max(x, 0) for a normal x of this mean and spread. Gradient: exact for spread > 0."""
    some = spread > 0
    ratio = mean / jnp.where(some, spread, 1.0)
    return jnp.where(some, mean * norm.cdf(ratio) + spread * norm.pdf(ratio), jnp.maximum(mean, 0.0))


def mean_charge_pe(electronics: Electronics) -> Float[Array, ""]:
    """Mean charge of a detected photon, as `photoelectrons` draws it. Gradient: exact."""
    double, width = electronics.double_pe_probability, electronics.spe_width
    one, two = (_clipped_mean(jnp.asarray(n, width.dtype), width * n**0.5) for n in (1, 2))
    return (1 - double) * one + double * two


def _two_exponentials(fast_fraction, fast_ns, slow_ns, s):
    fast, slow = profile.exponential(fast_ns, s), profile.exponential(slow_ns, s)
    return fast_fraction * fast + (1 - fast_fraction) * slow


def expected_s1(
    detector: Detector,
    deposits: Deposits,
    quanta: Quanta,
    grid: TimeGrid,
    response: Complex[Array, "frequency"] | float,
) -> ExpectedSignal:
    """Mean S1 of each deposit, as `count_s1_photons` and `sample_s1_hits` draw it.

    The mixture of recombined and directly excited light over events has the ratio of the mean counts.

    Args:
        detector: of its parts the light, scintillation and electronics.
        deposits: in the liquid.
        quanta: mean quanta of the same deposits.
        grid: of the window, within the recombination cutoff.
        response: transform of what follows the photoelectron's arrival, at `grid.arguments`; 1 for nothing.

    Raises:
        ValueError: if the window is longer than the recombination law holds.

    Gradient: exact.
    Source: as `sample_s1_hits`.
    """
    if grid.length_ns > RECOMBINATION_CUTOFF_NS:
        raise ValueError(
            f"S1 window is {grid.length_ns} ns: must be at most {RECOMBINATION_CUTOFF_NS:g} ns, where the "
            "law of recombination times is cut"
        )
    light, scintillation, electronics = detector.light, detector.scintillation, detector.electronics
    place = (detector.geometry, deposits.x_mm, deposits.y_mm, deposits.z_mm)
    probability = jnp.clip(light.g1_phd_per_photon * light.s1_relative_yield(*place), 0.0, 1.0)
    area = quanta.n_photons * probability * mean_charge_pe(electronics)

    is_nr, is_er = _kinds(deposits)
    some = quanta.n_photons > 0
    direct = jnp.where(some, quanta.n_excitons / jnp.where(some, quanta.n_photons, 1.0), 1.0)
    late_ns, prompt_ns = _delays_ns(detector, deposits)
    tau = (late_ns + prompt_ns)[:, None]  # never both: recombination delays ER, direct excitation NR
    delayed = jnp.where(is_er, 1 - direct, jnp.where(is_nr, direct, 0.0))[:, None]
    triplet_ns = jnp.where(is_er, scintillation.triplet_lifetime_er_ns, scintillation.triplet_lifetime_ns)

    spread = electronics.transit_time_spread_ns
    start, phase = grid.begin(deposits.time_ns, jnp.broadcast_to(spread, deposits.time_ns.shape))
    s = grid.arguments(phase.dtype)
    # inside the window the law that is cut differs from the whole one by its normalisation only
    cut = (tau + RECOMBINATION_CUTOFF_NS) / RECOMBINATION_CUTOFF_NS
    transform = (
        profile.at(phase[:, None], s)
        * (delayed * cut * profile.reciprocal(tau, s) + 1 - delayed)
        * _two_exponentials(
            _singlet_fraction(detector, deposits.interaction)[:, None],
            scintillation.singlet_lifetime_ns,
            triplet_ns[:, None],
            s,
        )
        * profile.exponential(scintillation.propagation_ns, s)
        * profile.normal(spread, s)
        * response
    )
    return ExpectedSignal(area[:, None] * light.s1_pattern(*place), start, grid.shares(transform))


def expected_s2(
    detector: Detector,
    clouds: ElectronClouds,
    grid: TimeGrid,
    response: Complex[Array, "frequency"] | float,
) -> ExpectedSignal:
    """Mean S2 of each deposit, as `sample_electrons` and `sample_s2_hits` draw it.

    Args:
        detector: of its parts the light, electroluminescence and electronics.
        clouds: mean clouds, with the whole of their spread.
        grid: of the window.
        response: as for `expected_s1`.

    Gradient: exact.
    Source: as `sample_s2_hits`.
    """
    gas, electronics = detector.electroluminescence, detector.electronics
    gain = jnp.maximum(clouds.photons_per_electron, 0.0)
    variance = gas.se_fano * gain - 1 / 12  # as `relax.rounded_normal`
    photons = clouds.n_electrons * _clipped_mean(gain, relax.safe_sqrt(variance))
    pattern = detector.light.s2_pattern(detector.geometry, clouds.x_mm, clouds.y_mm, clouds.spread_mm)

    transit = electronics.transit_time_spread_ns
    spread = relax.safe_sqrt(clouds.time_spread_ns**2 + transit**2)
    start, phase = grid.begin(clouds.time_ns, spread)
    s = grid.arguments(phase.dtype)
    transform = (
        profile.at(phase[:, None], s)
        * profile.normal(spread[:, None], s)
        * profile.uniform(gas.gap_transit_ns, s)
        * _two_exponentials(gas.singlet_fraction, gas.singlet_lifetime_ns, gas.triplet_lifetime_ns, s)
        * response
    )
    area = photons * mean_charge_pe(electronics)
    return ExpectedSignal(area[:, None] * pattern, start, grid.shares(transform))
