"""Electron clouds from the deposit to the gas."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import erf
from jaxtyping import Array, Float

from dmsim import relax, rng
from dmsim.charge.drift_map import prepare
from dmsim.detector import Detector
from dmsim.detector.drift_map import DriftMap
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
    x_mm: Float[Array, "deposit"]  # mean, at the surface
    y_mm: Float[Array, "deposit"]
    clear_of_wall: Float[Array, "deposit"]  # probability not to end on the wall; part of the survival


def _straight(detector: Detector, deposits: Deposits) -> Drift:
    """Straight up at one speed; survival without extraction."""
    electrons = detector.electrons
    time_ns = electrons.drift_time_ns(deposits.z_mm)
    # the surface delay is no drift in the liquid: it does not spread the cloud
    liquid_time = time_ns - electrons.surface_delay_ns
    speed_mm_per_ns = electrons.drift_speed_mm_per_us * 1e-3
    if electrons.lifetime_map is None:
        survival = electrons.survival(time_ns)
    else:
        rate = electrons.attachment_per_us(deposits.x_mm, deposits.y_mm, deposits.z_mm)
        survival = jnp.exp(-liquid_time * 1e-3 * rate)
    return Drift(
        time_ns=time_ns,
        survival=survival,
        time_spread_ns=diffusion_mm(electrons.diffusion_longitudinal_cm2_per_s, liquid_time)
        / speed_mm_per_ns,
        spread_mm=diffusion_mm(electrons.diffusion_transverse_cm2_per_s, liquid_time),
        x_mm=deposits.x_mm,
        y_mm=deposits.y_mm,
        clear_of_wall=jnp.ones_like(time_ns),
    )


def _along_field(detector: Detector, arrivals: DriftMap, deposits: Deposits) -> Drift:
    """Along the field lines; survival without extraction."""
    arrival = arrivals(deposits.x_mm, deposits.y_mm, jnp.minimum(deposits.z_mm, 0.0))
    spread_mm = relax.safe_sqrt(arrival.variance_mm2)
    # a diffusing cloud beside an absorbing plane: the part whose mirror image has not replaced it
    wide = spread_mm > 0
    reach = arrival.margin_mm / (jnp.where(wide, spread_mm, 1.0) * 2**0.5)
    clear = jnp.where(wide, erf(jnp.maximum(reach, 0.0)), jnp.where(arrival.margin_mm > 0, 1.0, 0.0))
    return Drift(
        time_ns=arrival.time_ns + detector.electrons.surface_delay_ns,
        survival=jnp.exp(-arrival.attachment) * clear,
        time_spread_ns=relax.safe_sqrt(arrival.time_variance_ns2),
        spread_mm=spread_mm,
        x_mm=deposits.x_mm * arrival.stretch,
        y_mm=deposits.y_mm * arrival.stretch,
        clear_of_wall=clear,
    )


def drift(detector: Detector, deposits: Deposits) -> Drift:
    """Time, place, survival and diffusion on the way to the gas.

    Args:
        detector: with a drift field, along its lines; make it ready by `prepare`, or each call does so.
        deposits: below the gate, z <= 0.

    Gradient: exact.
    Source: attachment exp(-t/tau); diffusion sqrt(2 D t) (Sorensen, doi:10.1016/j.nima.2010.12.150); wall:
        absorbing plane, Chandrasekhar, Rev. Mod. Phys. 15 (1943) 1.
    """
    arrivals = prepare(detector).drift_field
    if isinstance(arrivals, DriftMap):
        way = _along_field(detector, arrivals, deposits)
    else:
        way = _straight(detector, deposits)
    return way._replace(survival=way.survival * detector.extraction_at(way.x_mm, way.y_mm))


def transport(keys: rng.Words, detector: Detector, deposits: Deposits, quanta: Quanta) -> ElectronClouds:
    """Drift each deposit's electrons to the gas.

    Attachment, the wall and extraction leave a binomial count. The cloud's centre in the plane and in time is
    drawn for that many electrons; the spread around it is handed on, so that the light pattern is that of the
    whole cloud and its centroid still fluctuates as sigma / sqrt(n).

    Args:
        keys: one key a deposit.
        detector: of its parts the electrons' transport, the geometry, the fields and the electroluminescence.
        deposits: below the gate, z <= 0.
        quanta: of the same deposits.

    Returns:
        Electrons extracted from each deposit.

    Gradient: matched-normal in the count, pathwise in time and place.
    Source: as `drift`.
    """
    dtype = deposits.energy_kev.dtype
    way = drift(detector, deposits)
    u, _ = rng.uniform_pair(keys, 0, _SURVIVAL, dtype=dtype)
    n_electrons = relax.binomial(u, quanta.n_electrons, way.survival)
    share = 1 / jnp.maximum(n_electrons, 1)
    rows = jnp.arange(len(deposits))
    first = jax.ops.segment_min(rows, deposits.event, num_segments=deposits.n_events)[deposits.event]
    of_event = rng.Words(keys.first[first], keys.second[first])  # one gain for all deposits of an event
    z_gain, _ = rng.normal_pair(of_event, 0, _GAIN, dtype=dtype)
    z_x, z_y = rng.normal_pair(keys, 0, _PLACE, dtype=dtype)
    x_mm = way.x_mm + way.spread_mm * relax.safe_sqrt(share) * z_x
    y_mm = way.y_mm + way.spread_mm * relax.safe_sqrt(share) * z_y
    return ElectronClouds(
        event=deposits.event,
        n_electrons=n_electrons,
        weight=relax.count_weight(n_electrons, quanta.n_electrons, way.survival),
        time_ns=deposits.time_ns + way.time_ns,
        time_spread_ns=way.time_spread_ns,
        x_mm=x_mm,
        y_mm=y_mm,
        spread_mm=way.spread_mm * relax.safe_sqrt(1 - share),
        photons_per_electron=detector.electron_gain_phd(x_mm, y_mm)
        * (1 + detector.electroluminescence.linear_noise * z_gain)
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
    way = drift(detector, deposits)
    return ElectronClouds(
        event=deposits.event,
        n_electrons=quanta.n_electrons * way.survival,
        weight=jnp.ones_like(way.time_ns),
        time_ns=deposits.time_ns + way.time_ns,
        time_spread_ns=way.time_spread_ns,
        x_mm=way.x_mm,
        y_mm=way.y_mm,
        spread_mm=way.spread_mm,
        photons_per_electron=jnp.broadcast_to(
            detector.electron_gain_phd(way.x_mm, way.y_mm)
            * detector.light.s2_relative_yield(detector.geometry, way.x_mm, way.y_mm),
            way.x_mm.shape,
        ),
    )
