"""Events for a band: a source's energies, placed uniformly in the fiducial volume."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from dmsim import rng, sources
from dmsim.detector import Detector
from dmsim.records import Deposits
from inference.likelihood.band import BandModel, BandSettings
from inference.likelihood.band_data import Band

SOURCES = ("ch3t", "er_flat", "nr_flat")  # those with one deposit an event
_PLACE = 0x42414E44  # stream of places


def make_band_model(
    key: PRNGKeyArray,
    detector: Detector,
    band: Band,
    *,
    settings: BandSettings,
    source: str = "ch3t",
    n_events: int = 50_000,
) -> BandModel:
    """A band model in the bins of `band`, with the detector as its calibration.

    Args:
        key: all random numbers of the model; the same at every call of it.
        detector: what the analysis believed; also gives the volume.
        band: its bins are used.
        settings: how the band was measured.
        source: name of a source with one deposit an event.
        n_events: > 0.

    Raises:
        ValueError: for an unknown source, a number of events that is not positive, or an empty volume.
    """
    if source not in SOURCES:
        raise ValueError(f"source {source!r} makes no band: choose one of {', '.join(SOURCES)}")
    if n_events < 1:
        raise ValueError(f"n_events is {n_events}: it must be positive")
    key_source, key_place, key_model = jax.random.split(key, 3)
    deposits = sources.named(source)(key_source, detector, n_events=n_events)
    deposits = place_in_fiducial(key_place, detector, deposits, settings)
    return BandModel(key_model, deposits, tuple(band.edges.tolist()), detector, settings)


def place_in_fiducial(
    key: PRNGKeyArray, detector: Detector, deposits: Deposits, settings: BandSettings
) -> Deposits:
    """The same deposits at places uniform in the fiducial volume.

    Raises:
        ValueError: if the volume is empty.
    """
    electrons, geometry = detector.electrons, detector.geometry
    dtype = deposits.energy_kev.dtype
    bottom, top = -float(geometry.drift_length_mm), 0.0
    if settings.drift_time_us is not None:
        early, late = (float(electrons.z_mm(jnp.asarray(t * 1e3))) for t in settings.drift_time_us)
        bottom, top = max(bottom, late), min(top, early)
    radius = min(float(geometry.radius_mm), settings.max_radius_mm or float("inf"))
    if not bottom < top or not radius > 0:
        raise ValueError(
            f"fiducial volume is empty: z from {bottom:g} to {top:g} mm, radius {radius:g} mm "
            f"in detector {detector.name!r}"
        )
    rows = jnp.arange(len(deposits), dtype=jnp.uint32)
    words = rng.words_of(key)
    u_r, u_phi = rng.uniform_pair(words, rows, jnp.uint32(_PLACE), dtype=dtype)
    u_z, _ = rng.uniform_pair(words, rows, jnp.uint32(_PLACE + 1), dtype=dtype)
    r, phi = radius * jnp.sqrt(u_r), 2 * jnp.pi * u_phi
    return eqx.tree_at(
        lambda d: (d.x_mm, d.y_mm, d.z_mm),
        deposits,
        (r * jnp.cos(phi), r * jnp.sin(phi), bottom + (top - bottom) * u_z),
    )
