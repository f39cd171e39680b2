"""Light of extracted electrons in the gas gap: counts, and each electron's arrival."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim import relax, rng
from dmsim.detector import Detector
from dmsim.ragged import Pages
from dmsim.records import ElectronClouds, ElectronList

_TOTAL = 3  # counter after those of transport
ELECTRON = 0x45000000  # stream of an electron's own draws


def count_s2_photons(keys: rng.Words, detector: Detector, clouds: ElectronClouds) -> Float[Array, "deposit"]:
    """Photons detected from each deposit's electrons together.

    Normal with the sum's mean and variance (Fano factor over Poisson), rounded.

    Gradient: matched-normal.
    Source: the normal with s2Fano is NEST's (arXiv:2211.10726, detector response).
    """
    z, _ = rng.normal_pair(keys, 0, _TOTAL, dtype=clouds.n_electrons.dtype)
    mean = clouds.n_electrons * clouds.photons_per_electron
    std = relax.safe_sqrt(detector.electroluminescence.se_fano * mean)
    # without electrons the mean, which is zero, carries the gradient of their number
    return jnp.where(clouds.n_electrons > 0, relax.rounded_normal(z, mean, std), mean)


def sample_electrons(
    keys: rng.Words, detector: Detector, clouds: ElectronClouds, pages: Pages
) -> ElectronList:
    """Arrival time and number of detected photons of each extracted electron.

    Args:
        keys: one key a cloud.
        detector: of its parts the electroluminescence, and the gas gap with its delay at the surface.
        clouds: with those keys.
        pages: of electrons, with clouds as parents.

    Gradient: pathwise in time, matched-normal in the photons, weight in the number of electrons.
    """
    parent = pages.parent[:, None]
    key = rng.Words(keys.first[parent], keys.second[parent])
    dtype = clouds.n_electrons.dtype
    z_time, z_count = rng.normal_pair(key, pages.child, jnp.uint32(ELECTRON), dtype=dtype)
    mean = jnp.maximum(clouds.photons_per_electron, 0.0)
    std = relax.safe_sqrt(detector.electroluminescence.se_fano * mean)
    n_photons = relax.rounded_normal(z_count, mean[parent], std[parent]) * pages.valid
    time_ns = clouds.time_ns[parent] + clouds.time_spread_ns[parent] * z_time
    if detector.gas_gap is not None:
        u_emission, _ = rng.uniform_pair(key, pages.child, jnp.uint32(ELECTRON + 1), dtype=dtype)
        time_ns = time_ns - detector.gas_gap.emission_delay_ns * jnp.log(u_emission)
    return ElectronList(
        cloud=jnp.broadcast_to(parent, pages.child.shape).reshape(-1),
        index=pages.child.reshape(-1),
        time_ns=time_ns.reshape(-1),
        n_photons=n_photons.reshape(-1),
        weight=jnp.broadcast_to(clouds.weight[parent], pages.child.shape).reshape(-1),
        n_overflow=pages.n_overflow,
    )
