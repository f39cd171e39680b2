"""Atoms: what no plausible decision divides; and the boundaries between them. Host code."""

from typing import NamedTuple

import numpy as np

from dmsim.reconstruction import margins
from dmsim.reconstruction.host import splitting as host
from dmsim.reconstruction.settings import Settings, Splitting
from dmsim.reconstruction.shape import shapes_of
from dmsim.reconstruction.soft.temperature import Temperature
from dmsim.reconstruction.tables import HitTable, Waveforms, Windows

LEAST = 1e-3  # probability under which something is left out
REACH = 6.9  # temperatures at which a decision is that sure: -ln(LEAST)


class Gaps(NamedTuple):
    """Between neighbouring hits, in time order."""

    gap_ns: np.ndarray
    reach_hit: np.ndarray  # hit that reaches furthest before the gap
    tau_ns: np.ndarray  # gap_ns / (ln n_hits + 3), n_hits of the event
    duration_ns: np.ndarray  # from the first hit of the group to the end of the next one
    hard: np.ndarray  # cut by the hard reading
    open: np.ndarray  # plausibly cut or not
    certain: np.ndarray  # cut whatever the noise


def gaps_of(settings: Settings, t: Temperature, hits: HitTable, event: np.ndarray) -> Gaps:
    """The gap after each hit but the last."""
    c = settings.clustering
    reach = np.maximum.accumulate(hits.end_ns)
    is_new = np.append(True, hits.end_ns[1:] > reach[:-1])
    reach_hit = np.maximum.accumulate(np.where(is_new, np.arange(len(reach)), 0))[:-1]
    gap = hits.time_ns[1:] - reach[:-1]
    n_hits = np.bincount(event)[event[:-1]]
    tau_ns = float(c.gap_ns) / (np.log(n_hits) + 3)
    scale = float(t.gap) * tau_ns
    hard, duration = _hard_cuts(hits, reach, gap, float(c.gap_ns), float(c.max_duration_ns))
    margin = margins.gap(c, gap)
    too_long = duration - float(c.max_duration_ns)
    certain = (margin > REACH * scale) | (event[1:] != event[:-1])
    open_ = (margin > -REACH * scale) | (too_long > -REACH * float(t.duration_ns))
    return Gaps(gap, reach_hit, tau_ns, duration, hard | certain, open_ & ~certain, certain)


def _hard_cuts(hits, reach, gap, gap_ns, max_ns):
    """Cuts by gaps and by the largest duration, and how long each group would be with its next hit."""
    hard = gap > gap_ns
    first = np.append(0, np.maximum.accumulate(np.where(hard, np.arange(1, len(reach)), 0)))
    duration = hits.end_ns[1:] - hits.time_ns[first[:-1]]
    if not (~hard & (duration > max_ns)).any():
        return hard, duration
    hard, begin = hard.copy(), 0
    for i in range(1, len(reach)):
        duration[i - 1] = hits.end_ns[i] - hits.time_ns[begin]
        if hard[i - 1] or duration[i - 1] > max_ns:
            hard[i - 1], begin = True, i
    return hard, duration


class Splits(NamedTuple):
    """Waveforms that are split, or plausibly are; all int64 but `hard`."""

    start_ns: np.ndarray
    end_ns: np.ndarray
    cut_ns: np.ndarray
    hard: np.ndarray
    mother: np.ndarray  # number of the split that makes the waveform; -1: it is a window

    @classmethod
    def none(cls) -> "Splits":
        """Of no waveform."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, nothing, nothing > 0, nothing)


def chance(margin, scale, *, at_zero: bool = False) -> np.ndarray:
    """`relax.decide` without JAX."""
    if float(scale) == 0:
        return np.where(margin >= 0 if at_zero else margin > 0, 1.0, 0.0)
    return 1 / (1 + np.exp(-np.clip(margin / float(scale), -60, 60)))


def splits_of(settings: Splitting, t: Temperature, windows: Windows, waveforms: Waveforms, dt: int) -> Splits:
    """Follow the recursion into every piece that plausibly is there."""
    begin: np.ndarray = np.asarray(waveforms.offset[:-1], np.int64)
    end: np.ndarray = np.asarray(waveforms.offset[1:], np.int64)
    total = np.asarray(waveforms.total, np.int64)
    before = np.append(0, np.cumsum(total))
    parent: np.ndarray = np.arange(len(begin))
    mother = np.full(len(begin), -1)
    there, hard = np.ones(len(begin)), np.ones(len(begin), bool)  # probability; in the hard reading
    half = max(round(float(settings.filter_wing_ns) / dt), 0)
    rows, n = [], 0
    for _ in range(settings.max_iterations if settings.search != "none" else 0):
        area = (before[end] - before[begin]) * waveforms.scale
        enough = margins.split_area(settings, area)
        tried = (enough >= -REACH * float(t.split_area_pe)) & (end - begin > 1)
        columns = begin, end, parent, mother, there, hard, area, enough
        begin, end, parent, mother, there, hard, area, enough = (x[tried] for x in columns)
        if not len(begin):
            break
        margin, cut, scale = _search(settings, t, begin, end, total, area, half, dt, waveforms.scale)
        hard = hard & (margin > 0) & (enough >= 0)
        there = there * chance(margin, scale) * chance(enough, t.split_area_pe, at_zero=True)
        keep = (hard | (there >= LEAST)) & (cut > 0)
        offset, start = waveforms.offset[parent], windows.start_ns[parent]
        times = [start + (x - offset) * dt for x in (begin, end, begin + cut)]
        rows.append(np.stack([*times, hard, mother])[:, keep])
        number = n + np.arange(keep.sum())
        n += len(number)
        middle = (begin + cut)[keep]
        begin, end = np.append(begin[keep], middle), np.append(middle, end[keep])
        parent, there, hard = (np.tile(x[keep], 2) for x in (parent, there, hard))
        mother = np.tile(number, 2)
    if not rows:
        return Splits.none()
    start, end, cut, hard, mother = np.concatenate(rows, axis=1)
    order = np.argsort(cut, kind="stable")
    place = np.append(np.argsort(order), -1)  # -1 stays -1
    return Splits(start[order], end[order], cut[order], hard[order] > 0, place[mother[order]])


def _search(settings, t, begin, end, total, area_pe, half, dt, scale):
    if settings.search == "local_minimum":
        minimum, side, first = host.minimum_and_sides(begin, end, total, max(half, 1))
        margin, at = host.largest_in_each(
            margins.local_minimum(settings, minimum * scale, side * scale), first
        )
        return margin, at + 1, float(t.minimum_pe)
    goodness, cut = host.natural_breaks(begin, end, total, half)
    rise = np.array(
        [shapes_of(np.zeros(1, np.int64), np.array([0, e - b]), total[b:e], dt).rise_ns[0]
         for b, e in zip(begin, end, strict=True)]
    )  # fmt: skip
    return margins.split(settings, goodness, area_pe, rise), cut, float(t.goodness)
