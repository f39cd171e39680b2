"""Draw docs/images/event-resolution.png: how well one event's place can be known, against the size of its S2.

Run it with `python docs/figures/event_resolution.py`.
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import dmsim
from dmsim.plot.style import BLUE, GREY, INK, VERMILION, style
from dmsim.records import Interaction
from inference.likelihood.event import (
    EventParameters,
    cramer_rao,
    expected_starts,
    fisher_information,
    reference,
)
from inference.likelihood.event_data import choose_windows

TARGET = Path(__file__).parents[1] / "images" / "event-resolution.png"
DEPTHS_MM = {-100.0: BLUE, -1400.0: VERMILION}
ENERGY_KEV = np.geomspace(0.3, 100.0, 16)
RADII_MM = np.linspace(0.0, 450.0, 6)


def bounds(detector, z_mm):
    """Mean S2 [PE] at the energies of ENERGY_KEV, and the bound of x and y [mm] there at each radius."""
    energy, radius = np.meshgrid(ENERGY_KEV, RADII_MM, indexing="ij")
    angle = 2.4 * np.arange(radius.size).reshape(radius.shape)  # about 137 degrees: all ways to the sensors
    columns = (
        energy,
        radius * np.cos(angle),
        radius * np.sin(angle),
        np.full(energy.shape, z_mm),
        0 * energy,
    )
    events = EventParameters(
        *(jnp.asarray(column.ravel(), jnp.float32) for column in columns), interaction=Interaction.ER_BETA
    )
    windows = choose_windows(detector, events)

    def one(event):
        starts = expected_starts(detector, event, windows)
        area = reference(detector, event, windows, starts).s2.pe
        return area, cramer_rao(fisher_information(detector, event, windows=windows))

    area, deviation = eqx.filter_jit(jax.vmap(one))(events)
    spread = np.sqrt(np.mean(np.asarray(deviation)[:, 1:3] ** 2, axis=1))
    return np.asarray(area).reshape(energy.shape).mean(1), spread.reshape(energy.shape)


def main() -> None:
    """Write the figure."""
    detector = dmsim.load_detector("xenonnt").without("all")
    with style():
        figure, axes = plt.subplots(figsize=(5.6, 3.6))
        for z_mm, colour in DEPTHS_MM.items():
            area, spread = bounds(detector, z_mm)
            axes.loglog(area, np.sqrt(np.mean(spread**2, axis=1)), color=colour)
            axes.fill_between(area, spread.min(1), spread.max(1), color=colour, alpha=0.15, lw=0)
            axes.plot([], [], color=colour, label=f"bound, {-z_mm / 10:.0f} cm deep (band: r up to 45 cm)")
        resolution = detector.resolution
        area = np.geomspace(200, 8e4, 50)
        proxy = float(resolution.xy_mm_sqrt_pe) / np.sqrt(area) + float(resolution.xy_floor_mm)
        axes.plot(area, proxy, color=GREY, ls="--", label="XENONnT: 15.22 cm / sqrt(S2) + 0.036 cm")
        axes.set_xlabel("S2 area [PE]")
        axes.set_ylabel("standard deviation of x or y [mm]")
        axes.set_title("One event's place in XENONnT", color=INK)
        axes.legend()
        figure.savefig(TARGET)


if __name__ == "__main__":
    main()
