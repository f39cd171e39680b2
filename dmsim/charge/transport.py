"""Electron clouds from the deposit to the gas."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim import relax, rng
from dmsim.detector import Detector
from dmsim.records import Deposits, ElectronClouds, Quanta

_SURVIVAL, _GAIN, _PLACE = range(3)  # counters of the draws of a deposit


def diffusion_mm(diffusion_cm2_per_s, drift_time_ns):
    """Standard deviation sqrt(2 D t) [mm] of a cloud after this drift time. Gradient: exact."""
    return relax.safe_sqrt(2 * diffusion_cm2_per_s * 100 * drift_time_ns * 1e-9)


class Drift(NamedTuple):
    """What the way to the gas does to the electrons of each deposit."""

    time_ns: Float[Array, "deposit"]  # mean
    survival: Float[Array, "deposit"]  # probability to arrive and be extracted
    time_spread_ns: Float[Array, "deposit"]
    spread_mm: Float[Array, "deposit"]  # transverse


def drift(detector: Detector, deposits: Deposits) -> Drift:
    """Time, survival and diffusion on the way to the gas.

    Gradient: exact.
    Source: attachment exp(-t/tau); diffusion sqrt(2 D t) (Sorensen, doi:10.1016/j.nima.2010.12.150).
    """
    electrons = detector.electrons
    time_ns = electrons.drift_time_ns(deposits.z_mm)
    # the surface delay is no drift in the liquid: it does not spread the cloud
    liquid_time = time_ns - electrons.surface_delay_ns
    speed_mm_per_ns = electrons.drift_speed_mm_per_us * 1e-3
    return Drift(
        time_ns=time_ns,
        survival=electrons.survival(time_ns) * electrons.extraction_efficiency,
        time_spread_ns=diffusion_mm(electrons.diffusion_longitudinal_cm2_per_s, liquid_time)
        / speed_mm_per_ns,
        spread_mm=diffusion_mm(electrons.diffusion_transverse_cm2_per_s, liquid_time),
    )


def transport(keys: rng.Words, detector: Detector, deposits: Deposits, quanta: Quanta) -> ElectronClouds:
    """Drift each deposit's electrons to the gas.

    Attachment and extraction leave a binomial count. The cloud's centre in the plane and in time is drawn
    for that many electrons; the spread around it is handed on, so that the light pattern is that of the
    whole cloud and its centroid still fluctuates as sigma / sqrt(n).

    Args:
        keys: one key a deposit.
        detector: of its parts the electrons' transport, the geometry and the electroluminescence.
        deposits: below the gate, z <= 0.
        quanta: of the same deposits.

    Returns:
        Electrons extracted from each deposit.

    Gradient: matched-normal in the count, pathwise in time and place.
    Source: as `drift`.
    """
    dtype = deposits.energy_kev.dtype
    mean_time, survive, time_spread, spread = drift(detector, deposits)
    u, _ = rng.uniform_pair(keys, 0, _SURVIVAL, dtype=dtype)
    n_electrons = relax.binomial(u, quanta.n_electrons, survive)
    share = 1 / jnp.maximum(n_electrons, 1)
    rows = jnp.arange(len(deposits))
    first = jax.ops.segment_min(rows, deposits.event, num_segments=deposits.n_events)[deposits.event]
    of_event = rng.Words(keys.first[first], keys.second[first])  # one gain for all deposits of an event
    z_gain, _ = rng.normal_pair(of_event, 0, _GAIN, dtype=dtype)
    z_x, z_y = rng.normal_pair(keys, 0, _PLACE, dtype=dtype)
    x_mm = deposits.x_mm + spread * relax.safe_sqrt(share) * z_x
    y_mm = deposits.y_mm + spread * relax.safe_sqrt(share) * z_y
    emission = detector.electroluminescence
    return ElectronClouds(
        event=deposits.event,
        n_electrons=n_electrons,
        weight=relax.count_weight(n_electrons, quanta.n_electrons, survive),
        time_ns=deposits.time_ns + mean_time,
        time_spread_ns=time_spread,
        x_mm=x_mm,
        y_mm=y_mm,
        spread_mm=spread * relax.safe_sqrt(1 - share),
        photons_per_electron=emission.se_gain_phd
        * (1 + emission.linear_noise * z_gain)
        * detector.light.s2_relative_yield(detector.geometry, x_mm, y_mm),
    )


def expected_clouds(detector: Detector, deposits: Deposits, quanta: Quanta) -> ElectronClouds:
    """The mean of what `transport` draws; the scatter of a cloud's centre is part of its spread.

    The gain is that at the mean centre: the yield's curvature over the centre's scatter is left out (1e-4 of
    the light for one electron in a large detector, 1/n of that for n).

    Args:
        detector: as for `transport`.
        deposits: below the gate, z <= 0.
        quanta: mean quanta of the same deposits.

    Gradient: exact.
    Source: as `drift`.
    """
    mean_time, survive, time_spread, spread = drift(detector, deposits)
    x_mm, y_mm = deposits.x_mm, deposits.y_mm
    return ElectronClouds(
        event=deposits.event,
        n_electrons=quanta.n_electrons * survive,
        weight=jnp.ones_like(mean_time),
        time_ns=deposits.time_ns + mean_time,
        time_spread_ns=time_spread,
        x_mm=x_mm,
        y_mm=y_mm,
        spread_mm=spread,
        photons_per_electron=detector.electroluminescence.se_gain_phd
        * detector.light.s2_relative_yield(detector.geometry, x_mm, y_mm),
    )
