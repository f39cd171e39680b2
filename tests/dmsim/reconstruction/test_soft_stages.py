"""Each decision of the soft reading at temperature 0 is the hard one; above it, the mean over jitter."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim.reconstruction import margins
from dmsim.reconstruction.classify import classify
from dmsim.reconstruction.host import splitting as host
from dmsim.reconstruction.settings import Settings, Splitting
from dmsim.reconstruction.soft import boundaries as chances_of
from dmsim.reconstruction.soft import decisions, pairing, splitting, trees
from dmsim.reconstruction.soft.segments import product_before
from dmsim.reconstruction.soft.temperature import Temperature
from dmsim.records import Signal
from dmsim.relax import decide

COLD, WARM = Temperature().scaled(0.0), Temperature()
SETTINGS = Settings(splitting=Splitting(method="natural_breaks"))


def test_decide_is_a_step_when_cold_and_the_mean_over_logistic_noise_when_warm():
    margin = jnp.array([-1.0, 0.0, 1.0, jnp.nan])
    np.testing.assert_array_equal(decide(margin, 0.0), [0, 0, 1, 0])
    np.testing.assert_array_equal(decide(margin, 0.0, at_zero=True), [0, 1, 1, 0])
    # 40,000 draws: 5 standard errors are 6e-7 a number
    noise = np.random.default_rng(1).logistic(size=40_000)
    frequency = np.mean(np.asarray(margin)[:3, None] + 0.7 * noise > 0, axis=1)
    np.testing.assert_allclose(decide(margin, 0.7)[:3], frequency, atol=5 * 0.0025)
    assert abs(decide(1.0, 0.9) - frequency[2]) > 5 * 0.0025  # twin: another temperature
    np.testing.assert_array_equal(decide(margin, 0.7, straight_through=True), [0, 0, 1, 0])
    through = jax.grad(lambda m: decide(m, 0.7, straight_through=True))(0.3)
    np.testing.assert_allclose(through, jax.grad(lambda m: decide(m, 0.7))(0.3), rtol=1e-6)
    assert np.isfinite(jax.grad(lambda m: decide(m, 0.0))(0.3))


def test_a_temperature_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"temperature.rise_ns is -1.0 ns: must be >= 0"):
        Temperature(rise_ns=-1.0)


def some_peaks(n=4000):
    random = np.random.default_rng(2)
    return {
        "area_pe": 10 ** random.uniform(0, 4, n),
        "area_fraction_top": random.uniform(0, 1, n),
        "rise_time_ns": 10 ** random.uniform(1, 3.5, n),
    }, random.uniform(size=(2, n, 6)) < random.uniform(size=(2, n, 1))


def test_classes_sum_to_one_and_are_the_hard_ones_when_cold(x64):
    columns, (sees, at_once) = some_peaks()
    at_once &= sees
    settings = Settings.__dataclass_fields__["classification"].default_factory(s1_min_coincidence=3)
    warm = decisions.classes(settings, WARM, **columns, sees=sees * 1.0, sees_at_once=at_once * 1.0)
    np.testing.assert_allclose(warm.s1 + warm.s2 + warm.unknown, 1.0)
    assert all(float(jnp.min(p)) >= -1e-12 for p in warm)
    assert float(jnp.mean((warm.s1 > 0.01) & (warm.s1 < 0.99))) > 0.01
    cold = decisions.classes(settings, COLD, **columns, sees=sees * 1.0, sees_at_once=at_once * 1.0)
    hard = classify(settings, **columns, n_sensors=sees.sum(axis=1), tight_coincidence=at_once.sum(axis=1))
    assert {0, 1, 2} == set(hard.tolist())
    for chance, signal in ((cold.s1, Signal.S1), (cold.s2, Signal.S2), (cold.unknown, Signal.UNKNOWN)):
        np.testing.assert_array_equal(chance, hard == int(signal))


def test_the_chance_of_n_sensors_is_that_of_drawn_hits():
    chance = np.array([[0.9, 0.5, 0.3, 0.2, 0.7], [1.0, 0.0, 1.0, 0.0, 1.0]])
    # 20,000 draws: 5 standard errors are 6e-7 a number
    drawn = (np.random.default_rng(3).uniform(size=(20_000, 2, 5)) < chance).sum(axis=2)
    for n in (0, 1, 3, 5):
        ours = decisions.at_least(jnp.asarray(chance), n)
        np.testing.assert_allclose(ours, (drawn >= n).mean(axis=0), atol=5 * 0.0036)
        assert float(ours[1]) == (n <= 3)
    # twin: sensors counted in the mean, not one by one
    mean = np.repeat(chance.mean(axis=1, keepdims=True), 5, axis=1)
    assert abs(decisions.at_least(jnp.asarray(mean), 5)[0] - (drawn[:, 0] >= 5).mean()) > 5 * 0.001


def test_a_sensor_sees_with_any_of_its_hits():
    chance = jnp.array([0.5, 0.5, 1.0, 0.2])
    np.testing.assert_allclose(
        decisions.any_of(chance, jnp.array([0, 0, 1, 1]), 3), [0.75, 1.0, 0.0], rtol=1e-6
    )


def pulses(n=60, seed=4):
    random = np.random.default_rng(seed)
    wave = np.zeros((6, n))
    for i in range(6):
        for at, size in ((12, 50), (20 + 5 * i, 40)):
            wave[i] += size * np.exp(-0.5 * ((np.arange(n) - at) / 3.0) ** 2)
    return wave + 0.2 * random.normal(size=wave.shape)


@pytest.mark.parametrize("half", [0, 4])
def test_goodness_of_split_is_that_of_the_hard_search(x64, half):
    wave = pulses()
    whole = np.rint(wave * 2**20).astype(np.int64)
    offset = np.arange(7) * wave.shape[1]
    goodness, cut = host.natural_breaks(offset[:-1], offset[1:], whole.reshape(-1), half)
    n = jnp.full(6, wave.shape[1])
    ours = splitting.goodness_of_split(jnp.asarray(wave), n, jnp.asarray(cut), jnp.asarray(float(half)))
    np.testing.assert_allclose(ours, goodness, rtol=1e-5)
    assert not np.allclose(
        splitting.goodness_of_split(jnp.asarray(wave), n, jnp.asarray(cut + 1), jnp.asarray(float(half))),
        goodness,
        rtol=1e-5,
    )


def test_local_minimum_is_that_of_the_hard_search(x64):
    wave = pulses()
    whole = np.rint(wave * 2**20).astype(np.int64)
    offset = np.arange(7) * wave.shape[1]
    minimum, side, first = host.minimum_and_sides(offset[:-1], offset[1:], whole.reshape(-1), 3)
    cut = np.array([15, 18, 20, 22, 25, 28])
    ours = splitting._minimum_and_side(
        jnp.asarray(wave), jnp.full(6, wave.shape[1]), jnp.asarray(cut), jnp.asarray(3.0)
    )
    for value, reference in zip(ours, (minimum, side), strict=True):
        np.testing.assert_allclose(value, reference[first[:-1] + cut - 1] / 2**20, atol=1e-4)


def test_split_and_merge_are_steps_when_cold(x64):
    wave = jnp.asarray(pulses())
    s = SETTINGS.splitting
    common = {"area_pe": jnp.sum(wave, axis=1), "rise_ns": jnp.full(6, 60.0), "dt": 10}
    args = (wave, jnp.full(6, 60), jnp.array([15, 18, 20, 22, 25, 28]))
    cold, warm = (splitting.split(s, t, *args, **common) for t in (COLD, WARM))
    goodness = splitting.goodness_of_split(*args, jnp.asarray(7.0))
    hard = margins.split(s, np.asarray(goodness), np.asarray(common["area_pe"]), 60.0) > 0
    np.testing.assert_array_equal(cold, hard)
    assert 0 < hard.sum() < 6
    assert np.all((np.asarray(warm) > 0.5) == hard)
    m = SETTINGS.merging
    area, gap = np.meshgrid([100.0, 1e3, 6e4, 1e5], [0.0, 1.5e4, 2.2e4, 2.8e4])
    for duration in (2e4, 6e4):
        cold = decisions.merge(m, COLD, gap_ns=gap, smaller_pe=area, duration_ns=duration)
        hard = np.minimum.reduce(list(np.broadcast_arrays(*margins.merge(m, gap, area, duration)))) >= 0
        np.testing.assert_array_equal(cold, hard)
    assert hard.sum() == 0


def test_one_level_of_splitting_gives_its_pieces():
    wave = jnp.asarray(pulses()[5], jnp.float32)
    chance, pieces = splitting.split_level(
        SETTINGS.splitting, WARM, wave, 28, rise_ns=jnp.asarray(60.0), dt=10
    )
    assert 0.9 < float(chance) <= 1
    np.testing.assert_allclose(pieces.sum(), wave.sum(), rtol=1e-6)


def readings(n_atoms, cut):
    """All ways to cut atoms into runs, with their probability."""
    for which in range(2 ** (n_atoms - 1)):
        cuts = [bool(which >> k & 1) for k in range(n_atoms - 1)]
        chance = np.prod(np.where(cuts, cut, 1 - np.asarray(cut)))
        edges = [0, *[k + 1 for k in range(n_atoms - 1) if cuts[k]], n_atoms]
        yield chance, list(zip(edges[:-1], [e - 1 for e in edges[1:]], strict=True))


def test_the_chance_to_be_the_largest_is_the_sum_over_all_readings(x64):
    random = np.random.default_rng(5)
    n, cut, area = 4, [0.3, 0.8, 0.5], random.uniform(1, 5, 4)
    runs = sorted(((a, b) for a in range(n) for b in range(a, n)), key=lambda r: (r[1], r[0]))
    s2 = dict(zip(runs, random.uniform(0.2, 0.9, len(runs)), strict=True))
    size = {r: area[r[0] : r[1] + 1].sum() for r in runs}
    expected = dict.fromkeys(runs, 0.0)
    for chance, pieces in readings(n, cut):
        for i in pieces:
            none_larger = np.prod([1 - s2[j] for j in pieces if size[j] > size[i]])
            expected[i] += chance * s2[i] * none_larger
    end = [*cut, 1.0]
    weight = [np.prod(1 - np.array(cut[a:b])) * end[b] for a, b in runs]
    first, last = (jnp.array([r[k] for r in runs]) for k in (0, 1))
    slots = pairing.Slots(first, last, jnp.asarray(weight), jnp.array([size[r] for r in runs]))
    backwards = jnp.argsort(-first, stable=True)
    ours = pairing.chance_of_largest(slots, backwards, jnp.array(n), jnp.array([s2[r] for r in runs]), 6)
    np.testing.assert_allclose(ours, [expected[r] for r in runs], rtol=1e-9)
    # twin: as if the readings did not exclude each other
    exists = np.array([w * (1.0 if a == 0 else cut[a - 1]) for w, (a, _) in zip(weight, runs, strict=True)])
    kind = exists * np.array([s2[r] for r in runs])
    product = [kind[i] * np.prod([1 - k for k, j in zip(kind, runs, strict=True) if size[j] > size[r]])
               for i, r in enumerate(runs)]  # fmt: skip
    assert not np.allclose(product, [expected[r] for r in runs], rtol=0.05)


def test_pairs_need_a_drift_inside_the_volume():
    drift = jnp.array([-1.0, 0.0, 5e5, 1.04e6, 1.06e6])
    cold = decisions.paired(SETTINGS.events, COLD, drift, jnp.asarray(1e6))
    np.testing.assert_array_equal(cold, [0, 0, 1, 1, 0])


def test_a_hit_within_a_window_whose_edge_is_jittered_for_all(x64):
    random = np.random.default_rng(7)
    chance, late = np.array([0.9, 0.4, 1.0, 0.7, 0.6, 0.5]), np.array([3.0, -1.0, 0.5, -2.0, 2.0, 1.0])
    cell = np.array([0, 2, 2, 0, 0, 2])
    ours = decisions.any_within(jnp.asarray(chance), decide(jnp.asarray(late), 1.5), jnp.asarray(cell), 3)
    # 100,000 draws: 5 standard errors are 6e-7 a number
    there = random.uniform(size=(100_000, 6)) < chance
    let_in = late + 1.5 * random.logistic(size=(100_000, 1)) > 0
    expected = [np.mean((there & let_in)[:, cell == k].any(axis=1)) for k in range(3)]
    np.testing.assert_allclose(ours, expected, atol=5 * 0.0016)
    assert float(ours[1]) == 0
    # one hit at each edge: the slope is that between both
    slope = jax.grad(lambda m: decisions.any_within(jnp.ones(2), decide(m, 1.5), jnp.zeros(2, int), 1)[0])
    both = slope(jnp.array([0.3, 0.3]))
    np.testing.assert_allclose(both, jnp.full(2, 0.5 * slope(jnp.array([0.3, -9.0]))[0]), rtol=1e-6)
    # twin: an edge for each hit
    apart = decisions.any_of(jnp.asarray(chance) * decide(jnp.asarray(late), 1.5), jnp.asarray(cell), 3)
    assert abs(float(apart[0]) - expected[0]) > 5 * 0.0016


def test_products_before_a_row_of_a_segment(x64):
    begins = np.array([True, False, False, True, True, False])
    value = np.array([0.5, 0.0, 3.0, 2.0, 5.0, 7.0])
    found = product_before(jnp.asarray(value), jnp.asarray(begins))
    np.testing.assert_array_equal(found, [1.0, 0.5, 0.0, 1.0, 1.0, 5.0])
    slope = jax.grad(lambda v: product_before(v, jnp.asarray(begins))[2])(jnp.asarray(value))
    np.testing.assert_array_equal(slope, [0.0, 0.5, 0.0, 0.0, 0.0, 0.0])


def test_one_merge_joins_over_all_its_boundaries_or_none(x64):
    """Probabilities of runs against the sum over all outcomes of the cuts and of the merges."""
    cut, merged, merge = [0.3, 0.9, 0.8, 0.6, 1.0], [0.2, 0.4, 0.4, 0.4, 0.7], [0, 1, 1, 1, 4]
    runs = [(a, b) for a in range(6) for b in range(a, 6)]
    expected = dict.fromkeys(runs, 0.0)
    for cuts in itertools.product([0, 1], repeat=5):
        for joins in itertools.product([0, 1], repeat=3):
            chance = np.prod([p if c else 1 - p for p, c in zip(cut, cuts, strict=True)])
            for number, joined in zip((0, 1, 4), joins, strict=True):
                chance *= merged[number] if joined else 1 - merged[number]
            by = dict(zip((0, 1, 4), joins, strict=True))
            ends = [k for k in range(5) if cuts[k] and not by[merge[k]]]
            for a, b in zip([0, *[k + 1 for k in ends]], [*ends, 5], strict=True):
                expected[a, b] += chance
    certain = 5  # stands for the ends of all data
    table = chances_of.after_merging(
        *(jnp.array([*x, last]) for x, last in ((cut, 0), (merged, 0), (merge, -1)))
    )
    inner = np.full((len(runs), 5), certain)
    for row, (a, b) in zip(inner, runs, strict=True):
        row[: b - a] = np.arange(a, b)
    candidates = SimpleNamespace(
        left=np.array([a - 1 if a else certain for a, _ in runs]), right=np.array([b for _, b in runs]),
        inner=inner, left_soft=np.zeros(len(runs), bool), right_soft=np.zeros(len(runs), bool),
        n_samples=np.ones(len(runs), int),
    )  # fmt: skip
    boundaries = SimpleNamespace(merge=np.array([*merge, -1]))
    found = chances_of.runs(
        SETTINGS, SimpleNamespace(candidates=candidates, boundaries=boundaries),
        SimpleNamespace(sees=jnp.zeros((len(runs), 2))), table,
    )  # fmt: skip
    np.testing.assert_allclose(found.probability, [expected[r] for r in runs], rtol=1e-12)
    # twin: a merge for each boundary
    alone = chances_of.after_merging(table.before_merging, jnp.array([*merged, 0]), jnp.arange(6))
    each = SimpleNamespace(merge=np.arange(6))
    apart = chances_of.runs(
        SETTINGS, SimpleNamespace(candidates=candidates, boundaries=each),
        SimpleNamespace(sees=jnp.zeros((len(runs), 2))), alone,
    )  # fmt: skip
    assert not np.allclose(apart.probability, [expected[r] for r in runs], rtol=0.1)


def test_a_piece_is_split_only_if_there_is_one(x64):
    """Runs between splits within splits, some of which a gap may cut, too, against all outcomes."""
    mother = np.array([1, 3, 1, -1, 3])
    opened, merged = np.array([0.7, 0.6, 0.3, 0.8, 0.4]), np.array([0.2, 0.3, 0.0, 0.1, 0.5])
    closed = np.array([0.0, 0.1, 0.0, 0.8, 0.0])
    runs = [(a, b) for a in range(6) for b in range(a, 6)]
    expected, whole = dict.fromkeys(runs, 0.0), dict.fromkeys(runs, 0.0)
    for cuts in itertools.product([0, 1], repeat=5):
        p = np.where([k < 0 or cuts[k] for k in mother], opened, closed)
        for joins in itertools.product([0, 1], repeat=5):
            chance = np.prod(np.where(cuts, p, 1 - p)) * np.prod(np.where(joins, merged, 1 - merged))
            ends = [k for k in range(5) if cuts[k] and not joins[k]]
            for a, b in zip([0, *[k + 1 for k in ends]], [*ends, 5], strict=True):
                expected[a, b] += chance
                whole[a, b] += chance * (not any(cuts[a:b]))
    certain = 5
    chances = trees.Chances(*(jnp.array([*x, last]) for x, last in ((opened, 1), (closed, 1), (merged, 0))))
    node = np.arange(5)
    np.testing.assert_array_equal(trees.mothers(node, mother), mother)
    # a split that is at no boundary is passed over
    np.testing.assert_array_equal(trees.mothers(np.array([0, -1, 2, 3, 4]), mother), [3, -1, 3, -1, 3])
    slots = trees.slots_of(runs, mother, certain)
    above = jnp.array([*mother, -1])
    cut = chances_of.after_merging(
        trees.marginal(chances, above, int(trees.depths(mother).max())), chances.merged, jnp.arange(6)
    )
    candidates = SimpleNamespace(
        left=np.array([a - 1 if a else certain for a, _ in runs]), right=np.array([b for _, b in runs]),
        inner=np.full((len(runs), 1), certain), left_soft=np.zeros(len(runs), bool),
        right_soft=np.zeros(len(runs), bool), n_samples=np.ones(len(runs), int),
    )  # fmt: skip
    in_tree = np.array([True] * 5 + [False])
    layout = SimpleNamespace(
        candidates=candidates, slots=slots, boundaries=SimpleNamespace(merge=np.arange(6), in_tree=in_tree)
    )
    found = chances_of.runs(SETTINGS, layout, SimpleNamespace(sees=jnp.zeros((len(runs), 2))), cut, chances)
    np.testing.assert_allclose(found.probability, [expected[r] for r in runs], rtol=1e-12)
    np.testing.assert_allclose(found.probability * found.unmerged, [whole[r] for r in runs], atol=1e-15)
    begin = np.array([1.0, *np.asarray(cut.final)[:5]])
    np.testing.assert_allclose(
        found.weight, [expected[a, b] / begin[a] for a, b in runs], rtol=1e-12, atol=1e-15
    )
    # twin: as if each boundary stood for itself
    free = np.asarray(cut.final)
    alone = [begin[a] * np.prod(1 - free[a:b]) * (free[b] if b < 5 else 1) for a, b in runs]
    assert not np.allclose(alone, [expected[r] for r in runs], rtol=0.1)
