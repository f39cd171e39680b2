import jax
import numpy as np
import pytest

from dmsim import load_detector
from dmsim.reconstruction import Settings, load_settings
from dmsim.reconstruction.classify import classify
from dmsim.reconstruction.settings import Classification, describe, replaced, settings_from
from dmsim.records import Signal


def test_settings_from_a_file(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("[clustering]\ngap_ns = 500\n[merging]\nlog10_area = [1, 2]\ngap_ns = [1e4, 0]\n")
    settings = load_settings(path)
    assert settings.clustering.gap_ns == 500
    assert settings.merging.gap_ns == (1e4, 0)
    assert settings.clustering.left_extension_ns == Settings().clustering.left_extension_ns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gap_ns = 500", "unknown section 'gap_ns': choose from hits, "),
        ("clustering = 500", r"clustering is 500: must be a table \[clustering\]"),
        ("hits.gap = 500", "unknown key hits.gap: choose from baseline_samples, "),
        ("clustering.gap_ns = 200", "clustering.gap_ns is 200.0 ns: it must exceed"),
        ("hits.threshold_adc = -1", "hits.threshold_adc is -1.0: must be in 0 to 16384 ADC"),
        ("hits.threshold_adc = nan", "hits.threshold_adc is nan"),
        ("hits.baseline_samples = 1.5", "hits.baseline_samples is 1.5: must be a whole number"),
        ("clustering.gap_ns = '700 ns'", "clustering.gap_ns is '700 ns'"),
        ("merging.gap_ns = [1.0]", "5 and 1 values: must be equal"),
        ("merging.log10_area = 1.0", "must be a list"),
        ("splitting.method = 'magic'", "splitting.method is 'magic': choose from auto, natural_breaks, "),
        ("clustering.gap_ns = [700.0]", r"clustering.gap_ns is \(700.0,\): must be a number"),
        ("clustering.gap_ns = {a = 1}", "must be a number"),
        ("hits.threshold_adc = 2020-01-01", "must be a number"),
        ("hits.baseline_samples = [3, 4]", "must be a whole number"),
        ("clustering.gap_ns = ", "is not TOML"),
    ],
)
def test_bad_settings_are_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_settings(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_provenance_holds_gives_the_same_settings():
    ours = settings_from({"clustering": {"gap_ns": 500}, "hits": {"threshold_adc": 12}})
    assert settings_from(ours.as_dict()) == ours != Settings()


def test_the_detector_fills_what_is_not_set():
    detector = load_detector("xenonnt")
    settings = Settings().resolved(detector)
    assert settings.hits.threshold_adc == 15
    assert settings.classification.s1_min_coincidence == detector.resolution.coincidence
    kept = replaced(Settings(), hits=replaced(Settings().hits, threshold_adc=9.0))
    assert kept.resolved(detector).hits.threshold_adc == 9
    with pytest.raises(ValueError, match="no field 'gap'"):
        replaced(settings.clustering, gap=1)


def test_how_peaks_split_is_left_to_the_detector():
    for name, method in (("xenonnt", "natural_breaks"), ("lz", "natural_breaks"), ("xams", "local_minimum")):
        assert Settings().resolved(load_detector(name)).splitting.search == method
        kept = settings_from({"splitting": {"method": "none"}}).resolved(load_detector(name))
        assert kept.splitting.search == "none"
    with pytest.raises(ValueError, match="is 'auto': take that of settings.resolved"):
        _ = Settings().splitting.search


def test_every_threshold_is_a_leaf_that_a_gradient_reaches():
    settings = Settings().resolved(load_detector("xenonnt"))
    assert all(isinstance(leaf, float) for leaf in jax.tree.leaves(settings))
    gradient = jax.grad(lambda s: s.clustering.gap_ns**2 + s.merging.gap_ns[1])(settings)
    assert float(gradient.clustering.gap_ns) == 1400
    assert float(gradient.merging.gap_ns[1]) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        load_settings(tmp_path / "none.toml")


def test_settings_are_frozen():
    with pytest.raises(AttributeError, match="cannot assign"):
        Settings().clustering.gap_ns = 1.0  # type: ignore[misc]


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
    assert classify(Classification(s1_min_coincidence=3), **columns).tolist() == [expected]


def test_what_an_optimiser_gives_is_settings_for_the_hard_reading():
    detector = load_detector("xenonnt")
    settings = Settings().resolved(detector)
    stepped = jax.tree.map(jax.numpy.asarray, settings)
    assert stepped.for_host(detector) == settings_from(
        jax.tree.map(lambda x: float(np.float32(x)), settings).as_dict()
    )
    assert all(isinstance(leaf, float) for leaf in jax.tree.leaves(stepped.for_host(detector)))
    with pytest.raises(ValueError, match="take mode 'soft'"):
        jax.jit(lambda s: s.for_host(detector).clustering.gap_ns)(settings)


def test_every_setting_is_described():
    rows = {name: (value, allowed) for name, value, _, allowed, _ in describe()}
    assert rows["clustering.gap_ns"] == (700.0, "0 to 1e+06")
    assert rows["splitting.method"][1] == "auto, natural_breaks, local_minimum, none"
    assert set(rows) == {f"{a}.{b}" for a, values in Settings().as_dict().items() for b in values}
