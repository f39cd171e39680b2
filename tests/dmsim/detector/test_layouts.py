import numpy as np
import pytest

from dmsim.detector.layouts import Hexagonal, Points, Rings


@pytest.mark.parametrize("count", [1, 7, 13, 19, 61, 121, 241, 253])
def test_hexagonal_has_its_count_and_pitch(count):
    x, y = Hexagonal(count, 80.0, 17.0).positions()
    assert x.size == y.size == count
    assert np.hypot(x.mean(), y.mean()) < 1e-9
    if count > 1:
        distance = np.hypot(x[:, None] - x, y[:, None] - y) + 1e9 * np.eye(count)
        np.testing.assert_allclose(distance.min(axis=1), 80.0, rtol=1e-12)


def test_hexagonal_rows_follow_the_rotation():
    x, y = Hexagonal(7, 10.0, 0.0).positions()
    np.testing.assert_allclose(x[:2], [-5, 5], atol=1e-9)
    np.testing.assert_allclose(y, [10 * np.sqrt(3) / 2] * 2 + [0] * 3 + [-10 * np.sqrt(3) / 2] * 2, atol=1e-9)


@pytest.mark.parametrize("count", [2, 8, 254, 60])
def test_cut_shells_are_refused(count):
    with pytest.raises(ValueError, match=f"count {count} cuts a shell"):
        Hexagonal(count, 80.0, 0.0).positions()


def test_rings():
    x, y = Rings((4, 1), (10.0, 0.0), 90.0).positions()
    np.testing.assert_allclose(x, [0, 10, 0, -10, 0], atol=1e-9)
    np.testing.assert_allclose(y, [10, 0, -10, 0, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Rings((4, 1), (10.0,), 0.0), "counts has 2 entries, radii_mm has 1"),
        (Rings((4.5,), (10.0,), 0.0), "whole numbers"),
        (Points((1.0, 2.0), (1.0,)), "x_mm has 2 entries, y_mm has 1"),
    ],
)
def test_lists_that_do_not_fit(layout, message):
    with pytest.raises(ValueError, match=message):
        layout.positions()
