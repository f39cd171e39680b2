"""Curves through knots, and the band that is made of them."""

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from dmsim.selection import Band, Curve, percent_of_score, score_of_percent

KNOTS, VALUES = (1.0, 3.0, 4.0, 10.0, 30.0), (2.0, 5.0, 4.5, 4.6, 9.0)
X = np.linspace(-5, 50, 400)


def test_linear_is_numpys():
    np.testing.assert_allclose(Curve("x", KNOTS, VALUES).through(X), np.interp(X, KNOTS, VALUES), rtol=1e-12)


def test_log_axis_is_linear_in_the_logarithm():
    got = Curve("x", KNOTS, VALUES, axis="log").through(X)
    wanted = np.interp(np.log10(np.maximum(X, 1.0)), np.log10(KNOTS), VALUES)
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


@pytest.mark.parametrize("values", [VALUES, (1, 2, 4, 4.5, 9), (3, 1, 1, 2, -4)])
def test_monotone_cubic_is_scipys(values):
    got = Curve("x", KNOTS, tuple(map(float, values)), "monotone_cubic").through(X)
    wanted = PchipInterpolator(KNOTS, values)(np.clip(X, KNOTS[0], KNOTS[-1]))
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("interpolation", ["linear", "monotone_cubic"])
def test_no_overshoot(interpolation):
    values = Curve("x", KNOTS, (0.0, 0.0, 1.0, 1.0, 1.0), interpolation).through(X)
    assert values.min() >= 0
    assert values.max() <= 1 + 1e-12
    assert (np.diff(values) >= -1e-12).all()


def test_two_knots_are_a_straight_line_in_both():
    pair = [Curve("x", (1, 3), (2.0, 5.0), kind).through(X) for kind in ("linear", "monotone_cubic")]
    np.testing.assert_allclose(pair[0], pair[1], rtol=1e-12)


def test_roughness():
    """Zero for a straight line; for a parabola c u^2 the integral of (2 c)^2, less two half steps."""
    line = np.array(KNOTS)
    assert Curve("x", KNOTS, 3 * line - 1).roughness() == pytest.approx(0, abs=1e-20)
    assert Curve("x", KNOTS, 3 * np.log10(line), axis="log").roughness() == pytest.approx(0, abs=1e-20)
    u = np.linspace(0, 1, 201)
    assert Curve("x", tuple(7 + 5 * u), 1.5 * u**2).roughness() == pytest.approx(9.0, rel=0.01)
    assert Curve("x", (0, 1), (0.0, 9.0)).roughness() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"knots": (1, 1), "values": (0, 0)}, "ascending"),
        ({"knots": (1,), "values": (0,)}, "at least 2"),
        ({"knots": (0, 1), "values": (0, 0), "axis": "log"}, "log axis"),
        ({"knots": (0, 1), "values": (0, 0, 0)}, "one for each of 2 knots"),
        ({"knots": (0, 1), "values": (0, np.nan)}, "finite"),
        ({"knots": (0, 1), "values": (0, 0), "interpolation": "cubic"}, "linear, monotone_cubic"),
        ({"knots": (0, 1), "values": (0, 0), "axis": "log10"}, "must be one of linear, log"),
    ],
)
def test_a_wrong_curve_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Curve("cs1_pe", **options)


def _population(n, seed):
    random = np.random.default_rng(seed)
    cs1 = 10 ** random.uniform(0.3, 2.2, n)
    return {"cs1_pe": cs1, "cs2_pe": cs1 * 10 ** random.normal(2 - 0.3 * np.log10(cs1), 0.1 + 0.0005 * cs1)}


KNOTS_S1 = (3.0, 6.0, 12.0, 25.0, 50.0, 100.0)


@pytest.mark.parametrize("percent", [16.0, 50.0, 90.0])
def test_a_band_passes_its_percentile(percent):
    band = Band.of_population("band", _population(60_000, 1), knots_s1=KNOTS_S1, high_percent=percent)
    fresh = _population(60_000, 2)
    below = band.passes(fresh)
    for low, high in ((3, 7), (7, 20), (20, 50), (50, 100)):
        here = (fresh["cs1_pe"] > low) & (fresh["cs1_pe"] < high)
        # 7,000 events or more in each place, 5,000 around a knot: 0.9 % standard deviation; 4 % in any of
        # twelve happen by chance 1.3e-4 of the time
        assert 100 * below[here].mean() == pytest.approx(percent, abs=4)


def test_a_band_of_another_population_is_noticed():
    band = Band.of_population("band", _population(60_000, 1), knots_s1=KNOTS_S1, high_percent=50.0)
    shifted = _population(60_000, 2)
    shifted["cs2_pe"] = shifted["cs2_pe"] * 1.04
    assert abs(100 * band.passes(shifted).mean() - 50) > 4


def test_scores_go_on_beyond_the_outermost_quantiles():
    population = _population(60_000, 1)
    score = Band.of_population("band", population, knots_s1=KNOTS_S1, low=-1.0).variable(population)
    assert np.isfinite(score).all()
    assert score.min() < -3
    assert score.max() > 3
    # of a normal population scores are normal: 60,000 have a standard deviation known to 0.3 %
    assert score.std() == pytest.approx(1, abs=0.03)


def test_percentiles_and_scores():
    assert score_of_percent(84.1344746) == pytest.approx(1)
    assert percent_of_score(score_of_percent(3.0)) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="percentile is 100 %: must be between 0 and 100"):
        score_of_percent(100)


def test_a_band_refuses_a_reference_that_does_not_reach():
    with pytest.raises(ValueError, match="0 events of the reference lie around the knot at cs1_pe = 2000"):
        Band.of_population("band", _population(5000, 1), knots_s1=(3.0, 30.0, 2000.0), low=-1.0)
