"""Sets in Parquet files: what is written is read, and every way in which a file is wrong is one line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dmsim
from inference.estimators import Cached, draw_parquet, iterate_cached, read_cached, write_cached
from inference.priors import Category, Prior, Scalar

PRIOR = Prior(Scalar("energy_kev", "keV", dist.Uniform(1.0, 9.0)), Category("kind", ("er", "nr")))


def simulate(key, n):
    key_theta, key_x = jax.random.split(key)
    theta = PRIOR.sample(key_theta, n)
    noise = jax.random.normal(key_x, (n, 3, 2))
    return theta, {
        "areas": theta[:, :1, None] + noise,
        "there": noise[:, :, 0] > 0,
        "time_ns": noise[:, 0, 1],
    }


@pytest.fixture(scope="module")
def cached():
    return Cached.draw(jax.random.key(1), simulate, 20)


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("xenonnt")


@pytest.fixture
def path(tmp_path, cached, detector):
    out = tmp_path / "set.parquet"
    write_cached(
        out, cached, PRIOR, detector=detector, key=jax.random.key(1), x_units={"time_ns": "ns"}, rows=8
    )
    return out


def same(one, other):
    assert jax.tree.structure((one.theta, one.x)) == jax.tree.structure((other.theta, other.x))
    for a, b in zip(
        jax.tree.leaves((one.theta, one.x)), jax.tree.leaves((other.theta, other.x)), strict=True
    ):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_what_is_written_is_read(path, cached, detector):
    same(read_cached(path, PRIOR, detector=detector), cached)
    assert [len(part) for part in iterate_cached(path, PRIOR)] == [8, 8, 4]
    schema = pq.read_schema(path)
    assert schema.names == ["theta.energy_kev", "theta.kind", "x.areas", "x.there", "x.time_ns"]
    assert schema.field("theta.energy_kev").metadata == {b"unit": b"keV"}
    assert schema.field("x.time_ns").metadata == {b"unit": b"ns"}
    stated = json.loads(schema.metadata[b"dmsim.cached"])
    assert stated["detector"]["name"] == "xenonnt"
    assert stated["key"] == np.asarray(jax.random.key_data(jax.random.key(1))).tolist()


def test_an_array_without_a_name(tmp_path, cached):
    one = Cached(cached.theta, cached.x["areas"])
    write_cached(tmp_path / "set.parquet", one, PRIOR)
    same(read_cached(tmp_path / "set.parquet", PRIOR), one)


def test_drawn_into_a_file_group_by_group(tmp_path):
    draw_parquet(jax.random.key(1), tmp_path / "set.parquet", simulate, PRIOR, 20, rows=8)
    same(read_cached(tmp_path / "set.parquet", PRIOR), Cached.draw(jax.random.key(1), simulate, 20, chunk=8))


def damaged(path, change):
    table = change(pq.read_table(path))
    pq.write_table(table, path)


def with_nan(table):
    values = table["x.time_ns"].to_numpy().copy()
    values[3] = np.nan
    return table.set_column(4, table.schema.field(4), pa.array(values))


def without_metadata(table):
    return table.replace_schema_metadata({})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_nan, r"x\['time_ns'\] is not finite in 1 of 20 events, first in event 3"),
        (lambda table: table.drop_columns(["x.there"]), "has no column x.there"),
        (lambda table: table.slice(0, 12), "has 12 rows: it was written with 20"),
        (without_metadata, "is no set of simulated pairs"),
    ],
)
def test_a_wrong_table_is_one_line(path, change, message):
    damaged(path, change)
    with pytest.raises(ValueError, match=message) as caught:
        read_cached(path, PRIOR)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["end", "middle"])
def test_a_damaged_file_is_one_line(path, where):
    content = bytearray(path.read_bytes())
    if where == "end":
        content = content[: len(content) // 2]
    else:
        content[60:70] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"set\.parquet is no Parquet file, or is damaged") as caught:
        read_cached(path, PRIOR)
    assert "\n" not in str(caught.value)


def test_another_prior_or_detector_is_refused(path, tmp_path, cached, detector):
    wider = Prior(Scalar("energy_kev", "keV", dist.Uniform(1.0, 10.0)), PRIOR.blocks[1])
    with pytest.raises(ValueError, match="another prior: with other laws, ranges or units"):
        read_cached(path, wider)
    with pytest.raises(ValueError, match="another prior: of energy_kev, kind, not of depth_mm"):
        read_cached(path, Prior(Scalar("depth_mm", "mm", dist.Uniform(1.0, 9.0))))
    with pytest.raises(ValueError, match="with detector xenonnt, not lux"):
        read_cached(path, PRIOR, detector=dmsim.load_detector("lux"))
    moved = jax.tree.map(
        lambda leaf: leaf * 1.01 if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, detector.light
    )
    with pytest.raises(ValueError, match="with xenonnt, but with other parameters"):
        read_cached(path, PRIOR, detector=type(detector)(**{**vars(detector), "light": moved}))
    write_cached(tmp_path / "no.parquet", cached, PRIOR)
    with pytest.raises(ValueError, match="does not say which detector"):
        read_cached(tmp_path / "no.parquet", PRIOR, detector=detector)


def test_a_bad_set_is_not_written(tmp_path, cached):
    out = tmp_path / "set.parquet"
    bad = {**cached.x, "time_ns": np.full(20, np.nan, np.float32)}
    for one, message in (
        (Cached(cached.theta, bad), "'time_ns'"),
        (Cached(cached.theta * np.float32(2.0), cached.x), "its prior has support"),
        (Cached(cached.theta[:, :1], cached.x), "the prior has energy_kev, kind"),
        (Cached(cached.theta[:0], jax.tree.map(lambda part: part[:0], cached.x)), "one or more"),
        (Cached(cached.theta, cached.x, cached.theta[:, :1]), "leave out the joint score"),
    ):
        with pytest.raises(ValueError, match=message):
            write_cached(out, one, PRIOR)
    with pytest.raises(ValueError, match="leave out the joint score"):
        draw_parquet(jax.random.key(1), out, lambda key, n: (*simulate(key, n), jnp.zeros((n, 1))), PRIOR, 20)
    with pytest.raises(ValueError, match="no entry 'energy'"):
        write_cached(out, cached, PRIOR, x_units={"energy": "keV"})
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_cached(out, PRIOR)
