"""Priors: every block's map to the unbounded vector, its density and its file."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from inference import priors
from inference.priors import Category, Disc, Prior, Scalar

LAWS = [
    dist.Uniform(1.0, 3.0),
    dist.Normal(1.0, 2.0),
    dist.TruncatedNormal(0.1, 0.02, low=0.0, high=0.2),
    dist.TruncatedNormal(0.0, 1.0, low=1.0),
    dist.TruncatedNormal(0.0, 1.0, high=-1.0),
    dist.LogNormal(1.0, 0.5),
    dist.LogUniform(1.0, 20.0),
    dist.Beta(2.0, 3.0),
    dist.Gamma(2.0, 1.0),
    dist.Exponential(2.0),
    dist.HalfNormal(1.0),
    dist.Cauchy(0.0, 1.0),
]
# one for each kind of support
BLOCKS = [
    Scalar("value_mm", "mm", dist.Uniform(1.0, 3.0)),
    Scalar("value_mm", "mm", dist.Normal(1.0, 2.0)),
    Scalar("value_mm", "mm", dist.LogNormal(1.0, 0.5)),
    Scalar("value_mm", "mm", dist.TruncatedNormal(0.0, 1.0, high=-1.0)),
    Disc(("x_mm", "y_mm"), "mm", radius=3.0),
]
IDS = ["interval", "real", "above", "below", "disc"]
EVENT = Prior(
    Scalar("energy_kev", "keV", dist.Uniform(1.0, 100.0)),
    Disc(("x_mm", "y_mm"), "mm", radius=600.0),
    Category("interaction", ("er", "nr"), (3.0, 1.0)),
)


@pytest.mark.parametrize("block", BLOCKS, ids=IDS)
def test_unbounded_and_back(x64, block):
    values = block.sample(jax.random.key(0), 200)
    u = block.to_unbounded(values)
    np.testing.assert_allclose(block.to_physical(u), values, rtol=1e-6)
    determinant = jnp.linalg.slogdet(jax.vmap(jax.jacfwd(block.to_physical))(u))[1]
    np.testing.assert_allclose(block.log_jacobian(u), determinant, atol=1e-6)
    assert block.inside(values).all()


@pytest.mark.parametrize("block", BLOCKS, ids=IDS)
def test_whatever_is_drawn_lies_inside(block):
    far = 12.0 * jax.random.normal(jax.random.key(1), (500, block.size))
    values = block.to_physical(far)
    assert block.inside(values).all()
    (low, high) = np.asarray(block.bounds).T
    assert (values >= low).all()
    assert (values <= high).all()


@pytest.mark.parametrize("block", [*(Scalar("a", "", law) for law in LAWS), BLOCKS[-1]])
def test_a_file_gives_the_same_prior(block):
    stated = Prior(block).to_json()
    read = priors.from_json(stated)
    assert read.to_json() == stated
    np.testing.assert_array_equal(read.bounds, Prior(block).bounds)


def test_disc_is_uniform():
    # mean of r^2 / R^2 is 1/2 with width 1 / sqrt(12 n): 5 sigma, false positives 6e-7
    draws = Disc(("x", "y"), "mm", radius=2.0).sample(jax.random.key(3), 100_000)
    share = np.sum(np.asarray(draws) ** 2, axis=1) / 4.0
    assert abs(share.mean() - 0.5) < 5 / np.sqrt(12 * len(share))
    assert abs(share.mean() - 0.51) > 5 / np.sqrt(12 * len(share))  # a disc of 1 % more r^2 would be seen


def test_columns_of_a_prior():
    assert EVENT.names == ("energy_kev", "x_mm", "y_mm", "interaction")
    assert EVENT.units == ("keV", "mm", "mm", "")
    assert (EVENT.n_parameters, EVENT.n_unbounded) == (4, 3)
    theta = EVENT.sample(jax.random.key(4), 4000)
    np.testing.assert_allclose(
        EVENT.to_physical(EVENT.to_unbounded(theta)), theta[:, :3], rtol=1e-3, atol=1e-2
    )
    expected = -np.log(99.0) - np.log(np.pi * 600.0**2) + np.log(np.where(theta[:, 3] == 0, 0.75, 0.25))
    np.testing.assert_allclose(EVENT.log_prob(theta), expected, rtol=1e-5)
    # 3 in 4 are the first label: 5 sigma, false positives 6e-7
    assert abs(float(jnp.mean(theta[:, 3] == 0)) - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 4000)


def test_outside_has_no_density_and_no_nan_gradient():
    prior = Prior(Scalar("a", "", dist.LogUniform(1.0, 2.0)))
    assert prior.log_prob(jnp.array([-1.0])) == -jnp.inf
    assert np.isfinite(jax.grad(lambda v: prior.log_prob(v[None]))(-1.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Prior, "at least one parameter"),
        (lambda: Prior(BLOCKS[0], BLOCKS[1]), "names value_mm twice"),
        (lambda: Prior(Category("k", ("a", "b")), BLOCKS[0]), "must be the last block"),
        (lambda: Disc(("x", "y"), "mm", radius=-1.0), "radius of the disc of x, y is -1.0 mm"),
        (lambda: Scalar("a", "mm", dist.Normal(jnp.zeros(2), 1.0)), "a scalar law is needed"),
        (lambda: Category("k", ("a",)), "two or more labels"),
        (
            lambda: EVENT.check_inside([[120.0, 0.0, 0.0, 0.0]]),
            "energy_kev is 120 keV, .* support 1 to 100 keV",
        ),
        (lambda: EVENT.check_inside([[10.0, 500.0, 500.0, 0.0]]), "the prior has no support at"),
        (lambda: EVENT.log_prob(jnp.zeros(3)), "3 values for the 4 parameters"),
        (lambda: Prior(Scalar("a", "", dist.Laplace(0.0, 1.0))).to_json(), "cannot be kept in a file"),
        (lambda: priors.from_json([{"block": "os.system"}]), "prior block 'os.system' is none of"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
