"""The position posterior as one compiled program: patterns in, places out, no training code."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import export

import dmsim
from dmsim.detector import Detector
from dmsim.io.exported import write_exported
from inference.estimators.files import detector_identity
from inference.estimators.posterior import DirectPosterior
from inference.position.anchor import position_summary
from inference.position.outputs import LEVELS, places


def export_places(
    path: Path | str,
    posterior: DirectPosterior,
    detector: Detector,
    *,
    n_points: int = 16,
    n_vertices: int = 16,
    platforms: tuple[str, ...] = ("cpu", "cuda"),
) -> None:
    """Write `places` of a trained posterior, for any number of events.

    `dmsim.io.exported.load_exported` reads the file: its `call` takes areas [event, sensor] in PE, float32,
    and gives `mean_mm`, `covariance_mm2` and `contour_mm`.

    Args:
        path: of the file.
        posterior: of `position_estimator`, trained.
        detector: it was trained for.
        n_points: as `places`.
        n_vertices: as `places`.
        platforms: that the program shall run on, by jax.export's names.
    """
    summary = position_summary(detector)
    arrays, rest = eqx.partition((posterior, summary), eqx.is_array)

    @jax.jit
    def program(area_per_channel_pe):
        trained, seen = eqx.combine(arrays, rest)
        found = places(trained, seen, area_per_channel_pe, n_points=n_points, n_vertices=n_vertices)
        return found._asdict()

    (batch,) = export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, detector.light.sensors.n_sensors), jnp.float32)
    exported = export.export(program, platforms=platforms)(shape)
    stated = {
        "what": "posterior of the place of each S2",
        "version": dmsim.__version__,
        "inputs": {"area_per_channel_pe": ["event", "sensor"]},
        "outputs": {"mean_mm": ["event", "x, y"], "covariance_mm2": ["event", "x, y", "x, y"],
                    "contour_mm": ["event", "level", "vertex", "x, y"]},
        "levels": list(LEVELS),
        "detector": detector_identity(detector),
    }  # fmt: skip
    write_exported(path, exported.serialize(), stated)
