"""Sets of cuts: trees of JAX, scales, penalties."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim.records import Areas
from dmsim.selection import Curve, CutSet, Radius, Range, columns_of

_N = 2000
_RANDOM = np.random.default_rng(0)
COLUMNS = {
    name: _RANDOM.normal(0, spread, _N) for name, spread in (("a_pe", 3.0), ("x_mm", 90), ("y_mm", 90))
}
CURVE = Curve("a_pe", (-3.0, 0.0, 3.0), (150.0, 200.0, 120.0))
CUTS = CutSet((Range("a", column="a_pe", low=-2.0, high=4.0), Radius("r", high=CURVE)))


def test_scales_are_the_spread_of_margins():
    scales = CUTS.scales(COLUMNS)
    # 2,000 events: 2 % standard deviation of a normal sample's central 68 %; five happen 6e-7 of the time
    assert scales["a"] == pytest.approx([3.0, 3.0], rel=0.1)
    assert scales["r"].shape == (1,)
    twice = CUTS.scales({name: 2 * values for name, values in COLUMNS.items()})
    assert twice["a"] == pytest.approx(2 * scales["a"])
    alike = {name: np.concatenate([values, values + 7]) for name, values in COLUMNS.items()}
    weights = np.repeat([1.0, 0.0], _N)
    assert CUTS.scales(alike, weights)["r"] == pytest.approx(scales["r"])


def test_scales_without_spread_are_not_zero():
    assert CUTS.scales({name: np.zeros(5) for name in COLUMNS})["a"].tolist() == [1.0, 1.0]
    mostly = {name: np.r_[np.zeros(99), 50.0] for name in COLUMNS}
    assert CUTS.scales(mostly)["a"] == pytest.approx([4.975] * 2, rel=0.01)


def test_roughness_is_in_units_of_the_scales():
    assert CUTS.roughness() == pytest.approx(CURVE.roughness())
    assert CUTS.roughness({"a": [1, 1], "r": [10.0]}) == pytest.approx(CURVE.roughness() / 100)


def test_a_set_multiplies_its_cuts():
    softness = {"a": [0.1, 0.4], "r": 20.0}
    together = CUTS.log_acceptance(COLUMNS, softness)
    apart = CUTS["a"].log_acceptance(COLUMNS, [0.1, 0.4]) + CUTS["r"].log_acceptance(COLUMNS, 20.0)
    np.testing.assert_allclose(together, apart)
    np.testing.assert_array_equal(CUTS.passes(COLUMNS), CUTS["a"].passes(COLUMNS) & CUTS["r"].passes(COLUMNS))
    with pytest.raises(ValueError, match="cut a: 3 values of softness for 2 sides"):
        CUTS.log_acceptance(COLUMNS, {"a": [1, 1, 1], "r": 1})


def test_far_outside_the_log_acceptance_keeps_its_slope():
    """In single precision a product of sigmoids would be 0 here, and so would its gradient."""
    columns = {"a_pe": jnp.array([-1000.0]), "x_mm": jnp.zeros(1), "y_mm": jnp.zeros(1)}
    value, slope = jax.jit(jax.value_and_grad(lambda cuts: cuts.log_acceptance(columns, 1.0).sum()))(CUTS)
    assert value == pytest.approx(-998.0)
    assert slope["a"].low == pytest.approx(-1.0)


def test_replaced_keeps_order():
    wider = CUTS["a"].with_thresholds(high=9.0)
    again = CUTS.replaced(wider)
    assert again.names == CUTS.names
    assert again["a"].high == 9.0
    assert again["a"].low == -2.0
    with pytest.raises(ValueError, match="there is no cut b"):
        CUTS.replaced(Range("b", column="a_pe", low=0.0))


def test_a_set_is_a_tree_of_its_thresholds():
    leaves, structure = jax.tree.flatten(CUTS)
    assert [np.size(leaf) for leaf in leaves] == [1, 1, 3]
    again = jax.tree.unflatten(structure, [2 * leaf for leaf in leaves])
    assert again["a"].high == 8.0
    assert again["r"].high.knots == CURVE.knots
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(CUTS)]
    assert paths == [".cuts[0].low", ".cuts[0].high", ".cuts[1].high.values"]


def test_gradient_reaches_what_made_the_events():
    """Areas inside compiled code: their radius grows with a factor, and one passes where it did not."""
    zeros = {name: jnp.zeros(_N) for name in Areas.__dataclass_fields__}

    @jax.jit
    def kept(factor):
        places = {"x_mm": factor * COLUMNS["x_mm"], "y_mm": factor * COLUMNS["y_mm"]}
        cut = Radius("r", high=150.0)
        return jnp.exp(cut.log_acceptance(columns_of(Areas(**zeros | places)), 15.0)).mean()

    assert float(jax.grad(kept)(1.0)) == pytest.approx(float(kept(1.01) - kept(0.99)) / 0.02, rel=1e-2)


def test_cuts_made_before_jax_was_loaded_become_trees():
    program = """
import sys
from dmsim.selection import CutSet, Range, register_trees
cuts = CutSet((Range("a", column="a_pe", low=1.0),))
assert "jax" not in sys.modules
import jax
register_trees()
print(jax.tree.leaves(cuts))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[1.0]", "")
