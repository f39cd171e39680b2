"""Files of cuts: what is wrong is named in one line."""

import pytest

from dmsim import selection
from dmsim.selection import Curve, CutSet, Range, read_cuts, write_cuts

GOOD = """version = 1
[[cut]]
kind = "range"
name = "energy"
column = "cs1_pe"
low = 3
why = "above the \\"threshold\\""
[cut.high]
of = "z_mm"
knots = [-100, 0]
values = [70, 80.5]
"""


def test_whole_numbers_are_numbers():
    (cut,) = selection.from_toml(GOOD)
    assert cut.low == 3.0
    assert isinstance(cut.low, float)
    assert cut.why == 'above the "threshold"'
    assert cut.high.values.tolist() == [70.0, 80.5]


def test_every_digit_survives(tmp_path):
    cuts = CutSet((Range("a", column="x", low=0.1 + 0.2, high=Curve("y", (1 / 3, 2), (1e-300, 7e22))),))
    write_cuts(tmp_path / "cuts.toml", cuts)
    (again,) = read_cuts(tmp_path / "cuts.toml")
    assert again.low == 0.1 + 0.2
    assert again.high.knots == (1 / 3, 2.0)
    assert again.high.values.tolist() == [1e-300, 7e22]


WRONG = {
    "version = 1": ("version = 2", "version is 2: must be 1"),
    'kind = "range"': ('kind = "box"', "cut energy: kind is 'box': must be one of .*range"),
    'name = "energy"': ("", "cut number 1: name is missing: a range cut needs it"),
    'column = "cs1_pe"': ("", "cut energy: column is missing: a range cut needs it"),
    "low = 3": ("lowest = 3", "cut energy: lowest is not known: must be of column, high, .*"),
    "low = 3\n": ('low = "3"\n', "cut energy: low is '3': must be a number"),
    "low = 3 ": ("low = true ", "cut energy: low is True: must be a number"),
    "low = 3\nwhy": ("low = nan\nwhy", "cut energy: low is nan PE: must be one finite number"),
    'of = "z_mm"': ("", "cut energy: high: of is missing: a curve needs it"),
    "knots = [-100, 0]": ("knots = [0, -100]", r"cut energy: high: knots of the curve are \(0.0, -100.0\)"),
    "knots = ": ("knot = ", "cut energy: high: knot is not known"),
    "values = [70, 80.5]": (
        "values = 70",
        "cut energy: high: values is 70: must be a list",
    ),
    "[[cut]]": ("[cut", "not TOML: "),
    "above": ('above"\nmissing = "ignore"\nwhy = "', ".*"),
}


@pytest.mark.parametrize(("right", "wrong"), WRONG.items(), ids=[wrong[0] for wrong in WRONG.values()])
def test_a_wrong_file_is_refused_in_one_line(right, wrong, tmp_path):
    replacement, message = wrong
    text = GOOD.replace("low = 3", "low = 3 ") if right == "low = 3 " else GOOD
    assert right in text
    (tmp_path / "cuts.toml").write_text(text.replace(right, replacement, 1))
    with pytest.raises(ValueError, match=rf"cuts\.toml: ({message})[^\n]*$"):
        read_cuts(tmp_path / "cuts.toml")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"none\.toml cannot be read"):
        read_cuts(tmp_path / "none.toml")


def test_names_are_unique():
    cut = Range("a", column="x", low=0.0)
    with pytest.raises(ValueError, match="two cuts are called a: names must be unique"):
        CutSet((cut, cut))
    with pytest.raises(ValueError, match="at least one cut"):
        CutSet(())
    with pytest.raises(ValueError, match="there is no cut b: the set has a"):
        CutSet((cut,))["b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "cut a has no threshold"),
        ({"low": 2.0, "high": 1.0}, r"cut a: low 2.0 is not below high 1.0 PE: nothing could pass"),
        ({"low": float("inf")}, "cut a: low is inf PE"),
        ({"low": 1.0, "missing": "drop"}, "missing is 'drop': must be one of refuse, fail, pass"),
    ],
)
def test_a_wrong_cut_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Range("a", column="cs1_pe", **options)
