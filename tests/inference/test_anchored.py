"""An anchored flow is a normalised law whatever its anchors are, and starts as a normal around them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference import embeddings, flows

MEAN, LOG_WIDTH = jnp.array([0.3, -0.2, 1.0]), jnp.log(jnp.array([0.01, 0.2, 3.0]))
ANGLE = 0.7


def condition(n, *, kind=None, plane=True):
    other = (MEAN + 5.0, LOG_WIDTH - 1.0)  # of a kind that the event is not
    anchors = [MEAN, LOG_WIDTH] if kind is None else [MEAN, LOG_WIDTH, *other]
    turn = [jnp.array([jnp.cos(ANGLE), jnp.sin(ANGLE)])] if plane else []
    last = [] if kind is None else [jax.nn.one_hot(kind, 2)]
    row = jnp.concatenate([*anchors, *turn, jnp.array([0.5, -1.0]), *last])
    return jnp.tile(row, (n, 1))


def built(given, **options):
    return flows.Anchored(n_layers=2, width=8, n_blocks=1, **options).build(
        jax.random.key(0), 3, given.shape[1]
    )


def test_starts_as_a_normal_around_the_anchor_of_its_kind():
    """An untrained flow is near the identity; 4,000 draws tell that to 0.02."""
    given = condition(1, kind=0)
    draws = built(given, n_kinds=2, plane=(1, 2)).sample(jax.random.key(1), given, 4000)[0]
    cos, sin = np.cos(ANGLE), np.sin(ANGLE)
    away = np.asarray(draws) - np.asarray(MEAN)
    turned = np.stack([away[:, 0], cos * away[:, 1] + sin * away[:, 2], cos * away[:, 2] - sin * away[:, 1]])
    width = np.exp(np.asarray(LOG_WIDTH))
    np.testing.assert_allclose(turned.mean(axis=1) / width, 0, atol=0.6)
    np.testing.assert_allclose(turned.std(axis=1) / width, 1, atol=0.4)
    # must fail: without the turn the second width is that of a mixture
    assert abs(away[:, 1].std() / width[1] - 1) > 3


@pytest.mark.parametrize("options", [{}, {"n_kinds": 2}, {"n_kinds": 2, "plane": (1, 2)}])
def test_density_of_draws_is_that_of_their_noise(options):
    given = condition(5, kind=1 if options.get("n_kinds") else None, plane="plane" in options)
    flow = built(given, **options)
    noise = jax.random.normal(jax.random.key(2), (5, 1, 3))
    values = flow.push(noise, given)[:, 0]

    def one(z, row):
        return flow.push(z[None, None], row[None])[0, 0]

    slope = jax.vmap(jax.jacfwd(one))(noise[:, 0], given)
    log_normal = jax.scipy.stats.norm.logpdf(noise[:, 0]).sum(axis=1)
    expected = log_normal - jnp.linalg.slogdet(slope)[1]
    np.testing.assert_allclose(flow.log_prob(values, given), expected, atol=3e-4)
    assert np.max(np.abs(flow.log_prob(values + 0.01, given) - expected)) > 0.1  # must fail


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="plane is \\(1,\\)"):
        flows.Anchored(plane=(1,))
    with pytest.raises(ValueError, match="anchors of 3 parameters and 1 kinds take 6"):
        flows.Anchored().build(jax.random.key(0), 3, 5)


def test_files_know_them():
    assert flows.KINDS["anchored"] is flows.Anchored
    assert embeddings.KINDS["raw"] is embeddings.Raw
    raw = embeddings.Raw().build(jax.random.key(0), {"": (3,)})
    np.testing.assert_array_equal(raw(jnp.arange(3.0)), [0.0, 1.0, 2.0])
