"""What the hard reading fixes for the soft one: which samples, hits, boundaries and candidates there are.

Columns are numpy arrays when they are made, and JAX's inside compiled code: `Any` stands for both.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dmsim import ragged
from dmsim.reconstruction.soft.trees import Slots


class Heads(NamedTuple):
    """First fragments of pulses, whose first samples give a baseline."""

    row: Int[Any, "head"]  # of the records; -1: missing, the nominal baseline is taken
    member: Bool[Any, "head first"]  # samples that the baseline is the mean of


class Places(NamedTuple):
    """Samples of hits at which something is decided."""

    row: Int[Any, "place"]
    sample: Int[Any, "place"]
    head: Int[Any, "place"]


class Overlaps(NamedTuple):
    """One row a stretch of a record's samples, near its hits, in a candidate."""

    row: Int[Any, "overlap"]
    head: Int[Any, "overlap"]
    channel: Int[Any, "overlap"]
    begin: Int[Any, "overlap"]  # sample of the record
    end: Int[Any, "overlap"]  # exclusive; 0: padding
    candidate: Int[Any, "overlap"]
    position: Int[Any, "overlap"]  # of the record's sample 0 among the candidate's


class InCandidate(NamedTuple):
    """One row a hit that is in a candidate, or near enough to count for its coincidence."""

    hit: Int[Any, "membership"]
    candidate: Int[Any, "membership"]
    time_ns: Float[Any, "membership"]  # start of its largest sample, from the candidate's first sample
    inside: Float[Any, "membership"]  # 1 in the candidate, 0 near it
    alone: Float[Any, "membership"]  # 1: the only one of its pulse


class Candidates(NamedTuple):
    """Possible peaks: runs of atoms between two boundaries. Samples count from `time_ns` - pad.

    An edge that reaches out from a hit is soft, one at a split is not.
    """

    time_ns: Int[Any, "peak"]  # int64, of the hard window, on the joint axis; host only, then None
    length_ns: Int[Any, "peak"]  # the same
    offset_ns: Float[Any, "peak"]  # of the hard window, from the event's first atom
    event: Int[Any, "peak"]
    n_samples: Int[Any, "peak"]  # with the padding at soft edges; 0: no candidate
    pad: Int[Any, "peak"]  # samples before `time_ns`
    pad_after: Int[Any, "peak"]
    first_ns: Float[Any, "peak"]  # start of the first hit, from the first sample
    last_ns: Float[Any, "peak"]  # end of the hit that reaches furthest
    left_soft: Bool[Any, "peak"]
    right_soft: Bool[Any, "peak"]
    first_place: Int[Any, "peak"]  # first sample of that hit, in `Layout.starts`
    last_place: Int[Any, "peak"]  # last sample, in `Layout.ends`
    left: Int[Any, "peak"]  # boundary before it; `Layout.n_boundaries`: certain
    right: Int[Any, "peak"]
    inner: Int[Any, "peak inner"]  # boundaries inside, of no tree; padded with the certain one
    excluded: Int[Any, "peak gap 2"]  # samples of gaps that a merged peak leaves out; (0, 0): none
    first_atom: Int[Any, "peak"]  # in the event
    last_atom: Int[Any, "peak"]


class Boundaries(NamedTuple):
    """Between neighbouring atoms: a gap of hits, a split of a waveform, or both."""

    certain: Bool[Any, "boundary"]  # cut by a gap far beyond the threshold
    is_gap: Bool[Any, "boundary"]
    gap_ns: Float[Any, "boundary"]
    duration_ns: Float[Any, "boundary"]  # of the group of hits with the next one
    gap_tau_ns: Float[Any, "boundary"]  # gap_ns / (ln n_hits + 3), held at the plan's settings
    gap_end: Int[Any, "boundary"]  # hit before the gap, in `Layout.ends`
    gap_start: Int[Any, "boundary"]  # hit after it, in `Layout.starts`
    node: Int[Any, "boundary"]  # in `Nodes`; -1: no split
    mother: Int[Any, "boundary"]  # boundary whose split makes the waveform; -1: none
    in_tree: Bool[Any, "boundary"]  # it has a mother, or is one
    mergeable: Bool[Any, "boundary"]
    merge: Int[Any, "boundary"]  # number of the merge that decides about it; neighbours may share one
    merge_gap_ns: Float[Any, "boundary"]
    merge_duration_ns: Float[Any, "boundary"]
    before: Int[Any, "boundary 2"]  # candidates: the piece next to the boundary, and its group
    after: Int[Any, "boundary 2"]


class Nodes(NamedTuple):
    """Waveforms that may be split, and where."""

    candidate: Int[Any, "node"]
    cut: Int[Any, "node"]  # samples from the candidate's hard start


class EventTable(NamedTuple):
    """Candidates of each event in slots, ordered by their last atom; -1: padding."""

    candidate: Int[Any, "event slot"]
    backwards: Int[Any, "event slot"]  # slots in the order of their first atom, descending
    n_atoms: Int[Any, "event"]


class Layout(NamedTuple):
    """Arrays of padded sizes, so that few shapes compile."""

    heads: Heads
    hits: Places  # largest samples of hits
    hit_channel: Int[Any, "hit"]
    starts: Places
    ends: Places
    overlaps: Overlaps
    members: InCandidate
    candidates: Candidates
    boundaries: Boundaries
    nodes: Nodes
    slots: Slots  # of the trees; of no width if nothing is split within a split
    events: EventTable
    pe_per_count: Float[Any, "sensor"]
    held_wave_pe: Float[Any, "peak sample"]  # what restored samples add; one zero if there are none
    held_area_pe: Float[Any, "peak sensor"]


class Static(NamedTuple):
    """Sizes and constants that change compilation."""

    n_samples: int  # of the longest candidate
    n_sensors: int
    n_top: int
    n_events: int
    n_atoms: int  # of the event with most
    n_levels: int  # of splits within splits; 0: none
    dt: int
    baseline_adc: int
    lost_pe: float  # a lone hit stands for


def padded(table: Any, size: int, **fill: Any) -> Any:
    """A NamedTuple of columns with rows added, of zeros where not said otherwise."""
    return type(table)(
        *(
            np.concatenate(
                [
                    column,
                    np.full((size - len(column), *column.shape[1:]), fill.get(name, 0), column.dtype),
                ]
            )
            for name, column in table._asdict().items()
        )
    )


def room(n: int) -> int:
    """Rows to allocate for n."""
    return ragged.bucket(max(n, 1))
