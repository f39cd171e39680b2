"""Events from peaks made by hand: pairs, alternates, pile-up, windows, and streams of them."""

from dataclasses import fields, replace

import numpy as np
import pytest

from dmsim.reconstruction import build_events
from dmsim.reconstruction.event_building import (
    carry_over,
    cathode_drift_ns,
    event_windows,
    reach_ns,
    triggers,
)
from dmsim.reconstruction.settings import EventBuilding, Settings, replaced
from dmsim.records import Peaks

US = 1000
EPOCH_NS = 1_700_000_000_000_000_000
UNKNOWN, S1, S2 = 0, 1, 2
LENGTH_NS = {UNKNOWN: 300, S1: 300, S2: 4000}


def peaks_of(*rows, event: np.ndarray | int = 0):
    """Peaks of rows (start in us, signal, area in PE, x in mm): symmetric, 75 % of an S2 on top."""
    n = len(rows)
    start, signal, area, x = (np.array([row[k] for row in rows]) for k in range(4))
    length = np.array([LENGTH_NS[s] for s in signal], np.int64)
    columns = {field.name: np.zeros(n, np.float32) for field in fields(Peaks)}
    columns |= {name: np.zeros((n, 11), np.float32) for name in ("decile_ns", "width_ns")}
    columns |= {
        "event": np.broadcast_to(np.asarray(event), n),
        "time_ns": EPOCH_NS + np.round(start * US).astype(np.int64),
        "length_ns": length,
        "area_pe": area.astype(np.float32),
        "area_top_pe": np.where(signal == S2, 0.75, 0.2).astype(np.float32) * area.astype(np.float32),
        "center_time_ns": (length / 2).astype(np.float32),
        "signal": signal,
        "x_mm": np.where(signal == S2, x, np.nan).astype(np.float32),
        "y_mm": np.where(signal == S2, 0, np.nan).astype(np.float32),
    }
    return Peaks(**columns)


def rows_of(peaks, which):
    return Peaks(**{field.name: getattr(peaks, field.name)[which] for field in fields(Peaks)})


def only(events, name):
    return getattr(events, name)[0]


def test_two_s2s_and_their_surroundings(detector):
    peaks = peaks_of(
        (0, UNKNOWN, 5, 0), (100, S1, 40, 0), (200, UNKNOWN, 3, 0), (300, S1, 100, 0), (310, UNKNOWN, 7, 0),
        (500, S2, 600, 50), (700, S2, 9000, 100), (900, S2, 800, -50), (4000, S2, 900, -60),
        (4100, S1, 500, 0),
    )  # fmt: skip
    events = build_events(detector, peaks, n_events=1)
    found = {name: only(events, name) for name in ("s1_peak", "s2_peak", "alt_s1_peak", "alt_s2_peak")}
    # the S2 at 4 ms is larger, but too late for the S1 at 0.3 ms; the S1 at 4.1 ms is after the S2
    assert found == {"s1_peak": 3, "s2_peak": 6, "alt_s1_peak": 1, "alt_s2_peak": 7}
    assert [only(events, f"n_{what}") for what in ("peaks", "s1", "s2")] == [10, 3, 4]
    assert only(events, "drift_time_ns") == pytest.approx(400 * US + 2000 - 150)
    assert only(events, "alt_s1_drift_time_ns") == pytest.approx(600 * US + 1850)
    assert only(events, "alt_s2_drift_time_ns") == pytest.approx(600 * US + 1850)
    assert only(events, "s2_before_pe") == 600
    assert only(events, "largest_s2_before_pe") == 600
    assert only(events, "largest_s2_after_pe") == 900
    assert only(events, "largest_unknown_before_pe") == 5
    assert only(events, "largest_unknown_between_pe") == 7
    assert only(events, "alt_s2_x_observed_mm") == -50
    assert only(events, "start_ns") == EPOCH_NS
    assert only(events, "end_ns") == EPOCH_NS + 4100 * US + 300
    assert only(events, "ambiguous_s1") == only(events, "ambiguous_s2") == 0


def test_alternates_without_the_other_signal(detector):
    s2s = build_events(
        detector, peaks_of((0, S2, 500, 0), (9000, S2, 800, 0), (9500, S2, 450, 0)), n_events=1
    )
    assert (only(s2s, "s2_peak"), only(s2s, "alt_s2_peak")) == (1, 0)
    assert only(s2s, "ambiguous_s2") == 1
    assert np.isnan(only(s2s, "cs2_pe"))  # no depth, no correction
    s1s = build_events(detector, peaks_of((0, S1, 50, 0), (9000, S1, 80, 0)), n_events=1)
    assert (only(s1s, "s1_peak"), only(s1s, "alt_s1_peak")) == (1, 0)
    assert only(s1s, "alt_s2_peak") == -1


def test_of_equals_the_earliest(detector):
    peaks = peaks_of((0, S1, 50, 0), (10, S1, 50, 0), (300, S2, 700, 0), (400, S2, 700, 0))
    events = build_events(detector, peaks, n_events=1)
    assert [only(events, f"{n}_peak") for n in ("s1", "alt_s1", "s2", "alt_s2")] == [0, 1, 2, 3]


def test_order_of_the_rows_does_not_matter(detector, random):
    start, area = np.sort(random.uniform(0, 5e3, 60)), random.lognormal(5, 2, 60)
    rows = zip(start, random.integers(0, 3, 60), area, np.zeros(60), strict=True)
    peaks = peaks_of(*rows, event=np.sort(random.integers(0, 9, 60)))
    shuffled = random.permutation(60)
    straight = build_events(detector, peaks, n_events=9)
    mixed = build_events(detector, rows_of(peaks, shuffled), n_events=9)
    for field in fields(straight):
        one, other = getattr(straight, field.name), getattr(mixed, field.name)
        if field.name.endswith("_peak"):
            other = np.where(other >= 0, shuffled[other], -1)
        np.testing.assert_array_equal(one, other, err_msg=field.name)


def test_events_do_not_depend_on_their_company(detector, random):
    """Neither on the other events of the batch nor on its size: every byte, corrections included."""
    n = 700
    rows = [((i % 3) * 300, (S1, S2, S2)[i % 3], 50 * random.lognormal(3, 1), 300) for i in range(3 * n)]
    peaks = peaks_of(*rows, event=np.repeat(np.arange(n), 3))
    together = build_events(detector, peaks, n_events=n)
    part = build_events(detector, rows_of(peaks, slice(900, 1500)), n_events=200, first_event=300)
    for field in fields(together):
        if not field.name.endswith("_peak"):
            whole = np.ascontiguousarray(getattr(together, field.name)[300:500])
            assert whole.tobytes() == np.ascontiguousarray(getattr(part, field.name)).tobytes(), field.name


def test_windows_join_where_they_touch(detector):
    settings = EventBuilding()
    drift = cathode_drift_ns(detector)
    reach = drift + 200_000 + LENGTH_NS[S2]  # from one trigger's start to the next, where windows touch
    for apart, n in ((reach, 1), (reach + 1, 2)):
        peaks = peaks_of((0, S2, 1000, 0), (5, S1, 10, 0), (10, S2, 1000, 600))
        times = EPOCH_NS + np.array([0, 5, apart])
        windows = event_windows(detector, replace(peaks, time_ns=times), settings)
        assert len(windows.start_ns) == n
        assert windows.start_ns[0] == EPOCH_NS - drift - 100_000
        assert windows.end_ns[-1] == times[2] + LENGTH_NS[S2] + 100_000
        assert windows.n_triggers.tolist() == ([2] if n == 1 else [1, 1])


def test_what_triggers(detector):
    """Large S2s; not those that come soon after a much larger one near by, while one far away does."""
    peaks = peaks_of(
        (0, S2, 240, 0), (20_000, S2, 241, 0), (40_000, S1, 5000, 0), (60_000, S2, 1e5, 0),
        (60_500, S2, 300, 30), (61_500, S2, 900, -600), (90_000, S2, 300, 30),
    )  # fmt: skip
    columns = {
        n: getattr(peaks, n) for n in ("time_ns", "center_time_ns", "area_pe", "x_mm", "y_mm", "signal")
    }
    made = triggers(EventBuilding(), **columns)
    assert made.tolist() == [False, True, False, True, False, True, True]
    # the score by hand: 0.5 ms after, 30 mm away, at 333 times the area
    width = 200 * np.sqrt(1 / 300 + 1 / 1e5)
    score = 1e5 / 300 / 0.5 * 2 / (np.pi * width * (1 + (30 / width) ** 2))
    assert not triggers(replaced(EventBuilding(), trigger_max_proximity=score * 0.999), **columns)[4]
    assert triggers(replaced(EventBuilding(), trigger_max_proximity=score * 1.001), **columns)[4]


def test_pile_up_of_two_events(detector):
    peaks = peaks_of((0, S1, 60, 0), (400, S1, 90, 0), (900, S2, 3000, 200), (1500, S2, 5000, -300))
    events = build_events(detector, peaks)
    assert len(events) == 1
    assert only(events, "n_triggers") == 2
    assert (only(events, "s1_peak"), only(events, "s2_peak"), only(events, "alt_s2_peak")) == (1, 3, 2)
    assert build_events(detector, peaks, n_events=1).n_triggers.tolist() == [2]


def test_a_peak_across_the_windows_end_is_not_of_the_event(detector):
    extension = EventBuilding().right_extension_ns
    for late_ns, n_peaks in ((0, 2), (1, 1)):
        peaks = peaks_of((0, S2, 1000, 0), (50, S1, 10, 0))
        end = EPOCH_NS + LENGTH_NS[S2] + int(extension)
        times = np.array([EPOCH_NS, end - LENGTH_NS[S1] + late_ns])
        assert build_events(detector, replace(peaks, time_ns=times)).n_peaks.tolist() == [n_peaks]


def test_nothing_triggers(detector):
    assert len(build_events(detector, peaks_of((0, S1, 1000, 0)))) == 0
    assert len(build_events(detector, rows_of(peaks_of((0, S1, 1000, 0)), slice(0)))) == 0
    with pytest.raises(ValueError, match="peaks.time_ns goes back at row 1"):
        build_events(detector, peaks_of((5, S1, 1000, 0), (0, S2, 1, 0)))


def busy_stream(random, n=4000, seconds=0.4):
    """A rate at which windows join, and S2s with followers, so that most of the rules are in use."""
    start = np.sort(random.uniform(0, seconds * 1e6, n))
    signal = random.choice([UNKNOWN, S1, S2], n, p=[0.5, 0.2, 0.3])
    return peaks_of(
        *zip(start, signal, random.lognormal(3.5, 2.0, n), random.uniform(-600, 600, n), strict=True)
    )


def test_a_stream_in_chunks_has_the_same_events(detector, random):
    """Whatever the chunks, carry_over gives every window once and unchanged."""
    settings = EventBuilding()
    peaks = busy_stream(random)
    whole = event_windows(detector, peaks, settings)
    assert 10 < len(whole.start_ns) < 100
    assert whole.n_triggers.max() > 1
    for n_chunks in (2, 7, 40):
        cuts = np.sort(random.integers(peaks.time_ns[0], peaks.time_ns[-1], n_chunks - 1))
        found, keep_from, triggers_from = [], 0, None
        for cut in [*cuts, None]:
            known = np.ones(len(peaks), bool) if cut is None else peaks.time_ns < cut
            part = rows_of(peaks, known & (peaks.time_ns >= keep_from))
            windows = event_windows(detector, part, settings, triggers_from_ns=triggers_from)
            n = len(windows.start_ns)
            if cut is not None:
                n, triggers_from, keep_from = carry_over(detector, settings, windows, until_ns=int(cut))
                assert keep_from >= cut - 10 * reach_ns(detector, settings)
            found += list(zip(*(column[:n] for column in windows), strict=True))
        assert found == list(zip(*whole, strict=True))


def test_an_event_depends_on_nothing_beyond_its_reach(detector, random):
    settings = Settings()
    peaks = busy_stream(random)
    whole = event_windows(detector, peaks, settings.events)
    reach = reach_ns(detector, settings.events)
    for i in (3, len(whole.start_ns) // 2):
        near = (peaks.time_ns >= whole.start_ns[i] - reach) & (peaks.time_ns <= whole.end_ns[i] + reach)
        part = event_windows(detector, rows_of(peaks, near), settings.events)
        at = np.flatnonzero(part.start_ns == whole.start_ns[i])
        assert at.size == 1
        assert [column[at[0]] for column in part] == [column[i] for column in whole]
