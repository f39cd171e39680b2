"""Single scatters: summary near the truth, exact density, and a posterior's file that names the model."""

import dataclasses
import json
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

import dmsim
import inference
from dmsim.cli.main import main
from dmsim.io import tables
from dmsim.io.parquet import TableWriter
from dmsim.io.provenance import Provenance, tree_sha256, write_provenance
from dmsim.records import Areas
from inference import embeddings, flows
from inference.estimators import Budget, Fit, History
from inference.estimators.data import Layout
from inference.events import OBSERVABLES, SingleScatters, Whitened, event_model

pytestmark = pytest.mark.quick_compile
N = 2048


@pytest.fixture(scope="module")
def events():
    return SingleScatters(dmsim.load_detector("xenonnt"), energy_kev=(1.0, 100.0))


@pytest.fixture(scope="module")
def drawn(events):
    theta, columns = jax.jit(lambda key: events.draw(key, N))(jax.random.key(0))
    return np.asarray(theta), np.asarray(columns)


def pulls(events, theta, columns):
    """(truth - anchor) / width in the unbounded vector, radial before tangential."""
    x = np.asarray(eqx.filter_jit(events.summary)(jnp.asarray(columns)))
    assert np.isfinite(x).all()
    anchors = x[:, :16].reshape(-1, 2, 2, 4)[np.arange(len(x)), theta[:, 4].astype(int)]
    away = np.asarray(events.prior.to_unbounded(jnp.asarray(theta))) - anchors[:, 0]
    cos, sin = x[:, 16], x[:, 17]
    turned = [
        away[:, 0],
        cos * away[:, 1] + sin * away[:, 2],
        cos * away[:, 2] - sin * away[:, 1],
        away[:, 3],
    ]
    return np.stack(turned, axis=1) / np.exp(anchors[:, 1])


def near_normal(found):
    """Means to 0.15 and widths 0.9 to 1.15: 5 standard errors of 2,048 events and the anchors' own faults."""
    return np.all(np.abs(found.mean(axis=0)) < 0.15) and np.all(np.abs(found.std(axis=0) - 1.02) < 0.13)


def test_anchors_are_near_the_truth(events, drawn):
    theta, columns = drawn
    assert near_normal(pulls(events, theta, columns))
    assert not near_normal(1.3 * pulls(events, theta, columns))  # must fail


def test_every_event_is_seen_and_has_a_density(events, drawn):
    theta, columns = drawn
    assert np.asarray(events.seen(columns)).all()
    assert columns.shape == (N, 5)
    assert 0.35 < theta[:, 4].mean() < 0.55  # faint nuclear recoils are not seen
    density = jax.jit(lambda theta, columns: events.log_density(theta, events.data(columns)))
    value = np.asarray(density(theta, columns))
    assert np.isfinite(value).all()
    moved = theta.copy()
    moved[:, 3] += 5.0
    inside = moved[:, 3] < 0
    assert np.median(np.asarray(density(moved, columns))[inside] - value[inside]) < -3
    moved[:, 3] = 10.0
    assert np.all(np.asarray(density(moved, columns)) == -np.inf)


def test_the_summary_has_the_slope_of_differences(x64, events):
    """About the axis, half-way and near the wall; no jump where the arc's angle becomes that of the axis."""
    held, rest = eqx.partition(events, eqx.is_inexact_array)
    model = eqx.combine(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), held), rest)
    places = [(4.0, 3.0), (14.0, 14.0), (21.0, 0.0), (300.0, -200.0), (600.0, 200.0)]  # 21 mm: 0.032 R
    columns = jnp.asarray([[60.0, 4000.0, 9e5, *place] for place in places])
    step = jnp.asarray([0.1, 5.0, 500.0, 0.02, 0.02])
    summary = eqx.filter_jit(model.summary)
    slopes = eqx.filter_jit(eqx.filter_vmap(jax.jacfwd(lambda row: model.summary(row[None])[0])))(columns)
    for i in range(5):
        move = jnp.zeros(5).at[i].set(step[i])
        found = (summary(columns + move) - summary(columns - move)) / 2
        np.testing.assert_allclose(slopes[:, :, i] * step[i], found, atol=2e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy_kev": (5.0, 1.0)}, "energy_kev is 5 to 1 keV"),
        ({"energy_kev": (1.0, 9.0), "kinds": ("er", "wimp")}, "kinds are er, wimp"),
        ({"energy_kev": (1.0, 9.0), "least_pe": (0.0, 100.0)}, "above 0 PE"),
    ],
)
def test_bad_models(options, message):
    with pytest.raises(ValueError, match=message):
        SingleScatters(dmsim.load_detector("xenonnt"), **options)


def test_a_model_is_rebuilt_from_its_numbers(events, drawn):
    stated = json.loads(json.dumps(events.to_json()))
    rebuilt = event_model(events.detector, stated)
    same = jax.tree.map(
        lambda a, b: bool(jnp.array_equal(a, b)), *(eqx.filter(e, eqx.is_array) for e in (events, rebuilt))
    )
    assert jax.tree.all(same)
    assert rebuilt.to_json() == events.to_json()
    with pytest.raises(ValueError, match="event model 'patterns' is unknown"):
        event_model(events.detector, {**stated, "model": "patterns"})
    with pytest.raises(ValueError, match="it takes energy_kev, kinds, least_pe"):
        event_model(events.detector, {"model": "single_scatters", "energy_kev": [1.0, 2.0]})


@pytest.fixture(scope="module")
def files(events, drawn, tmp_path_factory):
    """An untrained posterior, near the exact one by its anchors, with its model's name and without."""
    folder = tmp_path_factory.mktemp("events")
    npe = inference.NPE(events.prior, embeddings.Raw(), flows.Anchored(2, 16, 1, 4, n_kinds=2, plane=(1, 2)))
    layout = Layout((("", (34,)),))
    posterior = npe.posterior(npe.untrained(jax.random.key(0), layout), layout)
    empty = History(*([] for _ in dataclasses.fields(History)))
    fit = Fit(npe, posterior, empty, Budget(n_simulations=1000))
    passed = {"passed": True, "checks": []}
    for name, model in (("named", events.to_json()), ("unnamed", None)):
        inference.save_posterior(
            folder / f"{name}.npz", fit, detector=events.detector, diagnostics=passed, events=model
        )
    return folder


def test_whitened_energies_come_back(events, drawn):
    theta, columns = (jnp.asarray(part[:64]) for part in drawn)
    x = eqx.filter_jit(events.summary)(columns)
    whitened = Whitened(events, SimpleNamespace(names=events.prior.names))
    found = whitened.to(theta, x)
    assert float(jnp.median(jnp.abs(found[:, 0]))) == pytest.approx(0.67, abs=0.5)  # of a unit normal
    np.testing.assert_allclose(whitened.back(found, x), theta, rtol=1e-3)


def write_table(events, columns, folder):
    """Areas as `dmsim simulate` writes them, with two more events below the model's threshold."""
    rows = np.concatenate([columns, columns[:2] * [0, 1, 1, 1, 1]]).astype(np.float32)
    names = [field.name for field in dataclasses.fields(Areas)]
    values = dict.fromkeys(names, np.ones(len(rows), np.float32))
    values |= dict(zip(OBSERVABLES, rows.T, strict=True))
    sha256, chunks = tree_sha256(events.detector), {"n_events": len(rows)}
    provenance = Provenance(
        command="simulate", settings={}, detector="xenonnt", detector_sha256=sha256, seed=1, chunks=chunks
    )
    write_provenance(folder, provenance)
    writer = TableWriter(folder, "areas", provenance, n_chunks=1)
    areas = Areas(**values)  # pyright: ignore[reportArgumentType]
    writer.write(0, tables.pack_areas(areas, first_event=0))
    return folder


def test_infer_takes_columns_and_weighs_by_the_exact_density(files, events, drawn, tmp_path, capsys):
    """Truths in central 68 % intervals: 60 events, 41 of them +- 3.6; the bounds are five of these away."""
    theta, columns = drawn
    run = write_table(events, columns[:60], tmp_path / "run")
    arguments = ["infer", str(run), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--posterior", str(files / "unnamed.npz"), "--refine"]) == 1
    assert "names no event model" in capsys.readouterr().err
    assert main([*arguments, "--posterior", str(files / "named.npz"), "--refine"]) == 0
    assert "median efficiency" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    # the untrained classifier takes its share
    assert result["refined"]["median_efficiency"] > 0.05
    assert result["events"]["below_threshold"] == 2
    found = pq.read_table(tmp_path / "out" / "posterior.parquet").to_pandas()
    assert len(found) == 60
    inside = theta[:60, 0]
    held = np.mean((found["energy_kev_low_68"] < inside) & (inside < found["energy_kev_high_68"]))
    assert abs(held - 0.68) < 0.3
    nr = theta[:60, 4] > 0.5
    assert found["probability_nr"][nr].mean() - found["probability_nr"][~nr].mean() > 0.6
