"""Mean and covariance of a deposit's S1 and S2 areas, and how bunched an S2's photons are in time."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int

from dmsim.detector import Detector
from dmsim.light import profile
from dmsim.light.detection import detection_probability
from dmsim.light.expected import (
    arrival_of_electron,
    light_of_electron,
    mean_charge_pe,
    mean_square_charge_pe2,
    photons_per_electron,
)
from dmsim.light.profile import TimeGrid
from dmsim.records import Deposits, ElectronClouds, Quanta


class SignalTotals(eqx.Module):
    """Areas of each deposit's S1 and S2 together on all sensors: mean and covariance."""

    s1_pe: Float[Array, "deposit"]
    s2_pe: Float[Array, "deposit"]
    var_s1: Float[Array, "deposit"]
    var_s2: Float[Array, "deposit"]
    covariance: Float[Array, "deposit"]
    photon_pe: Float[Array, ""]  # mean square of a detected photon's charge over its mean


def expected_totals(
    detector: Detector,
    deposits: Deposits,
    quanta: Quanta,
    clouds: ElectronClouds,
    *,
    var_photons: Float[Array, "deposit"],
    var_electrons: Float[Array, "deposit"],
    covariance: Float[Array, "deposit"],
) -> SignalTotals:
    """Areas as `count_s1_photons`, `transport`, `sample_electrons` and `photoelectrons` make them.

    Propagation of variances, with the quanta's as given: detection and survival are binomial, an electron's
    photons and a photon's charge have the moments of their draws.

    Args:
        detector: what makes the signals.
        deposits: in the liquid.
        quanta: mean quanta.
        clouds: mean clouds.
        var_photons: of the quanta.
        var_electrons: of the quanta.
        covariance: of the quanta.

    Gradient: exact.
    """
    parts = detector.electronics, detector.light.sensors
    charge, square = mean_charge_pe(*parts), mean_square_charge_pe2(*parts)
    seen = detection_probability(detector, deposits)
    some = quanta.n_electrons > 0
    survive = jnp.where(some, clouds.n_electrons / jnp.where(some, quanta.n_electrons, 1.0), 0.0)
    gain, var_gain = photons_per_electron(detector.electroluminescence, clouds.photons_per_electron)

    n_s1 = quanta.n_photons * seen
    var_n_s1 = n_s1 * (1 - seen) + seen**2 * var_photons
    n_extracted = clouds.n_electrons
    var_extracted = n_extracted * (1 - survive) + survive**2 * var_electrons
    common = (detector.electroluminescence.linear_noise * gain) ** 2 * (n_extracted**2 + var_extracted)
    n_s2, var_n_s2 = n_extracted * gain, gain**2 * var_extracted + n_extracted * var_gain + common
    return SignalTotals(
        s1_pe=n_s1 * charge,
        s2_pe=n_s2 * charge,
        var_s1=charge**2 * var_n_s1 + n_s1 * (square - charge**2),
        var_s2=charge**2 * var_n_s2 + n_s2 * (square - charge**2),
        covariance=charge**2 * seen * survive * gain * covariance,
        photon_pe=square / charge,
    )


def s2_time_dispersion(
    detector: Detector,
    clouds: ElectronClouds,
    grid: TimeGrid,
    response: Complex[Array, "frequency"] | float,
    start: Int[Array, "deposit"],
) -> Float[Array, "deposit"]:
    """Variance of an S2's mean time over what independent photons of one PE would give.

    Photons of an electron share its arrival. For a shift in time, with the score u(t) of the profile, the
    variance of the summed score is that of independent photons plus the pairs' part, the variance of E[u | T]
    over the electrons' arrivals T. It is exact for the shift; a width has less in common than a shift.

    Args:
        detector: what makes the signals.
        clouds: mean clouds.
        grid: of the window.
        response: as for `expected_s2`.
        start: first sample of the window.

    Gradient: exact.
    """
    electronics = detector.electronics
    parts = electronics, detector.light.sensors
    charge, square = mean_charge_pe(*parts), mean_square_charge_pe2(*parts)
    gain, var_gain = photons_per_electron(detector.electroluminescence, clouds.photons_per_electron)
    _, phase = grid.begin(clouds.time_ns, clouds.time_spread_ns, start)
    s = grid.arguments(phase.dtype)
    electron = arrival_of_electron(detector, clouds, s)
    photon = light_of_electron(detector, clouds, s) * profile.normal(electronics.transit_time_spread_ns, s)
    photon = photon * response

    def share_at(phase):
        return grid.shares(profile.at(phase[:, None], s) * electron * photon)

    share, slope = jax.jvp(share_at, (phase,), (jnp.ones_like(phase),))
    least = 1e-5  # of the light in a sample: below, the inversion's own error makes the score
    score = jnp.where(share > least, slope / jnp.maximum(share, least), 0.0)
    arrival = grid.shares(profile.at(phase[:, None], s) * electron)
    lead = grid.n_samples // 2  # photons come after their electron, but for the transit-time spread
    of_photon = grid.shares(profile.at(jnp.asarray(lead * grid.sample_ns, phase.dtype), s) * photon)

    def given_arrival(score, of_photon):
        padded = jnp.pad(score, (lead, grid.n_samples))
        return jnp.correlate(padded, of_photon, mode="valid")[: grid.n_samples]

    known = jax.vmap(given_arrival)(score, jnp.broadcast_to(of_photon, score.shape))

    def variance(weight, values):
        total = jnp.maximum(jnp.sum(weight, axis=1), least)
        mean = jnp.sum(weight * values, axis=1) / total
        return jnp.sum(weight * values**2, axis=1) / total - mean**2

    of_all = variance(share, score)  # nothing where the window misses the light
    seen = of_all > 0
    common = jnp.where(seen, variance(arrival, known) / jnp.where(seen, of_all, 1.0), 0.0)
    pairs = (var_gain + gain**2 - gain) / jnp.maximum(gain, least)
    return square / charge + jnp.clip(common, 0.0, 1.0) * charge * pairs
