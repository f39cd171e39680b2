"""From the structure to arrays of padded sizes. Host code."""

import numpy as np

from dmsim.detector import Detector
from dmsim.reconstruction.acceptance import lost_charge_per_lone_hit
from dmsim.reconstruction.settings import Settings
from dmsim.reconstruction.soft import layout as lay
from dmsim.reconstruction.soft import trees
from dmsim.reconstruction.soft.atoms import REACH
from dmsim.reconstruction.soft.found import Found
from dmsim.reconstruction.soft.structure import Structure
from dmsim.reconstruction.soft.temperature import Temperature
from dmsim.reconstruction.tables import ADC_PER_COUNT, PE_PER_UNIT
from dmsim.records import RawRecords

_FAR = 1 << 20  # samples: no candidate is as long


class _Rows:
    """Finds the record that holds a sample of a channel."""

    def __init__(self, found: Found):
        table = found.table
        self.table, self.source = table, found.source
        self.begin = int(table.time_ns.min(initial=0))
        self.span = int(table.time_ns.max(initial=0)) - self.begin + 10**9
        key = self._key(table.channel, table.time_ns)
        self.order = np.argsort(key, kind="stable")
        self.key = key[self.order]
        # heads: first fragments, and one for pulses that lack theirs
        heads = np.flatnonzero(table.first == np.arange(len(table.first)))
        self.head_rows = heads
        number = np.full(len(table.first) + 1, len(heads))
        number[heads] = np.arange(len(heads))
        self.head = number[table.first]  # first is -1 where it is missing

    def _key(self, channel, time_ns):
        return channel.astype(np.int64) * self.span + (time_ns - self.begin)

    def places(self, channel, time_ns) -> lay.Places:
        """Rows of `RawRecords`, samples and heads."""
        at = self.order[np.searchsorted(self.key, self._key(channel, time_ns), side="right") - 1]
        sample = (time_ns - self.table.time_ns[at]) // self.table.dt
        return lay.Places(self.source[at], sample, self.head[at])


def arrays_of(
    detector: Detector, records: RawRecords, settings: Settings, t: Temperature, structure: Structure
) -> tuple[lay.Layout, lay.Static]:
    """Everything that the soft reading gathers, with indices into the records as they came."""
    found, parts, edges = structure.found, structure.atoms, structure.edges
    table, dt = found.table, found.table.dt
    rows = _Rows(found)
    n_boundaries = lay.room(len(edges.gap) + 1)
    number = {run: i for i, run in enumerate(structure.runs)}
    mother = trees.mothers(edges.node, structure.splits.mother)
    in_tree = mother >= 0
    in_tree[mother[in_tree]] = True
    candidates, starts, ends = _candidates(found, structure, rows, t, n_boundaries, in_tree)
    begin_ns = candidates.time_ns - candidates.pad * dt
    end_ns = candidates.time_ns + candidates.length_ns + candidates.pad_after * dt
    overlaps = _overlaps(found, rows, begin_ns, end_ns)
    members, places, channel = _members(found, rows, settings, t, candidates, begin_ns)
    node_used = np.unique(edges.node[edges.node >= 0])
    node_number = np.full(len(structure.splits.cut_ns) + 1, -1)
    node_number[node_used] = np.arange(len(node_used))
    node_candidate = np.array([number[structure.node_runs[n]] for n in node_used], np.int64)
    cut = (structure.splits.cut_ns[node_used] - candidates.time_ns[node_candidate]) // dt
    nodes = lay.Nodes(node_candidate, cut)
    boundaries = _boundaries(structure, number, node_number, starts[1], ends[1], mother, in_tree)
    slots = trees.slots_of(structure.runs, mother, n_boundaries - 1)
    n_cand = lay.room(len(structure.runs))
    heads = _heads(found, rows)
    n_samples = lay.room(int(candidates.n_samples.max(initial=16)))
    held = _held(structure, candidates, begin_ns, n_cand, n_samples, dt)
    counts = found.gains.units_per_count * PE_PER_UNIT / ADC_PER_COUNT
    layout = lay.Layout(
        heads=lay.padded(heads, lay.room(len(heads.row)), row=-1),
        hits=lay.padded(places, lay.room(len(places.row)), head=len(rows.head_rows)),
        hit_channel=np.pad(channel, (0, lay.room(len(channel)) - len(channel))),
        starts=lay.padded(starts[0], lay.room(len(starts[0].row)), head=len(rows.head_rows)),
        ends=lay.padded(ends[0], lay.room(len(ends[0].row)), head=len(rows.head_rows)),
        overlaps=lay.padded(overlaps, lay.room(len(overlaps.row)), position=_FAR),
        members=lay.padded(members, lay.room(len(members.hit)), time_ns=-1e9),
        candidates=lay.padded(candidates, n_cand, left=n_boundaries - 1, right=n_boundaries - 1,
                              inner=n_boundaries - 1, event=-1),
        boundaries=lay.padded(boundaries, n_boundaries, node=-1, mother=-1, gap_ns=1.0, merge=-1),
        slots=lay.padded(slots, n_cand, boundary=n_boundaries - 1, up=slots.up.shape[1]),
        nodes=lay.padded(nodes, lay.room(len(nodes.cut))),
        events=_events(parts.event, structure.runs, candidates.event, records.n_events),
        pe_per_count=counts,
        held_wave_pe=held[0],
        held_area_pe=held[1],
    )  # fmt: skip
    sensors = detector.light.sensors
    of_event = np.bincount(parts.event, minlength=1).max(initial=1) if len(parts.event) else 1
    return layout, lay.Static(
        n_samples=n_samples,
        n_sensors=sensors.n_sensors,
        n_top=sensors.n_top,
        n_events=records.n_events,
        n_atoms=lay.room(int(of_event)),
        n_levels=int(trees.depths(mother).max(initial=0)),
        dt=dt,
        baseline_adc=table.baseline_adc,
        lost_pe=lost_charge_per_lone_hit(detector.electronics),
    )


def _held(structure: Structure, candidates: lay.Candidates, begin_ns, n_cand: int, n_samples: int, dt: int):
    """What restored samples add to each candidate: that of the hard pieces inside it, without a gradient."""
    restored = structure.restored
    if restored is None:
        return np.zeros((1, 1)), np.zeros((1, 1))
    wave, area = np.zeros((n_cand, n_samples)), np.zeros((n_cand, restored.area.shape[1]))
    end_ns = candidates.time_ns + candidates.length_ns
    for i, (a, b) in enumerate(zip(candidates.time_ns, end_ns, strict=True)):
        inside = (restored.windows.start_ns >= a) & (restored.windows.end_ns <= b)
        for piece in np.flatnonzero(inside):
            low, high = restored.offset[piece : piece + 2]
            at = (restored.windows.start_ns[piece] - begin_ns[i]) // dt
            wave[i, at : at + high - low] += restored.total[low:high]
            area[i] += restored.area[piece]
    return wave, area


def _heads(found: Found, rows: _Rows) -> lay.Heads:
    """Members of each baseline: first samples near their median, as the hard reading takes them."""
    table, n = found.table, found.n_first
    data = table.data[rows.head_rows, :n].astype(np.int64)
    valid = np.arange(data.shape[1]) < table.length[rows.head_rows][:, None]
    ordered = np.sort(np.where(valid, data, np.int64(1) << 40), axis=1)
    half = (np.minimum(table.length[rows.head_rows], n) + 1) // 2 - 1
    median = ordered[np.arange(len(data)), half] if len(data) else np.zeros(0, np.int64)
    member = valid & (np.abs(data - median[:, None]) <= found.clip_adc)
    # one more, for pulses without their first fragment
    return lay.Heads(
        np.append(found.source[rows.head_rows], -1),
        np.concatenate([member, np.zeros((1, data.shape[1]), bool)]),
    )


def _candidates(
    found: Found, structure: Structure, rows: _Rows, t: Temperature, n_boundaries: int, in_tree: np.ndarray
):
    parts, edges, hits = structure.atoms, structure.edges, found.hits
    dt = found.table.dt
    first = np.array([run[0] for run in structure.runs], np.int64)
    last = np.array([run[1] for run in structure.runs], np.int64)
    start, end = parts.start_ns[first], parts.end_ns[last]
    reach = int(np.ceil(REACH * float(t.edge_ns) / dt)) if float(t.edge_ns) > 0 else 0
    left_soft, right_soft = parts.left_soft[first], parts.right_soft[last]
    pad, pad_after = np.where(left_soft, reach, 0), np.where(right_soft, reach, 0)
    begin = start - pad * dt
    inner = [np.arange(a, b) for a, b in structure.runs]
    width = max((len(i) for i in inner), default=0)
    inner_rows = np.full((len(inner), lay.room(width)), n_boundaries - 1, np.int64)
    gaps: list[list[tuple[int, int]]] = []
    cut = edges.joined | (edges.certain & edges.mergeable)
    for i, of in enumerate(inner):
        inner_rows[i, : len(of)] = np.where(in_tree[of], n_boundaries - 1, of)
        out = [
            ((parts.end_ns[k] - begin[i]) // dt, (parts.start_ns[k + 1] - begin[i]) // dt)
            for k in of
            if cut[k] and parts.start_ns[k + 1] > parts.end_ns[k]
        ]
        out += [
            ((parts.start_ns[k] - begin[i]) // dt, (parts.end_ns[k] - begin[i]) // dt)
            for k in of[1:]
            if structure.dropped[k] and cut[k - 1] and cut[k]
        ]
        gaps.append(out)
    n_gaps = lay.room(max((len(g) for g in gaps), default=0))
    excluded = np.zeros((len(gaps), n_gaps, 2), np.int64)
    for i, out in enumerate(gaps):
        excluded[i, : len(out)] = out or np.zeros((0, 2))
    n = len(parts.event)
    left = np.where(first > 0, first - 1, n_boundaries - 1)
    right = np.where(last < n - 1, last, n_boundaries - 1)
    zero = np.searchsorted(parts.event, parts.event[first]) if n else first  # first atom of the event
    first_hit, last_hit = parts.first_hit, parts.last_hit
    starts = rows.places(hits.channel[first_hit], hits.time_ns[first_hit])
    ends = rows.places(hits.channel[last_hit], hits.end_ns[last_hit] - dt)
    return (
        lay.Candidates(
            time_ns=start, length_ns=end - start, offset_ns=(start - parts.start_ns[zero]).astype(float),
            event=parts.event[first],
            n_samples=(end - start) // dt + pad + pad_after, pad=pad, pad_after=pad_after,
            first_ns=(hits.time_ns[first_hit[first]] - begin).astype(float),
            last_ns=(hits.end_ns[last_hit[last]] - begin).astype(float),
            left_soft=left_soft, right_soft=right_soft, first_place=first, last_place=last,
            left=left, right=right, inner=inner_rows, excluded=excluded,
            first_atom=first - zero, last_atom=last - zero,
        ),
        (starts, np.arange(n)),
        (ends, np.arange(n)),
    )  # fmt: skip


def _overlaps(found: Found, rows: _Rows, begin_ns, end_ns) -> lay.Overlaps:
    table = found.table
    span = table.data.shape[1] * table.dt
    row, candidate = [], []
    live = found.gains.live[table.channel]
    closes = table.time_ns + table.length.astype(np.int64) * table.dt
    for i, (a, b) in enumerate(zip(begin_ns, end_ns, strict=True)):
        low, high = np.searchsorted(table.time_ns, [a - span, b])
        at = np.arange(low, high)
        at = at[(closes[low:high] > a) & live[low:high]]
        row.append(at)
        candidate.append(np.full(len(at), i))
    at = np.concatenate([*row, np.zeros(0, np.int64)])
    of = np.concatenate([*candidate, np.zeros(0, np.int64)])
    kept = table.kept
    count = kept.first[at + 1] - kept.first[at]
    stretch = np.repeat(kept.first[at] - (np.cumsum(count) - count), count) + np.arange(count.sum())
    at, of = np.repeat(at, count), np.repeat(of, count)
    start_ns = table.time_ns[at]
    begin, end = kept.begin[stretch], kept.end[stretch]
    some = (start_ns + end * table.dt > begin_ns[of]) & (start_ns + begin * table.dt < end_ns[of])
    at, of, begin, end = at[some], of[some], begin[some], end[some]
    position = (table.time_ns[at] - begin_ns[of]) // table.dt
    return lay.Overlaps(
        found.source[at], rows.head[at], table.channel[at].astype(np.int64), begin, end, of, position
    )


def _members(
    found: Found, rows: _Rows, settings: Settings, t: Temperature, candidates: lay.Candidates, begin_ns
):
    """Hits of each candidate, and those near enough for the coincidence."""
    hits = found.hits
    names = ("time_ns", "max_time_ns", "channel", "pulse")
    time, largest, channel, pulse = (
        np.concatenate([getattr(hits, name), getattr(found.faint, name)]) for name in names
    )
    alone = np.concatenate([hits.alone, np.zeros(len(found.faint.alone), bool)])
    order = np.argsort(time, kind="stable")
    largest, channel, pulse, alone, time = (x[order] for x in (largest, channel, pulse, alone, time))
    c = settings.coincidence
    beyond = int(np.ceil(max(float(c.left_ns), float(c.right_ns)) + REACH * float(t.coincidence_ns)))
    longest = int((largest - time).max(initial=0))
    start = candidates.time_ns
    end = start + candidates.length_ns
    hit, of = [], []
    for i, (a, b) in enumerate(zip(start, end, strict=True)):
        low, high = np.searchsorted(time, [a - beyond - longest, b + beyond])
        at = np.arange(low, high)
        at = at[(largest[low:high] >= a - beyond) & (largest[low:high] < b + beyond)]
        hit.append(at)
        of.append(np.full(len(at), i))
    hit, of = (np.concatenate([*x, np.zeros(0, np.int64)]) for x in (hit, of))
    inside = (largest[hit] >= start[of]) & (largest[hit] < end[of])
    members = lay.InCandidate(
        hit, of, (largest[hit] - begin_ns[of]).astype(float), inside.astype(float), alone[hit].astype(float)
    )
    return members, rows.places(channel, largest), channel.astype(np.int64)


def _boundaries(structure: Structure, number, node_number, starts, ends, mother, in_tree) -> lay.Boundaries:
    edges, gaps, parts = structure.edges, structure.gaps, structure.atoms
    n = len(edges.gap)
    gap = np.maximum(edges.gap, 0)
    has = edges.gap >= 0

    def of_gap(column, default):
        return np.where(has, column[gap] if len(column) else default, default).astype(float)

    before, after = np.zeros((n, 2), np.int64), np.zeros((n, 2), np.int64)
    duration = np.zeros(n)
    for k in np.flatnonzero(edges.mergeable):
        before[k] = [number[int(first), int(edges.left[k])] for first in edges.before[k]]
        after[k] = [number[int(edges.right[k]), int(last)] for last in edges.after[k]]
        duration[k] = parts.end_ns[edges.after[k, 1]] - parts.start_ns[edges.before[k, 1]]
    return lay.Boundaries(
        certain=edges.certain, is_gap=has & ~edges.certain, gap_ns=of_gap(gaps.gap_ns, 1.0),
        duration_ns=of_gap(gaps.duration_ns, 0.0), gap_tau_ns=of_gap(gaps.tau_ns, 0.0),
        gap_end=ends[:-1] if n else ends[:0], gap_start=starts[1:] if n else starts[:0],
        node=np.where(edges.node >= 0, node_number[edges.node], -1), mother=mother, in_tree=in_tree,
        mergeable=edges.mergeable,
        merge=edges.left, merge_gap_ns=edges.merge_gap_ns.astype(float), merge_duration_ns=duration,
        before=before, after=after,
    )  # fmt: skip


def _events(atom_event, runs, event, n_events: int) -> lay.EventTable:
    first = np.array([run[0] for run in runs], np.int64)
    last = np.array([run[1] for run in runs], np.int64)
    n_atoms = np.bincount(atom_event, minlength=n_events) if len(atom_event) else np.zeros(n_events, np.int64)
    slots = lay.room(int(np.bincount(event, minlength=1).max(initial=1)) if len(event) else 1)
    rows = np.full((n_events, slots), -1, np.int64)
    order = np.lexsort((first, last, event))
    where = np.arange(len(order)) - np.searchsorted(event[order], event[order])
    rows[event[order], where] = order
    start = np.append(first, -1)[rows]  # padding comes last
    return lay.EventTable(rows, np.argsort(-start, axis=1, kind="stable"), n_atoms)
