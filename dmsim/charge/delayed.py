"""Electrons that come late: freed by light in the drift volume, or held back and released after an S2.

Each delayed electron is a cloud of its own, behind the clouds of the deposits.
"""

import math
from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dmsim import ragged, relax, rng
from dmsim.charge.transport import drift
from dmsim.detector import Detector
from dmsim.records import Deposits, ElectronClouds

_OF_S1, _OF_S2, _HELD = range(3)  # what freed an electron; also the counter of that kind's number
_DRAW = 0x44000000  # stream of a delayed electron's own draws, apart from those of its arrival and its light


def exponential_delay_ns(
    u: Float[Array, "..."], time_constant_ns: Float[Array, ""], cutoff_ns: Float[Array, ""]
) -> Float[Array, "..."]:
    """Delay with an exponential law, cut. Gradient: pathwise."""
    return -time_constant_ns * jnp.log1p(u * jnp.expm1(-cutoff_ns / time_constant_ns))


def power_delay_ns(
    u: Float[Array, "..."], power: Float[Array, ""], first_ns: Float[Array, ""], last_ns: Float[Array, ""]
) -> Float[Array, "..."]:
    """Delay with a rate ~ time^power between two times. Gradient: pathwise."""
    span, above = jnp.log(last_ns / first_ns), power + 1
    near = jnp.abs(above) < 1e-3  # of 1/t: there the law is expanded in power + 1
    safe = jnp.where(near, 1.0, above)
    logs = jnp.log1p(u * jnp.expm1(safe * span)) / safe
    expanded = u * span + 0.5 * above * span**2 * u * (1 - u)
    return first_ns * jnp.exp(jnp.where(near, expanded, logs))


def count_delayed(
    keys: rng.Words, detector: Detector, clouds: ElectronClouds, n_s1: Float[Array, "deposit"]
) -> Int[Array, "kind deposit"]:
    """Delayed electrons of each deposit: freed by its S1, freed by its S2, held back from its S2.

    Poisson, given the detected S1 photons, and the mean light of the S2's electrons.

    Args:
        keys: one key a deposit, of the delayed electrons.
        detector: of its parts the photoionisation and the delayed electrons; a part that is None frees none.
        clouds: of the deposits.
        n_s1: detected S1 photons.

    Gradient: none; it is in the weight of each electron.
    """
    freed, held = detector.photoionisation, detector.delayed_electrons
    n_s2 = clouds.n_electrons * clouds.photons_per_electron
    nothing = jnp.zeros_like(n_s1)
    means = [
        nothing if freed is None else freed.probability * n_s1,
        nothing if freed is None else freed.probability * n_s2,
        nothing if held is None else held.probability * clouds.n_electrons,
    ]
    u = [rng.uniform_pair(keys, 0, jnp.uint32(_DRAW + kind), dtype=n_s1.dtype)[0] for kind in range(3)]
    counts = relax.stop(relax.poisson(jnp.stack(u), relax.stop(jnp.stack(means))))
    return counts.astype(jnp.int32)


def _places(deposits: Deposits, parent: Array, x_mm: Array, y_mm: Array, z_mm: Array) -> Deposits:
    """Where electrons start, as `drift` takes it."""
    rows = {
        name: getattr(deposits, name)[parent] for name in ("event", "interaction", "energy_kev", "time_ns")
    }
    return replace(deposits, **rows, x_mm=x_mm, y_mm=y_mm, z_mm=z_mm)


def delayed_clouds(
    keys: rng.Words,
    detector: Detector,
    deposits: Deposits,
    clouds: ElectronClouds,
    s1_weight: Float[Array, "deposit"],
    counts: Int[Array, "kind deposit"],
    *,
    n_rows: int,
) -> tuple[ElectronClouds, rng.Words]:
    """One cloud a delayed electron, and their keys.

    Light frees electrons uniformly in the drift volume's plane; the delay is their drift time, in which they
    can be attached, and they must be extracted. Electrons that were held back leave near their S2. They take
    the mean gain.

    Args:
        keys: as for `count_delayed`.
        detector: as for `count_delayed`; the electrons' transport, geometry and light yield.
        deposits: of the batch.
        clouds: of the deposits.
        s1_weight: 1, with the gradient of each deposit's detected S1 photons.
        counts: as from `count_delayed`.
        n_rows: clouds to make, `counts.sum()` or more; the rest has no electron.

    Gradient: weight in counts and survival, pathwise in time and place.
    Source: photoionisation as in XENON's public simulators, fuse and WFSim: Poisson in the detected photons,
        uniform in x and y, the depth from the delay. Power law: arXiv:2103.05077, arXiv:2112.12116.
    """
    dtype, n = clouds.time_ns.dtype, len(deposits)
    pages = ragged.paginate(counts.reshape(-1), page_size=1, n_pages=n_rows)
    child, valid = pages.child[:, 0], pages.valid[:, 0]
    kind, parent = pages.parent // n, pages.parent % n
    own = rng.fold(rng.Words(keys.first[parent], keys.second[parent]), kind, child)
    u_delay, u_survive = rng.uniform_pair(own, 0, jnp.uint32(_DRAW), dtype=dtype)
    u_radius, u_angle = rng.uniform_pair(own, 1, jnp.uint32(_DRAW), dtype=dtype)
    z_x, z_y = rng.normal_pair(own, 2, jnp.uint32(_DRAW), dtype=dtype)
    z_arrival, _ = rng.normal_pair(own, 3, jnp.uint32(_DRAW), dtype=dtype)

    # S2 light comes from the gap, over the time in which the electrons arrive; S1 is over in 100 ns
    of_s2 = clouds.time_ns[parent] + clouds.time_spread_ns[parent] * z_arrival
    start_ns = jnp.where(kind == _OF_S1, deposits.time_ns[parent], of_s2)
    delay_ns = survive = weight = jnp.ones_like(start_ns)
    x_mm = y_mm = jnp.zeros_like(start_ns)
    cloud_weight = clouds.weight[parent]
    freed, held = detector.photoionisation, detector.delayed_electrons
    if freed is not None:
        delay_ns = exponential_delay_ns(u_delay, freed.time_constant_ns, freed.cutoff_ns)
        geometry = detector.geometry
        radius_mm = geometry.radius_mm * jnp.sqrt(u_radius)
        x_mm, y_mm = (radius_mm * turn(2 * math.pi * u_angle) for turn in (jnp.cos, jnp.sin))
        z_mm = jnp.minimum(detector.electrons.z_mm(delay_ns), 0.0)
        way = drift(detector, _places(deposits, parent, x_mm, y_mm, z_mm))
        survive = way.survival
        gain_weight = relax.weight(clouds.photons_per_electron)[parent]
        of_light = jnp.where(kind == _OF_S1, s1_weight[parent], cloud_weight * gain_weight)
        weight = relax.weight(freed.probability) * of_light
    if held is not None:
        late = kind == _HELD
        after_ns = power_delay_ns(u_delay, held.power, held.first_ns, held.last_ns)
        delay_ns = jnp.where(late, after_ns, delay_ns)
        survive = jnp.where(late, 1.0, survive)
        spread_mm = relax.safe_sqrt(clouds.spread_mm[parent] ** 2 + held.spread_mm**2)
        x_mm = jnp.where(late, clouds.x_mm[parent] + spread_mm * z_x, x_mm)
        y_mm = jnp.where(late, clouds.y_mm[parent] + spread_mm * z_y, y_mm)
        weight = jnp.where(late, relax.weight(held.probability) * cloud_weight, weight)
    arrives = valid & (u_survive < relax.stop(survive))
    gain = detector.electron_gain_phd(x_mm, y_mm)
    yields = detector.light.s2_relative_yield(detector.geometry, x_mm, y_mm)
    nothing = jnp.zeros_like(delay_ns)
    late_clouds = ElectronClouds(
        event=deposits.event[parent],
        n_electrons=arrives.astype(dtype),
        weight=weight * relax.weight(survive),
        time_ns=start_ns + delay_ns,
        time_spread_ns=nothing,
        x_mm=x_mm,
        y_mm=y_mm,
        spread_mm=nothing,
        photons_per_electron=gain * yields,
    )
    return late_clouds, own
