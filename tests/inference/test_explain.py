"""Integrated gradients on a sampler whose moments are known functions of the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference.explain import Attribution, deletion, figure, integrated_gradients

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


def test_the_result_names_its_parts(found):
    assert Attribution._fields == ("shares", "moments", "at_baseline", "gap", "n_nodes")
    assert found.shares["pattern"].shape == (4, N_SENSORS)
