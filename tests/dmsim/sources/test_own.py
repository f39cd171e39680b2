"""Deposits from the user's own arrays."""

import numpy as np
import pytest

import dmsim
from dmsim import sources
from dmsim.records import Interaction

GOOD = {
    "energy_kev": [1.0, 2.0, 3.0],
    "x_mm": 10.0,
    "y_mm": -5.0,
    "z_mm": [-1.0, -2.0, -3.0],
    "interaction": "nr",
}


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("lux")


def test_one_event_a_deposit(detector):
    deposits = sources.deposits(detector, **GOOD)
    assert deposits.n_events == len(deposits) == 3
    np.testing.assert_array_equal(deposits.event, [0, 1, 2])
    np.testing.assert_array_equal(deposits.x_mm, [10.0] * 3)
    np.testing.assert_array_equal(deposits.time_ns, [0.0] * 3)
    assert np.all(deposits.interaction == Interaction.NR)
    np.testing.assert_array_equal(deposits.event_time_ns, [10_000_000, 20_000_000, 30_000_000])


def test_sorted_by_event_and_empty_events(detector):
    deposits = sources.deposits(
        detector,
        **{**GOOD, "interaction": ["er_beta", "nr", "alpha"]},
        event=[4, 1, 4],
        time_ns=[7.0, 8.0, 9.0],
        n_events=6,
        first_event=10,
        event_time_ns=np.arange(6) * 1000,
    )
    np.testing.assert_array_equal(deposits.event, [1, 4, 4])
    np.testing.assert_array_equal(deposits.energy_kev, [2.0, 1.0, 3.0])
    np.testing.assert_array_equal(deposits.time_ns, [8.0, 7.0, 9.0])
    np.testing.assert_array_equal(
        deposits.interaction, [Interaction.NR, Interaction.ER_BETA, Interaction.ALPHA]
    )
    assert deposits.n_events == 6
    assert int(deposits.first_event) == 10


def test_no_deposit_at_all(detector):
    deposits = sources.deposits(
        detector, energy_kev=[], x_mm=[], y_mm=[], z_mm=[], interaction="nr", event=[], n_events=2
    )
    assert len(deposits) == 0
    assert deposits.n_events == 2


def test_walls_belong_to_the_volume(detector):
    deposits = sources.deposits(
        detector, energy_kev=1.0, x_mm=[235.0, 0.0], y_mm=0.0, z_mm=[0.0, -483.3], interaction="nr"
    )
    assert len(deposits) == 2


BAD = {
    "nan energy": ({"energy_kev": [1.0, np.nan, 3.0]}, "energy_kev[1] is nan keV (1 of 3 values are bad)"),
    "negative energy": (
        {"energy_kev": [1.0, -2.0, -3.0]},
        "energy_kev[1] is -2.0 keV (2 of 3 values are bad)",
    ),
    "infinite energy": ({"energy_kev": np.inf}, "energy_kev[0] is inf keV"),
    "nan time": ({"time_ns": np.nan}, "time_ns[0] is nan ns"),
    "time of a clock": ({"time_ns": 1.7e18}, "time_ns[0] is 1.7e+18 ns"),
    "nan place": (
        {"x_mm": [0.0, 0.0, np.nan]},
        "1 of 3 deposits are outside the active volume, the first is number 2",
    ),
    "beyond the wall": (
        {"x_mm": 300.0},
        "3 of 3 deposits are outside the active volume, the first is number 0",
    ),
    "above the gate": (
        {"z_mm": [-1.0, 5.0, -3.0]},
        "the first is number 1 at x_mm 10.0, y_mm -5.0, z_mm 5.0",
    ),
    "below the cathode": ({"z_mm": -500.0}, "z from -483.3 to 0 mm"),
    "lengths": ({"energy_kev": [1.0, 2.0]}, "arrays differ in length (energy_kev 2, z_mm 3)"),
    "two dimensions": ({"energy_kev": np.ones((3, 2))}, "energy_kev has shape (3, 2)"),
    "text": ({"energy_kev": ["a", "b", "c"]}, "energy_kev is not an array of numbers"),
    "interaction": ({"interaction": "muon"}, "interaction 'muon' is not known"),
    "interaction number": ({"interaction": [0, 1, 9]}, "interaction 9 is not known: numbers go from 0 to 7"),
    "interaction type": ({"interaction": 1.5}, "interaction has type float64"),
    "event": ({"event": [0, -1, 2]}, "event has a value of -1"),
    "event type": ({"event": [0.0, 1.0, 2.0]}, "event has type float64"),
    "n_events": ({"n_events": 2}, "n_events is 2: must be at least 3"),
    "first_event": ({"first_event": -1}, "first_event is -1"),
    "clock": ({"event_time_ns": [0, 1]}, "event_time_ns has shape (2,): must have shape (3,)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(case, detector):
    changes, needle = BAD[case]
    with pytest.raises(ValueError, match="must|known|not an array") as caught:
        sources.deposits(detector, **{**GOOD, **changes})
    assert needle in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_events(detector):
    with pytest.raises(ValueError, match="n_events is 0: must be at least 1"):
        sources.deposits(detector, energy_kev=[], x_mm=[], y_mm=[], z_mm=[], interaction="nr", event=[])
