"""Speed and diffusion of electrons in the liquid against the tables that NEST prints."""

import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim.detector import liquid

pytestmark = pytest.mark.quick_compile

TABLE = Path(__file__).parents[2] / "data" / "nest" / "drift_diffusion.csv"


@pytest.fixture(scope="module")
def table():
    with TABLE.open() as lines:
        rows = list(csv.DictReader(lines))
    return {name: np.array([float(row[name]) for row in rows], np.float32) for name in rows[0]}


speeds = jax.jit(jax.vmap(liquid.speed_mm_per_us))


def test_speed_is_that_of_nest(table):
    fields, temperatures = jnp.asarray(table["field_Vcm"]), jnp.asarray(table["T_K"])
    np.testing.assert_allclose(speeds(fields, temperatures), table["v_mm_us"], rtol=1e-5)
    with pytest.raises(AssertionError):  # the twin: half a kelvin warmer
        np.testing.assert_allclose(speeds(fields, temperatures + 0.5), table["v_mm_us"], rtol=1e-3)


@pytest.mark.parametrize(
    ("curve", "column"), [(1, "DL_cm2_s_low_default"), (2, "DL_cm2_s_central"), (3, "DL_cm2_s_high")]
)
def test_longitudinal_diffusion_is_that_of_nest(table, curve, column):
    found = liquid.longitudinal_cm2_per_s(jnp.asarray(table["field_Vcm"]), curve)
    np.testing.assert_allclose(found, table[column], rtol=1e-5)


def test_transverse_diffusion_is_that_of_nest(table):
    found = liquid.transverse_cm2_per_s(jnp.asarray(table["field_Vcm"]))
    np.testing.assert_allclose(found, table["DT_cm2_s"], rtol=1e-5)


def test_speed_vanishes_with_the_field():
    speed = np.asarray(speeds(jnp.array([0.0, 1.0, 5.0, 9.99, 10.01]), jnp.full(5, 176.7)))
    assert speed[0] == 0
    assert speed[2] == pytest.approx(5 * speed[1], rel=1e-5)
    assert speed[3] == pytest.approx(speed[4], rel=5e-3)
