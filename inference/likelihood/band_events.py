"""Events for a band: a source's energies, placed uniformly in the fiducial volume."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from dmsim import sources
from dmsim.detector import Detector
from inference.likelihood.band import BandModel, BandSettings
from inference.likelihood.band_data import Band

SOURCES = ("ch3t", "er_flat", "nr_flat")  # those with one deposit an event


def make_band_model(
    key: PRNGKeyArray,
    detector: Detector,
    band: Band,
    *,
    settings: BandSettings,
    source: str = "ch3t",
    n_events: int = 20_000,
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
    key_source, key_model = jax.random.split(key)
    volume = fiducial_volume(detector, settings)
    deposits = sources.named(source)(key_source, detector, n_events=n_events, **volume)
    deposits = eqx.tree_at(lambda d: d.event_time_ns, deposits, None, is_leaf=lambda x: x is None)
    return BandModel(key_model, deposits, tuple(band.edges.tolist()), detector, settings)


def fiducial_volume(detector: Detector, settings: BandSettings) -> dict[str, float]:
    """Limits of the fiducial volume within the detector, as options of a source.

    Raises:
        ValueError: if the volume is empty.
    """
    bottom, top = -float(detector.geometry.drift_length_mm), 0.0
    if settings.drift_time_us is not None:
        early, late = (float(detector.electrons.z_mm(jnp.asarray(t * 1e3))) for t in settings.drift_time_us)
        bottom, top = max(bottom, late), min(top, early)
    radius = min(float(detector.geometry.radius_mm), settings.max_radius_mm or float("inf"))
    if not bottom < top or not radius > 0:
        raise ValueError(
            f"fiducial volume is empty: z from {bottom:g} to {top:g} mm, radius {radius:g} mm "
            f"in detector {detector.name!r}"
        )
    return {"r_max_mm": radius, "z_min_mm": bottom, "z_max_mm": top}
