"""Integrated gradients on a sampler whose moments are known functions of the data."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dmsim
from dmsim.cli.main import main
from inference import embeddings, estimators, flows, priors
from inference.estimators.base import Fit
from inference.estimators.data import Layout
from inference.estimators.files import save_posterior
from inference.estimators.training import Budget, History
from inference.event_report import check_explainable, of_kind
from inference.explain import Attribution, deletion, integrated_gradients, straight
from inference.explain_figure import figure

pytestmark = pytest.mark.quick_compile

N_SENSORS, N_SAMPLES = 40, 60
WEIGHTS = jax.random.normal(jax.random.key(0), (N_SENSORS,)) * (jnp.arange(N_SENSORS) % 4 == 0)
DATA = {
    "pattern": jax.random.gamma(jax.random.key(1), 2.0, (N_SENSORS,)),
    "waveform": 3 * jnp.exp(-0.5 * ((jnp.arange(N_SAMPLES) - 30) / 5.0) ** 2),
}
DARK = jax.tree.map(jnp.zeros_like, DATA)
KEY = jax.random.key(2)


def sample(key, x, n):
    """Place from a few sensors, depth from the waveform's light, both with widths that the light makes."""
    light = jnp.sum(x["waveform"], axis=-1)
    mean = jnp.stack([jnp.tanh(0.2 * x["pattern"] @ WEIGHTS), jnp.log1p(light)], axis=-1)
    width = jnp.stack([0.3 / jnp.sqrt(1 + jnp.sum(x["pattern"], axis=-1)), 0.1 / (1 + light)], axis=-1)
    return mean[:, None] + width[:, None] * jax.random.normal(key, (len(light), n, 2))


@pytest.fixture(scope="module")
def found():
    return integrated_gradients(KEY, sample, DATA, DARK)


def total(found):
    return sum(jnp.sum(leaf, axis=1) for leaf in jax.tree.leaves(found.shares))


def test_shares_add_up(found):
    assert np.all(found.gap <= 0.01)
    np.testing.assert_allclose(total(found), found.moments - found.at_baseline, rtol=0.011, atol=0.003)


def test_slope_times_input_does_not_add_up(found):
    """Must fail: the slope at the data alone, without a path."""
    slope = jax.jacrev(lambda x: jnp.mean(sample(KEY, jax.tree.map(lambda a: a[None], x), 256)[0], axis=0))(
        DATA
    )
    product = sum(jnp.sum(s * x, axis=1) for s, x in zip(map(slope.get, DATA), DATA.values(), strict=True))
    off = (
        np.abs(product - (found.moments - found.at_baseline)[:2])
        / np.abs(found.moments - found.at_baseline)[:2]
    )
    assert off[1] > 0.2


def test_inputs_that_do_not_count_get_nothing(found):
    place = np.asarray(found.shares["pattern"][0])
    # the noise of 256 draws has a mean of its own, which the width scales
    nothing = 1e-3 * np.abs(place).max()
    assert np.all(np.abs(place[np.asarray(WEIGHTS) == 0]) < nothing)
    assert np.all(np.abs(found.shares["waveform"][0]) < nothing)
    assert np.all(np.abs(found.shares["pattern"][1]) < nothing)
    # the logarithm's light is shared out as the light is
    np.testing.assert_allclose(
        found.shares["waveform"][1] / total(found)[1], DATA["waveform"] / DATA["waveform"].sum(), atol=1e-4
    )


@pytest.mark.parametrize("moment", [0, 1])
def test_deletion_beats_random_orders(found, moment):
    """p is 1/40 at least; a random order would reach it in 2.5 % of cases."""
    assert deletion(jax.random.key(3), sample, DATA, DARK, found, moment).p_value == pytest.approx(1 / 40)


def test_deletion_refuses_shares_that_mean_nothing(found):
    """Must fail: the shares of other inputs."""
    wrong = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=1)[:, ::-1], found.shares)
    test = deletion(jax.random.key(3), sample, DATA, DARK, found._replace(shares=wrong), 0)
    assert test.p_value > 0.05


def test_figure_is_drawn(found, tmp_path):
    x_mm, y_mm = np.random.default_rng(0).uniform(-500, 500, (2, N_SENSORS))
    test = deletion(jax.random.key(3), sample, DATA, DARK, found, 0)
    figure(
        tmp_path / "shares.png",
        patterns={"S2": (x_mm, y_mm, found.shares["pattern"][0])},
        waveforms={"S2": (DATA["waveform"], found.shares["waveform"][1])},
        title="x / mm",
        test=test,
    )
    assert (tmp_path / "shares.png").stat().st_size > 20_000


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="and baseline"):
        integrated_gradients(KEY, sample, DATA, {**DARK, "waveform": jnp.zeros(3)})


@pytest.mark.slow
def test_a_jump_has_no_shares():
    """It is looked for with ever more nodes: a minute."""

    def jumping(key, x, n):
        return jnp.floor(x[:, None, :1] + 0.5) + jax.random.normal(key, (len(x), n, 1))

    with pytest.raises(ValueError, match=r"shares add up to .* with \d+ nodes"):
        integrated_gradients(KEY, jumping, jnp.ones(1), jnp.zeros(1))


def kinked(key, x, n):
    """Flat but for a ramp over a hundredth of the path."""
    return jnp.clip(100 * x[:, None, :1] - 42.0, 0, 1) + 0.1 * jax.random.normal(key, (len(x), n, 1))


def test_pieces_find_where_the_posterior_bends():
    found = integrated_gradients(KEY, kinked, jnp.ones(1), jnp.zeros(1))
    assert float(found.shares[0, 0]) == pytest.approx(1.0, rel=0.01)
    assert found.n_nodes < 200


def bent(share, baseline, x):
    """First the light of all, then how it divides."""
    even = jnp.full_like(x, x.mean())
    first, second = jnp.minimum(2 * share, 1.0), jnp.maximum(2 * share - 1, 0.0)
    return baseline + first * (even - baseline) + second * (x - even)


def product(key, x, n):
    """A mean whose shares depend on the path."""
    return jnp.prod(x, axis=-1)[:, None, None] + 0.1 * jax.random.normal(key, (len(x), n, 1))


def test_shares_add_up_on_a_path_that_bends():
    x, dark = jnp.array([1.0, 3.0]), jnp.zeros(2)
    found = integrated_gradients(KEY, product, x, dark, way=bent)
    assert float(found.gap[0]) <= 0.01
    # by hand: 2 each on the way to (2, 2), then the integral of dx y and x dy from there
    np.testing.assert_allclose(found.shares[0], [2 - 2.5, 2 + 1.5], atol=1e-3)
    # must-fail twin: the straight path shares otherwise
    assert np.abs(integrated_gradients(KEY, product, x, dark).shares[0, 0] + 0.5) > 0.5
    with pytest.raises(ValueError, match="the path at 1 is not the x"):
        integrated_gradients(KEY, product, x, dark, way=lambda share, baseline, x: baseline)


def test_a_path_that_does_not_join_is_seen_in_each_entry():
    both = {"time_ns": jnp.full(1, 9e5), "x_mm": jnp.full(1, 300.0)}
    none = jax.tree.map(jnp.zeros_like, both)

    def stuck(share, baseline, x):  # in the smaller of two entries
        return {**straight(share, baseline, x), "x_mm": jnp.full(1, 77.0)}

    with pytest.raises(ValueError, match="is not the baseline in .*x_mm"):
        integrated_gradients(KEY, lambda key, x, n: x["x_mm"][:, None], both, none, way=stuck)


def test_the_result_names_its_parts(found):
    assert Attribution._fields == ("shares", "moments", "at_baseline", "gap", "n_nodes")
    assert found.shares["pattern"].shape == (4, N_SENSORS)


@pytest.fixture(scope="module")
def pattern_file(tmp_path_factory):
    """A flow on xenonnt's S2 patterns with random weights, in a file, and events for it."""
    detector = dmsim.load_detector("xenonnt")
    sensors = detector.light.sensors
    n_top = sensors.n_top
    at = np.stack([np.asarray(sensors.x_mm)[:n_top], np.asarray(sensors.y_mm)[:n_top]], axis=-1)
    place = priors.Disc(("x_mm", "y_mm"), "mm", radius=664.0)
    prior = priors.Prior(priors.Scalar("energy_kev", "keV", dist.Uniform(0.0, 20.0)), place)
    embedding = embeddings.HitPattern(
        tuple(map(tuple, at.tolist())), signal="s2_top_pe", n_out=6, width=6, n_neighbours=3
    )
    estimator = estimators.NPE(prior, embedding, flows.Coupling(n_layers=2, width=12, n_blocks=1, n_bins=4))
    layout = Layout((("s1_pe", ()), ("s2_top_pe", (n_top,))))
    network = estimator.untrained(jax.random.key(0), layout)
    held, rest = eqx.partition(network.flow, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(held)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [leaf + 0.3 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    flow = eqx.combine(jax.tree.unflatten(tree, noisy), rest)
    flow = eqx.tree_at(
        lambda f: [layer.conditioner.of_condition.weight for layer in f.layers],
        flow,
        replace_fn=lambda weight: 5 * weight,
    )  # data shall count
    network = eqx.tree_at(lambda net: net.flow, network, flow)
    posterior = estimator.posterior(network, layout)
    folder = tmp_path_factory.mktemp("patterns")
    empty = History(*([] for _ in dataclasses.fields(History)))
    fit = Fit(estimator, posterior, empty, Budget(n_simulations=1000))
    save_posterior(folder / "trained.npz", fit, detector=detector, diagnostics={"passed": True})
    random = np.random.default_rng(0)
    xy = random.uniform(-400, 400, (5, 1, 2))
    light = 400 / (1 + np.sum((xy - at) ** 2, axis=-1) / 70.0**2) ** 1.5
    pattern = random.poisson(light).astype(np.float32)
    table = pa.table({"event": [3, 4, 5, 6, 9], "s1_pe": [20.0] * 5, "s2_top_pe": list(pattern)})
    pq.write_table(table, folder / "events.parquet")
    return folder


def test_infer_writes_the_report_of_an_event(pattern_file, tmp_path, capsys):
    """Shares of a flow's moments add up; deletion's smallest p of 39 random orders is 1/40."""
    folder = pattern_file
    arguments = ["infer", str(folder / "events.parquet"), "--posterior", str(folder / "trained.npz")]
    arguments += ["--detector", "xenonnt", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--explain", "7"]) == 1
    assert "has no such event with data; it has 5, from 3 to 9" in capsys.readouterr().err
    assert main([*arguments, "--explain", "6"]) == 0, capsys.readouterr().err
    assert (tmp_path / "out" / "event_6.png").stat().st_size > 20_000
    found = json.loads((tmp_path / "out" / "result.json").read_text())["explained"]
    assert found["event"] == 6
    for row in found["parameters"].values():
        assert row["completeness_gap"] <= 0.01
        assert set(row["shares"]) == {"s1_pe", "s2_top_pe"}
        assert sum(row["shares"].values()) == pytest.approx(
            row["mean"] - row["mean_at_baseline"], abs=0.002 * row["standard_deviation"], rel=0.011
        )
    assert [p for row in found["parameters"].values() if (p := row["deletion_p"])] == [pytest.approx(1 / 40)]


def test_draws_of_chains_are_not_explained():
    with pytest.raises(ValueError, match="only posteriors of NPE"):
        of_kind(object(), 0)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (estimators.FMPE, "draws of flow matching solve an equation"),
        (estimators.NLE, "draws of a SampledPosterior are made by chains"),
    ],
)
def test_draws_without_a_gradient_are_refused(estimator, message):
    made = estimator(priors.Prior(priors.Scalar("energy_kev", "keV", dist.Uniform(0.0, 20.0))))
    layout = Layout((("s1_pe", (1,)), ("s2_pe", (1,))))
    posterior = made.posterior(made.untrained(jax.random.key(0), layout), layout)
    with pytest.raises(ValueError, match=message):
        check_explainable(posterior)
