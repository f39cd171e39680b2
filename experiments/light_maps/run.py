"""XENON1T's measured S1 map against the parametric form: `python experiments/light_maps/run.py [FIGURE]`.

Reads the public release from the folder in DMSIM_DATA.
"""

import os
import sys
from pathlib import Path

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

mpl.use("agg")
import matplotlib.pyplot as plt

from dmsim.detector import load_detector
from dmsim.detector.supplied import supply_map
from dmsim.plot.style import LIGHT, style

_MAP = "release/xenon1t_pax_detector/XENON1T_s1_xyz_ly_kr83m_SR1.json"


def main() -> None:
    """Draw both over depth and radius, and print how they differ."""
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/s1_map.png")
    parametric = load_detector("xenon1t")
    measured = supply_map(parametric, "light.s1_map", Path(os.environ["DMSIM_DATA"]) / _MAP)
    geometry = parametric.geometry
    radius, length = float(geometry.radius_mm), float(geometry.drift_length_mm)
    r2, z, angle = np.meshgrid(
        (np.arange(40) + 0.5) / 40, -length * (np.arange(80) + 0.5) / 80, 2 * np.pi * np.arange(24) / 24
    )
    place = (radius * np.sqrt(r2) * np.cos(angle), radius * np.sqrt(r2) * np.sin(angle), z)
    place = tuple(jnp.asarray(x, jnp.float32) for x in place)
    yields = [np.asarray(d.light.s1_relative_yield(geometry, *place)) for d in (measured, parametric)]
    ratio = yields[0] / yields[1]
    print(
        f"means {yields[0].mean():.4f}, {yields[1].mean():.4f}; ratio {ratio.mean():.4f} +- {ratio.std():.4f}"
    )
    with style():
        fig, panels = plt.subplots(1, 3, figsize=(7.6, 3.0), sharey=True)
        shown = (*yields, ratio)
        titles = ("measured (Kr-83m), resampled", "parametric", "measured / parametric")
        limits = ((0.6, 1.5), (0.6, 1.5), (0.9, 1.1))
        maps = (LIGHT, LIGHT, "RdBu_r")
        for ax, values, title, (low, high), colours in zip(panels, shown, titles, limits, maps, strict=True):
            image = ax.imshow(
                values.mean(axis=2),
                extent=(0, 1, -length, 0),
                origin="upper",
                aspect="auto",
                vmin=low,
                vmax=high,
                cmap=colours,
            )
            ax.set_title(title)
            ax.set_xlabel("(r / radius)$^2$")
            fig.colorbar(image, ax=ax, location="bottom", shrink=0.9)
        panels[0].set_ylabel("z [mm]")
        fig.savefig(figure)


if __name__ == "__main__":
    main()
