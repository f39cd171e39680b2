"""Events of each class, as an analysis would see them, from areas and simple models of the other columns.

Areas, drift times and places are those of `dmsim.simulate_areas`. Columns that areas do not have are drawn
here, each from the model that its line names; what is "assumed" has no published number behind it.
"""

from typing import Any

import jax
import numpy as np

import dmsim
from dmsim.detector import Detector
from inference.parameters import get_leaf, set_leaf
from inference.tuning import Sample

CLASSES = ("wimp", "er", "wall", "accidental", "neutron")
PRESELECTION = {"s1_pe": (3.0, 120.0), "s2_pe": (100.0, 20000.0)}
FLOOR_NS = 300.0  # width_50 of an S2 without drift; assumed: a gap transit of 600 ns, uniform
_ELECTRON_PE = 31.15  # fuse, NEST: single-electron gain of XENONnT
_SIGMA_50 = 1.34898  # central 50 % of a normal distribution in its standard deviations
_MERGED_NS = 15_000.0  # sites closer in time make one S2; assumed: some widths of an S2
_BATCH = 16384  # events simulated at a time: one compiled size
Columns = dict[str, np.ndarray]


def shifted(detector: Detector, factors: dict[str, float]) -> Detector:
    """The same detector with some leaves multiplied."""
    for path, factor in factors.items():
        detector = set_leaf(detector, path, get_leaf(detector, path) * factor)
    return detector


def make(
    seed: int, n: int, expected: dict[str, float], detector: Detector, truth: Detector
) -> dict[str, Sample]:
    """Samples of all classes.

    Args:
        seed: of everything random.
        n: events of each class behind the preselection.
        expected: of each class.
        detector: what the analyst believes: corrections and expectations.
        truth: what makes the signals.
    """
    out = {}
    for number, name in enumerate(CLASSES):
        columns = _enough(name, seed * 1000 + number, n, detector, truth)
        out[name] = Sample(columns, expected[name], signal=name == "wimp", weight=columns.pop("weight"))
    return out


def _enough(name: str, seed: int, n: int, detector: Detector, truth: Detector) -> Columns:
    """The first n events that pass the preselection."""
    parts: list[Columns] = []
    while sum(len(p["s1_pe"]) for p in parts) < n:
        random = np.random.default_rng([seed, len(parts)])
        key = jax.random.key(int(random.integers(2**31)))
        columns = _MAKERS[name](key, random, _BATCH, detector, truth)
        keep = np.logical_and.reduce(
            [(columns[c] > low) & (columns[c] < high) for c, (low, high) in PRESELECTION.items()]
        )
        parts.append({c: v[keep] for c, v in columns.items()})
    return {c: np.concatenate([p[c] for p in parts])[:n] for c in parts[0]}


def _areas(key: Any, deposits: Any, detector: Detector, truth: Detector) -> Columns:
    areas = dmsim.simulate_areas(key, truth, deposits, calibration=detector)
    names = ("s1_pe", "s2_pe", "cs1_pe", "cs2_pe", "drift_time_ns", "x_mm", "y_mm", "z_mm")
    columns = {name: np.asarray(getattr(areas, name), float) for name in names}
    return columns | {"weight": np.asarray(areas.s1_acceptance, float)}


def _seen(random: np.random.Generator, columns: Columns, truth: Detector, origin: Columns) -> Columns:
    """Add what areas do not have. `origin`: z_mm of the S1 and drift_time_ns of the S2 where they differ."""
    n = len(columns["s1_pe"])
    electronics, light, electrons = truth.electronics, truth.light, truth.electrons
    pe_per_phd = 1 + float(electronics.double_pe_probability)
    drift_us = np.maximum(origin.get("drift_time_ns", columns["drift_time_ns"]), 0.0) / 1e3

    # sqrt(2 D t) / v, Sorensen 2011; an interquartile range of n electrons scatters by 1.166 / sqrt(n):
    # p (1 - p) / (n f^2) and covariance of both quartiles of a normal distribution
    diffusion = float(electrons.diffusion_longitudinal_cm2_per_s) * 1e-4  # mm2/us
    sigma_us = np.sqrt(2 * diffusion * drift_us) / float(electrons.drift_speed_mm_per_us)
    width = np.hypot(FLOOR_NS, _SIGMA_50 * 1e3 * sigma_us)
    n_electrons = np.maximum(columns["s2_pe"] / _ELECTRON_PE, 2.0)
    width = width * np.maximum(1 + 1.166 / np.sqrt(n_electrons) * random.normal(size=n), 0.1)

    # binomial shares of the photons seen
    top_s2 = float(light.s2_top_fraction) + origin.get("top", np.zeros(n))
    top_s2 = _share(random, top_s2, columns["s2_pe"] / pe_per_phd)
    depth = np.clip(-origin.get("z_mm", columns["z_mm"]) / float(truth.geometry.drift_length_mm), 0, 1)
    gate, cathode = float(light.s1_top_fraction_gate), float(light.s1_top_fraction_cathode)
    top_s1 = _share(random, gate + (cathode - gate) * depth, columns["s1_pe"] / pe_per_phd)

    # assumed: half of the events have a few delayed electrons beside the main S2
    electrons_beside = np.where(random.uniform(size=n) < 0.5, random.exponential(2 * _ELECTRON_PE, n), 0.0)
    # assumed: log10 of the shadow of earlier S2s [PE/ns] for events at random times
    shadow = 10 ** random.normal(-2.0, 0.7, n)
    drawn = {
        "s2_width_50_ns": width,
        "s2_area_fraction_top": top_s2,
        "s1_area_fraction_top": top_s1,
        "xy_misfit": random.normal(size=n),  # a fit's misfit in standard deviations
        "alt_s2_pe": electrons_beside,
        "shadow_pe_per_ns": shadow,
    }
    return columns | drawn


def _share(random: np.random.Generator, share: np.ndarray, n: np.ndarray) -> np.ndarray:
    count = np.maximum(np.round(n), 1).astype(int)
    return random.binomial(count, np.clip(share, 0, 1)) / count


def _wimp(key, random, n, detector, truth):
    deposits = dmsim.sources.wimp(key, truth, mass_gev=50.0, n_events=n)
    return _seen(random, _areas(key, deposits, detector, truth), truth, {})


def _er(key, random, n, detector, truth):
    deposits = dmsim.sources.er_flat(key, truth, energy_min_kev=0.5, energy_max_kev=16.0, n_events=n)
    return _seen(random, _areas(key, deposits, detector, truth), truth, {})


def _wall(key, random, n, detector, truth):
    """Electron recoils on the wall that lose 40 to 95 % of their electrons (assumed), found by their S2."""
    angle = random.uniform(0, 2 * np.pi, n)
    radius = float(truth.geometry.radius_mm) * 0.9995
    deposits = dmsim.sources.deposits(
        truth,
        energy_kev=random.uniform(0.5, 16.0, n),
        x_mm=radius * np.cos(angle),
        y_mm=radius * np.sin(angle),
        z_mm=-random.uniform(0, float(truth.geometry.drift_length_mm), n) * 0.999,
        interaction="er_beta",
    )
    columns = _areas(key, deposits, detector, truth)
    kept = random.uniform(0.05, 0.6, n)
    before = np.maximum(columns["s2_pe"], 1.0)
    resolution = float(truth.resolution.xy_mm_sqrt_pe)
    # a smaller S2 is found less well: the rest of its resolution, 152 mm / sqrt(S2)
    more = resolution * np.sqrt(np.maximum(1 / (kept * before) - 1 / before, 0.0))
    for name in ("s2_pe", "cs2_pe"):
        columns[name] = columns[name] * kept
    for name in ("x_mm", "y_mm"):
        columns[name] = columns[name] + more * random.normal(size=n)
    columns = _seen(random, columns, truth, {})
    columns["xy_misfit"] = columns["xy_misfit"] + 1.0  # assumed: light of the wall's reflections
    return columns


def _accidental(key, random, n, detector, truth):
    """Isolated S1s and S2s paired at random times within the longest drift."""
    one, two = jax.random.split(key)
    s1 = _areas(one, dmsim.sources.isolated_s1(one, truth, photons_max=700.0, n_events=n), detector, truth)
    s2 = _areas(two, dmsim.sources.isolated_s2(two, truth, electrons_min=4.0, n_events=n), detector, truth)
    electrons = truth.electrons
    longest = float(electrons.drift_time_ns(-truth.geometry.drift_length_mm))
    drift = random.uniform(float(electrons.surface_delay_ns), longest, n)
    z = np.asarray(detector.electrons.z_mm(drift))
    columns = s2 | {"s1_pe": s1["s1_pe"], "weight": s1["weight"], "drift_time_ns": drift, "z_mm": z}
    columns["cs1_pe"] = s1["s1_pe"] / np.asarray(
        detector.light.s1_relative_yield(detector.geometry, columns["x_mm"], columns["y_mm"], z)
    )
    survival = np.asarray(detector.electrons.survival(drift))
    columns["cs2_pe"] = np.where(s2["s2_pe"] > 0, s2["s2_pe"] / survival, 0.0)
    # assumed: 40 % of isolated S2s come from the gas and electrodes on top (no drift, 3 % more light on top)
    on_top = random.uniform(size=n) < 0.4
    origin = {
        "z_mm": -random.uniform(0, float(truth.geometry.drift_length_mm), n),
        "drift_time_ns": np.where(on_top, 0.0, s2["drift_time_ns"]),
        "top": np.where(on_top, 0.03, 0.0),
    }
    columns = _seen(random, columns, truth, origin)
    # assumed: they follow large S2s: a shadow ten times as long
    columns["shadow_pe_per_ns"] = 10 * columns["shadow_pe_per_ns"]
    return columns


def _neutron(key, random, n, detector, truth):
    """Neutrons that scatter twice; the sites' S2s are one if they come within 15 us."""
    pairs = dmsim.sources.multiple_scatter(
        key, truth, energy_kev=40.0, interaction="nr", n_sites=2, n_events=n
    )
    take = {c: np.asarray(getattr(pairs, c), float) for c in ("energy_kev", "x_mm", "y_mm", "z_mm")}
    single = dmsim.sources.deposits(truth, **take, interaction="nr")
    sites = _areas(key, single, detector, truth)
    first, second = ({c: v[i::2] for c, v in sites.items()} for i in range(2))
    swap = second["s2_pe"] > first["s2_pe"]
    main, other = (
        {c: np.where(swap, b[c], a[c]) for c in first} for a, b in ((first, second), (second, first))
    )
    gap = np.abs(main["drift_time_ns"] - other["drift_time_ns"])
    both = other["s2_pe"] > 0
    merged = both & (gap < _MERGED_NS)
    columns = dict(main)
    columns["s1_pe"] = main["s1_pe"] + other["s1_pe"]
    columns["cs1_pe"] = main["cs1_pe"] + other["s1_pe"] * main["cs1_pe"] / np.maximum(main["s1_pe"], 1e-9)
    columns["cs1_pe"] = np.where(main["s1_pe"] > 0, columns["cs1_pe"], columns["s1_pe"])
    columns["weight"] = 1 - (1 - main["weight"]) * (1 - other["weight"])
    for c in ("s2_pe", "cs2_pe"):
        columns[c] = main[c] + np.where(merged, other[c], 0.0)
    columns = _seen(random, columns, truth, {})
    # two clouds a gap apart: half of the gap on each side of their middle
    columns["s2_width_50_ns"] = np.hypot(columns["s2_width_50_ns"], np.where(merged, gap, 0.0))
    apart = np.hypot(main["x_mm"] - other["x_mm"], main["y_mm"] - other["y_mm"])
    columns["xy_misfit"] = columns["xy_misfit"] + np.where(merged, apart / 50.0, 0.0)  # assumed: 1 per 50 mm
    beside = np.where(both & ~merged, other["s2_pe"], 0.0)
    columns["alt_s2_pe"] = np.maximum(columns["alt_s2_pe"], beside)
    return columns


def nuclear_recoils(seed: int, detector: Detector) -> Columns:
    """Areas of recoils of 0.5 to 60 keV: the reference of the band."""
    key = jax.random.key(seed)
    deposits = dmsim.sources.nr_flat(key, detector, energy_min_kev=0.5, energy_max_kev=60.0, n_events=_BATCH)
    return _areas(key, deposits, detector, detector)


_MAKERS = dict(zip(CLASSES, (_wimp, _er, _wall, _accidental, _neutron), strict=True))
