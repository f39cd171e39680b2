"""What each sensor saw of one peak."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import LogNorm
from matplotlib.patches import Circle

from dmsim.detector import Detector
from dmsim.plot.style import GREY, INK, LIGHT, VERMILION


def draw_hit_pattern(
    ax: Axes,
    detector: Detector,
    area_pe: Float[np.ndarray, "sensor"],
    *,
    side: str,
    true_mm: tuple[float, float] | None = None,
    found_mm: tuple[float, float] | None = None,
) -> EllipseCollection:
    """One array with the light of a peak, on a logarithmic colour scale.

    Args:
        ax: to draw on.
        detector: places of its sensors.
        area_pe: area in each sensor, all channels.
        side: "top" or "bottom".
        true_mm: where the event was.
        found_mm: where reconstruction puts it.

    Returns:
        The sensors, for a colour bar.
    """
    sensors = detector.light.sensors
    channels = slice(0, sensors.n_top) if side == "top" else slice(sensors.n_top, sensors.n_sensors)
    x, y = np.asarray(sensors.x_mm)[channels], np.asarray(sensors.y_mm)[channels]
    area = np.asarray(area_pe)[channels]
    radius = float(detector.geometry.radius_mm)
    spacing = 0.6 * radius
    if x.size > 1:
        distance = np.hypot(x[:, None] - x, y[:, None] - y)
        spacing = float(distance[~np.eye(x.size, dtype=bool)].min())
    size = np.full(x.size, 0.92 * spacing)
    common = {"units": "x", "offsets": np.column_stack([x, y]), "offset_transform": ax.transData}
    ax.add_collection(
        EllipseCollection(size, size, np.zeros_like(size), facecolors="#f4f4f4", edgecolors="#cfcfcf",
                          linewidths=0.4, **common)
    )  # fmt: skip
    seen = area > 0.3  # PE; less is not a photoelectron
    largest = max(float(np.asarray(area_pe).max(initial=0.0)), 2.0)
    lit = EllipseCollection(
        size[seen],
        size[seen],
        np.zeros(seen.sum()),
        cmap=LIGHT,
        norm=LogNorm(max(0.5, largest / 1e3), largest),
        linewidths=0,
        **{**common, "offsets": np.column_stack([x[seen], y[seen]])},
    )
    lit.set_array(area[seen])
    ax.add_collection(lit)
    ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=GREY, linewidth=1))
    if true_mm is not None:
        ax.plot(*true_mm, "o", ms=11, mfc="none", mec="white", mew=3.4)
        ax.plot(*true_mm, "o", ms=11, mfc="none", mec=INK, mew=1.6, ls="", label="true")
    if found_mm is not None:
        ax.plot(*found_mm, "+", ms=11, mec="white", mew=3.8)
        ax.plot(*found_mm, "+", ms=10, mec=VERMILION, mew=2.0, ls="", label="reconstructed")
    reach = 1.03 * max(radius, float(np.hypot(x, y).max() + spacing / 2))
    ax.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach), xlabel="x [mm]", ylabel="y [mm]")
    ax.locator_params(nbins=5)
    return lit
