"""Released search data of XENON1T pass through the cut flow."""

import numpy as np

from dmsim.selection import Band, Curve, CutSet, Range, evaluate


def _table(path):
    return np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")


def test_xenon1t_sr0_search(release_data):
    """62 to 63 events, most of them electronic recoils: far above a band of nuclear recoils."""
    events = _table(release_data / "xenon1t_sr0_events" / "sr0_search_data.csv")
    random = np.random.default_rng(0)
    # a nuclear-recoil band as the paper's figure shows it, roughly: median and width of log10(cS2_b / cS1)
    cs1 = random.uniform(2, 80, 20_000)
    ratio = random.normal(1.95 - 0.45 * np.log10(cs1 / 3), 0.12)
    recoils = {"cs1_pe": cs1, "cs2_bottom_pe": cs1 * 10**ratio}
    cuts = CutSet(
        (
            Range("region of interest", column="cs1_pe", low=3.0, high=70.0),
            Range("s2", column="cs2_bottom_pe", low=115.0),
            Band.of_population(
                "below the median", recoils, knots_s1=(5, 15, 30, 60), s2="cs2_bottom_pe", high_percent=50.0
            ),
        )
    )
    flow = evaluate(events, cuts)
    assert flow.n_events == len(events) == 63
    assert flow.rows[0].alone.value == 1  # the release holds the search region
    assert flow.passed.sum() <= 5
    assert str(flow)


def test_xenon1t_s2_only(release_data):
    events = _table(release_data / "xenon1t_s2only" / "events_after_cuts.csv")
    names = {"s2_pe": "s2_area_pe", "s2_width_50_ns": "s2_width_ns"}
    wide = Curve("s2_pe", (90, 500, 3000), (1800.0, 1600.0, 1500.0), axis="log")
    cuts = CutSet(
        (
            Range("s2", column="s2_pe", low=150.0, high=3000.0),
            Range("width", column="s2_width_50_ns", low=700.0, high=wide),
        )
    )
    flow = evaluate(events, cuts, names=names)
    assert flow.n_events == len(events)
    assert 0 < flow.passed.sum() < flow.n_events
    by_hand = (events["s2_area_pe"] > 150) & (events["s2_area_pe"] < 3000)
    assert flow.rows[0].alone.passed == by_hand.sum()
