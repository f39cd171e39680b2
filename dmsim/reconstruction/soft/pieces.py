"""The hard reading before merging: its pieces, and what is measured of them. Host code."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dmsim.reconstruction import margins
from dmsim.reconstruction.acceptance import lost_charge_per_lone_hit
from dmsim.reconstruction.integrate import integrate
from dmsim.reconstruction.merging import merge_pieces
from dmsim.reconstruction.saturation import correct_saturation
from dmsim.reconstruction.settings import Settings
from dmsim.reconstruction.shape import Shapes, shapes_of
from dmsim.reconstruction.soft import decisions
from dmsim.reconstruction.soft.edges import Atoms, Edges
from dmsim.reconstruction.soft.found import Found
from dmsim.reconstruction.tables import Windows
from dmsim.records import Signal


class Pieces(NamedTuple):
    """Runs of atoms that the hard reading does not cut before merging."""

    first: np.ndarray  # atoms
    last: np.ndarray
    kept: np.ndarray
    s1: np.ndarray  # chances; 0 for what is not kept
    s2: np.ndarray
    area_pe: np.ndarray
    group: np.ndarray  # number of the hard merged peak

    def sum_pe(self, first: int, last: int) -> float:
        """Area of pieces from first to last, of those that are kept."""
        return float(np.sum(np.where(self.kept, self.area_pe, 0.0)[first : last + 1]))


class Restored(NamedTuple):
    """What the correction of saturation adds to the hard pieces [PE]."""

    windows: Windows
    offset: np.ndarray
    total: np.ndarray  # of each sample
    area: np.ndarray  # [piece, sensor]


def hard_pieces(found: Found, parts: Atoms, edges: Edges, windows: Windows):
    """First and last atoms of the hard pieces, which of them are kept, and the windows of those."""
    first = np.append(0, np.flatnonzero(edges.hard) + 1)
    last = np.append(first[1:], len(parts.event)) - 1
    if not len(parts.event):
        first, last = first[:0], last[:0]
    kept = windows.find(found.hits.time_ns[parts.first_hit[first]]) >= 0
    return (first, last), kept, Windows(parts.start_ns[first][kept], parts.end_ns[last][kept])


def restored_of(settings: Settings, found: Found, ranges: Windows) -> Restored | None:
    """What the correction of saturation adds to the pieces; None if it changes nothing."""
    raw = integrate(found.table, found.pulses, found.gains, ranges)
    new = correct_saturation(settings.saturation, found.table, found.pulses, found.gains, ranges, raw)
    if new is raw:
        return None
    added = (new.total - raw.total) * raw.scale, (new.area_per_channel - raw.area_per_channel) * raw.scale
    return Restored(ranges, raw.offset, *added)


def pieces_of(detector, settings, t, found: Found, parts: Atoms, edges: Edges, windows: Windows) -> Pieces:
    """The hard reading before merging, with chances of the classes."""
    (first, last), kept, ranges = hard_pieces(found, parts, edges, windows)
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
    return Pieces(first, last, kept, s1, s2, area, group)


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
