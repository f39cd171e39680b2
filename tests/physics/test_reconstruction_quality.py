"""Matching in experiments/reconstruction_quality: cases by hand, and bad reconstructions show as bad."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from dmsim.records import Signal

FOLDER = Path(__file__).parents[2] / "experiments" / "reconstruction_quality"
MODULES = ("event_matching", "matching", "samples", "chains", "summary", "report", "figures", "run")


@pytest.fixture(scope="module")
def quality():
    """The experiment's modules by name; they import each other from their own folder."""
    sys.path.insert(0, str(FOLDER))
    before = set(sys.modules)
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(FOLDER))
        for name in set(sys.modules) - before:
            if name in MODULES:
                del sys.modules[name]


def light(quality, signals, late=()):
    """Photons at given times: (event, kind, times) of each true signal, and (kind, times) of late light."""
    matching = quality["matching"]
    rules = matching.Rules()
    times = [np.asarray(t, np.int64) for _, _, t in signals] + [np.asarray(t, np.int64) for _, t in late]
    owner = [np.full(t.size, i) for i, t in enumerate(times[: len(signals)])]
    owner += [np.full(len(t), -int(kind)) for kind, t in late]
    columns = {
        "event": np.array([event for event, _, _ in signals]),
        "kind": np.array([int(kind) for _, kind, _ in signals]),
        "n_photons": np.array([len(t) for _, _, t in signals]),
        "charge_pe": np.array([len(t) for _, _, t in signals], float),
        "mean_ns": np.array([np.mean(t) for _, _, t in signals]),
        "spread_ns": np.array([np.std(t) for _, _, t in signals]),
    }
    n = len(signals)
    columns |= {name: np.zeros(n) for name in ("n_electrons", "x_gas_mm", "y_gas_mm", "z_mm", "start_ns")}
    columns |= matching.neighbours(columns, rules)
    time = np.concatenate(times)
    n_events = max(event for event, _, _ in signals) + 1
    events = {"event": np.arange(n_events), "energy_kev": np.ones(n_events)}
    return matching.Light(time, np.ones(time.size), np.concatenate(owner), columns, events)


def found(quality, peaks, events=()):
    """Peaks from (start, end, class), events from (s1, s2) rows."""
    start, end, kind = (np.array(c) for c in zip(*peaks, strict=True))
    zero = np.zeros(start.size)
    rows = np.array(events, np.int64).reshape(-1, 2)
    return quality["matching"].Found(
        start, end, (end - start) / 2.0, (end - start) * 1.0, kind.astype(int), zero, zero,
        rows[:, 0], rows[:, 1], np.zeros(len(rows)),
    )  # fmt: skip


S1, S2 = Signal.S1, Signal.S2
NEAR = list(range(0, 100, 10))
FAR = list(range(100_000, 101_000, 100))


def match(quality, true, peaks, events=()):
    return quality["matching"].match(true, found(quality, peaks, events), quality["matching"].Rules())


def test_a_perfect_reconstruction_is_perfect(quality):
    true = light(quality, [(0, S1, NEAR), (0, S2, FAR)])
    tables = match(quality, true, [(-10, 200, S1), (99_000, 102_000, S2)], [(0, 1)])
    signals = tables["signals"]
    assert signals["found"].all()
    assert signals["lone"].all()
    assert not (signals["split"] | signals["merged"] | signals["wrongly_merged"]).any()
    assert signals["class"].tolist() == [S1, S2]
    assert tables["peaks"]["purity"].tolist() == [1, 1]
    assert [quality["matching"].KINDS[i] for i in tables["peaks"]["of"]] == ["S1", "S2"]
    assert tables["built"]["pure"].all()
    assert tables["events"]["right"].all()


def test_a_missed_signal_is_not_found(quality):
    signals = match(quality, light(quality, [(0, S1, NEAR), (0, S2, FAR)]), [(99_000, 102_000, S2)])[
        "signals"
    ]
    assert signals["found"].tolist() == [False, True]
    assert signals["main"].tolist() == [-1, 0]
    assert signals["class"].tolist() == [-1, S2]


def test_pieces_are_a_split(quality):
    tables = match(quality, light(quality, [(0, S2, FAR)]), [(99_000, 100_650, S2), (100_650, 102_000, S2)])
    assert tables["signals"]["split"].all()
    assert tables["signals"]["found"].all()  # 7 of 10 photons
    assert [quality["matching"].KINDS[i] for i in tables["peaks"]["of"]] == ["S2", "piece of S2"]


def test_thirds_are_not_found(quality):
    cuts = [99_000, 100_250, 100_650, 102_000]
    peaks = [(a, b, S2) for a, b in zip(cuts, cuts[1:], strict=False)]
    signals = match(quality, light(quality, [(0, S2, FAR)]), peaks)["signals"]
    assert not signals["found"].any()
    assert signals["split"].all()


@pytest.mark.parametrize(
    ("kinds", "apart_ns", "wrong"), [((S1, S1), 100, False), ((S1, S1), 1000, True), ((S1, S2), 100, True)]
)
def test_two_signals_in_a_peak_are_merged(quality, kinds, apart_ns, wrong):
    later = [t + apart_ns for t in NEAR]
    signals = match(quality, light(quality, [(0, kinds[0], NEAR), (0, kinds[1], later)]), [(-10, 9999, S1)])[
        "signals"
    ]
    assert signals["merged"].all()
    assert signals["wrongly_merged"].tolist() == [wrong] * 2


def test_a_small_neighbour_does_not_count_as_merged_for_the_large_one(quality):
    large = np.linspace(0, 100, 500)
    signals = match(quality, light(quality, [(0, S1, large), (0, S1, [150, 160])]), [(-10, 999, S1)])[
        "signals"
    ]
    assert signals["merged"].tolist() == [False, True]


def test_light_belongs_to_the_s1_inside_an_s2(quality):
    inside = [t + 100_400 for t in NEAR]
    true = light(quality, [(0, S2, FAR), (1, S1, inside)])
    tables = match(quality, true, [(99_000, 102_000, S2), (100_395, 100_495, S1)])
    assert tables["signals"]["main"].tolist() == [0, 1]
    assert not tables["signals"]["wrongly_merged"].any()


def test_late_light_and_nothing(quality):
    true = light(quality, [(0, S1, NEAR)], [(Signal.DARK, [500_000]), (Signal.DELAYED, [600_000, 600_010])])
    peaks = [(-10, 200, S1), (499_900, 500_100, S1), (599_900, 600_100, S2), (700_000, 700_100, 0)]
    kinds = [quality["matching"].KINDS[i] for i in match(quality, true, peaks)["peaks"]["of"]]
    assert kinds == ["S1", "dark counts", "delayed electrons", "no light"]


def test_an_accidental_pair_is_not_pure(quality):
    true = light(quality, [(0, S1, NEAR), (1, S2, FAR)])
    tables = match(quality, true, [(-10, 200, S1), (99_000, 102_000, S2)], [(0, 1), (-1, 1)])
    assert tables["built"]["both"].tolist() == [True, False]
    assert not tables["built"]["pure"].any()
    assert not tables["events"]["right"].any()


def test_a_pair_with_the_smaller_s2_is_pure_but_not_right(quality):
    small = [t + 50_000 for t in FAR[:4]]
    true = light(quality, [(0, S1, NEAR), (0, S2, FAR), (0, S2, small)])
    peaks = [(-10, 200, S1), (99_000, 102_000, S2), (149_000, 152_000, S2)]
    wrong, right = (match(quality, true, peaks, [pair]) for pair in ((0, 2), (0, 1)))
    assert wrong["built"]["pure"].all()
    assert not wrong["events"]["right"].any()
    assert right["events"]["right"].all()


def test_intervals_cover(quality):
    # 68 % intervals of 2,000 draws at p = 0.9, n = 50: coverage of Wilson's is within 0.60 to 0.80 there,
    # and with a standard error of 0.01 the test fails by chance below 1e-6
    yes = np.random.default_rng(3).binomial(50, 0.9, 2000)
    _, low, high = quality["summary"].wilson(yes, np.full(yes.size, 50))
    assert 0.55 < np.mean((low < 0.9) & (high > 0.9)) < 0.85
    assert np.mean((low < 0.8) & (high > 0.8)) < 0.3  # a wrong value is not covered


def clustered(times, gap_ns):
    """Peaks of photons between which there is no gap: a toy of the chain."""
    times = np.sort(times)
    begins = np.flatnonzero(np.diff(times, prepend=-(10**9)) > gap_ns)
    ends = np.append(begins[1:], times.size) - 1
    return [(times[a] - 5, times[b] + 5, S2) for a, b in zip(begins, ends, strict=True)]


def test_a_bad_gap_shows_as_splits_and_no_splitting_as_merges(quality):
    rng = np.random.default_rng(4)
    spread_ns, n = 400, 40
    single = [(i, S2, np.rint(i * 1e6 + rng.normal(0, spread_ns, n)).astype(np.int64)) for i in range(50)]
    true = light(quality, single)
    splits = [
        match(quality, true, clustered(true.time_ns, gap))["signals"]["split"].mean() for gap in (700, 100)
    ]
    assert splits[0] < 0.1
    assert splits[1] > 0.5
    pairs = [
        (i, S2, np.rint(i * 1e6 + place + rng.normal(0, spread_ns, n)).astype(np.int64))
        for i in range(50)
        for place in (0, 10 * spread_ns)
    ]
    true = light(quality, pairs)
    merges = [
        match(quality, true, clustered(true.time_ns, gap))["signals"]["wrongly_merged"].mean()
        for gap in (700, 10 * spread_ns)
    ]
    assert merges[0] < 0.1
    assert merges[1] > 0.9


def test_lines_of_the_report_are_written_into_the_page(quality, tmp_path):
    report = quality["report"]
    assert report._cell((1.2345, 0.056)) == "1.234 ± 0.056"
    assert report._cell((np.nan, np.nan)) == ""


@pytest.mark.slow
def test_the_report_runs_and_a_bad_gap_is_worse(quality, tmp_path):
    """Two percent of the report without the peer; the chain with a gap of 100 ns splits S2s."""
    run = quality["run"]
    with (FOLDER / "config.toml").open("rb") as file:
        config = run.tomllib.load(file)
    tables = run.measure(config, None, scale=0.02)
    numbers = quality["report"].write_report(tables, config, tmp_path)
    quality["figures"].draw_all(tables, tmp_path / "figures")
    name = "S2 from 5 electrons: split [%]"
    assert numbers["gap_100"][name][0] > numbers["dmsim"][name][0] + 5
    assert len(list((tmp_path / "figures").glob("*.png"))) == 7
