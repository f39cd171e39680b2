"""Sensor arrays, drawn."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dmsim.detector import Detector

_LABELLED = 130  # sensors; numbers on more than these cannot be read


def sensor_arrays(detector: Detector) -> Figure:
    """Top and bottom array with channel numbers and the wall of the active volume.

    Args:
        detector: whose sensors are drawn; those of efficiency 0 are left empty.
    """
    sensors = detector.light.sensors
    x, y = np.asarray(sensors.x_mm), np.asarray(sensors.y_mm)
    on = np.asarray(sensors.efficiency) > 0
    radius = float(detector.geometry.radius_mm)
    n_top = sensors.n_top
    figure, axes = plt.subplots(1, 2, figsize=(10, 5.8), layout="constrained", sharex=True, sharey=True)
    for ax, channels, side in (
        (axes[0], np.arange(n_top), "top"),
        (axes[1], np.arange(n_top, sensors.n_sensors), "bottom"),
    ):
        size = 0.46 * _closest(x[channels], y[channels]) if channels.size > 1 else 0.3 * radius
        for channel in channels:
            ax.add_patch(
                plt.Circle(
                    (x[channel], y[channel]),
                    size,
                    facecolor="#9ecae1" if on[channel] else "white",
                    edgecolor="#3182bd",
                    linewidth=0.6,
                )
            )
            if channels.size <= _LABELLED or channel == channels[0] or (channel - channels[0]) % 10 == 0:
                ax.text(x[channel], y[channel], str(channel), ha="center", va="center", fontsize=5.5)
        ax.add_patch(plt.Circle((0, 0), radius, fill=False, edgecolor="black", linewidth=1))
        reach = 1.05 * max(radius, np.hypot(x, y).max() + size)
        ax.set(
            title=f"{side}: channels {channels[0]} to {channels[-1]} ({channels.size})",
            xlabel="x [mm]",
            aspect="equal",
            xlim=(-reach, reach),
            ylim=(-reach, reach),
        )
    axes[0].set_ylabel("y [mm]")
    figure.suptitle(f"{detector.name} (circle: active volume, radius {radius:g} mm)")
    return figure


def _closest(x: np.ndarray, y: np.ndarray) -> float:
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    return float(distance[~np.eye(x.size, dtype=bool)].min())
