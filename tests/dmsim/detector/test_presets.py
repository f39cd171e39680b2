"""The presets: every number validated, sourced, and what it derives is what was published."""

import csv
import json
import math
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from dmsim.detector import presets_io, schema
from dmsim.detector.presets_io import describe, load_detector, preset_path, read_preset

PRESETS = dmsim.list_detectors()
NEST = Path(__file__).parents[2] / "data" / "nest"


def test_presets_there():
    assert PRESETS == ["lux", "lz", "xams", "xenon1t", "xenonnt"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_leaf_is_finite_and_stated(name):
    detector = load_detector(name)
    for leaf in jax.tree.leaves(detector):
        assert leaf.dtype == jnp.float32
        assert bool(jnp.all(jnp.isfinite(leaf)))
    rows = {row.name: row for row in describe(name)}
    assert all(row.source and row.unit and row.description for row in rows.values())
    stated = jax.tree_util.tree_leaves_with_path((detector.xenon, detector.electrons, detector.electronics))
    assert all(jax.tree_util.keystr(path, simple=True).split(".")[-1] for path, _ in stated)
    for table, owner in schema.TABLES.items():
        module = getattr(detector, table)
        for field in owner.__dataclass_fields__:
            if field != "sensors" and getattr(module, field) is not None:  # no supplied map
                np.testing.assert_allclose(getattr(module, field), rows[f"{table}.{field}"].value, rtol=1e-6)


def test_double_precision_keeps_all_digits(x64):
    detector = load_detector("xenonnt")
    assert {leaf.dtype for leaf in jax.tree.leaves(detector)} == {np.dtype("float64")}
    assert float(detector.xenon.density_g_per_cm3) == 2.8631822
    assert float(load_detector("xenonnt", dtype=jnp.float32).xenon.density_g_per_cm3) != 2.8631822


# published: facts of XENONnT SR0 (appletree, fuse), XENON1T SR1 (pax), LZ WS2024 and LUX Run03 (NEST)
@pytest.mark.parametrize(
    ("name", "quantity", "published", "within"),
    [
        ("xenonnt", "g1_pe_per_photon", 0.1515, 0.001),
        ("xenonnt", "single_electron_gain_pe", 31.15, 0.001),
        ("xenonnt", "g2_pe_per_electron", 16.85, 0.002),
        ("xenon1t", "g1_pe_per_photon", 0.142, 0.001),
        ("xenon1t", "single_electron_gain_pe", 32.1, 0.001),
        ("xenon1t", "g2_pe_per_electron", 11.4 / (1 - 0.63), 0.002),
        ("lz", "g1_pe_per_photon", 0.1122 * 1.214, 0.001),
        ("lz", "single_electron_gain_pe", 46.9 * 1.214, 0.002),
        ("lz", "g2_pe_per_electron", 34.02 * 1.214, 0.001),
        ("lux", "g1_pe_per_photon", 0.117 * 1.173, 0.001),
    ],
)
def test_derived_gains(name, quantity, published, within):
    assert float(getattr(load_detector(name), quantity)) == pytest.approx(published, rel=within)


def _nest_extraction(temperature_k, field_gas_kv_per_cm):
    """NEST's extraction efficiency: 1 - em1 exp(-em2 E_liq^em3), coefficients polynomial in temperature."""
    field = field_gas_kv_per_cm / (1.85 / 1.00126)
    em1 = [8.807528626640e4, -2.026247730928e3, 1.747197309338e1, -6.692362929271e-2, 9.607626262594e-5]
    em2 = [
        5.074800229635e5,
        -1.460168019275e4,
        1.680089978382e2,
        -9.663183204468e-1,
        2.778229721617e-3,
        -3.194249083426e-6,
    ]
    em3 = [
        -4.659269964120e6,
        1.366555237249e5,
        -1.602830617076e3,
        9.397480411915,
        -2.754232523872e-2,
        3.228101180588e-5,
    ]
    em1, em2, em3 = (sum(c * temperature_k**i for i, c in enumerate(em)) for em in (em1, em2, em3))
    return 1 - em1 * math.exp(-em2 * field**em3)


def _nest_light(temperature_k, pressure_bar, field_gas_kv_per_cm, gap_cm):
    """NEST's photons an electron: (0.137 E_gas - 4.70e-18 n_gas) d, n_gas of a van der Waals gas."""
    rt, pressure = 8.31446261815324 * temperature_k, pressure_bar * 1e5
    moles_per_m3 = 1 / (rt**3 / (pressure * rt**2 + 0.4250 * pressure**2) + 5.105e-5)
    n_per_cm3 = moles_per_m3 * 6.0221409e23 * 1e-6
    return (0.137 * field_gas_kv_per_cm * 1e3 - 4.70e-18 * n_per_cm3) * gap_cm


@pytest.mark.parametrize(
    ("name", "field_gas", "gap_cm", "g1_gas", "s2_fano"),
    [("lux", 6.25, 0.425, 0.1, 3.6), ("lz", 8.301178, 0.8, 0.076404, 4.0)],
)
def test_gains_from_nest(name, field_gas, gap_cm, g1_gas, s2_fano):
    detector = load_detector(name)
    temperature, pressure = float(detector.xenon.temperature_k), float(detector.xenon.pressure_bar)
    gain = g1_gas * _nest_light(temperature, pressure, field_gas, gap_cm)
    assert float(detector.electroluminescence.se_gain_phd) == pytest.approx(gain, rel=1e-3)
    extraction = _nest_extraction(temperature, field_gas)
    assert float(detector.electrons.extraction_efficiency) == pytest.approx(extraction, rel=1e-3)
    # binomial detection of photons with Fano factor F has variance over mean 1 + g (F - 1)
    fano = 1 + g1_gas * (s2_fano - 1)
    assert float(detector.electroluminescence.se_fano) == pytest.approx(fano, rel=1e-2)


def test_nest_formula_gives_the_published_extraction():
    # the two published pairs of LZ: what the formula above is checked against
    assert _nest_extraction(174.1, 8.424) == pytest.approx(0.805, abs=1e-3)
    assert _nest_extraction(175.9, 8.301) == pytest.approx(0.726, abs=1e-3)
    assert _nest_extraction(177.0, 8.301) != pytest.approx(0.726, abs=1e-3)  # it can fail


@pytest.mark.parametrize("name", ["xenonnt", "xenon1t"])
def test_single_electron_width(name):
    """The relative width of 0.25 that XENON1T measured, with all its parts."""
    detector = load_detector("xenon1t")
    p, spe = float(detector.electronics.double_pe_probability), float(detector.electronics.spe_width)
    n, fano = float(detector.electroluminescence.se_gain_phd), float(detector.electroluminescence.se_fano)
    variance = fano * n * (1 + p) ** 2 + n * (p * (1 - p) + (1 + p) * spe**2)
    assert math.sqrt(variance) / (n * (1 + p)) == pytest.approx(0.25, rel=0.01)
    assert float(load_detector(name).electroluminescence.se_fano) == pytest.approx(fano)


@pytest.mark.parametrize("name", PRESETS)
def test_density_is_that_of_the_temperature(name):
    with open(NEST / "drift_diffusion.csv") as file:
        table = {float(row["T_K"]): float(row["density_gcm3_from_T"]) for row in csv.DictReader(file)}
    liquid = {t: rho for t, rho in table.items() if t < 178}  # above, NEST's table is gas
    xenon = load_detector(name).xenon
    expected = np.interp(float(xenon.temperature_k), list(liquid), list(liquid.values()))
    assert float(xenon.density_g_per_cm3) == pytest.approx(expected, abs=2e-4)


def test_lux_field():
    detector = load_detector("lux")
    z = jnp.asarray([0.0, -240.0, -483.3])
    height = detector.geometry.gate_height_mm + z
    expected = (
        158.92
        - 0.2209 * height
        + 0.0024485 * height**2
        - 8.7098e-6 * height**3
        + 1.5049e-8 * height**4
        - 1.0110e-11 * height**5
    )
    np.testing.assert_allclose(detector.xenon.field_at(detector.geometry.height_mm(z)), expected, rtol=1e-5)


def _positions(detector, side):
    sensors = detector.light.sensors
    of = slice(None, sensors.n_top) if side == "top" else slice(sensors.n_top, None)
    return np.asarray(sensors.x_mm)[of], np.asarray(sensors.y_mm)[of]


@pytest.mark.parametrize(
    ("name", "file", "x", "y"),
    [
        ("xenonnt", "xenonnt_pmt_positions/pmt_positions_xenonnt.csv", "x", "y"),
        ("xenon1t", "xenon1t_pax_detector/pmt_positions_xenon1t.csv", "x_cm", "y_cm"),
    ],
)
def test_sensors_are_the_real_ones(release_data, name, file, x, y):
    detector = load_detector(name)
    with open(release_data / file) as handle:
        rows = [row for row in csv.DictReader(handle) if row["array"] in ("top", "bottom")]
    assert len(rows) == detector.light.sensors.n_sensors
    for side in ("top", "bottom"):
        real = np.array([[float(row[x]), float(row[y])] for row in rows if row["array"] == side]) * 10
        ours = np.stack(_positions(detector, side), axis=1)
        assert np.hypot(*(ours - real).T).max() < 0.01  # mm, in the table's channel order
        assert np.hypot(*(ours[::-1] - real).T).max() > 2  # and an order that is wrong is seen


def test_xenon1t_s1_map(release_data):
    """The preset's three coefficients are the least-squares fit to the Kr-83m map, and describe it to 3 %."""
    content = json.loads((release_data / "xenon1t_pax_detector/XENON1T_s1_xyz_ly_kr83m_SR1.json").read_text())
    x, y, z = 10 * np.array(content["coordinate_system"]).T
    measured = np.array(content["map"])
    detector = load_detector("xenon1t")
    depth = -2 * z / 969 - 1
    r2 = (x**2 + y**2) / 479**2
    design = np.stack([np.ones_like(z), depth, depth**2 - 1 / 3, r2 - 1 / 2], axis=1)
    fit = np.linalg.lstsq(design, measured, rcond=None)[0]
    light = detector.light
    stated = [float(c) for c in (light.s1_slope_z, light.s1_curve_z, light.s1_slope_r2)]
    np.testing.assert_allclose(stated, fit[1:] / fit[0], atol=1e-4)
    ours = np.asarray(light.s1_relative_yield(detector.geometry, *map(jnp.asarray, (x, y, z))))
    ratio = measured / fit[0] - ours
    assert ratio.std() < 0.03
    assert (measured / fit[0] - 1).std() > 0.15  # a map without coefficients is seen


def test_xenon1t_s2_map(release_data):
    content = json.loads((release_data / "xenon1t_pax_detector/XENON1T_s2_xy_ly_SR1_v2.2.json").read_text())
    x, y = 10 * np.array(content["coordinate_system"]).T
    inside = np.hypot(x, y) < 460
    r2 = (x**2 + y**2)[inside] / 479**2
    design = np.stack([np.ones_like(r2), r2 - 1 / 2], axis=1)
    fit = np.linalg.lstsq(design, np.array(content["map"])[inside], rcond=None)[0]
    assert float(load_detector("xenon1t").light.s2_slope_r2) == pytest.approx(fit[1] / fit[0], abs=1e-3)


def test_spe_width_is_the_measured_median(release_data):
    """The SPE spectra's median width over mean."""
    with open(release_data / "xenon1t_pax_detector/XENON1T_spe_distributions.csv") as file:
        table = np.genfromtxt(file, delimiter=",", names=True)
    charge = table["charge"]
    spectra = np.stack([table[name] for name in table.dtype.names[1:]], axis=1)
    seen = spectra.sum(axis=0) > 0
    weight = spectra[:, seen] / spectra[:, seen].sum(axis=0)
    mean = charge @ weight
    width = np.sqrt(charge**2 @ weight - mean**2) / mean
    for name in ("xenon1t", "xenonnt"):
        assert float(load_detector(name).electronics.spe_width) == pytest.approx(np.median(width), rel=0.05)


# what a user may get wrong in a file, and what the one line must name


def _edited(edit):
    content = tomllib.loads(preset_path("lux").read_text())
    edit(content)
    return content


def _set(table, key, **fields):
    return lambda content: content[table][key].update(fields)


BAD = {
    "unit-less": (lambda c: c["xenon"].update(temperature_k=173.0), "xenon.temperature_k", 'unit = "K"'),
    "wrong unit": (_set("xenon", "temperature_k", unit="C"), "xenon.temperature_k", 'use "K"'),
    "no unit": (lambda c: c["xenon"]["temperature_k"].pop("unit"), "temperature_k has no unit", 'use "K"'),
    "no source": (
        lambda c: c["xenon"]["temperature_k"].pop("source"),
        "temperature_k has no source",
        "assumed",
    ),
    "empty source": (
        _set("xenon", "temperature_k", source=""),
        "temperature_k: source is empty",
        "write assumed",
    ),
    "no value": (lambda c: c["xenon"]["temperature_k"].pop("value"), "xenon.temperature_k has no value", ""),
    "unknown key": (
        lambda c: c["electrons"].update(lifetime_ms={}),
        "unknown key electrons.lifetime_ms:",
        "did you mean lifetime_us?",
    ),
    "unknown part": (
        _set("xenon", "temperature_k", sorce="x"),
        "unknown key xenon.temperature_k.sorce:",
        "did you mean source?",
    ),
    "unknown table": (lambda c: c.update(xenom={}), "unknown key xenom:", "did you mean xenon?"),
    "missing table": (lambda c: c.pop("xenon"), "has no xenon", ""),
    "missing key": (lambda c: c["xenon"].pop("temperature_k"), "xenon has no temperature_k", ""),
    "table as number": (lambda c: c.update(xenon=3), "xenon = 3", "table"),
    "out of range": (
        _set("xenon", "temperature_k", value=300.0),
        "temperature_k: value 300.0",
        "161.4 to 289.7 K",
    ),
    "not a number": (_set("xenon", "temperature_k", value=math.nan), "value nan", "161.4"),
    "infinite": (_set("electrons", "lifetime_us", value=math.inf), "value inf", "us"),
    "text": (_set("xenon", "temperature_k", value="cold"), "value 'cold'", "a number"),
    "truth value": (_set("xenon", "temperature_k", value=True), "temperature_k.value = True", "number"),
    "list": (_set("xenon", "temperature_k", value=[1.0]), "temperature_k", "one number"),
    "not a list": (_set("xenon", "field_v_per_cm", value=180.0), "field_v_per_cm", "list"),
    "empty list": (_set("xenon", "field_v_per_cm", value=[]), "field_v_per_cm", "list"),
    "fraction": (_set("electronics", "n_bits", value=13.5), "n_bits", "whole number"),
    "generation": (_set("quanta", "generation", value="1.0"), "quanta.generation", '"2.3.12"'),
    "layout": (lambda c: c["sensors"]["top"].update(layout="square"), "sensors.top", "hexagonal"),
    "no layout": (lambda c: c["sensors"]["top"].pop("layout"), "sensors.top", "hexagonal"),
    "sensor key": (
        lambda c: c["sensors"]["top"].update(pich_mm={}),
        "unknown key sensors.top.pich_mm:",
        "did you mean pitch_mm?",
    ),
    "unlike any": (lambda c: c["electrons"].update(qqq={}), "unknown key electrons.qqq:", "known are "),
    "empty": (lambda c: c.clear(), "the file is empty", "preset"),
    "no description": (lambda c: c.pop("description"), "has no description", ""),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_content_is_one_clear_line(case):
    edit, *needles = BAD[case]
    with pytest.raises(ValueError, match="mine.toml: ") as caught:
        schema.parse(_edited(edit), "mine.toml")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 200
    for needle in needles:
        assert needle in message


def test_several_findings_are_counted():
    def edit(content):
        content["xenon"]["temperature_k"]["unit"] = "C"
        content["xenon"]["pressure_bar"]["unit"] = "Pa"

    with pytest.raises(ValueError, match=r"temperature_k.*\(and 1 more\)$"):
        schema.parse(_edited(edit), "mine.toml")


def _rename(content, old, new):
    content[new] = content.pop(old)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda c: _rename(c["electrons"], "lifetime_us", "lifetme_us"),
            "unknown key electrons.lifetme_us: did you mean lifetime_us?",
        ),
        (lambda c: _rename(c, "electrons", "electron"), "unknown key electron: did you mean electrons?"),
        (
            lambda c: _rename(c["sensors"], "top", "tob"),
            "unknown key sensors.tob: did you mean top?",
        ),
        (
            lambda c: _rename(c["electrons"]["lifetime_us"], "unit", "units"),
            "unknown key electrons.lifetime_us.units: did you mean unit?",
        ),
    ],
)
def test_misspelt_key_is_said_once_and_not_as_a_missing_one(edit, message):
    with pytest.raises(ValueError, match="mine.toml: ") as caught:
        schema.parse(_edited(edit), "mine.toml")
    assert str(caught.value) == f"mine.toml: {message}"


def test_unknown_key_comes_before_other_findings():
    def edit(content):
        content["geometry"].pop(next(iter(content["geometry"])))
        content["resolution"]["qqq"] = {}

    with pytest.raises(ValueError, match=r"mine.toml: unknown key resolution.qqq: .*\(and 1 more\)$"):
        schema.parse(_edited(edit), "mine.toml")


def test_folder_as_detector_is_called_one(tmp_path):
    (tmp_path / "d.toml").mkdir()
    with pytest.raises(ValueError, match="d.toml is a folder"):
        load_detector(tmp_path / "d.toml")


def test_good_content_passes():
    assert schema.parse(_edited(lambda content: None), "mine.toml")


@pytest.mark.parametrize(
    ("given", "needles"),
    [
        ("zeplin", ["detector 'zeplin' is not known", "lux, lz, xams, xenon1t, xenonnt"]),
        ("", ["is not known"]),
        ("nowhere/mine.toml", ["nowhere/mine.toml does not exist"]),
    ],
)
def test_unknown_detector(given, needles):
    with pytest.raises(ValueError, match="detector") as caught:
        load_detector(given)
    assert all(needle in str(caught.value) for needle in needles)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\x00\xff\xfe", b"[xenon\n", b"a = 1\na = 2\n", b"PAR1" + bytes(range(256))]
)
def test_foreign_file(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.toml is not a readable TOML file") as caught:
        read_preset(path)
    assert "\n" not in str(caught.value)


def test_own_file_loads(tmp_path):
    text = preset_path("lux").read_text().replace("value = 0.117,", "value = 0.1,")
    (tmp_path / "mine.toml").write_text(text)
    detector = load_detector(tmp_path / "mine.toml")
    assert detector.name == "mine"
    assert float(detector.light.g1_phd_per_photon) == pytest.approx(0.1)


def test_cut_shell_names_the_file(tmp_path):
    text = preset_path("lux").read_text().replace("count = { value = 61,", "count = { value = 60,")
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ValueError, match=r"mine\.toml: sensors\.top: count 60 cuts a shell.*55 or 61"):
        load_detector(tmp_path / "mine.toml")


def test_folder_holds_only_presets():
    assert {entry.name for entry in presets_io._FOLDER.iterdir()} == {f"{name}.toml" for name in PRESETS}


@pytest.mark.parametrize(
    ("old", "new", "needle"),
    [
        ("value = [158.92, ", "value = [-58.92, ", "must be above 0 everywhere between cathode and gate"),
        ("baseline_adc = { value = 16000", "baseline_adc = { value = 17000", "below 2^n_bits = 16384"),
        ("s1_slope_z = { value = 0.1744", "s1_slope_z = { value = -0.99", "an S1 yield of"),
        ("g1_phd_per_photon = { value = 0.117", "g1_phd_per_photon = { value = 0.99", "must be at most 1"),
    ],
)
def test_numbers_that_contradict_each_other(tmp_path, old, new, needle):
    text = preset_path("lux").read_text()
    assert text.count(old) == 1
    (tmp_path / "mine.toml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=r"^mine\.toml: .*must be") as caught:
        load_detector(tmp_path / "mine.toml")
    assert needle in str(caught.value)
    assert "\n" not in str(caught.value)


def test_field_of_zero(tmp_path):
    text = preset_path("xenonnt").read_text().replace("value = [23.0]", "value = [0.0]")
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ValueError, match="field_v_per_cm gives 0 V/cm at height"):
        load_detector(tmp_path / "mine.toml")
