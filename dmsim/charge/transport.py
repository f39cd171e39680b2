"""Electron clouds from the deposit to the gas."""

import jax.numpy as jnp

from dmsim import relax, rng
from dmsim.detector import Detector
from dmsim.records import Deposits, ElectronClouds, Quanta

_SURVIVAL, _TIME, _PLACE = range(3)  # counters of the draws of a deposit


def diffusion_mm(diffusion_cm2_per_s, drift_time_ns):
    """Standard deviation sqrt(2 D t) [mm] of a cloud after this drift time. Gradient: exact."""
    return relax.safe_sqrt(2 * diffusion_cm2_per_s * 100 * drift_time_ns * 1e-9)


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
    Source: attachment exp(-t/tau); diffusion sqrt(2 D t) (Sorensen, doi:10.1016/j.nima.2010.12.150).
    """
    electrons = detector.electrons
    dtype = deposits.energy_kev.dtype
    mean_time = electrons.drift_time_ns(deposits.z_mm)
    u, _ = rng.uniform_pair(keys, 0, _SURVIVAL, dtype=dtype)
    survive = electrons.survival(mean_time) * electrons.extraction_efficiency
    n_electrons = relax.binomial(u, quanta.n_electrons, survive)

    # the surface delay is no drift in the liquid: it does not spread the cloud
    liquid_time = mean_time - electrons.surface_delay_ns
    speed_mm_per_ns = electrons.drift_speed_mm_per_us * 1e-3
    time_spread = diffusion_mm(electrons.diffusion_longitudinal_cm2_per_s, liquid_time) / speed_mm_per_ns
    spread = diffusion_mm(electrons.diffusion_transverse_cm2_per_s, liquid_time)
    share = 1 / jnp.maximum(n_electrons, 1)
    z_gain, _ = rng.normal_pair(keys, 0, _TIME, dtype=dtype)
    z_x, z_y = rng.normal_pair(keys, 0, _PLACE, dtype=dtype)
    x_mm = deposits.x_mm + spread * relax.safe_sqrt(share) * z_x
    y_mm = deposits.y_mm + spread * relax.safe_sqrt(share) * z_y
    emission = detector.electroluminescence
    return ElectronClouds(
        n_electrons=n_electrons,
        time_ns=deposits.time_ns + mean_time,
        time_spread_ns=time_spread,
        x_mm=x_mm,
        y_mm=y_mm,
        spread_mm=spread * relax.safe_sqrt(1 - share),
        photons_per_electron=emission.se_gain_phd
        * (1 + emission.linear_noise * z_gain)
        * detector.light.s2_relative_yield(detector.geometry, x_mm, y_mm),
    )
