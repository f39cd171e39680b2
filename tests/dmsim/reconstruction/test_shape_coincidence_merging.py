"""Shapes, coincidence and merging against plain references; margins against what they decide."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_splitting as plain
import pytest

from dmsim.reconstruction import Settings, coincidence, margins
from dmsim.reconstruction.classify import classify
from dmsim.reconstruction.coincidence import count_sensors, tight_coincidence
from dmsim.reconstruction.merging import merge_pieces
from dmsim.reconstruction.settings import Classification, Coincidence, Merging
from dmsim.reconstruction.shape import shapes_of
from dmsim.reconstruction.tables import HitTable, Windows
from dmsim.records import Signal

DT = 10


def random_pieces(random, n):
    """Ragged waveforms with dips and zeros, some of no area, at distances of 0 to 500 ns."""
    length = random.integers(1, 30, n)
    offset = np.append(0, np.cumsum(length))
    total = random.integers(-4, 12, offset[-1]) * (random.random(offset[-1]) < 0.7)
    start = np.cumsum(random.integers(0, 50, n) * DT + np.append(0, length[:-1]) * DT)
    return start, offset, total


def test_shapes_equal_their_definition(random):
    start, offset, total = random_pieces(random, 300)
    first = np.unique(np.append([0, 300], random.integers(0, 300, 150)))
    shapes = shapes_of(start, offset, total, DT, first_piece=first)
    for peak, (a, b) in enumerate(zip(first[:-1], first[1:], strict=True)):
        samples = total[offset[a] : offset[b]]
        times = np.concatenate(
            [start[p] - start[a] + np.arange(offset[p + 1] - offset[p]) * DT for p in range(a, b)]
        )
        assert shapes.maximum_ns[peak] == times[np.argmax(samples)]
        if samples.sum() <= 0:
            assert np.isnan(shapes.decile_ns[peak]).all()
            assert np.isnan(shapes.center_ns[peak])
            continue
        expected = [float(plain.quantile_time(samples, times.tolist(), DT, k)) for k in range(21)]
        np.testing.assert_allclose(shapes.decile_ns[peak], expected[::2], rtol=1e-13)
        widths = [expected[10 + k] - expected[10 - k] for k in range(11)]
        np.testing.assert_allclose(shapes.width_ns[peak], widths, rtol=1e-12, atol=1e-10)
        center = np.sum(samples * (times + DT / 2)) / samples.sum()
        assert shapes.center_ns[peak] == pytest.approx(center)
        assert np.all(np.diff(shapes.decile_ns[peak]) >= 0)


def test_shapes_of_what_is_known():
    flat = np.array([0, 3, 3, 3, 3, 0])
    shapes = shapes_of(np.array([0]), np.array([0, 6]), flat, DT)
    np.testing.assert_allclose(shapes.decile_ns[0], 10 + 4 * np.arange(11))
    np.testing.assert_allclose(shapes.width_ns[0], 4 * np.arange(11))
    assert (shapes.rise_ns[0], shapes.center_ns[0], shapes.maximum_ns[0]) == (16, 30, 10)
    # two halves 1 us apart: half of the area has come when the first ends
    halves = shapes_of(
        np.array([0, 1000]), np.array([0, 2, 4]), np.ones(4, np.int64), DT, first_piece=np.array([0, 2])
    )
    np.testing.assert_allclose(halves.decile_ns[0, [0, 5, 6, 10]], [0, 20, 1004, 1020])
    none = shapes_of(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64), DT)
    assert none.decile_ns.shape == (0, 11)


def random_hits(random, n, n_sensors):
    start = np.sort(random.integers(0, 40_000, n)) * DT
    width = random.integers(1, 12, n)
    width[random.random(n) < 0.01] = 300  # a few that reach far
    late = (random.random(n) * width).astype(np.int64)
    none = np.zeros(n, np.int64)
    channel = random.integers(0, n_sensors, n)
    return HitTable(
        start, start + width * DT, start + late * DT, channel, none, none, none, np.zeros(n, bool)
    )


@pytest.mark.parametrize(("left", "right"), [(50.0, 50.0), (0.0, 0.0), (35.5, 2000.0)])
def test_coincidence_equals_its_definition(random, left, right):
    hits = random_hits(random, 2000, 20)
    maximum = np.sort(random.choice(hits.max_time_ns, 100, replace=False))
    found = tight_coincidence(Coincidence(left, right), hits, maximum, 20)
    assert found.tolist() == plain.sensors_near(hits, maximum, left, right)
    assert len(tight_coincidence(Coincidence(left, right), hits, maximum[:0], 20)) == 0
    empty = hits.rows(slice(0, 0))
    assert not tight_coincidence(Coincidence(left, right), empty, maximum, 20).any()


def test_one_long_hit_costs_the_others_nothing(random):
    """Whatever reaches far, each peak looks at the hits of its own time alone."""
    hits, settings = random_hits(random, 200_000, 20), Coincidence(0.0, 0.0)
    hits.end_ns[0] = hits.time_ns[-1]
    maximum = np.sort(random.choice(hits.max_time_ns, 20_000))
    found = tight_coincidence(settings, hits, maximum, 20)
    peak, hit = coincidence._near(settings, hits.max_time_ns, maximum)
    assert np.array_equal(hits.max_time_ns[hit], maximum[peak])
    # the twin: from the first hit that reaches so far, each peak would look at half of all
    reached = np.searchsorted(np.maximum.accumulate(hits.end_ns), maximum)
    looked_at = np.searchsorted(hits.time_ns, maximum, side="right") - reached
    assert looked_at.sum() > 100 * len(peak)
    for peak in range(0, 20_000, 500):
        assert found[peak] == len(set(hits.channel[hits.max_time_ns == maximum[peak]]))


def test_sensors_are_counted_once(random):
    peak, channel = random.integers(-1, 9, 500), random.integers(0, 30, 500)
    expected = [len(set(channel[peak == p])) for p in range(9)]
    assert count_sensors(peak, channel, 9, 30).tolist() == expected


@pytest.mark.parametrize("max_duration_ns", [50_000.0, 3_000.0, 0.0])
def test_merging_equals_one_gap_after_the_other(random, max_duration_ns):
    settings = Merging(max_duration_ns=max_duration_ns)
    for _ in range(30):
        n = int(random.integers(0, 60))
        gap = np.where(random.random(n) < 0.2, 0, 10 ** random.uniform(1, 5, n)).astype(np.int64)
        length = random.integers(10, 3000, n)
        start = np.cumsum(gap + np.append(0, length[:-1]) if n else gap)
        windows = Windows(start, start + length)
        area, signal = 10 ** random.uniform(0.5, 4.7, n), random.choice(3, n, p=[0.2, 0.1, 0.7])
        first = merge_pieces(settings, windows, area, signal)
        found = [list(range(a, b)) for a, b in zip(first[:-1], first[1:], strict=True)]
        assert found == plain.merged(settings, start, start + length, area, signal)


def test_every_cut_of_the_classification_decides_as_stated(random):
    """Hard classes are those of the cuts written out, at their thresholds too."""
    n, s = 4000, Classification(s1_min_coincidence=3)
    area = random.choice([0.0, 9.99, 10, 19.9, 20, 249.9, 250, 1e4, -1, np.nan], n)
    rise = random.choice([20.0, 80, 80.5, 100, 100.1, 120, 120.1, 130, 400, np.nan], n)
    top = random.choice([0.0, 0.3, 0.5, 0.51, 0.6, 0.9, np.nan], n)
    sensors, tight = random.integers(0, 6, n), random.integers(0, 6, n)
    with np.errstate(invalid="ignore", over="ignore"):
        by_area = 50 * np.exp(-np.maximum(area, 0) / 12) + 80
        by_top = np.where(top >= 0.6, 100.0, 10 ** (2.6 - top))
        fast = np.where(area < 250, (rise < by_area) & (rise < by_top), rise <= 120)
        s1 = fast & (tight >= 3)
        s2 = ~s1 & (rise > by_area) & (sensors >= 4) & (area >= 10) & (top > 0.5)
        s2 &= (tight >= 3) | (area >= 20)
    found = classify(
        s, area_pe=area, area_fraction_top=top, rise_time_ns=rise, n_sensors=sensors, tight_coincidence=tight
    )
    assert np.array_equal(found, np.select([s1, s2], [Signal.S1, Signal.S2], Signal.UNKNOWN))
    assert all((found == signal).sum() > 20 for signal in (Signal.UNKNOWN, Signal.S1, Signal.S2))


def test_margins_are_the_same_in_both_namespaces(random):
    """And the chance of a class is a chance, for any chances of the cuts."""
    settings = Settings(classification=Classification(s1_min_coincidence=3))
    area, rise, top = 10 ** random.uniform(0, 5, 100), 10 ** random.uniform(0, 4, 100), random.random(100)
    count = random.integers(0, 9, 100)

    def everything(xp, area, rise, top, count):
        values = (xp.asarray(area), xp.asarray(rise), xp.asarray(top), xp.asarray(count))
        area, rise, top, count = values
        cuts = margins.classes(
            settings.classification, area_pe=area, area_fraction_top=top, rise_time_ns=rise,
            n_sensors=count, tight_coincidence=count, xp=xp,
        )  # fmt: skip
        return [
            *cuts,
            *margins.merge(settings.merging, rise, area, rise, xp=xp),
            margins.split(settings.splitting, top, area, rise, xp=xp),
            margins.split_area(settings.splitting, area),
            margins.local_minimum(settings.splitting, area, rise, xp=xp),
            margins.coincidence(settings.coincidence, rise, xp=xp),
            margins.gap(settings.clustering, rise),
        ]

    hard = everything(np, area, rise, top, count)
    with jax.enable_x64(True):
        soft = jax.jit(everything, static_argnums=0)(jnp, area, rise, top, count)
        for one, other in zip(hard, soft, strict=True):
            np.testing.assert_allclose(np.asarray(other), one, rtol=1e-10, atol=1e-9)
    chance = margins.ClassMargins(*random.random((10, 1000)))
    s1, s2 = margins.s1_and_s2(chance)
    assert np.all((s1 >= 0) & (s2 >= -1e-12) & (s1 <= 1) & (s2 <= 1))
