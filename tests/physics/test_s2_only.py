"""Response matrices of XENON1T's S2-only search (PRL 123, 251801) against experiments/validation/s2_only.py.

The calculation takes the detector's constants from the preset. Its free numbers (acceptance in area, mean and
Fano factor of the electrons of each row) are kept beside it, so nothing is drawn or fitted here but the S2
widths, whose seed is fixed: these tests have no false positives. A gain that is off is refused with the
fitted yields kept; with yields fitted anew it would not be.
"""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import dmsim

SCRIPT = Path(__file__).parents[2] / "experiments" / "validation" / "s2_only.py"


@pytest.fixture(scope="module")
def model():
    spec = importlib.util.spec_from_file_location("s2_only", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["s2_only"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["s2_only"]


@pytest.fixture(scope="module")
def nominal(model):
    constants = model.Constants.of(dmsim.load_detector("xenon1t"))
    return constants, model.drawn_widths(constants)


@pytest.fixture(scope="module")
def release(model, release_data):
    return model.Release.read(release_data / "xenon1t_s2only")


def worst(model, release, nominal, **changed):
    """Largest deviation of each row in the bins of 90 % of its weight."""
    constants, widths = nominal
    table = model.response(dataclasses.replace(constants, **changed), release, widths)
    return {key: np.abs(row).max() for key, row in model.Fit.read().deviations(table, release).items()}


def agree(model, worst_of_row):
    """Share of rows within 10 %, of those held to it: NR without 7 to 17 keV, ER without two gaps."""
    nr = [i for i in range(37) if not 24 <= i <= 31]  # 0.40 to 6.4 and 19 to 31 keV
    er = [
        i for i in range(1, 34) if i not in (10, 11) and not 18 <= i <= 23
    ]  # 0.057-0.165, 0.25-0.48, 1.2-4.0 keV
    held = [("nr", i) for i in nr] + [("er", i) for i in er]
    assert set(held) <= set(model.ROWS)
    return np.mean([worst_of_row[key] < 0.1 for key in held])


def test_rows_agree_to_10_percent_in_size_and_shape(model, release, nominal):
    off = worst(model, release, nominal)
    assert agree(model, off) == 1
    assert max(off.values()) < 0.25  # the other rows


@pytest.mark.xfail(
    strict=True, reason="NR of 7 to 15 keV and ER of 0.19, 0.22, 0.6 to 1.1 keV are off by 10 to 23 %"
)
def test_all_rows_agree_to_10_percent(model, release, nominal):
    assert max(worst(model, release, nominal).values()) < 0.1


@pytest.mark.parametrize(
    ("constant", "factor"), [("gain_pe", 1.1), ("survival_us", 0.8), ("extraction", 0.9)]
)
def test_another_detector_is_refused(model, release, nominal, constant, factor):
    other = {constant: factor * getattr(nominal[0], constant)}
    assert agree(model, worst(model, release, nominal, **other)) < 0.2


def test_another_width_is_refused(model, release, nominal):
    other = {"width_scale": 1.05 * nominal[0].width_scale}
    assert agree(model, worst(model, release, nominal, **other)) < 0.6


def test_a_width_that_does_not_follow_area_is_refused(model, release, nominal):
    assert agree(model, worst(model, release, nominal, width_follows_area=False)) < 0.2
