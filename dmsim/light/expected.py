"""Mean light of each deposit: photoelectrons a sensor, and their share in each sample."""

import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Complex, Float, Int

from dmsim import relax
from dmsim.detector import Detector
from dmsim.detector.model import Electroluminescence, Electronics
from dmsim.detector.sensors import SensorArray
from dmsim.light import profile
from dmsim.light.detection import detection_probability
from dmsim.light.profile import TimeGrid
from dmsim.light.s1 import RECOMBINATION_CUTOFF_NS, _delays_ns, _kinds, _singlet_fraction
from dmsim.records import Deposits, ElectronClouds, ExpectedSignal, Quanta


def _clipped_mean(mean, spread):
    """Mean of max(x, 0) for a normal x of this mean and spread. Gradient: exact for spread > 0."""
    some = spread > 0
    ratio = mean / jnp.where(some, spread, 1.0)
    return jnp.where(some, mean * norm.cdf(ratio) + spread * norm.pdf(ratio), jnp.maximum(mean, 0.0))


def _clipped_square(mean, spread):
    """Mean of max(x, 0)^2 for a normal x. Gradient: exact for spread > 0."""
    some = spread > 0
    ratio = mean / jnp.where(some, spread, 1.0)
    square = (mean**2 + spread**2) * norm.cdf(ratio) + mean * spread * norm.pdf(ratio)
    return jnp.where(some, square, jnp.maximum(mean, 0.0) ** 2)


def mean_charge_pe(electronics: Electronics, sensors: SensorArray) -> Float[Array, ""]:
    """Mean charge of a detected photon, as `photon_charge` draws it. Gradient: exact."""
    if sensors.spe_quantiles is not None:
        return (1 + electronics.double_pe_probability) * sensors.spe_moments()[0]
    double, width = electronics.double_pe_probability, electronics.spe_width
    one, two = (_clipped_mean(jnp.asarray(n, width.dtype), width * n**0.5) for n in (1, 2))
    return (1 - double) * one + double * two


def mean_square_charge_pe2(electronics: Electronics, sensors: SensorArray) -> Float[Array, ""]:
    """Mean square of a detected photon's charge, as `photon_charge` draws it. Gradient: exact."""
    if sensors.spe_quantiles is not None:
        one, variance = sensors.spe_moments()
        double = electronics.double_pe_probability
        return (1 + double) * variance + (1 + 3 * double) * one**2
    double, width = electronics.double_pe_probability, electronics.spe_width
    one, two = (_clipped_square(jnp.asarray(n, width.dtype), width * n**0.5) for n in (1, 2))
    return (1 - double) * one + double * two


def photons_per_electron(
    gas: Electroluminescence, gain_phd: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Mean and variance of an electron's detected photons, as `sample_electrons` draws them.

    Gradient: exact.
    """
    gain = jnp.maximum(gain_phd, 0.0)
    spread = relax.safe_sqrt(gas.se_fano * gain - 1 / 12)  # as `relax.rounded_normal`
    mean = _clipped_mean(gain, spread)
    return mean, jnp.maximum(_clipped_square(gain, spread) + 1 / 12 - mean**2, 0.0)


def _two_exponentials(fast_fraction, fast_ns, slow_ns, s):
    fast, slow = profile.exponential(fast_ns, s), profile.exponential(slow_ns, s)
    return fast_fraction * fast + (1 - fast_fraction) * slow


def expected_s1(
    detector: Detector,
    deposits: Deposits,
    quanta: Quanta,
    grid: TimeGrid,
    response: Complex[Array, "frequency"] | float,
    *,
    start: Int[Array, "deposit"] | None = None,
) -> ExpectedSignal:
    """Mean S1 of each deposit, as `count_s1_photons` and `sample_s1_hits` draw it.

    The mixture of recombined and directly excited light over events has the ratio of the mean counts.

    Args:
        detector: of its parts the light, scintillation and electronics.
        deposits: in the liquid.
        quanta: mean quanta of the same deposits.
        grid: of the window, within the recombination cutoff.
        response: transform of what follows the photoelectron's arrival, at `grid.arguments`; 1 for nothing.
        start: first sample of each window; early enough to hold each signal's begin if not given.

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
    charge = mean_charge_pe(electronics, light.sensors)
    area = quanta.n_photons * detection_probability(detector, deposits) * charge

    is_nr, is_er = _kinds(deposits)
    some = quanta.n_photons > 0
    direct = jnp.where(some, quanta.n_excitons / jnp.where(some, quanta.n_photons, 1.0), 1.0)
    late_ns, prompt_ns = _delays_ns(detector, deposits)
    tau = (late_ns + prompt_ns)[:, None]  # never both: recombination delays ER, direct excitation NR
    delayed = jnp.where(is_er, 1 - direct, jnp.where(is_nr, direct, 0.0))[:, None]
    triplet_ns = jnp.where(is_er, scintillation.triplet_lifetime_er_ns, scintillation.triplet_lifetime_ns)

    spread = electronics.transit_time_spread_ns
    start, phase = grid.begin(deposits.time_ns, jnp.broadcast_to(spread, deposits.time_ns.shape), start)
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


def light_of_electron(detector: Detector, clouds: ElectronClouds, s) -> Complex[Array, "deposit frequency"]:
    """Transform of a photon's time after its electron came into the gas. Gradient: exact."""
    gas, gap = detector.electroluminescence, detector.gas_gap
    transit_ns = detector.gap_transit_ns(clouds.x_mm, clouds.y_mm)
    transit_ns = jnp.broadcast_to(transit_ns, clouds.x_mm.shape)[:, None]
    emission = profile.uniform(transit_ns, s)
    if gap is not None:
        wire_ns = gap.wire_ns(transit_ns)
        near_wires = profile.at(transit_ns - wire_ns, s) * profile.uniform(wire_ns, s)
        emission = (1 - gap.wire_share) * emission + gap.wire_share * near_wires
    return emission * _two_exponentials(
        gas.singlet_fraction, gas.singlet_lifetime_ns, gas.triplet_lifetime_ns, s
    )


def arrival_of_electron(detector: Detector, clouds: ElectronClouds, s) -> Complex[Array, "deposit frequency"]:
    """Transform of an electron's time of coming into the gas about its cloud's mean. Gradient: exact."""
    arrival = profile.normal(clouds.time_spread_ns[:, None], s)
    gap = detector.gas_gap
    return arrival if gap is None else arrival * profile.exponential(gap.emission_delay_ns, s)


def expected_s2(
    detector: Detector,
    clouds: ElectronClouds,
    grid: TimeGrid,
    response: Complex[Array, "frequency"] | float,
    *,
    start: Int[Array, "deposit"] | None = None,
) -> ExpectedSignal:
    """Mean S2 of each deposit, as `sample_electrons` and `sample_s2_hits` draw it.

    Args:
        detector: of its parts the light, electroluminescence and electronics.
        clouds: mean clouds, with the whole of their spread.
        grid: of the window.
        response: as for `expected_s1`.
        start: as for `expected_s1`.

    Gradient: exact.
    Source: as `sample_s2_hits`.
    """
    gas, electronics = detector.electroluminescence, detector.electronics
    photons = clouds.n_electrons * photons_per_electron(gas, clouds.photons_per_electron)[0]
    pattern = detector.light.s2_pattern(detector.geometry, clouds.x_mm, clouds.y_mm, clouds.spread_mm)

    transit = electronics.transit_time_spread_ns
    spread = relax.safe_sqrt(clouds.time_spread_ns**2 + transit**2)
    start, phase = grid.begin(clouds.time_ns, spread, start)
    s = grid.arguments(phase.dtype)
    transform = (
        profile.at(phase[:, None], s)
        * arrival_of_electron(detector, clouds, s)
        * profile.normal(transit, s)
        * light_of_electron(detector, clouds, s)
        * response
    )
    area = photons * mean_charge_pe(electronics, detector.light.sensors)
    return ExpectedSignal(area[:, None] * pattern, start, grid.shares(transform))
