"""Work function, Fano factors and minimum energies; the covariance of quanta."""

import csv
from pathlib import Path

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from dmsim.detector import load_detector
from dmsim.detector.presets_io import describe
from dmsim.detector.yields import QuantaParameters
from dmsim.quanta import deposit_yields, mean_yields, quanta_spread
from dmsim.records import Interaction
from dmsim.sources.own import deposits as own_deposits

TABLE = Path(__file__).parents[2] / "data" / "nest" / "mean_yields_exo200.csv"


def exo_table():
    """Rows of NEST's mean yields with the work function of EXO-200, by model."""
    with open(TABLE, newline="") as file:
        rows = list(csv.DictReader(file))
    for model in ("ER_beta", "ER_gamma", "NR", "Kr83m", "alpha"):
        ours = [row for row in rows if row["model"] == model]
        yield (
            model,
            {name: np.array([float(row[name]) for row in ours]) for name in ours[0] if name != "model"},
        )


def worst(model, rows, parameters):
    yields = mean_yields(
        model.lower(),
        rows["E_keV"],
        rows["field_Vcm"],
        rows["density_gcm3"],
        parameters=parameters,
        dt_ns=400.0,
    )
    ours = np.stack([yields.n_photons, yields.n_electrons, yields.exciton_ratio])
    theirs = np.stack([rows["Nph"], rows["Ne"], rows["exciton_ratio"]])
    return np.abs(ours / theirs - 1).max()


def test_yields_with_the_work_function_of_exo200(x64):
    right = QuantaParameters.nest(work_function="exo200")
    wrong = [
        QuantaParameters.nest(),
        eqx.tree_at(lambda p: p.work_function.charge_scale, right, 1.07),
        eqx.tree_at(lambda p: p.work_function.recoil_scale, right, 1.16),
    ]
    for model, rows in exo_table():
        assert worst(model, rows, right) < 1e-6
        assert worst(model, rows, wrong[0]) > 0.05
    assert max(worst(model, rows, wrong[1]) for model, rows in exo_table()) > 5e-3
    assert max(worst(model, rows, wrong[2]) for model, rows in exo_table()) > 5e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"work_function": "exo"}, "work_function 'exo' is not known: choose one of nest, exo200"),
        ({"fano_er": -0.1}, "fano_er is -0.1 1: must be from 0 to 10"),
        ({"fano_nr_ions": np.nan}, "fano_nr_ions is nan"),
        ({"min_energy_nr_kev": -1.0}, "min_energy_nr_kev is -1.0 keV: must be from 0 to 1000 keV"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        QuantaParameters.nest(**options)


def preset_with(tmp_path, lines):
    """The path of a copy of xams whose table `quanta` has these further lines."""
    text = Path(dmsim.detector.presets_io.preset_path("xams")).read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("[quanta]", "[quanta]\n" + "\n".join(lines)))
    return path


def test_a_preset_may_state_options(tmp_path):
    stated = {
        "work_function": ('"exo200"', "1"),
        "fano_er": ("0.1", "1"),
        "fano_nr_ions": ("1.0", "1"),
        "fano_nr_excitons": ("0.5", "1"),
        "min_energy_er_kev": ("0.186", "keV"),
        "min_energy_nr_kev": ("0.7", "keV"),
    }
    lines = [
        f'{k} = {{ value = {v}, unit = "{u}", source = "assumed: test" }}' for k, (v, u) in stated.items()
    ]
    path = preset_with(tmp_path, lines)
    ours = load_detector(path).quanta
    theirs = QuantaParameters.nest(
        ours.generation,
        work_function="exo200",
        fano_er=0.1,
        fano_nr_ions=1.0,
        fano_nr_excitons=0.5,
        min_energy_er_kev=0.186,
        min_energy_nr_kev=0.7,
    )
    assert eqx.tree_equal(ours, theirs)
    rows = {row.name: row for row in describe(path)}
    assert all(f"quanta.{name}" in rows for name in ("generation", *stated))
    # nothing stated: the generation as it is published
    assert eqx.tree_equal(load_detector("xams").quanta, QuantaParameters.nest(ours.generation))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('work_function = { value = "exo", unit = "1", source = "me, 2026" }', 'use one of "nest", "exo200"'),
        ('fano_er = { value = 20.0, unit = "1", source = "me, 2026" }', "20.0 is outside 0 to 10 1"),
        ('min_energy_er_kev = { value = 1.0, unit = "eV", source = "me, 2026" }', 'unit is "eV": use "keV"'),
        (
            'fano = { value = 1.0, unit = "1", source = "me, 2026" }',
            "unknown key quanta.fano: did you mean fano_er",
        ),
    ],
)
def test_a_wrong_option_in_a_preset_is_one_line(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        load_detector(preset_with(tmp_path, [line]))


def batch(detector, kind, energy_kev, n):
    return own_deposits(
        detector,
        energy_kev=np.full(n, energy_kev),
        x_mm=0.0,
        y_mm=0.0,
        z_mm=-20.0,
        interaction=kind,
        time_ns=400.0,
    )


def with_options(**options):
    detector = load_detector("xams")
    return eqx.tree_at(lambda d: d.quanta, detector, QuantaParameters.nest("2026", **options))


N = 40_000


@pytest.mark.parametrize(
    ("kind", "energy", "options"),
    [
        ("er_beta", 8.0, {}),
        ("er_beta", 8.0, {"fano_er": 1.0}),
        ("er_gamma", 300.0, {}),
        ("nr", 25.0, {}),
        ("nr", 25.0, {"fano_nr_ions": 1.5, "fano_nr_excitons": 0.1}),
        ("alpha", 5490.0, {}),
        ("kr83m", 41.5, {"work_function": "exo200"}),
    ],
)
def test_spread_is_that_of_many_draws(kind, energy, options):
    """4.7 sigma of each of three moments of 4e4 draws, 3e-6 a number, 21 of them: 6e-5 in all.

    The error of a (co)variance comes from the draws' own fourth moments. 6 % off must be refused.
    """
    detector = with_options(**options)
    quanta = dmsim.simulate_quanta(jax.random.key(5), detector, batch(detector, kind, energy, N))
    away = [np.asarray(n, float) - np.mean(n, dtype=float) for n in (quanta.n_photons, quanta.n_electrons)]
    spread = quanta_spread(detector, batch(detector, kind, energy, 1))
    refused = False
    for a, b, ours in (
        (0, 0, spread.var_photons),
        (1, 1, spread.var_electrons),
        (0, 1, spread.covariance),
    ):
        products = away[a] * away[b]
        error = products.std() / np.sqrt(N)
        assert abs(products.mean() - float(ours[0])) < 4.7 * error
        refused |= bool(abs(products.mean() - 1.06 * float(ours[0])) > 4.7 * error)
    assert refused


def test_gradient_of_the_spread(x64):
    """In every constant of the fluctuations, against central differences."""
    detector = with_options(fano_er=0.1).as_dtype(jnp.float64)
    kinds = ["er_beta", "er_gamma", "nr", "alpha"]
    deposits = own_deposits(
        detector,
        energy_kev=np.array([8.0, 60.0, 25.0, 5490.0]),
        x_mm=0.0,
        y_mm=0.0,
        z_mm=-20.0,
        interaction=kinds,
    )
    groups = (detector.quanta.er_fluctuations, detector.quanta.nr_fluctuations, detector.quanta.work_function)
    flat, unravel = jax.flatten_util.ravel_pytree(groups)

    @jax.jit
    def total(shift):
        er, nr, work = unravel(flat + shift)
        where = lambda d: (d.quanta.er_fluctuations, d.quanta.nr_fluctuations, d.quanta.work_function)  # noqa: E731
        spread = quanta_spread(eqx.tree_at(where, detector, (er, nr, work)), deposits)
        return jnp.log(jnp.stack([spread.var_photons, spread.var_electrons, -spread.covariance])).sum()

    exact = jax.jit(jax.grad(total))(jnp.zeros_like(flat))
    steps = 1e-5 * jnp.diag(jnp.maximum(jnp.abs(flat), 1e-3))
    many = jax.jit(jax.vmap(total))
    difference = (many(steps) - many(-steps)) / (2 * jnp.diag(steps))
    np.testing.assert_allclose(exact, difference, rtol=1e-5, atol=1e-6)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(groups)]
    silent = {name for name, slope in zip(names, exact, strict=True) if slope == 0}
    # the amplitude above 295 V/cm; skewness leaves the variance as it is; a bound that no yield reaches
    assert silent == {"[0].recombination.far", "[1].skewness", "[2].min_kev_per_quantum"}


def test_below_the_minimum_energy_nothing_leaves():
    detector = with_options(min_energy_er_kev=0.186, min_energy_nr_kev=0.7)
    kinds = (Interaction.ER_BETA, Interaction.NR)
    deposits = own_deposits(
        detector,
        energy_kev=np.array([0.185, 0.187, 0.69, 0.71]),
        x_mm=0.0,
        y_mm=0.0,
        z_mm=-20.0,
        interaction=np.repeat([kind.value for kind in kinds], 2),
    )

    def electrons(energy, detector):
        changed = eqx.tree_at(lambda d: d.energy_kev, deposits, energy)
        return deposit_yields(detector, changed, interactions=kinds).n_electrons

    value, back = jax.vjp(lambda e: electrons(e, detector), deposits.energy_kev)
    assert list(np.asarray(value) > 0) == [False, True, False, True]
    assert list(np.asarray(back(jnp.ones(4))[0]) > 0) == [False, True, False, True]
    # above, as without
    np.testing.assert_array_equal(value[1::2], electrons(deposits.energy_kev, load_detector("xams"))[1::2])
    quanta = dmsim.simulate_quanta(jax.random.key(1), detector, deposits)
    assert np.all(np.asarray(quanta.n_photons + quanta.n_electrons)[::2] == 0)
