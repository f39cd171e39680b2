"""A calibration source at record level: simulated, reconstructed, and what truly happened beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

import dmsim
from dmsim.records import Deposits, Events, Hits, Peaks, RawRecords, Signal

_BATCH_EVENTS = 64  # 41.5 keV events of the largest detector make 110 MB of records
_MOST_BESIDE = 0.1  # of the area of the main S1 or S2 may the next one have


@dataclass(frozen=True)
class Truth:
    """What happened in each event."""

    s1_pe: Float[np.ndarray, "event"]  # charge of all photoelectrons, before the digitiser
    s2_pe: Float[np.ndarray, "event"]
    x_mm: Float[np.ndarray, "event"]
    y_mm: Float[np.ndarray, "event"]
    z_mm: Float[np.ndarray, "event"]


@dataclass(frozen=True)
class Display:
    """One event with its records."""

    row: int  # in the sample
    records: RawRecords
    batch_event: int  # position in the records' batch
    start_ns: int  # of the event on the detector's clock


@dataclass(frozen=True)
class Sample:
    """Events of one source."""

    name: str
    truth: Truth
    peaks: Peaks
    events: Events
    display: Display
    n_photons: int  # detected
    n_records: int
    n_bytes: int  # of 16-bit samples


def simulate_and_reconstruct(
    key: PRNGKeyArray,
    detector: dmsim.Detector,
    source: Callable[..., Deposits],
    *,
    believed: dmsim.Detector,
    name: str,
    n_events: int,
    first_event: int,
    on_batch: Callable[[], None],
) -> Sample:
    """Records of a source, reconstructed batch by batch, so that memory is bounded.

    Args:
        key: of the run.
        detector: that makes the signals.
        source: called with key, detector, n_events and first_event.
        believed: the detector that the analyst corrects with.
        name: of the sample.
        n_events: >= 1.
        first_event: number of the first event in the run.
        on_batch: called after each of `n_batches(n_events)` batches.
    """
    truths, peaks, events, display, nearest = [], [], [], None, np.inf
    n_photons = n_records = n_samples = 0
    for start in range(0, n_events, _BATCH_EVENTS):
        n = min(_BATCH_EVENTS, n_events - start)
        deposits = source(key, detector, n_events=n, first_event=first_event + start)
        # the hits behind the records: the same key gives the same photons at both levels
        hits = dmsim.simulate_hits(key, detector, deposits)
        truths.append(_truth(deposits, hits))
        n_photons += int(np.sum(np.asarray(hits.valid)))
        for records in dmsim.iterate_records(key, detector, deposits):
            found, built = dmsim.reconstruct(believed, records)
            peaks.append(found)
            events.append(built)
            n_records += len(records.event)
            n_samples += int(np.sum(records.length))
            offset = int(records.first_event) - first_event - start
            if start == 0:
                candidate, distance = _presentable(detector, truths[0], built, offset)
                if distance < nearest:
                    nearest, times = distance, records.event_time_ns
                    start_ns = 0 if times is None else int(times[candidate])
                    display = Display(offset + candidate, _only(records, candidate), candidate, start_ns)
        on_batch()
    if display is None:
        raise ValueError(f"no {name} event of the first batch has an S1 and an S2 to show")
    return Sample(
        name=name,
        truth=join(truths),
        peaks=join(peaks),
        events=join(shift_peak_rows(events, peaks)),
        display=display,
        n_photons=n_photons,
        n_records=n_records,
        n_bytes=2 * n_samples,
    )


def n_batches(n_events: int) -> int:
    """How many batches a sample of this size is made in."""
    return -(-n_events // _BATCH_EVENTS)


def join(parts: Sequence):
    """One dataclass of arrays out of several, end to end."""
    names = [field.name for field in fields(parts[0])]
    return type(parts[0])(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def shift_peak_rows(events: Sequence[Events], peaks: Sequence[Peaks]) -> list[Events]:
    """Events whose rows in Peaks count through the joined list."""
    offsets = np.cumsum([0, *(len(part) for part in peaks)])

    def moved(rows, offset):
        return np.where(rows >= 0, rows + offset, -1)

    return [
        replace(part, s1_peak=moved(part.s1_peak, offset), s2_peak=moved(part.s2_peak, offset))
        for part, offset in zip(events, offsets[:-1], strict=True)
    ]


def _truth(deposits: Deposits, hits: Hits) -> Truth:
    event, signal = np.asarray(hits.event), np.asarray(hits.signal)
    charge = np.where(np.asarray(hits.valid), np.asarray(hits.charge_pe, np.float64), 0.0)

    def total(kind):
        kept = signal == int(kind)
        return np.bincount(event[kept], charge[kept], minlength=deposits.n_events)[: deposits.n_events]

    def place(values):  # one deposit an event
        return np.asarray(values, np.float64)

    return Truth(
        s1_pe=total(Signal.S1),
        s2_pe=total(Signal.S2),
        x_mm=place(deposits.x_mm),
        y_mm=place(deposits.y_mm),
        z_mm=place(deposits.z_mm),
    )


def _presentable(detector: dmsim.Detector, truth: Truth, events: Events, offset: int) -> tuple[int, float]:
    """The event nearest to half depth and half radius that has one S1 and one S2, and how far it is."""
    rows = slice(offset, offset + len(events))
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)
    r = np.hypot(truth.x_mm[rows], truth.y_mm[rows]) / radius
    distance = np.hypot(r - 0.5, truth.z_mm[rows] / length + 0.5)
    distance[(events.n_s1 != 1) | (events.n_s2 != 1)] = np.inf
    best = int(np.argmin(distance))
    return best, float(distance[best])


def _only(records: RawRecords, event: int) -> RawRecords:
    """The records of one event, so that the others can be let go."""
    rows = np.flatnonzero(np.asarray(records.event) == event)
    names = ("event", "channel", "start_sample", "length", "pulse_length", "record_i", "data", "valid")
    return replace(records, **{name: np.asarray(getattr(records, name))[rows] for name in names})


@dataclass(frozen=True)
class Comparison:
    """Reconstruction against truth, one row an event; NaN where nothing was found."""

    s1_percent: Float[np.ndarray, "event"]
    s2_percent: Float[np.ndarray, "event"]
    x_mm: Float[np.ndarray, "event"]
    y_mm: Float[np.ndarray, "event"]
    z_mm: Float[np.ndarray, "event"]
    right: np.ndarray  # bool: a clear S1 and S2, and they are those of the event
    single: np.ndarray  # bool: a clear S1 and S2


def compare(truth: Truth, events: Events) -> Comparison:
    """Residuals, and which events are right.

    An S1 or S2 is clear if the next one has at most a tenth of its area: late electrons of an S2 often come
    apart from it. Right is an event with a clear S1 and S2, the S1 within 20 % or 5 PE of the charge that its
    photons made, the S2 within 5 % or 50 PE, and the depth within 10 mm.
    """
    off_s1, off_s2 = events.s1_pe - truth.s1_pe, events.s2_pe - truth.s2_pe
    dz = events.z_mm - truth.z_mm
    with np.errstate(invalid="ignore", divide="ignore"):
        single = ~_rivalled(events.s1_pe, events.alt_s1_pe) & ~_rivalled(events.s2_pe, events.alt_s2_pe)
        right = (
            single
            & (np.abs(off_s1) < np.maximum(0.2 * truth.s1_pe, 5))
            & (np.abs(off_s2) < np.maximum(0.05 * truth.s2_pe, 50))
            & (np.abs(dz) < 10)
        )
        return Comparison(
            s1_percent=100 * off_s1 / truth.s1_pe,
            s2_percent=100 * off_s2 / truth.s2_pe,
            x_mm=events.x_mm - truth.x_mm,
            y_mm=events.y_mm - truth.y_mm,
            z_mm=dz,
            right=right,
            single=single,
        )


def _rivalled(main_pe: Float[np.ndarray, "event"], next_pe: Float[np.ndarray, "event"]) -> np.ndarray:
    """Whether there is no main signal, or another that is not small beside it."""
    return ~np.isfinite(main_pe) | (next_pe > _MOST_BESIDE * main_pe)


def median_and_spread(values: Float[np.ndarray, "event"]) -> tuple[float, float]:
    """Median, and half the width of the central 68 %, of what is finite."""
    values = values[np.isfinite(values)]
    if not values.size:
        return float("nan"), float("nan")
    low, median, high = np.quantile(values, [0.16, 0.5, 0.84])
    return float(median), float(high - low) / 2


def events_in_key(key: PRNGKeyArray, purpose: int) -> PRNGKeyArray:
    """A key for draws that have nothing to do with the data's."""
    return jax.random.fold_in(key, purpose)
