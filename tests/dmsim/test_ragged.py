"""Pages of ragged lists: every child has one place, what has none is counted, few shapes exist."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim import ragged

RANDOM = np.random.default_rng(5)
COUNTS = {
    "random": RANDOM.poisson(5, 40),
    "many zeros": RANDOM.poisson(0.3, 60),
    "zeros at the ends": np.array([0, 0, 7, 0, 9, 1, 0]),
    "all zero": np.zeros(6, int),
    "one parent": np.array([33]),
    "full pages": np.array([4, 8, 4, 12]),
    "spread": np.array([1, 0, 300, 2, 0, 0, 45]),
}


def expected(counts):
    return [(parent, child) for parent, n in enumerate(counts) for child in range(n)]


def held(pages):
    parent = np.broadcast_to(np.asarray(pages.parent)[:, None], pages.child.shape)
    valid = np.asarray(pages.valid)
    return list(zip(parent[valid].tolist(), np.asarray(pages.child)[valid].tolist(), strict=True))


paginate = jax.jit(ragged.paginate, static_argnames=("page_size", "n_pages"))


def padded(counts):
    """The same with childless parents at the end, so that one shape is compiled."""
    return jnp.asarray(np.pad(counts, (0, 64 - len(counts))), jnp.int32)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("page_size", [1, 64])
def test_every_child_has_one_place(name, page_size):
    pages = paginate(padded(COUNTS[name]), page_size=page_size, n_pages=400)
    assert held(pages) == expected(COUNTS[name])
    assert int(pages.n_overflow) == 0


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("n_pages", [1, 5, 13])
def test_overflow_is_counted_exactly(name, n_pages):
    counts = COUNTS[name]
    pages = paginate(padded(counts), page_size=4, n_pages=n_pages)
    kept = held(pages)
    assert kept == expected(counts)[: len(kept)]
    assert int(pages.n_overflow) == counts.sum() - len(kept)
    needed = np.sum(-(-counts // 4))
    assert (int(pages.n_overflow) == 0) == (needed <= n_pages)


def test_no_parents():
    pages = ragged.paginate(jnp.zeros(0, jnp.int32), page_size=4, n_pages=3)
    assert held(pages) == []
    assert int(pages.n_overflow) == 0


def test_bucket_holds_what_is_needed_in_few_sizes():
    sizes = {ragged.bucket(n) for n in range(100_000)}
    assert len(sizes) == 27
    for n in [0, 1, 16, 17, 22, 23, 24, 31, 32, 33, 12_345, 99_999]:
        size = ragged.bucket(n)
        assert size >= n
        assert ragged.bucket(size) == size
        assert size == 16 or size <= np.sqrt(2) * (n + 1)


def test_the_largest_bucket():
    assert ragged.bucket(2**30) == 2**30
    assert ragged.bucket(2**24, page_size=64) == 2**24


@pytest.mark.parametrize(("needed", "page_size"), [(2**30 + 1, 1), (2**24 + 1, 64), (1e30, 16), (np.nan, 16)])
def test_more_than_the_largest_bucket_is_refused_in_one_line(needed, page_size):
    with pytest.raises(ValueError, match="more photons than the largest bucket") as error:
        ragged.bucket(needed, page_size=page_size)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_concrete_says_what_to_do_under_jit(transform):
    with pytest.raises(ValueError, match=r"simulate_hits needs concrete numbers .* call it outside"):
        transform(lambda x: ragged.concrete(x, what="simulate_hits"))(jnp.ones(3))


def test_concrete_works_under_grad_and_jvp():
    def twice(x):
        assert ragged.concrete(x, what="test") == 3.0
        return 2 * x

    assert jax.grad(twice)(3.0) == 2
    assert jax.jvp(twice, (3.0,), (1.0,))[1] == 2
