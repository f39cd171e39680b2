"""Maps from files and in Python: what is read, what is refused, and how a detector uses them."""

import io
import json
import pickle
import shutil
import zipfile
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim.cli.main import main
from dmsim.detector import load_detector
from dmsim.detector.map_files import read_map
from dmsim.detector.maps import GridMap
from dmsim.detector.presets_io import preset_path
from dmsim.detector.supplied import map_specs, scale_s1_map, supply_map


def plane(*place):
    return 1 + sum(k * 1e-3 * x for k, x in enumerate(place, 1))


def grid_of(shape=(5, 4), rows=()):
    axes = ("x", "y", "z")[: len(shape)]
    mesh = np.meshgrid(*(np.linspace(-100, 100, n) for n in shape), indexing="ij")
    values = plane(*mesh)[..., *(None,) * len(rows)] * np.ones(rows)
    return GridMap(jnp.asarray(values), axes, (-100.0,) * len(shape), (100.0,) * len(shape))


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 4, 3)])
@pytest.mark.parametrize("rows", [(), (2,)])
def test_interpolation_is_exact_for_a_plane_and_constant_beyond(x64, shape, rows):
    grid = grid_of(shape, rows)
    places = np.random.default_rng(1).uniform(-100, 100, (len(shape), 50))
    found = grid(*map(jnp.asarray, places))
    assert found.shape == (50, *rows)
    np.testing.assert_allclose(
        found, plane(*places).reshape(50, *(1,) * len(rows)) * np.ones(rows), rtol=1e-12
    )
    outside = grid(*(jnp.asarray([1e4]) for _ in shape))
    np.testing.assert_allclose(outside, plane(*(100.0 for _ in shape)) * np.ones((1, *rows)), rtol=1e-12)


def test_gradient_in_values_and_place(x64):
    grid = grid_of((5, 4))
    random = np.random.default_rng(2)
    grid = replace(grid, values=jnp.asarray(random.normal(size=(5, 4))))
    place = jnp.asarray([13.0, -27.0])

    def value(values, place):
        return replace(grid, values=values)(*place)

    in_values, in_place = jax.grad(value, argnums=(0, 1))(grid.values, place)
    step = 1e-5
    for axis in range(2):
        move = step * jnp.eye(2)[axis]
        slope = (value(grid.values, place + move) - value(grid.values, place - move)) / (2 * step)
        assert float(in_place[axis]) == pytest.approx(float(slope), rel=1e-6)
    assert float(in_values.sum()) == pytest.approx(1, rel=1e-12)
    assert float(jnp.sum(in_values * grid.values)) == pytest.approx(
        float(value(grid.values, place)), rel=1e-12
    )


def test_radial_map_is_differentiable_on_the_axis(x64):
    grid = GridMap(jnp.arange(6.0).reshape(3, 2), ("r", "z"), (0.0, -10.0), (30.0, 0.0))
    slope = jax.grad(lambda x: grid.at(x, jnp.asarray(0.0), jnp.asarray(-5.0)))
    assert float(slope(jnp.asarray(0.0))) == 0
    assert float(slope(jnp.asarray(3.0))) == pytest.approx(2 / 15)


def test_xenon1t_maps(release_data):
    folder = release_data / "xenon1t_pax_detector"
    for name, entry, shape, rms in (
        ("XENON1T_s1_xyz_ly_kr83m_SR1.json", "map", (15, 15, 28), 5e-3),  # irregular: resampled
        ("XENON1T_s2_xy_ly_SR1_v2.2.json", "map_bottom", (100, 100), 1e-6),  # says irregular, but is a grid
    ):
        content = json.loads((folder / name).read_text())
        points = 10 * np.array(content["coordinate_system"])
        grid = read_map(folder / name, entry=entry)
        assert grid.values.shape == shape
        assert bool(grid.note) == (len(shape) == 3)
        found = np.asarray(grid(*map(jnp.asarray, points.T)))
        assert np.sqrt(np.mean((found - content[entry]) ** 2)) < rms
        assert np.std(content[entry]) > 10 * rms  # a map without structure is seen


def _csv(rows, header="x_mm,y_mm,value"):
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]).encode()


def _npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _json(**content):
    return json.dumps(content).encode()


AXIS = np.linspace(-100.0, 100.0, 5)
GRID = [(x, y, plane(x, y)) for x in AXIS for y in AXIS]
SPECIFIED = [["x", [-10, 10, 5]], ["y", [-10, 10, 5]]]
VALUES = plane(*np.meshgrid(AXIS, AXIS, indexing="ij"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", _csv(GRID)),
        ("shuffled.csv", _csv(GRID[::-1])),
        ("comment.csv", b"# mine\n\n" + _csv([(y, v, x) for x, y, v in GRID], "y_mm,value,x_mm")),
        ("m.npz", _npz(values=VALUES, x_mm=AXIS, y_mm=AXIS)),
        (
            "points.json",
            _json(coordinate_system=[[x / 10, y / 10] for x, y, _ in GRID], map=[v for *_, v in GRID]),
        ),
        ("axes.json", _json(coordinate_system=SPECIFIED, map=VALUES.ravel().tolist())),
        ("nested.json", _json(coordinate_system=SPECIFIED, map=VALUES.tolist())),
    ],
)
def test_every_format_gives_the_same_map(tmp_path, x64, name, content):
    (tmp_path / name).write_bytes(content)
    grid = read_map(tmp_path / name)
    assert (grid.axes, grid.low, grid.high, grid.note) == (("x", "y"), (-100.0,) * 2, (100.0,) * 2, "")
    np.testing.assert_allclose(grid.values, VALUES, rtol=1e-12)


def test_rows_of_sensors(tmp_path):
    rows = VALUES[..., None] * np.arange(1, 4)
    for name, content in (
        ("m.npz", _npz(values=rows, x_mm=AXIS, y_mm=AXIS)),
        ("m.json", _json(coordinate_system=SPECIFIED, map=rows.reshape(-1, 3).tolist())),
    ):
        (tmp_path / name).write_bytes(content)
        assert read_map(tmp_path / name).rows == (3,)


def test_scattered_points_are_resampled(tmp_path):
    points = np.random.default_rng(3).uniform(-100, 100, (400, 2))
    (tmp_path / "m.csv").write_bytes(_csv([(x, y, plane(x, y)) for x, y in points]))
    grid = read_map(tmp_path / "m.csv")
    assert grid.note == "resampled from 400 points"
    inside = jnp.asarray(np.random.default_rng(4).uniform(-80, 80, (2, 100)))
    np.testing.assert_allclose(grid(*inside), plane(*inside), atol=1e-5)


class _Trap:
    def __reduce__(self):
        return (open, ("trapped", "w"))


def _bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("values.npy", bytes(300 << 20))
    return file.getvalue()


MALFORMED = {
    "missing axis": (
        "m.csv",
        _csv([(x, v) for x, _, v in GRID], "x_mm,value"),
        "is over (x): must be over (x, y)",
    ),
    "no value": ("m.csv", _csv(GRID, "x_mm,y_mm,v"), "use value and some of r_mm, x_mm"),
    "cm": ("m.csv", _csv(GRID, "x_cm,y_cm,value"), "use value and some of r_mm, x_mm"),
    "ragged": ("m.csv", _csv([*GRID, (1, 2)]), "row 26 has 2 cells, the header has 3"),
    "text": ("m.csv", _csv([*GRID, (1, 2, "a")]), "no number"),
    "nan": ("m.csv", _csv([*GRID[:-1], (100, 100, "nan")]), "not finite"),
    "range": ("m.csv", _csv([*GRID[:-1], (100, 100, -5)]), "value -5: must be within 0 to 100"),
    "twice": ("m.csv", _csv([*GRID, GRID[0]]), "two values at the same point"),
    "one line": ("m.csv", _csv([(0, *row[1:]) for row in GRID]), "all points have the same x"),
    "slope": ("m.csv", _csv([(x, x, v) for x, _, v in GRID[::6]]), "span no grid"),
    "empty": ("m.csv", b"", "columns are"),
    "no rows": ("m.csv", b"x_mm,y_mm,value\n", "empty"),
    "binary": ("m.csv", b"\x89PNG\xff\xfe", "UTF-8"),
    "suffix": ("m.pkl", pickle.dumps([1]), "must end with one of .json, .csv, .npz"),
    "no json": ("m.json", b"{", "is no JSON"),
    "deep json": ("m.json", b"[" * 200_000, "map m.json"),
    "other json": ("m.json", b"[1]", "has no coordinate_system"),
    "other entry": ("m.json", _json(coordinate_system=SPECIFIED, map_top=[1]), "has no map: there are"),
    "compressed": ("m.json", _json(coordinate_system=SPECIFIED, compressed=1, map=""), "compressed"),
    "json nan": (
        "m.json",
        b'{"coordinate_system": [[0,0],[0,1],[1,0],[1,1]], "map": [1,1,1,NaN]}',
        "not finite",
    ),
    "short": ("m.json", _json(coordinate_system=SPECIFIED, map=[1.0, 2.0]), "has 2 values for 25 points"),
    "ragged json": ("m.json", _json(coordinate_system=[[0, 0], [1]], map=[1, 1]), "different lengths"),
    "specification": ("m.json", _json(coordinate_system=[["x", [0, 1]]], map=[1]), "use [name, [first"),
    "too many": ("m.json", _json(coordinate_system=[["x", [0, 1, 1e9]]], map=[1]), "use [name, [first"),
    "no archive": ("m.npz", b"PK\x03\x04nothing", "is no NumPy archive"),
    "pickled": ("m.npz", _npz(values=np.array([_Trap()], object)), "allow_pickle=False"),
    "bomb": ("m.npz", _bomb(), "unpacks to 300 MiB"),
    "no values": ("m.npz", _npz(x_mm=AXIS), "has no values: there are x_mm"),
    "uneven": ("m.npz", _npz(values=VALUES, x_mm=AXIS**3, y_mm=AXIS), "x_mm must hold two or more equally"),
    "mismatch": ("m.npz", _npz(values=VALUES, x_mm=AXIS[:-1], y_mm=AXIS), "x_mm has 4 numbers for 5"),
    "dimensions": ("m.npz", _npz(values=VALUES[:, 0], x_mm=AXIS, y_mm=AXIS), "values have 1 dimensions"),
    "surplus": (
        "m.npz",
        _npz(values=VALUES, x_mm=AXIS, y_mm=AXIS, w=AXIS),
        "has x_mm, y_mm, w beside values",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_one_clear_line(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    name, content, needle = MALFORMED[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"map {name}") as caught:
        read_map(tmp_path / name, low=0, high=100)
    message = str(caught.value)
    assert needle in message
    assert "\n" not in message
    assert len(message) < 220
    assert not (tmp_path / "trapped").exists()


def test_a_file_that_is_none(tmp_path):
    for path, needle in (
        (tmp_path / "no.csv", "does not exist"),
        (tmp_path, "must end"),
    ):
        with pytest.raises(ValueError, match=needle):
            read_map(path)
    (tmp_path / "m.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        read_map(tmp_path / "m.csv")


# the detector's maps

DETECTOR = load_detector("xams")
RADIUS, LENGTH = float(DETECTOR.geometry.radius_mm), float(DETECTOR.geometry.drift_length_mm)


def box(f, n=9, axes="xyz"):
    low = {"x": -RADIUS, "y": -RADIUS, "z": -LENGTH, "r": 0.0}
    high = {"x": RADIUS, "y": RADIUS, "z": 0.0, "r": RADIUS}
    mesh = np.meshgrid(*(np.linspace(low[a], high[a], n) for a in axes), indexing="ij")
    values = jnp.asarray(f(*mesh), jnp.float32)
    return GridMap(values, tuple(axes), tuple(low[a] for a in axes), tuple(high[a] for a in axes))


def test_s1_map_keeps_the_meaning_of_g1():
    """The map is scaled to an average of 1 over the cylinder, at random places too."""
    detector = supply_map(DETECTOR, "light.s1_map", box(lambda x, y, z: 7 - z / LENGTH + 0.3 * x / RADIUS))
    random = np.random.default_rng(5)
    r, angle = RADIUS * np.sqrt(random.random(20_000)), 2 * np.pi * random.random(20_000)
    place = (r * np.cos(angle), r * np.sin(angle), -LENGTH * random.random(20_000))
    relative = detector.light.s1_relative_yield(
        detector.geometry, *(jnp.asarray(x, jnp.float32) for x in place)
    )
    assert float(relative.mean()) == pytest.approx(1, abs=2e-3)
    assert float(relative.std()) > 0.02
    again = scale_s1_map(detector).light.s1_map.values
    np.testing.assert_allclose(again, detector.light.s1_map.values, rtol=1e-5)


def test_s2_map_replaces_the_slope():
    detector = supply_map(DETECTOR, "light.s2_map", box(lambda x, y: 1 + 0.2 * x / RADIUS, axes="xy"))
    place = jnp.asarray([0.5 * RADIUS]), jnp.asarray([0.0])
    assert float(detector.light.s2_relative_yield(detector.geometry, *place)[0]) == pytest.approx(
        1.1, rel=1e-5
    )


def test_supplied_patterns_are_shares_of_the_sensors_that_are_on():
    n, n_top = DETECTOR.light.sensors.n_sensors, DETECTOR.light.sensors.n_top
    tilt = np.arange(1.0, n + 1)
    s1 = box(lambda x, y, z: (2 + x / RADIUS)[..., None] * tilt)
    full = box(lambda x, y: (2 + x / RADIUS)[..., None] * tilt, axes="xy")
    top = replace(full, values=full.values[..., :n_top])
    x = jnp.asarray([0.3 * RADIUS])
    efficiency = jnp.ones(n).at[0].set(0.0)
    off = eqx.tree_at(lambda d: d.light.sensors.efficiency, DETECTOR, efficiency)
    for grid in (full, top):
        light = supply_map(supply_map(off, "light.s1_pattern_map", s1), "light.s2_pattern_map", grid).light
        s1_shares = light.s1_pattern(off.geometry, x, 0 * x, 0 * x - 5)[0]
        s2_shares = light.s2_pattern(off.geometry, x, 0 * x, 0 * x + 1.0)[0]
        for shares in (s1_shares, s2_shares):
            assert float(shares[0]) == 0
            assert float(shares.sum()) == pytest.approx(1, rel=1e-5)
        part = slice(None) if grid is full else slice(None, n_top)
        expected = tilt[part] * efficiency[part]
        total = 1.0 if grid is full else float(off.light.s2_top_fraction)
        np.testing.assert_allclose(s2_shares[part], total * expected / expected.sum(), rtol=1e-5)


def test_pattern_gradients_against_differences(x64):
    """In a map's values, in the place and in the efficiencies."""
    detector = load_detector("xams")
    n = detector.light.sensors.n_sensors
    tilt = np.arange(1.0, n + 1)
    s1 = box(lambda x, y, z: 2 + np.sin(x / 20 + y / 30 + z / 10)[..., None] * np.cos(tilt))
    s2 = box(lambda x, y: 2 + np.sin(x / 20 + y / 30)[..., None] * np.cos(tilt), axes="xy")
    detector = supply_map(supply_map(detector, "light.s1_pattern_map", s1), "light.s2_pattern_map", s2)
    optical = load_detector("xams")

    def total(leaves):
        values_1, values_2, efficiency, x = leaves
        outcome = 0.0
        for base in (detector, optical):
            ours = eqx.tree_at(lambda d: d.light.sensors.efficiency, base, efficiency)
            if base is detector:
                where = lambda d: (d.light.s1_pattern_map.values, d.light.s2_pattern_map.values)  # noqa: E731
                ours = eqx.tree_at(where, ours, (values_1, values_2))
            light, geometry = ours.light, ours.geometry
            outcome += light.s1_pattern(geometry, x, 0.5 * x, -x) @ tilt**2
            outcome += light.s2_pattern(geometry, x, 0.5 * x, 0.1 * x) @ tilt**2
        return outcome

    random = np.random.default_rng(6)
    light = detector.light
    leaves = (
        light.s1_pattern_map.values,
        light.s2_pattern_map.values,
        jnp.asarray(random.random(n) + 0.5),
        11.0,
    )
    leaves = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), leaves)
    value, gradient = jax.jit(jax.value_and_grad(total))(leaves)
    del value
    compiled = jax.jit(total)
    for number, leaf in enumerate(leaves):
        direction = jnp.asarray(random.normal(size=leaf.shape))
        step = 1e-5

        def moved(by, number=number, direction=direction):
            return compiled(tuple(x + by * direction if k == number else x for k, x in enumerate(leaves)))

        slope = (moved(step) - moved(-step)) / (2 * step)
        assert float(jnp.sum(gradient[number] * direction)) == pytest.approx(float(slope), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "grid", "needle"),
    [
        ("light.s3_map", box(lambda x, y: 1 + 0 * x, axes="xy"), "is not known: choose of"),
        ("light.s2_map", box(lambda x, y, z: 1 + 0 * x), r"is over \(x, y, z\): must be over \(x, y\)"),
        ("light.s2_map", box(lambda x, y: 0 * x, axes="xy"), "light.s2_map gives an S2 yield of 0"),
        ("light.s1_map", box(lambda x, y, z: 1 + 1e3 * (z > -1)), "reaches .* must be at most 1"),
        ("light.s1_map", box(lambda r, z: np.ones((*r.shape, 2)), axes="rz"), r"holds \(2,\) values"),
        ("light.s2_pattern_map", box(lambda x, y: np.ones((*x.shape, 3)), axes="xy"), "must hold 5 or 4"),
        ("light.s2_pattern_map", box(lambda x, y: np.zeros((*x.shape, 5)), axes="xy"), "no sensor sees"),
        (
            "light.s2_map",
            GridMap(jnp.ones((2, 2)), ("x", "y"), (-3.0, -3.0), (3.0, 3.0)),
            "must cover half of the detector",
        ),
    ],
)
def test_a_map_that_does_not_fit(name, grid, needle):
    with pytest.raises(ValueError, match=needle) as caught:
        supply_map(DETECTOR, name, grid)
    assert "\n" not in str(caught.value)


def test_known_maps():
    assert {"light.s1_map", "light.s2_pattern_map", "electrons.lifetime_map"} <= set(map_specs(DETECTOR))


# in a preset


def own_preset(folder, *, light="", sensors=""):
    text = preset_path("xams").read_text()
    text = text.replace("[light]", f"[light]\n{light}").replace(
        "[sensors.top]", f"[sensors]\n{sensors}\n[sensors.top]"
    )
    (folder / "mine.toml").write_text(text)
    return folder / "mine.toml"


def test_preset_with_all_that_can_be_supplied(tmp_path, capsys):
    maps = tmp_path / "tables"
    maps.mkdir()
    grid = box(lambda x, y: 1 + 0.2 * x / RADIUS, axes="xy")
    axis = np.linspace(-RADIUS, RADIUS, 9)
    np.savez(maps / "s2.npz", values=np.asarray(grid.values), x_mm=axis, y_mm=axis)
    (maps / "sensors.csv").write_text(
        "channel,efficiency,on\n" + "\n".join(f"{c},{1 + c / 10},1" for c in range(5))
    )
    charge = np.arange(-50, 400, 2.0)
    spectrum = np.exp(-(((charge - 150) / 60) ** 2) / 2)
    rows = [",".join(map(str, (q, *([s] * 5)))) for q, s in zip(charge, spectrum, strict=True)]
    (maps / "spe.csv").write_text("charge,0,1,2,3,4\n" + "\n".join(rows))
    path = own_preset(
        tmp_path,
        light='s2_map = { file = "tables/s2.npz", unit = "1", source = "assumed: a tilt" }',
        sensors='off = { value = [1], unit = "channel", source = "assumed: one" }\n'
        'efficiency = { file = "tables/sensors.csv", unit = "1", source = "assumed: a slope" }\n'
        'spe_spectra = { file = "tables/spe.csv", unit = "1", source = "assumed: a normal" }',
    )
    detector = load_detector(path)
    np.testing.assert_allclose(detector.light.s2_map.values, grid.values, rtol=1e-6)
    np.testing.assert_allclose(detector.light.sensors.efficiency, [1, 0, 1.2, 1.3, 1.4], rtol=1e-6)
    assert detector.light.sensors.spe_quantiles.shape == (5, 65)
    assert main(["detectors", str(path), "--figure", str(tmp_path / "arrays.png")]) == 0
    out = capsys.readouterr().out
    for needle in (
        "[supplied]",
        "light.s2_map",
        "9 x 9",
        "tables/s2",
        "spe_spectra",
        "relative width 0.39",
        "1 are off",
    ):
        assert needle in out
    shutil.rmtree(maps)
    with pytest.raises(ValueError, match=r"^mine.toml: light.s2_map: map s2.npz: does not exist$"):
        load_detector(path)


@pytest.mark.parametrize(
    ("light", "sensors", "needle"),
    [
        (
            's1_map = { file = "a.csv", unit = "cm", source = "mine" }',
            "",
            'light.s1_map: unit is "cm": use "1"',
        ),
        ('s1_map = { unit = "1", source = "mine" }', "", "light.s1_map has no file"),
        ("s1_map = 3", "", 'light.s1_map = 3: write { file = ..., unit = "1"'),
        (
            's1_map = { file = "a.csv", unit = "1", source = "mine", kind = 1 }',
            "",
            "unknown key light.s1_map.kind",
        ),
        ("", 'of = { value = [1], unit = "channel", source = "mine" }', "sensors.of: did you mean off?"),
        (
            "",
            'off = { value = [1], units = "channel", source = "mine" }',
            "sensors.off.units: did you mean unit?",
        ),
        ("", 'off = { value = [9], unit = "channel", source = "mine" }', "sensors: channel 9 does not exist"),
        (
            "",
            'off = { value = [4], unit = "channel", source = "mine" }',
            "all sensors of the bottom array are off",
        ),
    ],
)
def test_bad_preset_is_one_clear_line(tmp_path, light, sensors, needle):
    with pytest.raises(ValueError, match="^mine.toml: ") as caught:
        load_detector(own_preset(tmp_path, light=light, sensors=sensors))
    assert needle in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_map_of_numbers_that_are_none_is_refused():
    with pytest.raises(ValueError, match="map has 1 values of 4 that are not finite"):
        GridMap(jnp.asarray([[1.0, 2.0], [np.nan, 1.0]]), ("r", "z"), (0.0, -1.0), (1.0, 0.0))
