"""`dmsim detectors`: the presets, and every parameter of one with unit, value and source."""

import argparse
import itertools
from pathlib import Path
from typing import Any

HELP = "list the detector presets, or every parameter of one with unit, value and source"
_PIPED_WIDTH = 100
_FIGURES = (".png", ".pdf", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="preset name or path of a TOML file")
    parser.add_argument("--figure", type=Path, metavar="PATH", help="draw the sensor arrays to this file")
    parser.add_argument(
        "--emission-model", action="store_true", help="print the constants of the xenon emission model too"
    )


def run(args: argparse.Namespace) -> int:
    """Print the list of presets, or the tables of one.

    Raises:
        ValueError: for an unknown detector, a file that is no preset, or options that do not fit.
    """
    from rich.console import Console

    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    if args.name is None:
        if args.figure is not None or args.emission_model:
            raise ValueError("--figure and --emission-model need the NAME of a detector")
        return _list(console)
    if args.figure is not None and args.figure.suffix.lower() not in _FIGURES:
        raise ValueError(f"--figure {args.figure}: must end with one of {', '.join(_FIGURES)}")
    return _show(console, args)


def _list(console: Any) -> int:
    from dmsim.detector.presets_io import list_detectors, read_preset

    for name in list_detectors():
        console.print(f"{name:10} {read_preset(name).description}", highlight=False)
    console.print(
        "\ndmsim detectors NAME prints all parameters with unit, value and source.", highlight=False
    )
    return 0


def _show(console: Any, args: argparse.Namespace) -> int:
    from dmsim.detector.presets_io import describe, load_detector, read_preset

    detector = load_detector(args.name)
    if args.figure is not None:  # before the tables, whose reader may stop early
        _draw(detector, args.figure)
    console.print(f"{detector.name}: {read_preset(args.name).description}\n", highlight=False, markup=False)
    rows = [(*row.name.rsplit(".", 1), row.value, row.unit, row.source) for row in describe(args.name)]
    for table, group in itertools.groupby(rows, key=lambda row: row[0]):
        console.print(_table(table, [row[1:] for row in group]))
        console.print()
    supplied = _supplied(detector)
    if supplied:
        console.print(_table("supplied", supplied))
        console.print()
    console.print(_table("derived", _derived(detector)))
    if args.emission_model:
        console.print()
        console.print(_table("quanta", _emission_model(detector)))
    if args.figure is not None:
        console.print(f"\nsensor arrays drawn in {args.figure}", highlight=False, markup=False)
    return 0


def _table(title: str, rows: list[tuple]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(f"[{title}]", style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        expand=True,
        pad_edge=False,
    )
    table.add_column("parameter", no_wrap=True)
    table.add_column("value", max_width=12, overflow="fold")
    table.add_column("unit", no_wrap=True)
    table.add_column("source", ratio=1)
    for name, value, unit, source in rows:
        style = "yellow" if source.startswith("assumed") else ""
        cells = (name, _number(value), "" if unit == "1" else unit, source)
        table.add_row(*(Text(cell) for cell in cells[:3]), Text(cells[3], style=style))
    return table


def _number(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_number, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _derived(detector: Any) -> list[tuple]:
    """What analysts quote, from the parameters above."""
    electrons = detector.electrons
    derived = "from the parameters above"
    g2_phd = detector.g2_pe_per_electron / (1 + detector.electronics.double_pe_probability)
    drift_us = electrons.drift_time_ns(-detector.geometry.drift_length_mm) * 1e-3
    return [
        ("g1", float(detector.g1_pe_per_photon), "PE/photon", "g1_phd_per_photon x (1 + double PE)"),
        ("g1", float(detector.light.g1_phd_per_photon), "phd/photon", derived),
        (
            "single-electron gain",
            float(detector.single_electron_gain_pe),
            "PE",
            "se_gain_phd x (1 + double PE)",
        ),
        ("g2", float(detector.g2_pe_per_electron), "PE/electron", "single-electron gain x extraction"),
        ("g2", float(g2_phd), "phd/electron", derived),
        ("longest drift time", float(drift_us), "us", "from the cathode to the gas"),
        (
            "one photoelectron",
            float(detector.electronics.adc_per_pe),
            "adc samples",
            "gain, amplifier, digitiser",
        ),
        ("sensors", detector.light.sensors.n_sensors, "", _sensors(detector.light.sensors)),
    ]


def _sensors(sensors: Any) -> str:
    n_off = int((sensors.efficiency == 0).sum())
    return f"{sensors.n_top} of them on top" + (f"; {n_off} are off" if n_off else "")


def _supplied(detector: Any) -> list[tuple]:
    """What was read from files: number of points, unit and range of each map, and the spectra."""
    from dmsim.detector.consistency import maps

    rows = []
    for name, grid, spec in maps(detector):
        points = " x ".join(map(str, grid.values.shape))
        extent = ", ".join(
            f"{axis} {low:g} to {high:g} mm"
            for axis, low, high in zip(grid.axes, grid.low, grid.high, strict=True)
        )
        values = f"values {float(grid.values.min()):.4g} to {float(grid.values.max()):.4g}"
        rows.append((name, points, spec.unit, "; ".join(filter(None, (extent, values, grid.note)))))
    sensors = detector.light.sensors
    if sensors.spe_quantiles is not None:
        mean, variance = map(float, sensors.spe_moments())
        width = f"charge of one photoelectron: relative width {variance**0.5 / mean:.3f}, mean over sensors"
        rows.append(("sensors.spe_spectra", sensors.n_sensors, "", width))
    return rows


def _emission_model(detector: Any) -> list[tuple]:
    import jax

    source = f"NEST {detector.quanta.generation}, arXiv:2211.10726"
    leaves = jax.tree_util.tree_leaves_with_path(detector.quanta)
    names = (jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)
    return [
        (name, tuple(leaf.ravel().tolist()), "", source)
        for name, (_, leaf) in zip(names, leaves, strict=True)
    ]


def _draw(detector: Any, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from dmsim.plot.arrays import sensor_arrays

    if not path.parent.is_dir():
        raise ValueError(f"--figure {path}: the folder {path.parent} does not exist")
    sensor_arrays(detector).savefig(path, dpi=150)
