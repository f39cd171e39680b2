import numpy as np
import pytest

from dmsim.reconstruction import Settings, load_settings
from dmsim.reconstruction.classify import classify
from dmsim.records import Signal


def test_settings_from_a_file(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("gap_ns = 500.0\nmerge_log10_area = [1, 2]\nmerge_gap_ns = [1e4, 0]\n")
    settings = load_settings(path)
    assert settings.gap_ns == 500
    assert settings.merge_gap_ns == (1e4, 0)
    assert settings.left_extension_ns == Settings().left_extension_ns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gap = 500", "unknown key 'gap': choose from baseline_samples, "),
        ("gap_ns = 200", "gap_ns is 200.0 ns: it must exceed"),
        ("hit_threshold_adc = -1", "hit_threshold_adc is -1: Input should be greater than 0"),
        ("hit_threshold_adc = nan", "hit_threshold_adc"),
        ("gap_ns = '700 ns'", "gap_ns is '700 ns'"),
        ("merge_gap_ns = [1.0]", "same length"),
        ("gap_ns = ", "is not TOML"),
    ],
)
def test_bad_settings_are_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_settings(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        load_settings(tmp_path / "none.toml")


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings().gap_ns = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("area", "top", "rise", "sensors", "coincidence", "expected"),
    [
        (50.0, 0.2, 40.0, 20, 15, Signal.S1),
        (50.0, 0.2, 40.0, 20, 2, Signal.UNKNOWN),  # too few sensors at once, too fast for an S2
        (50.0, 0.75, 300.0, 20, 5, Signal.S2),
        (50.0, 0.3, 300.0, 20, 5, Signal.UNKNOWN),  # slow, but dark on top
        (5.0, 0.75, 300.0, 4, 4, Signal.UNKNOWN),  # below the smallest S2
        (1e4, 0.75, 119.0, 300, 200, Signal.S1),
        (1e4, 0.75, 121.0, 300, 200, Signal.S2),
        (np.nan, np.nan, np.nan, 3, 3, Signal.UNKNOWN),
    ],
)
def test_classes(area, top, rise, sensors, coincidence, expected):
    one = {
        "area_pe": area,
        "area_fraction_top": top,
        "rise_time_ns": rise,
        "n_sensors": sensors,
        "tight_coincidence": coincidence,
    }
    columns = {name: np.array([value]) for name, value in one.items()}
    assert classify(Settings(), **columns, s1_coincidence=3).tolist() == [expected]
