"""What one looks at first in reconstructed events."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmsim.detector import Detector
from dmsim.records import Events


def reconstructed_events(detector: Detector, events: Events) -> Figure:
    """Corrected areas, drift time and position of the main S1 and S2 of each event.

    Args:
        detector: whose volume is outlined.
        events: any number; those without S1 or S2 are counted in the title and not drawn.
    """
    complete = np.isfinite(events.cs1_pe) & np.isfinite(events.cs2_pe)
    cs1, cs2 = events.cs1_pe[complete], events.cs2_pe[complete]
    drift_us = events.drift_time_ns[complete] / 1e3
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 8.2), layout="constrained")
    figure.suptitle(f"{detector.name}: {len(events)} events, {complete.sum()} with S1 and S2")

    _cloud(axes[0, 0], cs1, cs2, "cS1 [PE]", "cS2 [PE]")
    if complete.any() and cs1.min() > 0 and cs2.min() > 0 and _decades(cs1, cs2) > 1:
        axes[0, 0].set(xscale="log", yscale="log")

    maximum_us = float(detector.electrons.drift_time_ns(-detector.geometry.drift_length_mm)) / 1e3
    axes[0, 1].hist(drift_us, bins=_bins(drift_us, (0.0, 1.05 * maximum_us)), color="#3182bd")
    axes[0, 1].axvline(maximum_us, color="0.4", ls="--", lw=1)
    axes[0, 1].annotate("cathode", (maximum_us, 0.97), xycoords=("data", "axes fraction"), rotation=90,
                        ha="right", va="top", color="0.4", fontsize=8)  # fmt: skip
    axes[0, 1].set(xlabel="drift time [µs]", ylabel="events per bin", xlim=(0, None))

    radius = float(detector.geometry.radius_mm)
    axes[1, 0].add_patch(plt.Circle((0, 0), radius, fill=False, color="0.4", ls="--"))
    _cloud(axes[1, 0], events.x_mm[complete], events.y_mm[complete], "x [mm]", "y [mm]")
    axes[1, 0].set(aspect="equal", xlim=(-1.1 * radius, 1.1 * radius), ylim=(-1.1 * radius, 1.1 * radius))

    width_us = events.s2_width_50_ns[complete] / 1e3
    _cloud(axes[1, 1], drift_us, width_us, "drift time [µs]", "S2 width, central 50 % [µs]")
    highest_us = 1.1 * width_us.max() if width_us.size else 1.0
    axes[1, 1].set(xlim=(0, 1.05 * maximum_us), ylim=(0, highest_us))
    if not complete.any():
        for ax in axes.flat:
            ax.text(0.5, 0.5, "no event has an S1 and an S2", transform=ax.transAxes,
                    ha="center", va="center", color="0.4")  # fmt: skip
    return figure


def _cloud(ax: Axes, x: np.ndarray, y: np.ndarray, x_label: str, y_label: str) -> None:
    # points while they can be told apart, else counts
    if x.size > 20_000:
        ax.hexbin(x, y, gridsize=120, mincnt=1, bins="log", cmap="viridis")
    else:
        ax.scatter(x, y, s=max(2.0, 24 - 5 * np.log10(max(x.size, 1))), alpha=0.6, lw=0, color="#3182bd")
    ax.set(xlabel=x_label, ylabel=y_label)


def _decades(*arrays: np.ndarray) -> float:
    return max(float(np.log10(array.max() / array.min())) for array in arrays)


def _bins(values: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    return np.linspace(*span, int(np.clip(np.sqrt(values.size), 10, 100)) + 1)
