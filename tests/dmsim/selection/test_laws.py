"""Laws that hold for every kind of cut, by registry: a new kind needs a line in EXAMPLES."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim import selection
from dmsim.selection import KINDS, Curve, CutSet, Range, merit
from dmsim.selection.arrays import namespace

pytestmark = pytest.mark.quick_compile

_N = 300


def _events(n, seed):
    random = np.random.default_rng(seed)
    cs1 = random.uniform(3, 100, n)
    radius, angle = 600 * np.sqrt(random.uniform(0, 1, n)), random.uniform(0, 2 * np.pi, n)
    s2 = random.uniform(200, 2e4, n)
    return {
        "time_ns": np.sort(random.integers(0, 10**11, n)),
        "cs1_pe": cs1,
        "s2_pe": s2,
        "cs2_pe": cs1 * 10 ** random.normal(1.7 - 0.003 * cs1, 0.12, n),
        "alt_s2_pe": np.where(random.uniform(size=n) < 0.4, np.nan, s2 * random.uniform(0, 0.3, n)),
        "drift_time_ns": random.uniform(2e4, 2e6, n),
        "x_mm": radius * np.cos(angle),
        "y_mm": radius * np.sin(angle),
        "z_mm": random.uniform(-1400, 0, n),
        "s2_width_50_ns": random.uniform(500, 6000, n),
        "s2_area_fraction_top": random.normal(0.7, 0.05, n),
        "xy_misfit": random.normal(0, 2, n),
    }


EVENTS, REFERENCE = _events(_N, 5), _events(3000, 6)
_OF_S1 = {"of": "cs1_pe", "knots": (5.0, 20.0, 50.0, 90.0)}
_DIFFUSION = {"diffusion_mm2_per_us": 0.0045, "drift_velocity_mm_per_us": 0.7, "floor_ns": 300.0}

# one of each kind with numbers, and most with curves of both interpolations
EXAMPLES = {
    "range": selection.Range("a range", column="cs1_pe", low=5.0, high=70.0),
    "range, curve": selection.Range(
        "a range", column="s2_pe", low=Curve(**_OF_S1, values=(300.0, 900.0, 800.0, 2000.0), axis="log")
    ),
    "band": selection.Band.of_population(
        "a band", REFERENCE, knots_s1=(10, 50, 90), low_percent=16.0, high_percent=60.0
    ),
    "band, curve": selection.Band.of_population(
        "a band", REFERENCE, knots_s1=(10, 50, 90), high=Curve(**_OF_S1, values=(0.0, 0.3, -0.4, -0.2))
    ),
    "radius": selection.Radius("a radius", high=500.0),
    "radius, curve": selection.Radius(
        "a radius",
        high=Curve("z_mm", (-1400, -1000, -200, 0), (380.0, 520.0, 560.0, 450.0), "monotone_cubic"),
    ),
    "depth": selection.Depth("a depth", low=-1250.0, high=-90.0),
    "depth, curve": selection.Depth("a depth", low=Curve("r_mm", (0, 300, 600), (-1300.0, -1250.0, -1000.0))),
    "top_fraction": selection.TopFraction("a fraction", low=0.62, high=0.78),
    "top_fraction, curve": selection.TopFraction(
        "a fraction", high=Curve("s2_pe", (200, 2000, 2e4), (0.8, 0.76, 0.74), "monotone_cubic", "log")
    ),
    "single_scatter": selection.SingleScatter("one scatter", high=0.11),
    "hit_pattern": selection.HitPattern("a pattern", high=2.2),
    "width": selection.Width("a width", low=0.6, high=1.6, **_DIFFUSION),
    "width, curve": selection.Width(
        "a width", high=Curve("s2_pe", (200, 2000, 2e4), (2.2, 1.7, 1.3), axis="log"), **_DIFFUSION
    ),
    "time_veto": selection.TimeVeto("a veto", low=170.0, large_s2_pe=1.4e4),
    "time_shadow": selection.TimeShadow("a shadow", high=-4.2, large_s2_pe=5e3),
}
each_name = pytest.mark.parametrize("name", EXAMPLES)
each_cut = pytest.mark.parametrize("cut", EXAMPLES.values(), ids=EXAMPLES.keys())


def _reduced(cut, array=np.asarray):
    return {name: array(values) for name, values in cut.reduce(EVENTS).items()}


@pytest.fixture(scope="module")
def in_jax():
    """Margins of every example, and gradients of its figure and of one with a NaN: one program for all."""

    def everything(cuts, columns, broken, weights, scales):
        margins = {name: cut.margins(columns[name]) for name, cut in cuts.items()}
        figures = {name: _figure(cut, columns[name], weights, scales[name]) for name, cut in cuts.items()}
        passed = [told.log_acceptance(broken[name], scales[name]) for name, told in _passing(cuts).items()]
        return sum(figures.values()), sum(jnp.exp(one).sum() for one in passed), margins

    def gradients(*args):
        figure = jax.grad(lambda *args: everything(*args)[0])(*args)
        passing = jax.grad(lambda *args: everything(*args)[1])(*args)
        return figure, passing, everything(*args)[2]

    with jax.enable_x64(True):
        columns = {name: _reduced(cut, jnp.asarray) for name, cut in EXAMPLES.items()}
        broken = jax.tree.map(lambda values: values.at[17].set(jnp.nan), columns)
        scales = {name: _scale(cut) for name, cut in EXAMPLES.items()}
        return jax.device_get(jax.jit(gradients)(EXAMPLES, columns, broken, WEIGHTS, scales))


def _passing(cuts):
    """The same cuts where a NaN passes."""
    return {name: _with_missing(cut, "pass") for name, cut in cuts.items()}


def _with_missing(cut, missing):
    told = object.__new__(type(cut))  # thresholds may be tracers
    vars(told).update(vars(cut) | {"missing": missing})
    return told


def _numbers(cut):
    """Each number of the thresholds, as (side, place in its curve or None)."""
    for side in cut.sides:
        value = getattr(cut, side)
        places = range(len(value.knots)) if isinstance(value, Curve) else [None]
        yield from ((side, place) for place in places)


def _moved(cut, side, place, step):
    value = getattr(cut, side)
    if place is None:
        return cut.with_thresholds(**{side: value + step})
    values = np.array(value.values, float)
    values[place] += step
    curve = Curve(value.of, value.knots, values, value.interpolation, value.axis)
    return cut.with_thresholds(**{side: curve})


def _scale(cut):
    """Of the margins, one a side."""
    return CutSet((cut,)).scales(cut.reduce(EVENTS))[cut.name]


def test_every_kind_has_an_example():
    assert {name.split(",")[0] for name in EXAMPLES} == set(KINDS)
    assert all(cut.KIND == name.split(",")[0] for name, cut in EXAMPLES.items())
    assert all(KINDS[kind].__doc__ for kind in KINDS)


@each_cut
def test_a_cut_divides_the_events(cut):
    passed = cut.passes(EVENTS)
    assert passed.dtype == bool
    assert passed.shape == (_N,)
    assert 0.05 * _N < passed.sum() < 0.98 * _N


@each_cut
def test_hard_is_every_margin_positive(cut):
    margins = cut.margins(EVENTS)
    assert len(margins) == len(cut.sides)
    np.testing.assert_array_equal(cut.passes(EVENTS), np.all([margin > 0 for margin in margins], axis=0))


@each_name
def test_numpy_and_jax_agree(name, in_jax):
    cut = EXAMPLES[name]
    for one, other in zip(in_jax[2][name], cut.margins(EVENTS), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * _scale(cut).max())


@each_cut
def test_reduced_columns_give_the_same(cut):
    for one, other in zip(cut.margins(cut.reduce(EVENTS)), cut.margins(EVENTS), strict=True):
        np.testing.assert_array_equal(one, other)


def assert_soft_becomes_hard(cut):
    hard, scale = cut.passes(EVENTS), _scale(cut)
    gaps = [
        np.abs(np.exp(cut.log_acceptance(EVENTS, softness * scale)) - hard).mean()
        for softness in (0.3, 0.03, 1e-3, 1e-9)
    ]
    assert all(after < before for before, after in zip(gaps, gaps[1:], strict=False))
    assert gaps[-1] < 1e-6


@each_cut
def test_soft_becomes_hard(cut):
    assert_soft_becomes_hard(cut)


def assert_monotone(cut):
    scale = dict(zip(cut.sides, _scale(cut), strict=True))
    soft, hard = cut.log_acceptance(EVENTS, list(scale.values())), cut.passes(EVENTS)
    for side, place in _numbers(cut):
        outwards = -1 if side == "low" else 1
        step = outwards * 0.2 * scale[side]
        value = getattr(cut, side)
        if isinstance(value, Curve) and value.interpolation == "monotone_cubic":
            # one knot up can bring the curve down beyond its neighbour; all of them up cannot
            wider = cut
            for other in range(len(value.knots)):
                wider = _moved(wider, side, other, step)
        else:
            wider = _moved(cut, side, place, step)
        gain = wider.log_acceptance(EVENTS, list(scale.values())) - soft
        reached = gain[np.isfinite(gain)]
        assert (reached >= -1e-12).all()
        assert (reached > 1e-6).any()
        assert (wider.passes(EVENTS) >= hard).all()


@each_cut
def test_wider_thresholds_pass_more(cut):
    assert_monotone(cut)


WEIGHTS = np.random.default_rng(1).uniform(0, 1, _N)  # of signal in each event


def _figure(cut, columns, weights, scale):
    xp = namespace(*columns.values())
    accepted = xp.exp(cut.log_acceptance(columns, 0.3 * scale))
    signal = xp.sum(accepted * weights)
    background = xp.sum(accepted * (1 - weights))
    error = merit.background_error(background, xp.sum(accepted**2 * (1 - weights) ** 2), one_event=0.5)
    return merit.asimov_significance(signal, background, error)


@each_name
def test_gradient_of_the_smoothed_figure(name, in_jax):
    cut = EXAMPLES[name]
    columns, scale = cut.reduce(EVENTS), _scale(cut)
    for side, place in _numbers(cut):
        step = 1e-4 * scale[cut.sides.index(side)]
        up, down = (_figure(_moved(cut, side, place, d), columns, WEIGHTS, scale) for d in (step, -step))
        value = getattr(in_jax[0][name], side)
        ours = value if place is None else value.values[place]
        assert float(ours) == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-9 / scale.min())


@each_cut
def test_toml_round_trip(cut):
    text = selection.to_toml(CutSet((cut,)))
    (again,) = selection.from_toml(text)
    assert type(again) is type(cut)
    np.testing.assert_array_equal(again.margins(EVENTS), cut.margins(EVENTS))
    assert selection.to_toml(CutSet((again,))) == text


@each_cut
def test_a_missing_column_is_named(cut):
    for column in cut.columns:
        fewer = {name: values for name, values in EVENTS.items() if name != column}
        with pytest.raises(
            ValueError, match=rf"^cut {cut.name} needs column {column}: the events have [^\n]*$"
        ):
            selection.evaluate(fewer, cut)


# an event without S2 has predecessors all the same
@pytest.mark.parametrize("cut", [cut for cut in EXAMPLES.values() if not cut.KIND.startswith("time_")])
def test_a_nan_is_named_and_can_pass_or_fail(cut):
    column = next(name for name in cut.columns if name not in ("time_ns", "alt_s2_pe"))
    broken = EVENTS | {column: np.where(np.arange(_N) == 17, np.nan, EVENTS[column])}
    with pytest.raises(ValueError, match=rf"^cut {cut.name}: {column} is NaN in row 17 \(1 of 300 [^\n]*$"):
        selection.evaluate(broken, cut)
    for missing, passes in (("pass", True), ("fail", False)):
        told = _with_missing(cut, missing)
        assert selection.evaluate(broken, told).passed[17] == passes
        assert np.exp(told.log_acceptance(broken, 1.0))[17] == passes
        np.testing.assert_array_equal(np.delete(told.passes(broken), 17), np.delete(cut.passes(EVENTS), 17))


@each_name
def test_a_nan_that_may_pass_leaves_the_gradient_finite(name, in_jax):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(in_jax[1][name]))


@each_cut
def test_no_events_are_refused(cut):
    with pytest.raises(ValueError, match="^there are no events: nothing to evaluate$"):
        selection.evaluate({name: values[:0] for name, values in EVENTS.items()}, cut)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Backwards(Range):
    """A cut whose soft reading goes the wrong way."""

    def log_acceptance(self, events, softness):
        return -0.1 * super().log_acceptance(events, softness)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("law", [assert_soft_becomes_hard, assert_monotone])
def test_the_laws_notice_a_wrong_cut(law):
    right = Range("a range", column="cs1_pe", low=5.0, high=70.0)
    law(right)
    with pytest.raises(AssertionError):
        law(_Backwards(**vars(right)))
