"""Photoelectrons of S2."""

import jax.numpy as jnp

from dmsim import relax, rng
from dmsim.detector import Detector
from dmsim.light.detection import choose_sensor, cumulative
from dmsim.light.photoelectrons import photon_charge
from dmsim.light.timing import two_exponentials
from dmsim.ragged import Pages
from dmsim.records import ElectronClouds, ElectronList, Hits, Signal

_STREAMS = tuple(0x52000000 + (k << 16) for k in range(4))  # plus the photon's number within its electron


def sample_s2_hits(
    keys: rng.Words,
    detector: Detector,
    clouds: ElectronClouds,
    electrons: ElectronList,
    pages: Pages,
    *,
    n_events: int,
    n_deposits: int,
) -> Hits:
    """Sensor, time and charge of each detected S2 photon; `deposit` is its row in the batch.

    Light leaves uniformly along the electron's way through the gap (in a gas gap with wires, more near them),
    delayed by the gas excimer's decay.
    All electrons of a cloud share one light pattern.

    Args:
        keys: one key a cloud.
        detector: of its parts the light, electroluminescence and electronics.
        clouds: with those keys.
        electrons: of the same clouds, with their detected photons.
        pages: of photons, with electrons as parents.
        n_events: of the batch.
        n_deposits: of the batch; clouds beyond them are of delayed electrons.

    Gradient: pathwise and implicit in time, weight in counts and sensor, matched-normal in the double
        photoelectron.
    Source: uniform emission along the gap: Aprile & Doke, RMP 82, 2053 (2010); parameters in the preset.
    """
    dtype = electrons.time_ns.dtype
    gas, electronics = detector.electroluminescence, detector.electronics
    # what belongs to the electron is fetched once a page
    electron = pages.parent[:, None]
    of_page = electrons.cloud[electron]
    cloud = jnp.broadcast_to(of_page, pages.child.shape)
    key, number = rng.Words(keys.first[of_page], keys.second[of_page]), electrons.index[electron]

    def block(stream):
        return rng.threefry2x32(key, number, pages.child.astype(jnp.uint32) + jnp.uint32(_STREAMS[stream]))

    u_sensor, u_gap = (rng.uniform_of(word, dtype=dtype) for word in block(0))
    when, decisions = block(1)
    u_decay = rng.uniform_of(when, dtype=dtype)
    u_which, u_double = rng.coarse_uniforms(decisions, dtype=dtype)
    z_transit, z_charge = (rng.normal_of(rng.uniform_of(word, dtype=dtype)) for word in block(2))
    u_second = rng.uniform_of(block(3).first, dtype=dtype)  # used with measured spectra only

    pattern = detector.light.s2_pattern(detector.geometry, clouds.x_mm, clouds.y_mm, clouds.spread_mm)
    sensor, sensor_weight = choose_sensor(u_sensor, cloud, cumulative(pattern), pattern)
    decay_ns = two_exponentials(
        u_which,
        u_decay,
        fast_fraction=gas.singlet_fraction,
        fast_ns=gas.singlet_lifetime_ns,
        slow_ns=gas.triplet_lifetime_ns,
    )
    if detector.gas_gap is None:
        in_gap_ns = gas.gap_transit_ns * u_gap
    else:
        transit_ns = detector.gap_transit_ns(clouds.x_mm, clouds.y_mm)
        in_gap_ns = detector.gas_gap.emission_ns(u_gap, transit_ns[of_page])
    time_ns = (
        electrons.time_ns[electron] + in_gap_ns + decay_ns + electronics.transit_time_spread_ns * z_transit
    )
    weight = (relax.weight(electrons.n_photons) * electrons.weight)[electron] * sensor_weight
    charge = photon_charge(u_double, u_second, z_charge, sensor, electronics, detector.light.sensors)
    own = cloud < n_deposits
    return Hits(
        event=jnp.broadcast_to(clouds.event[of_page], cloud.shape).reshape(-1),
        sensor=sensor.reshape(-1),
        time_ns=time_ns.reshape(-1),
        charge_pe=(charge * pages.valid).reshape(-1),
        weight=(weight * pages.valid).reshape(-1),
        signal=jnp.where(own, Signal.S2.value, Signal.DELAYED.value).astype(jnp.int32).reshape(-1),
        deposit=jnp.where(own, cloud, -1).reshape(-1),
        valid=pages.valid.reshape(-1),
        n_overflow=pages.n_overflow + electrons.n_overflow,
        n_events=n_events,
    )
