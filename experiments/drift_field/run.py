"""Field lines and isochrones of a distorted field: python run.py --figure ../../docs/images/drift_field.png.

XENONnT's geometry and 23 V/cm with 64 rings, too strong a field above the cathode, and charge on the wall.
"""

import argparse
import dataclasses
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import dmsim
from dmsim import charge
from dmsim.detector.drift_field import DriftField, straight_rings

N_LINES, N_STEPS = 14, 1500


def distorted() -> dmsim.Detector:
    """The detector that docs/physics/charge.md shows; its distortion is made up."""
    detector = dmsim.load_detector("xenonnt")
    length = float(detector.geometry.drift_length_mm)
    cathode_v, gate_v = -2.3 * length, 0.0
    heights, potentials = straight_rings(cathode_v, gate_v, length, 64)
    potentials = potentials + 150 * np.exp(-(heights + length) / 150) - 40 * np.exp(heights / 150)
    leaves = {
        "cathode_v": cathode_v,
        "gate_v": gate_v,
        "ring_z_mm": heights,
        "ring_v": potentials,
        "wall_mm": 5.0,
        "wall_charge_uc_per_m2": [0.15, 0.05, 0.0, -0.1],
    }
    field = DriftField(
        **{name: jnp.asarray(value, jnp.float32) for name, value in leaves.items()},
        n_terms=128,
        n_radii=96,
        n_heights=192,
        speed_curve=1,
        diffusion_curve=1,
    )
    return dataclasses.replace(detector, drift_field=field)


def lines(detector, starts_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radii of the field lines from the gate at these radii, at every height; NaN beyond the wall."""
    radius, length = (float(x) for x in (detector.geometry.radius_mm, detector.geometry.drift_length_mm))
    r_mm, z_mm = np.linspace(0, radius, 400), np.linspace(0, -length, N_STEPS)
    upward, outward = detector.drift_field.table(detector.geometry, jnp.asarray(r_mm), jnp.asarray(z_mm))
    slope = np.asarray(outward / upward)  # d ln r / dz
    found = [starts_mm]
    for row in range(N_STEPS - 1):
        here = found[-1]
        found.append(here * np.exp(np.interp(here, r_mm, slope[row]) * (z_mm[1] - z_mm[0])))
    paths = np.array(found)
    return z_mm, np.where(np.maximum.accumulate(paths, axis=0) > radius, np.nan, paths)


def figure(detector) -> Figure:
    """Field lines with isochrones, and how far an electron is displaced at the surface."""
    prepared = charge.prepare(detector)
    radius, length = (float(x) for x in (detector.geometry.radius_mm, detector.geometry.drift_length_mm))
    r_mm, z_mm = np.linspace(0, radius, 300), np.linspace(-length, -1, 400)
    r, z = (jnp.asarray(x, jnp.float32) for x in np.meshgrid(r_mm, z_mm))
    arrival = eqx.filter_jit(lambda m, *place: m(*place))(prepared.drift_field, r, 0 * r, z)
    lost = np.asarray(arrival.margin_mm) <= 0
    time_us = np.where(lost, np.nan, np.asarray(arrival.time_ns) * 1e-3)
    shift_mm = np.where(lost, np.nan, np.asarray(r * (arrival.stretch - 1)))

    drawing = Figure(figsize=(9, 6.2), layout="constrained")
    left, right = drawing.subplots(1, 2, sharey=True)
    heights, paths = lines(detector, np.linspace(0, radius - 1, N_LINES))
    left.plot(paths, heights, color="tab:blue", lw=0.9)
    isochrones = left.contour(
        r_mm, z_mm, time_us, levels=np.arange(200, 2200, 200), colors="tab:red", linewidths=0.9
    )
    left.clabel(isochrones, fmt="%g µs", fontsize=8)
    left.set(xlabel="r [mm]", ylabel="z [mm]", title="field lines and isochrones")
    colours = right.pcolormesh(
        r_mm, z_mm, shift_mm, cmap="RdBu_r", vmin=-40, vmax=40, shading="nearest", rasterized=True
    )
    drawing.colorbar(colours, ax=right, label="radius at the surface − radius of the deposit [mm]")
    right.set(xlabel="r [mm]", title="displacement of electrons")
    for axes in (left, right):
        axes.contourf(r_mm, z_mm, lost, levels=[0.5, 1.5], colors="0.45")
        axes.set(xlim=(0, radius), ylim=(-length, 0))
    right.annotate(
        "lost to\nthe wall",
        (radius - 8, -length + 40),
        (radius - 190, -length + 190),
        arrowprops={"arrowstyle": "->"},
    )
    return drawing


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, required=True, help="PNG file to write")
    given = parser.parse_args()
    figure(distorted()).savefig(given.figure, dpi=130)


if __name__ == "__main__":
    main()
