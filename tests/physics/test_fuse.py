"""The same deposits and constants in dmsim and in fuse: S1 and S2 area, width, top fraction, drift time.

fuse's side is carried as quantiles of 1,000 events (tests/data/fuse/SOURCE.md); ours is simulated down to
records and reconstructed here. Two-sample chi-square in ten bins that hold the same share of fuse's events:
false-positive rate 1e-5 each, 14 of them. Twin: ours with a stated bias must be refused.
"""

import csv
import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats

import dmsim

ROOT = Path(__file__).parents[2]
RATE = 1e-5
N = 450

# a bias that must show in 450 events: a third of the distribution's width or more
BIAS = {
    "s1_pe": 1.08,
    "s2_pe": 1.06,
    "s1_width_ns": 1.10,
    "s2_width_ns": 1.06,
    "s1_top": 1.20,
    "s2_top": 1.01,
    "drift_time_us": 1.002,
}


def load(name):
    """A script of experiments/validation as a module."""
    folder = ROOT / "experiments" / "validation"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


compare = load("fuse_compare")


def fuse_quantiles():
    with open(ROOT / "tests" / "data" / "fuse" / "fuse_quantiles.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {(case, name): (int(n_events), np.array(values, float)) for case, name, n_events, *values in rows}


FUSE = fuse_quantiles()


@pytest.fixture(scope="module")
def ours():
    detector = compare.fuse_inputs.shared_detector()
    deposits = [compare.deposits_of(case, detector, 1) for case in compare.CASES]
    columns = {
        name: np.repeat([float(getattr(d, name)[0]) for d in deposits], N)
        for name in ("energy_kev", "x_mm", "y_mm", "z_mm")
    }
    kinds = np.repeat([int(d.interaction[0]) for d in deposits], N)
    together = dmsim.sources.deposits(detector, interaction=kinds, **columns)
    parts = [
        compare.measure(detector, part)
        for part in dmsim.iterate_records(jax.random.key(41), detector, together, events_per_batch=150)
    ]
    half = len(parts) // 2
    sides = dict(zip(compare.CASES, (parts[:half], parts[half:]), strict=True))
    return {
        (case, name): np.concatenate([part[name] for part in found])
        for case, found in sides.items()
        for name in compare.QUANTITIES
    }


def p_value(sample, n_fuse, quantiles):
    """Two-sample chi-square in bins between every other of fuse's quantiles."""
    inner = quantiles[2:-1:2]
    counts = np.bincount(np.searchsorted(inner, sample), minlength=inner.size + 1)
    theirs = np.full(inner.size + 1, n_fuse / (inner.size + 1))
    return stats.chi2_contingency(np.stack([counts, theirs]), correction=False).pvalue


@pytest.mark.parametrize(("case", "name"), FUSE)
def test_same_as_fuse(ours, case, name):
    assert ours[case, name].size > 0.98 * N
    assert p_value(ours[case, name], *FUSE[case, name]) > RATE


@pytest.mark.parametrize(("case", "name"), FUSE)
def test_a_bias_is_refused(ours, case, name):
    assert p_value(ours[case, name] * BIAS[name], *FUSE[case, name]) < RATE
