"""The hard reading at the present thresholds, and the other readings that are plausible beside it. Host code.

Between neighbouring atoms lies a boundary that is cut or not. Each is decided in the context of the hard
reading: a split by the waveform that the hard recursion has there, a merge by the groups that the hard
merging has formed by then. A possible peak is a run of atoms, and its probability that of its boundaries.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dmsim.detector import Detector
from dmsim.reconstruction import margins
from dmsim.reconstruction.acceptance import lost_charge_per_lone_hit
from dmsim.reconstruction.clustering import cluster
from dmsim.reconstruction.hits import find_hits, without_tails
from dmsim.reconstruction.integrate import integrate
from dmsim.reconstruction.merging import merge_pieces
from dmsim.reconstruction.pulses import Pulses, free_samples, measure_pulses
from dmsim.reconstruction.saturation import correct_saturation
from dmsim.reconstruction.settings import Settings, replaced
from dmsim.reconstruction.shape import Shapes, shapes_of
from dmsim.reconstruction.soft import atoms, decisions
from dmsim.reconstruction.soft.temperature import Temperature
from dmsim.reconstruction.tables import (
    Gains,
    HitTable,
    RecordTable,
    Windows,
    event_and_time_ns,
    gains_of,
    record_table,
)
from dmsim.records import RawRecords, Signal

LEAST = atoms.LEAST  # runs that are less likely are left out
MOST = 10_000  # possible peaks


class Found(NamedTuple):
    """Records, pulses and hits of the hard reading."""

    table: RecordTable
    source: np.ndarray  # row of `RawRecords` of each row of the table
    pulses: Pulses
    gains: Gains
    hits: HitTable
    event: np.ndarray  # of each hit
    faint: HitTable  # excursions under the threshold that noise could lift over it
    n_first: int
    clip_adc: float  # largest distance to their median of the baseline's samples


class Atoms(NamedTuple):
    """In time order. Hits are numbers in `Found.hits`."""

    event: np.ndarray
    start_ns: np.ndarray  # if the atom begins a peak
    end_ns: np.ndarray  # if it ends one
    first_hit: np.ndarray  # of its block
    last_hit: np.ndarray  # that reaches furthest up to the block's end
    left_soft: np.ndarray  # it begins at a hit, not at a split
    right_soft: np.ndarray


class Edges(NamedTuple):
    """Boundary k lies between atoms k and k + 1."""

    gap: np.ndarray  # number in `Gaps`; -1: no gap of hits
    node: np.ndarray  # number in `Splits`; -1: no split
    certain: np.ndarray
    hard: np.ndarray  # cut before merging
    joined: np.ndarray  # cut, and joined again by the hard merging
    mergeable: np.ndarray
    merge_gap_ns: np.ndarray
    before: np.ndarray  # (2,): first atoms of the piece and of the group that end with atom k
    after: np.ndarray  # (2,): last atoms of the piece and of the group that begin with atom k + 1
    cut: np.ndarray  # rough probability


class Restored(NamedTuple):
    """What the correction of saturation adds to the hard pieces [PE]."""

    windows: Windows
    offset: np.ndarray
    total: np.ndarray  # of each sample
    area: np.ndarray  # [piece, sensor]


class Structure(NamedTuple):
    """What `layout` is made from."""

    found: Found
    gaps: atoms.Gaps
    splits: atoms.Splits
    atoms: Atoms
    edges: Edges
    runs: list[tuple[int, int]]  # first and last atom; hard peaks among them
    node_runs: list[tuple[int, int]]  # atoms of each split's waveform
    restored: Restored | None  # None: nothing was saturated
    dropped: np.ndarray  # atoms of groups with too few sensors


def find(detector: Detector, records: RawRecords, settings: Settings, t: Temperature) -> Found:
    """Hits, and what could be one."""
    table = record_table(detector, records)
    valid = np.flatnonzero(np.asarray(records.valid))
    order = np.lexsort(
        [np.asarray(getattr(records, name))[valid] for name in ("channel", "start_sample", "event")]
    )  # fmt: skip
    gains = gains_of(detector)
    n_first = free_samples(detector, settings.hits)
    pulses = measure_pulses(settings.hits, table, n_first=n_first)
    hits = find_hits(table, pulses, gains)
    faint = hits.rows(slice(0, 0))
    if float(t.hit_adc) > 0:
        assert settings.hits.threshold_adc is not None
        low = max(float(settings.hits.threshold_adc) - atoms.REACH * float(t.hit_adc), 1.0)
        lower = replaced(
            settings.hits, threshold_adc=low, threshold_rms=min(float(settings.hits.threshold_rms), 1.0)
        )
        faint = find_hits(table, measure_pulses(lower, table, n_first=n_first), gains)
        limit = pulses.limit[faint.pulse] * 64
        faint = faint.rows(pulses.baseline[faint.pulse] - faint.height > limit)
    table = without_tails(settings.clustering, table, hits, n_first=n_first)
    event = event_and_time_ns(hits.time_ns, table.dt)[0]
    assert settings.hits.baseline_clip_adc is not None
    clip = float(settings.hits.baseline_clip_adc)
    return Found(table, valid[order], pulses, gains, hits, event, faint, n_first, clip)


def structure_of(detector: Detector, records: RawRecords, settings: Settings, t: Temperature) -> Structure:
    """Atoms, boundaries and the runs that are plausible."""
    found = find(detector, records, settings, t)
    hits, dt = found.hits, found.table.dt
    n_sensors = len(found.gains.units_per_count)
    windows = cluster(settings.clustering, hits, dt=dt, n_sensors=n_sensors)
    if not len(hits.time_ns):
        nothing = np.zeros(0, np.int64)
        gaps = atoms.Gaps(*([nothing] * 7))
        return Structure(found, gaps, atoms.Splits(*([nothing] * 4)), Atoms(*([nothing] * 7)),
                         Edges(*([nothing] * 10)), [], [], None, nothing > 0)  # fmt: skip
    gaps = atoms.gaps_of(settings, t, hits, found.event)
    waveforms = integrate(found.table, found.pulses, found.gains, windows)
    splits = atoms.splits_of(settings.splitting, t, windows, waveforms, dt)
    parts, edges = _atoms(settings, found, gaps, splits)
    edges = _decide(detector, settings, t, found, gaps, splits, parts, edges, windows)
    hard_cut = (edges.hard & ~edges.joined) | edges.certain
    runs = _runs(parts, edges)
    runs |= _hard_runs(parts, hard_cut)
    node_runs = [
        (
            int(np.searchsorted(parts.start_ns, start, side="right") - 1),
            int(np.searchsorted(parts.end_ns, end)),
        )
        for start, end in zip(splits.start_ns, splits.end_ns, strict=True)
    ]
    used = {int(n) for n in edges.node if n >= 0}
    runs |= {run for n, run in enumerate(node_runs) if n in used}
    for k in np.flatnonzero(edges.mergeable):
        runs |= {(int(first), int(k)) for first in edges.before[k]}
        runs |= {(int(k) + 1, int(last)) for last in edges.after[k]}
    (first, last), kept, ranges = _hard_pieces(found, parts, edges, windows)
    dropped = ~np.repeat(kept, last - first + 1)
    restored = _restored(settings, found, ranges)
    return Structure(found, gaps, splits, parts, edges, sorted(runs), node_runs, restored, dropped)


def _atoms(settings: Settings, found: Found, gaps: atoms.Gaps, splits: atoms.Splits) -> tuple[Atoms, Edges]:
    """Blocks of hits between plausible gaps, cut at plausible splits."""
    hits, dt, c = found.hits, found.table.dt, settings.clustering
    left, right = (int(np.ceil(float(ns) / dt)) * dt for ns in (c.left_extension_ns, c.right_extension_ns))
    cuts = np.flatnonzero(gaps.open | gaps.certain)
    begin, end = np.append(0, cuts + 1), np.append(cuts, len(hits.time_ns) - 1)
    reach_hit = np.append(gaps.reach_hit, np.argmax(hits.end_ns))
    segment = np.append(0, np.cumsum(gaps.certain[cuts]))
    enough = np.array(
        [
            len(np.unique(hits.channel[begin[s[0]] : end[s[-1]] + 1])) >= c.min_sensors
            for s in np.split(np.arange(len(begin)), np.flatnonzero(np.diff(segment)) + 1)
        ]
    )[segment]
    rows, edges = [], []
    previous = -1
    for block in np.flatnonzero(enough):
        first, last = begin[block], end[block]
        start_ns, end_ns = hits.time_ns[first] - left, hits.end_ns[reach_hit[last]] + right
        if rows:
            adjacent = previous == block - 1
            gap = cuts[block - 1] if adjacent else -1
            certain = not adjacent or gaps.certain[gap]
            node, hard = -1, certain or gaps.hard[gap]
            if not hard:
                low, high = hits.end_ns[reach_hit[gap]], hits.time_ns[gap + 1]
                inside = np.flatnonzero((splits.cut_ns >= low) & (splits.cut_ns <= high))
                if len(inside):
                    node = inside[np.argmax(splits.hard[inside])]
                    hard = hard or splits.hard[node]
            edges.append((gap, node, certain, hard))
            if node >= 0 and splits.hard[node]:
                cut = splits.cut_ns[node]
                rows[-1] = (*rows[-1][:2], cut, *rows[-1][3:6], False)
                start_ns, left_soft = cut, False
            else:
                left_soft = True
        else:
            left_soft = True
        low = hits.time_ns[first] if block else start_ns
        inner = np.flatnonzero(
            (splits.cut_ns > max(start_ns, low if left_soft else start_ns)) & (splits.cut_ns < end_ns)
        )
        inner = [
            n for n in inner if not _in_open_gap(splits.cut_ns[n], block, begin, end, hits, reach_hit, enough)
        ]
        base = (found.event[first], first, reach_hit[last])
        at, soft = start_ns, left_soft
        for n in inner:
            if splits.cut_ns[n] == at:
                continue
            rows.append((base[0], at, splits.cut_ns[n], base[1], base[2], soft, False))
            edges.append((-1, n, False, splits.hard[n]))
            at, soft = splits.cut_ns[n], False
        rows.append((base[0], at, end_ns, base[1], base[2], soft, True))
        previous = block
    kinds = (np.int64, np.int64, np.int64, np.int64, np.int64, bool, bool)
    columns = [np.array([r[i] for r in rows], kind) for i, kind in enumerate(kinds)]
    n = max(len(rows) - 1, 0)
    gap, node, certain, hard = (
        np.array([e[i] for e in edges], kind) for i, kind in enumerate((np.int64, np.int64, bool, bool))
    )
    no = np.zeros(n, bool)
    return Atoms(*columns), Edges(
        gap, node, certain, hard, no, no.copy(), np.zeros(n, np.int64), np.zeros((n, 2), np.int64),
        np.zeros((n, 2), np.int64), np.zeros(n),
    )  # fmt: skip


def _in_open_gap(cut_ns, block, begin, end, hits, reach_hit, enough) -> bool:
    """Whether a split lies between this block's last hit and the next block's first."""
    after = block + 1 < len(begin) and enough[block + 1]
    return bool(after and hits.end_ns[reach_hit[end[block]]] <= cut_ns)


class _Pieces(NamedTuple):
    first: np.ndarray  # atoms
    last: np.ndarray
    kept: np.ndarray
    s1: np.ndarray  # chances; 0 for what is not kept
    s2: np.ndarray
    area_pe: np.ndarray
    group: np.ndarray  # number of the hard merged peak


def _decide(
    detector, settings, t, found, gaps, splits, parts: Atoms, edges: Edges, windows: Windows
) -> Edges:
    """Hard merging, the context of every boundary, and a rough probability of each cut."""
    n = len(parts.event)
    if n < 2:
        return edges
    pieces = _pieces(detector, settings, t, found, parts, edges, windows)
    piece_of = np.repeat(np.arange(len(pieces.first)), pieces.last - pieces.first + 1)
    cut = _cut_chance(settings, t, gaps, splits, edges)
    joined, mergeable = edges.joined, edges.mergeable
    merge_gap, before, after = edges.merge_gap_ns, edges.before, edges.after
    merged = np.zeros(n - 1)
    if float(settings.merging.max_duration_ns) > 0:
        # gaps between kept pieces, as the hard merging sees them
        kept = np.flatnonzero(pieces.kept)
        gap_after = np.full(len(pieces.first), np.iinfo(np.int64).max)
        join_after = np.zeros(len(pieces.first), bool)
        gap_after[kept[:-1]] = parts.start_ns[pieces.first[kept[1:]]] - parts.end_ns[pieces.last[kept[:-1]]]
        join_after[kept[:-1]] = pieces.group[kept[:-1]] == pieces.group[kept[1:]]
        each = np.arange(len(pieces.first))
        following = np.append(kept, -1)[np.searchsorted(kept, each, side="right")]
        preceding = np.append(kept, -1)[np.searchsorted(kept, each, side="left") - 1]
        furthest = max(map(float, settings.merging.gap_ns)) + atoms.REACH * float(t.merge_gap_ns)
        for k in range(n - 1):
            a, b = piece_of[k], piece_of[k + 1]
            if a != b:  # around what is dropped: its neighbours
                a = a if pieces.kept[a] else preceding[a]
                b = b if pieces.kept[b] else following[b]
            if a < 0 or b < 0 or not (pieces.kept[a] and pieces.kept[b]) or cut[k] == 0:
                continue
            left_atom, right_atom = (k, k + 1) if a == b else (pieces.last[a], pieces.first[b])
            gap = parts.start_ns[right_atom] - parts.end_ns[left_atom]
            if parts.event[left_atom] != parts.event[right_atom] or gap > furthest:
                continue
            joined[k] = a != b and pieces.group[a] == pieces.group[b]
            possible = (1 - pieces.s1[a]) * (1 - pieces.s1[b]) * (1 - (1 - pieces.s2[a]) * (1 - pieces.s2[b]))
            if possible < LEAST and not joined[k]:
                continue
            ga, gb = a, b
            while preceding[ga] >= 0 and join_after[preceding[ga]] and gap_after[preceding[ga]] < gap:
                ga = preceding[ga]
            while following[gb] >= 0 and join_after[gb] and gap_after[gb] < gap:
                gb = following[gb]
            mergeable[k], merge_gap[k] = True, gap
            before[k] = pieces.first[a], pieces.first[ga]
            after[k] = pieces.last[b], pieces.last[gb]
            area = _sum(pieces, int(ga), int(gb))
            duration = parts.end_ns[pieces.last[gb]] - parts.start_ns[pieces.first[ga]]
            m = margins.merge(settings.merging, gap, area, duration)
            scales = t.merge_gap_ns, t.merge_log10_area, t.duration_ns
            merged[k] = possible * np.prod(
                [_chance(x, s, at_zero=True) for x, s in zip(m, scales, strict=True)]
            )
    return edges._replace(joined=joined, cut=cut * (1 - np.clip(merged, 0, 1)))


def _sum(pieces: _Pieces, first: int, last: int) -> float:
    return float(np.sum(np.where(pieces.kept, pieces.area_pe, 0.0)[first : last + 1]))


def _chance(margin, scale, *, at_zero=False) -> np.ndarray:
    """`relax.decide` without JAX."""
    if float(scale) == 0:
        return np.where(margin >= 0 if at_zero else margin > 0, 1.0, 0.0)
    return 1 / (1 + np.exp(-np.clip(margin / float(scale), -60, 60)))


def _cut_chance(settings, t, gaps: atoms.Gaps, splits: atoms.Splits, edges: Edges) -> np.ndarray:
    c = settings.clustering
    scale = float(t.gap)
    stay = np.ones(len(edges.gap))
    for k, (gap, node) in enumerate(zip(edges.gap, edges.node, strict=True)):
        if gap >= 0:
            stay[k] *= 1 - _chance(gaps.gap_ns[gap] - float(c.gap_ns), scale * gaps.tau_ns[gap])
            stay[k] *= 1 - _chance(gaps.duration_ns[gap] - float(c.max_duration_ns), t.duration_ns)
        if node >= 0:
            stay[k] *= 0.0 if splits.hard[node] else 0.5  # the soft reading says it exactly
    return np.where(edges.certain, 1.0, 1 - stay)


def _hard_pieces(found: Found, parts: Atoms, edges: Edges, windows: Windows):
    """First and last atoms of the hard pieces, which of them are kept, and the windows of those."""
    first = np.append(0, np.flatnonzero(edges.hard) + 1)
    last = np.append(first[1:], len(parts.event)) - 1
    if not len(parts.event):
        first, last = first[:0], last[:0]
    kept = windows.find(found.hits.time_ns[parts.first_hit[first]]) >= 0
    return (first, last), kept, Windows(parts.start_ns[first][kept], parts.end_ns[last][kept])


def _restored(settings: Settings, found: Found, ranges: Windows) -> Restored | None:
    raw = integrate(found.table, found.pulses, found.gains, ranges)
    new = correct_saturation(settings.saturation, found.table, found.pulses, found.gains, ranges, raw)
    if new is raw:
        return None
    added = (new.total - raw.total) * raw.scale, (new.area_per_channel - raw.area_per_channel) * raw.scale
    return Restored(ranges, raw.offset, *added)


def _pieces(detector, settings, t, found: Found, parts: Atoms, edges: Edges, windows: Windows) -> _Pieces:
    """The hard reading before merging, with chances of the classes."""
    (first, last), kept, ranges = _hard_pieces(found, parts, edges, windows)
    s1, s2, area, group = np.zeros((4, len(first)))
    if kept.any():
        measured, shape, sees, near = _measure(detector, settings, found, ranges)
        total = measured.sum(axis=1)
        top = measured[:, : found.gains.n_top].sum(axis=1)
        chance, hard = (
            decisions.classes(
                settings.classification,
                temperature,
                area_pe=jnp.asarray(total),
                area_fraction_top=jnp.asarray(top / np.where(total != 0, total, np.nan)),
                rise_time_ns=jnp.asarray(shape.rise_ns),
                sees=jnp.asarray(sees),
                sees_at_once=jnp.asarray(near),
            )
            for temperature in (t, t.scaled(0.0))
        )
        signal = np.select(
            [np.asarray(hard.s1) > 0.5, np.asarray(hard.s2) > 0.5], [int(Signal.S1), int(Signal.S2)], 0
        )
        joined = merge_pieces(settings.merging, ranges, total, signal)
        s1[kept], s2[kept], area[kept] = np.asarray(chance.s1), np.asarray(chance.s2), total
        group[kept] = np.repeat(np.arange(len(joined) - 1), np.diff(joined))
    return _Pieces(first, last, kept, s1, s2, area, group)


def _measure(
    detector, settings, found: Found, ranges: Windows
) -> tuple[np.ndarray, Shapes, np.ndarray, np.ndarray]:
    """Areas by sensor [PE], shapes, and which sensors see each window, at all and at once."""
    waveforms = integrate(found.table, found.pulses, found.gains, ranges)
    waveforms = correct_saturation(
        settings.saturation, found.table, found.pulses, found.gains, ranges, waveforms
    )
    area = waveforms.area_per_channel * waveforms.scale
    hits = found.hits
    peak = ranges.find(hits.max_time_ns)
    lone = hits.alone & (peak >= 0)
    np.add.at(area, (peak[lone], hits.channel[lone]), lost_charge_per_lone_hit(detector.electronics))
    shape = shapes_of(ranges.start_ns, waveforms.offset, waveforms.total, found.table.dt)
    sees, near = np.zeros(area.shape), np.zeros(area.shape)
    sees[peak[peak >= 0], hits.channel[peak >= 0]] = 1
    c = settings.coincidence
    maximum = ranges.start_ns + shape.maximum_ns
    for i, at in enumerate(maximum):
        low, high = np.searchsorted(hits.time_ns, [at - 10**6, at + 10**6])  # no hit is a millisecond long
        late = hits.max_time_ns[low:high] - at
        near[i, hits.channel[low:high][margins.coincidence(c, late) >= 0]] = 1
    return area, shape, sees, near


def _runs(parts: Atoms, edges: Edges) -> set[tuple[int, int]]:
    """Runs that are not too unlikely."""
    out, n = set(), len(parts.event)
    cut = np.append(edges.cut, 1.0)
    for first in range(n):
        chance = cut[first - 1] if first else 1.0
        last = first
        while chance >= LEAST:
            if chance * cut[last] >= LEAST:
                out.add((first, last))
                if len(out) > MOST:
                    raise ValueError(
                        f"more than {MOST} peaks are possible at this temperature: gaps within a peak are "
                        "split too easily; lower temperature.gap or read fewer events at a time"
                    )
            chance *= 1 - cut[last]
            last += 1
            if last == n:
                break
    return out


def _hard_runs(parts: Atoms, cut: np.ndarray) -> set[tuple[int, int]]:
    first = np.append(0, np.flatnonzero(cut) + 1)
    last = np.append(first[1:], len(parts.event)) - 1
    return {(int(a), int(b)) for a, b in zip(first, last, strict=True)}
