"""Events apart and together again, and which of them a step of the thresholds could change.

Most events are read the same whatever small step is taken: they have no slope, and need no soft reading.
"""

from collections.abc import Sequence

import equinox as eqx
import numpy as np

from dmsim.detector import Detector
from dmsim.reconstruction.settings import Settings
from dmsim.records import RawRecords
from inference.tuning.clustering_loss import Errors, Scope, count_by_event, truth_of
from inference.tuning.clustering_parameters import Parameters
from inference.tuning.clustering_samples import Batch, added, found_by
from inference.tuning.truth_matching import Light

_AT_ONCE = 60  # events: a table of light by sensor and peak is made of each batch
_EARLY_NS = 10_000  # light and samples so long before an event's time are of it
_COLUMNS = ("event", "channel", "start_sample", "length", "pulse_length", "record_i", "data", "valid")


def apart(batch: Batch, scope: Scope) -> list[Batch]:
    """Each event of the records as a batch; a true signal is of the event in which most of its light is."""
    records, light = batch.records, batch.truth.light
    assert records.event_time_ns is not None
    begin = np.asarray(records.event_time_ns, np.int64) - _EARLY_NS
    of_photon = np.maximum(np.searchsorted(begin, light.time_ns, side="right") - 1, 0)
    middle = light.signals["start_ns"] + light.signals["mean_ns"]
    of_signal = np.maximum(np.searchsorted(begin, middle, side="right") - 1, 0)
    out = []
    for event in range(records.n_events):
        rows = np.flatnonzero(np.asarray(records.event) == event)
        mine = np.flatnonzero(of_signal == event)
        new = np.full(len(of_signal) + 1, len(of_signal))
        new[mine] = np.arange(mine.size)
        photons = of_photon == event
        owner = light.owner[photons]
        number = new[np.maximum(owner, 0)]
        keep = (owner < 0) | (number < len(of_signal))
        part = Light(
            light.time_ns[photons][keep],
            light.charge_pe[photons][keep],
            np.where(owner < 0, owner, number)[keep],
            {name: column[mine] for name, column in light.signals.items()},
            light.events,
        )
        out.append(Batch(_records([(records, rows, event)]), truth_of(part, scope)))
    return out


def together(batches: Sequence[Batch], scope: Scope) -> Batch:
    """Batches of one event each as one. They may be of different runs: each gets a time of its own."""
    gap = 1 + max(int(np.ptp(b.truth.light.time_ns, axis=None)) if b.truth.light.time_ns.size else 0
                  for b in batches)  # fmt: skip
    spacing = (gap // 1_000_000 + 100) * 1_000_000
    parts, owner, n = [], [], 0
    rows, times = [], []
    for i, batch in enumerate(batches):
        light, own = batch.truth.light, batch.records.event_time_ns
        assert own is not None
        shift = i * spacing - int(own[0])
        times.append(i * spacing)
        parts.append(light._replace(
            time_ns=light.time_ns + shift,
            signals=light.signals
            | {
                "start_ns": light.signals["start_ns"] + shift,
                "event": np.full_like(light.signals["event"], i),
            },
        ))  # fmt: skip
        owner.append(np.where(light.owner < 0, light.owner, light.owner + n))
        n += len(light.signals["event"])
        rows.append((batch.records, np.arange(len(batch.records.data)), 0))
    signals = {name: np.concatenate([p.signals[name] for p in parts]) for name in parts[0].signals}
    light = Light(
        np.concatenate([p.time_ns for p in parts]), np.concatenate([p.charge_pe for p in parts]),
        np.concatenate(owner), signals,
        {"event": np.arange(len(batches)), "energy_kev": np.full(len(batches), np.nan)},
    )  # fmt: skip
    records = _records(rows)
    records = eqx.tree_at(
        lambda r: r.event_time_ns, records, np.array(times, np.int64), is_leaf=lambda x: x is None
    )
    return Batch(records, truth_of(light, scope))


def _records(parts: Sequence[tuple[RawRecords, np.ndarray, int]]) -> RawRecords:
    """Rows of records, each of one event, as records of so many events."""
    first = parts[0][0]
    columns = {
        name: np.concatenate([np.asarray(getattr(records, name))[rows] for records, rows, _ in parts])
        for name in _COLUMNS
    }
    columns["event"] = np.repeat(np.arange(len(parts)), [rows.size for _, rows, _ in parts]).astype(np.int32)
    times = [np.asarray(records.event_time_ns, np.int64)[event] for records, _, event in parts]
    return RawRecords(
        **columns,
        n_overflow=np.zeros((), np.int32),
        first_event=np.zeros((), np.int64),
        event_time_ns=np.array(times),
        n_events=len(parts),
        sample_ns=first.sample_ns,
        baseline_adc=first.baseline_adc,
    )


class Groups:
    """Batches of one event each, read hard in fewer and larger ones."""

    def __init__(self, events: Sequence[Batch], scope: Scope):
        self.scope = scope
        self.batches = [together(events[k : k + _AT_ONCE], scope) for k in range(0, len(events), _AT_ONCE)]

    def count(self, detector: Detector, settings: Settings) -> tuple[Errors, np.ndarray]:
        """Errors of all together, and the number of each event."""
        found = found_by(detector, self.batches, settings)
        counted = [
            count_by_event(b.truth, peaks, self.scope) for b, peaks in zip(self.batches, found, strict=True)
        ]
        return added([c.errors for c in counted]), np.concatenate([c.wrong for c in counted])


def near(
    detector: Detector, parameters: Parameters, groups: Groups, *, reach: float
) -> tuple[np.ndarray, int]:
    """Which events have errors at the vector 0, or when one parameter moves by `reach` steps either way.

    Returns:
        For each event, and how often all were read.
    """
    moves = [np.zeros(len(parameters))]
    for i in range(len(parameters)):
        for sign in (-1.0, 1.0):
            vector = np.zeros(len(parameters))
            vector[i] = sign * reach
            moves.append(parameters.project(vector))
    wrong = [groups.count(detector, parameters.frozen(vector))[1] > 0 for vector in moves]
    return np.any(wrong, axis=0), len(moves)
